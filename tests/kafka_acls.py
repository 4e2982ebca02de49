"""Grants rights on a test broker by Kafka's CreateAcls, which aiokafka does not have.

Speaks to a listener on which everybody is a super user (`infra.kafka.kafka.Access`).
"""

import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

_CREATE_ACLS: Final = 30
_VERSION: Final = 1
_RESOURCES: Final = {"topic": 2, "group": 3, "cluster": 4}
_PATTERNS: Final = {"literal": 3, "prefixed": 4}
_OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_ALLOW: Final = 3


def grant(bootstrap: str, grants: Iterable[Mapping[str, Any]]) -> int:
    """Give each principal its rights, in the form that `mesh topics acls --json` prints.

    Returns the number of ACLs.
    """
    entries = [
        struct.pack(">b", _RESOURCES[acl["resource"]])
        + _string(acl["name"])
        + struct.pack(">b", _PATTERNS[acl["pattern"]])
        + _string(one["principal"])
        + _string("*")
        + struct.pack(">bb", _OPERATIONS[operation], _ALLOW)
        for one in grants
        for acl in one["acls"]
        for operation in acl["operations"]
    ]
    answer = _ask(bootstrap, struct.pack(">i", len(entries)) + b"".join(entries))
    count, at = struct.unpack_from(">i", answer, 8)[0], 12  # correlation and throttle time come before
    for _ in range(count):
        code, length = struct.unpack_from(">hh", answer, at)
        at += 4 + max(0, length)
        assert code == 0, f"CreateAcls failed with {code}: {answer[at - max(0, length) : at]!r}"
    assert count == len(entries)
    return len(entries)


def _ask(bootstrap: str, body: bytes) -> bytes:
    request = struct.pack(">hhi", _CREATE_ACLS, _VERSION, 1) + _string("test") + body
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = connection.recv(size - len(got))
        assert part, "the broker closed the connection"
        got += part
    return got


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()

"""Route versions on the definitions topic: by digest, and read back equal."""

from typing import Any

import orjson
import pytest

from mesh.codec.definitions import decode_definition, encode_definition
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.routes.compiler import compile_route

DOCUMENT: dict[str, Any] = {
    "route": "r",
    "on": {"type": "t"},
    "key": "${{ event.subject }}",
    "steps": {"z": {"agent": "x", "input": "é ${{ event.data }}"}, "a": {"needs": "z", "agent": "x", "input": 1.0}},
}


def record(key: bytes | None, value: bytes | None) -> Record:
    return Record("mesh.definitions", 0, 5, 0, key, value, ())


def test_a_version_comes_back_as_it_was_stored() -> None:
    route = compile_route(DOCUMENT)
    out = encode_definition(route, Topics("my."))
    assert (out.topic, out.key) == ("my.definitions", route.digest.encode())
    headers = dict(out.headers)
    assert headers["ce_type"] == b"mesh.route-definition"
    assert headers["ce_id"] == out.key
    assert headers["ce_subject"] == b"r"
    assert headers["content-type"] == b"application/json"
    assert decode_definition(record(out.key, out.value)) == route


def test_other_records_and_tombstones_are_no_route() -> None:
    assert decode_definition(record(b"approvers", b"{}")) is None
    assert decode_definition(record(None, b"{}")) is None
    assert decode_definition(record(b"sha256:00", None)) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"{", "the route definition mesh.definitions, partition 0, offset 5 is not JSON"),
        (b"{}", "does not hold for this version of the mesh: route is missing"),
        (orjson.dumps(DOCUMENT), "is not what its key says: its digest is sha256:"),
    ],
)
def test_what_cant_be_used_says_why(value: bytes, message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        decode_definition(record(b"sha256:00", value))

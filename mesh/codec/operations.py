"""Bulk operations: the records of `mesh.operations`.

Owns them; `topics/schemas/operation.json` says the same. An operator's command writes what is
ordered and of which workflows (`Ordered` comes last: before it, nothing is ordered), and may write
`Stopped`. The router that sends the single commands writes how far it has got.
"""

from typing import Any, Final

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.commands import encode_command
from mesh.codec.places import place
from mesh.core.inputs import Command
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

OPERATION_TYPE: Final = "mesh.operation"
IDS_BYTES: Final = 262_144  # of the ids in one record, well below the broker's limit
_OVERHEAD: Final = 8  # quotes, a comma, and some for what JSON escapes


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record"):
    operation: str


class Ordered(_Part, tag="ordered", frozen=True, kw_only=True):
    """What is ordered of each workflow, and how fast.

    `total`: how many workflows there are; `chunks`: in how many records their ids are. `rate`:
    commands a second. `input`: of retry; `output`: of complete; `to`: of migrate, the digest of the
    version by route.
    """

    command: Command
    total: int
    chunks: int
    rate: int
    by: str
    reason: str
    at_ms: int
    step: str | None = None
    input: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    to: dict[str, str] = {}
    filter: str = ""  # in words


class Ids(_Part, tag="ids", frozen=True, kw_only=True):
    """Some of the workflows, in order."""

    number: int
    ids: tuple[str, ...]


class Progress(_Part, tag="progress", frozen=True, kw_only=True):
    """How many commands the broker has. `unsent`: workflows whose command it would not take."""

    sent: int
    unsent: tuple[str, ...] = ()


class Stopped(_Part, tag="stopped", frozen=True, kw_only=True):
    """No further command is sent."""

    by: str
    reason: str
    at_ms: int


OperationRecord = Ordered | Ids | Progress | Stopped

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[OperationRecord] = msgspec.json.Decoder(OperationRecord)


def encode_operation(record: OperationRecord, *, topics: Topics) -> OutRecord:
    """Key: what the record is and the operation's id, so that compaction keeps one of each."""
    key = _key(record)
    source = "/mesh/router" if isinstance(record, Progress) else "/mesh/operators"
    headers = binary_headers(id=key, source=source, type=OPERATION_TYPE)
    return OutRecord(topic=topics.operations, key=key.encode(), value=_encode(record), headers=headers, partition=0)


def _key(record: OperationRecord) -> str:
    match record:
        case Ordered():
            return f"operation/{record.operation}"
        case Ids():
            return f"ids/{record.operation}/{record.number}"
        case Progress():
            return f"progress/{record.operation}"
        case Stopped():
            return f"stop/{record.operation}"


def decode_operation(record: Record) -> OperationRecord:
    """Raises `MalformedRecord`."""
    try:
        return _decoder.decode(record.value or b"")
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(f"{place(record)}: not a record of an operation ({error})") from error


def chunked(operation: str, workflow_ids: list[str]) -> list[Ids]:
    """The ids, in records that the broker takes."""
    found: list[list[str]] = [[]]
    size = 0
    for one in workflow_ids:
        bytes_of_one = len(one.encode()) + _OVERHEAD
        if found[-1] and size + bytes_of_one > IDS_BYTES:
            found.append([])
            size = 0
        found[-1].append(one)
        size += bytes_of_one
    return [Ids(operation=operation, number=number, ids=tuple(some)) for number, some in enumerate(found)]


def command_of(ordered: Ordered, workflow_id: str, *, topics: Topics) -> OutRecord:
    """The operation's command for one workflow. It is the same, no matter who makes it."""
    return encode_command(
        topics=topics,
        command=ordered.command,
        workflow_id=workflow_id,
        by=ordered.by,
        command_id=command_id(ordered.operation, workflow_id),
        at_ms=ordered.at_ms,
        reason=ordered.reason,
        step=ordered.step,
        to=ordered.to.get(workflow_id.partition(":")[0], ""),
        input=ordered.input,
        output=ordered.output,
        operation=ordered.operation,
    )


def command_id(operation: str, workflow_id: str) -> str:
    return f"{operation}/{workflow_id}"

"""Bulk operations: the records of `mesh.operations`.

Owns them; `topics/schemas/operation.json` says the same. An operator's command writes what is
ordered and of which workflows (`Ordered` comes last: before it, nothing is ordered), and may write
`Stopped`. The router that sends the single commands writes how far it has got.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.commands import encode_command
from mesh.codec.places import place
from mesh.core.forks import PlannedFork
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
    commands a second. `input`: of retry and fork; `output`: of complete; `to`: of migrate, the
    digest of the version by route.
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


class Forks(_Part, tag="forks", frozen=True, kw_only=True):
    """Some of the workflows, in order, each with its fork. In place of `Ids`, for fork alone."""

    number: int
    forks: dict[str, PlannedFork]


class Progress(_Part, tag="progress", frozen=True, kw_only=True):
    """How many commands the broker has. `unsent`: workflows whose command it would not take."""

    sent: int
    unsent: tuple[str, ...] = ()


class Stopped(_Part, tag="stopped", frozen=True, kw_only=True):
    """No further command is sent."""

    by: str
    reason: str
    at_ms: int


OperationRecord = Ordered | Ids | Forks | Progress | Stopped

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
        case Forks():
            return f"forks/{record.operation}/{record.number}"
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


def chunked(operation: str, workflow_ids: Sequence[str]) -> list[Ids]:
    """The ids, in records that the broker takes."""
    some = _portions(workflow_ids, lambda one: len(one.encode()) + _OVERHEAD)
    return [Ids(operation=operation, number=number, ids=tuple(ids)) for number, ids in enumerate(some)]


def chunked_forks(operation: str, forks: Mapping[str, PlannedFork]) -> list[Forks]:
    """The forks, in records that the broker takes if it takes each one's command."""
    some = _portions(list(forks), lambda one: len(one.encode()) + _OVERHEAD + len(_encode(forks[one])))
    return [
        Forks(operation=operation, number=number, forks={one: forks[one] for one in ids})
        for number, ids in enumerate(some)
    ]


def _portions(workflow_ids: Sequence[str], size_of: Callable[[str], int]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    size = 0
    for one in workflow_ids:
        bytes_of_one = size_of(one)
        if found[-1] and size + bytes_of_one > IDS_BYTES:
            found.append([])
            size = 0
        found[-1].append(one)
        size += bytes_of_one
    return found


def command_of(ordered: Ordered, workflow_id: str, fork: PlannedFork | None = None, *, topics: Topics) -> OutRecord:
    """The operation's command for one workflow. It is the same, no matter who makes it.

    `fork`: of this workflow; the command goes to the new one.
    """
    to = ordered.to.get(workflow_id.partition(":")[0], "")
    return encode_command(
        topics=topics,
        command=ordered.command,
        workflow_id=workflow_id if fork is None else fork.into,
        by=ordered.by,
        command_id=command_id(ordered.operation, workflow_id),
        at_ms=ordered.at_ms,
        reason=ordered.reason,
        step=ordered.step,
        to=to if fork is None else fork.to,
        fork=None if fork is None else fork.fork,
        input=ordered.input,
        output=ordered.output,
        operation=ordered.operation,
    )


def command_id(operation: str, workflow_id: str) -> str:
    return f"{operation}/{workflow_id}"

"""Dead letters: records that could not be processed, as they came, with the reason.

Owns the record of `mesh.dlq`. Key, value and headers of the original are untouched, and a block of
headers named `__mesh.errors.*` comes after them. A dead letter that is itself dead-lettered has two
blocks; the last one counts. Every service may call `dead_letter`; `mesh dlq` reads with
`decode_dead_letter`.
"""

from base64 import b64decode
from typing import Final

import msgspec

from mesh.codec.places import place, place_id
from mesh.core.effects import SendDeadLetter
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record, UnreadableRecords

PREFIX: Final = "__mesh.errors."
HEADERS: Final = tuple(
    PREFIX + name
    for name in (
        "topic",  # this and the next three: where the original stood, and when the broker took it
        "partition",
        "offset",
        "timestamp",
        "group",
        "component",
        "attempt",
        "code",
        "message",
        "failed_at",
        "first_failed_at",
    )
)
"""The block, in its order.

Numbers and times (milliseconds since the epoch) are in decimal digits.
"""
UNREADABLE: Final = "unreadable"
_FIRST: Final = HEADERS[0]
_MAX_MESSAGE: Final = 2000  # characters: the reason must not make a record too large that was not


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `mesh.dlq`: the original, its place, and why it is here.

    Times are milliseconds since the epoch.
    """

    original: Record
    code: str
    message: str
    component: str  # which part of the mesh gave it up: ingress, router, agent, gateway
    group: str  # the consumer group that read it
    attempt: int
    failed_at_ms: int
    first_failed_at_ms: int

    @property
    def id(self) -> str:
        """`<topic>/<partition>/<offset>` of the original."""
        return place_id(self.original)


def dead_letter(
    record: Record,
    *,
    code: str,
    message: str,
    component: str,
    group: str,
    topics: Topics,
    at_ms: int,
    first_failed_at_ms: int | None = None,
    attempt: int = 1,
) -> OutRecord:
    """`record` for the dead-letter topic.

    `code` is one short word, `message` is for people; it is cut off after 2,000 characters. For
    what can't be decoded both say so, and name its place.
    """
    if isinstance(record, UnreadableRecords):
        code, message = UNREADABLE, record.message
    first = at_ms if first_failed_at_ms is None else first_failed_at_ms
    texts = (
        record.topic,
        str(record.partition),
        str(record.offset),
        str(record.timestamp_ms),
        group,
        component,
        str(attempt),
        code,
        message[:_MAX_MESSAGE],
        str(at_ms),
        str(first),
    )
    own = tuple((name, text.encode(errors="replace")) for name, text in zip(HEADERS, texts, strict=True))
    return OutRecord(topic=topics.dlq, key=record.key, value=record.value, headers=(*record.headers, *own))


def dead_letter_of_parked(effect: SendDeadLetter, *, topics: Topics) -> OutRecord:
    """The same for an input that the log parked."""
    parked = effect.parked
    record = Record(
        topic=parked.topic,
        partition=parked.partition,
        offset=parked.offset,
        timestamp_ms=parked.timestamp_ms,
        key=None if parked.key is None else b64decode(parked.key),
        value=None if parked.value is None else b64decode(parked.value),
        headers=tuple((name, b64decode(value)) for name, value in parked.headers),
    )
    return dead_letter(
        record,
        code=parked.code,
        message=parked.message,
        component="router",
        group=topics.router_group,
        topics=topics,
        at_ms=effect.at_ms,
    )


def dead_letter_id(effect: SendDeadLetter) -> str:
    parked = effect.parked
    return f"{parked.topic}/{parked.partition}/{parked.offset}/dead-letter"


def decode_dead_letter(record: Record) -> DeadLetter:
    """The dead letter in a record. Raises `MalformedRecord` if it lacks the headers of one."""
    starts = [index for index, (name, _) in enumerate(record.headers) if name == _FIRST]
    if not starts:
        raise MalformedRecord(f"{place(record)}: not a dead letter of the mesh (it has no header {_FIRST})")
    # the last block is this letter's own; one before it belongs to the original
    own = {name.removeprefix(PREFIX): value.decode(errors="replace") for name, value in record.headers[starts[-1] :]}
    try:
        return DeadLetter(
            original=Record(
                topic=own["topic"],
                partition=int(own["partition"]),
                offset=int(own["offset"]),
                timestamp_ms=int(own["timestamp"]),
                key=record.key,
                value=record.value,
                headers=record.headers[: starts[-1]],
            ),
            code=own["code"],
            message=own["message"],
            component=own["component"],
            group=own["group"],
            attempt=int(own["attempt"]),
            failed_at_ms=int(own["failed_at"]),
            first_failed_at_ms=int(own["first_failed_at"]),
        )
    except (KeyError, ValueError) as error:
        raise MalformedRecord(f"{place(record)}: a dead letter whose headers {PREFIX}* don't hold ({error})") from error

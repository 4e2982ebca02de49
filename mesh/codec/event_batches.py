"""Batches of events: a record in batched mode as the records that its events would be.

Owns how a batch is taken apart (CloudEvents 1.0.2, "JSON Event Format", "JSON Batch Format").
Ingress and the read model call it once `from_record` has said that a record is a batch.
"""

import re
from typing import Final

import orjson

from mesh.codec.event_data import Refused, decode_json
from mesh.codec.places import place
from mesh.errors import MalformedRecord
from mesh.ports import Header, Record

MAX_EVENTS: Final = 1_000  # of one batch: they are matched without a pause
_MEMBER: Final = re.compile("event ([0-9]{1,4}) of the batch: ")
_STRUCTURED: Final[Header] = ("content-type", b"application/cloudevents+json")


def members_of(batch: Record) -> list[Record]:
    """Its events in their order, each as a record in structured mode at the batch's own place.

    Headers that speak of no event (`traceparent`) go along with each. Raises `MalformedRecord` if
    the batch is not a JSON array of at most `MAX_EVENTS`.
    """
    try:
        # the array and the event are around the data, and do not count as its levels
        events = decode_json(batch.value or b"", "the batch", around=2)
    except Refused as refusal:
        raise MalformedRecord(f"{place(batch)}: {refusal}") from refusal.__cause__
    if not isinstance(events, list):
        raise MalformedRecord(f"{place(batch)}: the batch is not a JSON array; send [{{...}}, {{...}}]")
    if len(events) > MAX_EVENTS:
        raise MalformedRecord(
            f"{place(batch)}: the batch has {len(events)} events, and the mesh takes {MAX_EVENTS} in one; send several"
        )
    headers = (_STRUCTURED, *(header for header in batch.headers if _goes_along(header[0].lower())))
    return [_member(batch, event, headers) for event in events]


def _goes_along(name: str) -> bool:
    # these speak of the batch, and each event has its own
    return name != "content-type" and not name.startswith("ce_")


def _member(batch: Record, event: object, headers: tuple[Header, ...]) -> Record:
    return Record(
        batch.topic, batch.partition, batch.offset, batch.timestamp_ms, batch.key, orjson.dumps(event), headers
    )


def member_words(number: int) -> str:
    """How messages begin that are about one event of a batch. `number`: from 1."""
    return f"event {number} of the batch: "


def member_number(message: str) -> int:
    """Which event of a batch a message is about, from 1; 0: of none."""
    found = _MEMBER.match(message)
    return int(found[1]) if found else 0

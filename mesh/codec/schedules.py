"""Routes' schedules, as routers announce them: records of `mesh.commands`.

Owns the record; `topics/schemas/schedule-set.json` says the same. The schedule's owner decides
which of two definitions is newer. Routers call `encode_schedule_set`, and ingress calls
`decode_schedule_set`.
"""

from typing import Final

import msgspec

from mesh.codec.cloudevents import binary_headers, from_record, header
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core import ids
from mesh.core.inputs import ScheduleSet
from mesh.core.schedules import Schedule, ScheduleError, check_schedule
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

SCHEDULE_SET_TYPE: Final = "mesh.schedule_set"


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A definition of a route, and when it starts by itself.

    `schedule` null: it no longer does. `since_ms`: the broker's time from which the definition is
    active, in milliseconds since the epoch.
    """

    route: str
    digest: str
    since_ms: int
    schedule: Schedule | None
    by: str = ""  # the router


_encode = msgspec.json.Encoder().encode


def encode_schedule_set(told: Told, *, topics: Topics, set_id: str, at_ms: int) -> OutRecord:
    """The announcement's record. `set_id` is fresh for each.

    All announcements of a route have one key, and so keep their order.
    """
    workflow_id = ids.schedule_id(told.route)
    headers = binary_headers(
        id=set_id, source="/mesh/routers", type=SCHEDULE_SET_TYPE, workflow_id=workflow_id, time=rfc3339(at_ms)
    )
    return OutRecord(topic=topics.commands, key=workflow_id.encode(), value=_encode(told), headers=headers)


def is_schedule_set(record: Record) -> bool:
    return header(record, "ce_type") == SCHEDULE_SET_TYPE


def decode_schedule_set(record: Record) -> ScheduleSet:
    """The announcement, with the record as its source. Raises `MalformedRecord`."""
    event = from_record(record)
    try:
        told = msgspec.convert(event.get("data"), Told)
        if told.schedule is not None:
            check_schedule(told.schedule)
    except (msgspec.ValidationError, ScheduleError) as error:
        raise MalformedRecord(f"{place(record)}: the route's schedule does not hold: {error}") from error
    return ScheduleSet(
        workflow_id=ids.schedule_id(told.route),
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_at_ms=record.timestamp_ms,
        set_id=event["id"],
        route=told.route,
        digest=told.digest,
        schedule=told.schedule,
        since_ms=told.since_ms,
        by=told.by,
    )

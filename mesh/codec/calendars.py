"""Calendars on `mesh.approvals.people`: versions of working hours, and which of them is active.

    calendar/<name>/sha256:<64 digits>   a version, under its digest
    calendar-activation/<id>             which version of a calendar is active from then on

Owns the records. As people, they are never overwritten or deleted, and a version is stored before
an activation names it. Activations are records of their own and not people's: each calendar has
versions of its own, and none of them changes who has which role. `mesh calendars apply` writes
them, routers read them.
"""

from typing import Any, Final

import msgspec
import orjson

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.event_data import decode_json
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core.calendars import MINUTE_MS, Calendar, CalendarActivation, WorkingDay
from mesh.core.json_values import digest
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

CALENDAR_TYPE: Final = "mesh.calendar"
CALENDAR_ACTIVATION_TYPE: Final = "mesh.calendar-activation"
SOURCE: Final = "/mesh/calendars"
_CALENDAR: Final = b"calendar/"
_ACTIVATION: Final = b"calendar-activation/"


class CalendarBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of a version's record.

    Minutes since the epoch (`from`, `until`, and the first number of each of `days`, its local
    midnight). The further numbers of a day are minutes after it: start, end, start, end.
    """

    calendar: str
    timezone: str
    from_: int = msgspec.field(name="from")
    until: int
    days: tuple[tuple[int, ...], ...]
    weekly: dict[str, tuple[str, ...]] = {}
    off: dict[str, str] = {}


class CalendarActivationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of an activation's record. `version`: the digest."""

    calendar: str
    version: str
    by: str
    reason: str = ""


def document_of(calendar: Calendar) -> dict[str, Any]:
    """The version as its record has it."""
    body = CalendarBody(
        calendar=calendar.name,
        timezone=calendar.zone,
        from_=calendar.from_ms // MINUTE_MS,
        until=calendar.until_ms // MINUTE_MS,
        days=tuple(_packed(day) for day in calendar.days),
        weekly=calendar.weekly,
        off=calendar.off,
    )
    found: dict[str, Any] = msgspec.to_builtins(body)
    return found


def digest_of(calendar: Calendar) -> str:
    """The digest under which this version is stored."""
    return digest(document_of(calendar))


def encode_calendar(calendar: Calendar, topics: Topics) -> OutRecord:
    """The record that stores this version."""
    document = document_of(calendar)
    own = digest(document)
    headers = binary_headers(id=own, source=SOURCE, type=CALENDAR_TYPE)
    key = _CALENDAR + f"{calendar.name}/{own}".encode()
    return OutRecord(topic=topics.people, key=key, value=orjson.dumps(document), headers=headers, partition=0)


def calendar_version_of(record: Record) -> str:
    """The digest of the version that a record holds by its key; empty for any other record."""
    key = record.key or b""
    if not key.startswith(_CALENDAR) or not record.value:
        return ""
    return key.decode("utf-8", "replace").rpartition("/")[2]


def decode_calendar(record: Record) -> Calendar | None:
    """The version in a record; None for any other record. Raises `MalformedRecord`."""
    own = calendar_version_of(record)
    if not own or record.value is None:
        return None
    what = f"the calendar {place(record)}"
    document = decode_json(record.value, what)
    try:
        body = msgspec.convert(document, CalendarBody)
        days = tuple(_unpacked(day) for day in body.days)
    except (msgspec.ValidationError, ValueError) as error:
        raise MalformedRecord(f"{what} does not hold: {error} (topics/schemas/calendar.json has the form)") from error
    # requests of approvals name the digest: other hours under it would change what they say
    if digest(document) != own:
        raise MalformedRecord(f"{what} is not what its key says: its digest is {digest(document)}")
    return Calendar(
        name=body.calendar,
        zone=body.timezone,
        from_ms=body.from_ * MINUTE_MS,
        until_ms=body.until * MINUTE_MS,
        days=days,
        digest=own,
        weekly=body.weekly,
        off=body.off,
    )


def encode_calendar_activation(
    name: str, version: str, *, topics: Topics, activation_id: str, by: str, at_ms: int, reason: str = ""
) -> OutRecord:
    """The record that activates this version of a calendar. `activation_id`: fresh each time."""
    body: dict[str, Any] = msgspec.to_builtins(
        CalendarActivationBody(calendar=name, version=version, by=by, reason=reason)
    )
    headers = binary_headers(id=activation_id, source=SOURCE, type=CALENDAR_ACTIVATION_TYPE, time=rfc3339(at_ms))
    key = _ACTIVATION + activation_id.encode()
    return OutRecord(topic=topics.people, key=key, value=orjson.dumps(body), headers=headers, partition=0)


def decode_calendar_activation(record: Record) -> CalendarActivation | None:
    """The activation in a record, with the broker's time of it; None for any other record.

    Raises `MalformedRecord`.
    """
    if record.value is None or record.key is None or not record.key.startswith(_ACTIVATION):
        return None
    try:
        body = msgspec.convert(exact_json.decode(record.value), CalendarActivationBody)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"the activation of a calendar {place(record)} does not hold: {error}"
            " (topics/schemas/calendar-activation.json has the form)"
        ) from error
    return CalendarActivation(
        id=record.key[len(_ACTIVATION) :].decode("utf-8", "replace"),
        calendar=body.calendar,
        version=body.version,
        by=body.by,
        at_ms=record.timestamp_ms,
        reason=body.reason,
    )


def _packed(day: WorkingDay) -> tuple[int, ...]:
    edges = (edge for span in day.hours for edge in span)
    return (day.begins_ms // MINUTE_MS, *((edge - day.begins_ms) // MINUTE_MS for edge in edges))


def _unpacked(packed: tuple[int, ...]) -> WorkingDay:
    begins, *edges = packed
    if not edges or len(edges) % 2 or sorted(set(edges)) != edges:
        raise ValueError(f"a day needs starts and ends in order, not {edges}")
    spans = zip(edges[::2], edges[1::2], strict=True)
    hours = tuple(((begins + start) * MINUTE_MS, (begins + end) * MINUTE_MS) for start, end in spans)
    return WorkingDay(begins_ms=begins * MINUTE_MS, hours=hours)

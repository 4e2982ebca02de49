"""The calendars of `mesh.approvals.people`: every version of each, and which is active when.

Owns what `mesh.services.people`, which reads the topic, gives it, and the order of writing: the
version first, and once the broker has it, the activation that names it.
"""

import msgspec
import structlog

from mesh.codec.calendars import (
    calendar_version_of,
    decode_calendar,
    decode_calendar_activation,
    digest_of,
    encode_calendar,
    encode_calendar_activation,
)
from mesh.core.calendars import Calendar, CalendarTimeline, PlacedCalendar
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, OperatorError
from mesh.ports import Broker, OutRecord, Record
from mesh.services.whole_topic import WholeTopic

_log = structlog.get_logger()


class CalendarVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One stored version. `calendar` is None if it can't be read here; `problem` says why."""

    digest: str
    calendar: Calendar | None
    problem: str = ""


class Calendars:
    """All that is known so far."""

    def __init__(self) -> None:
        self.versions: dict[str, CalendarVersion] = {}  # by digest
        self.timeline = CalendarTimeline()

    def take(self, record: Record) -> bool:
        """Take a record of the topic. False: it is not one of a calendar."""
        try:
            activation = decode_calendar_activation(record)
        except MalformedRecord as error:
            _log.warning("calendar_activation_unreadable", error=str(error))
            return True
        if activation is not None:
            self.timeline.add(activation)
            return True
        digest = calendar_version_of(record)
        if digest and (digest not in self.versions or self.versions[digest].calendar is None):
            self.versions[digest] = _version(record, digest)
        return bool(digest)

    def of(self, placed: PlacedCalendar | None) -> Calendar | None:
        """The calendar that an activation names; None: it can't be read here."""
        version = self.versions.get(placed.activation.version) if placed is not None else None
        return version.calendar if version is not None else None

    def at(self, at_ms: int) -> dict[str, Calendar]:
        """The calendars in effect at a time, by name, as far as they can be read here."""
        found = {name: self.of(self.timeline.at(name, at_ms)) for name in self.timeline.names()}
        return {name: calendar for name, calendar in found.items() if calendar is not None}

    def problem_of(self, placed: PlacedCalendar) -> str:
        """Why the calendar that an activation names can't be read; empty if it can."""
        version = self.versions.get(placed.activation.version)
        return f"version {placed.activation.version} is not there" if version is None else version.problem


class CalendarReader:
    """The calendars alone, for the command line. `refresh` reads what has been written since."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.calendars = Calendars()
        self._topic = WholeTopic(broker, topics.people, self._take)

    async def start(self) -> None:
        """Read all that is there. Raises `BrokerUnavailable` and `TopicMissing`."""
        await self._topic.start()

    async def refresh(self) -> None:
        await self._topic.refresh()

    async def close(self) -> None:
        await self._topic.close()

    def _take(self, record: Record) -> None:
        self.calendars.take(record)


async def read_calendars(broker: Broker, topics: Topics) -> Calendars:
    """All calendars of the topic. Raises `BrokerUnavailable` and `TopicMissing`."""
    reader = CalendarReader(broker, topics)
    try:
        await reader.start()
    finally:
        await reader.close()
    return reader.calendars


async def activate_calendar(
    known: CalendarReader,
    broker: Broker,
    topics: Topics,
    calendar: Calendar,
    *,
    activation_id: str,
    by: str,
    at_ms: int,
    reason: str = "",
) -> PlacedCalendar:
    """Store this version if it is not stored yet, and activate it.

    Raises `BrokerUnavailable` if the outcome is unknown: doing the same again, with a fresh id, is
    then right.
    """
    digest = digest_of(calendar)
    if digest not in known.calendars.versions:
        await _send(broker, encode_calendar(calendar, topics))
    record = encode_calendar_activation(
        calendar.name, digest, topics=topics, activation_id=activation_id, by=by, at_ms=at_ms, reason=reason
    )
    await _send(broker, record)
    await known.refresh()
    for placed in reversed(known.calendars.timeline.all(calendar.name)):
        if placed.activation.id == activation_id:
            return placed
    raise BrokerUnavailable(f"the activation {activation_id} is on its way, and can't be read back yet")


def _version(record: Record, digest: str) -> CalendarVersion:
    try:
        return CalendarVersion(digest=digest, calendar=decode_calendar(record))
    except MalformedRecord as error:
        _log.warning("calendar_unreadable", error=str(error))
        return CalendarVersion(digest=digest, calendar=None, problem=str(error))


async def _send(broker: Broker, record: OutRecord) -> None:
    failures = await broker.send([record])
    if failures:
        name = (record.key or b"").decode("utf-8", "replace")
        raise OperatorError(f"{name} could not be stored: {failures[0].message}")

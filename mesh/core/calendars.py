"""Working hours: when people work, and when some hours or days of work are over.

Owns the value that a file of working hours is compiled to, the instants that are computed from it,
and which version of a calendar is in effect when. A calendar is a list of days in UTC, so nobody
who asks it needs a time zone, or knows one of another age. It says nothing beyond its horizon.

    working        a number of the calendar's hours, from the moment of the question on
    working days   the end of the hours of the n-th working day after the day of the question

Pure. `mesh.codec.calendars_file` compiles, `mesh.codec.calendars` stores, `mesh.services.people`
reads. The instants go into the request of an approval, so replay asks no calendar (ADR 20).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from mesh.core.activation import Moments
from mesh.core.amounts import as_number

MINUTE_MS: Final = 60_000
MOST_DAYS: Final = 1_000  # that a route may count
_APPLY: Final = "`mesh calendars apply FILE`"


class WorkingDay(msgspec.Struct, frozen=True, kw_only=True):
    """A local day with working hours. `begins_ms`: its midnight.

    `hours`: [start, end) of each, in order, in UTC milliseconds. They don't overlap.
    """

    begins_ms: int
    hours: tuple[tuple[int, int], ...]

    @property
    def ends_ms(self) -> int:
        """When its work is over."""
        return self.hours[-1][1]


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a calendar. It holds for [from_ms, until_ms); days off are not in `days`.

    `weekly`, `off`: what was written, for people to read: hours by weekday, reasons by date.
    """

    name: str
    zone: str
    from_ms: int
    until_ms: int
    days: tuple[WorkingDay, ...]
    digest: str = ""
    weekly: dict[str, tuple[str, ...]] = {}
    off: dict[str, str] = {}

    def after_working(self, from_ms: int, working_ms: int) -> int | None:
        """When so much working time is over, more than none; None: not within the horizon."""
        if from_ms < self.from_ms:
            return None
        left = working_ms
        for day in self.days[self._day_at(from_ms) :]:
            for start, end in day.hours:
                begin = max(start, from_ms)
                if end - begin >= left:
                    return begin + left
                left -= max(end - begin, 0)
        return None

    def after_days(self, from_ms: int, days: int) -> int | None:
        """The end of the n-th working day after the day of this time; None: as above.

        The day itself does not count, also where its hours have not begun.
        """
        if from_ms < self.from_ms:
            return None
        place = bisect_right(self.days, from_ms, key=lambda day: day.begins_ms) + days - 1
        return self.days[place].ends_ms if place < len(self.days) else None

    def opens_at(self, at_ms: int) -> int | None:
        """The first instant at or behind `at_ms` that is within the hours; None: as above."""
        if at_ms < self.from_ms:
            return None
        # the day is not over, so it has hours that end later
        spans = (span for day in self.days[self._day_at(at_ms) :] for span in day.hours)
        return next((max(start, at_ms) for start, end in spans if at_ms < end), None)

    def _day_at(self, at_ms: int) -> int:
        """The place of the first day whose hours are not all over."""
        return bisect_left(self.days, at_ms, key=lambda day: day.ends_ms)


class WorkingTime(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that a route writes: hours of a calendar (`ms`), or else days of it."""

    calendar: str
    ms: int = 0
    days: int = 0

    def __str__(self) -> str:
        if self.days:
            return f"{self.days} working {'day' if self.days == 1 else 'days'}"
        return f"{as_number(self.ms / 3_600_000)} working hours"

    def after(self, calendar: Calendar, from_ms: int) -> int | None:
        """The instant when it is over; None: not within the calendar's horizon."""
        return calendar.after_working(from_ms, self.ms) if self.ms else calendar.after_days(from_ms, self.days)


class CalendarUnread(Exception):
    """Nobody has looked up which calendars are in effect.

    The owner does so now, and decides again.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the calendar {name} was not looked up")
        self.name = name


def instant_of(time: WorkingTime, calendars: Mapping[str, Calendar] | None, from_ms: int) -> tuple[int | None, str]:
    """The instant when this time is over, or None and what an operator has to do.

    Raises `CalendarUnread` where the calendars are None.
    """
    name = time.calendar
    if calendars is None:
        raise CalendarUnread(name)
    calendar = calendars.get(name)
    if calendar is None:
        return None, f"no calendar {name} is in effect: {_APPLY}, then retry"
    found = time.after(calendar, from_ms)
    if found is not None:
        return found, ""
    if from_ms < calendar.from_ms:
        holds = f"the calendar {name} begins at {utc_text(calendar.from_ms)}"
    else:
        holds = f"the calendar {name} ends at {utc_text(calendar.until_ms)}, before {time} are over"
    return None, f"{holds}: {_APPLY} with a longer one, then retry"


def utc_text(at_ms: int) -> str:
    """`2026-11-24 09:00 UTC`."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


# Which version is in effect when ------------------------------------------------------------------


class CalendarActivation(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a calendar that becomes active, and who wanted it why.

    `at_ms`: when the broker took it.
    """

    id: str
    calendar: str  # its name
    version: str  # its digest
    by: str
    at_ms: int
    reason: str = ""


class PlacedCalendar(msgspec.Struct, frozen=True):
    """An activation, and the first time that it applies to."""

    activation: CalendarActivation
    since_ms: int


CalendarsAt = Callable[[int], Mapping[str, Calendar]]
"""The calendars in effect at a broker's time, by name."""


def no_calendars(_at_ms: int) -> dict[str, Calendar]:
    """Where nothing was applied."""
    return {}


class CalendarTimeline:
    """All activations so far, of each calendar by itself. It only grows.

    The times are those of people (`mesh.core.people_versions`), also of a calendar's first version:
    what was asked before it was an incident, and `retry` asks again.
    """

    def __init__(self) -> None:
        self._placed: dict[str, list[PlacedCalendar]] = {}
        self._moments: dict[str, Moments] = {}

    def add(self, activation: CalendarActivation) -> None:
        """Add the topic's next activation."""
        since = self._moments.setdefault(activation.calendar, Moments()).add(activation.at_ms, beginning=False)
        self._placed.setdefault(activation.calendar, []).append(PlacedCalendar(activation, since))

    def names(self) -> Iterable[str]:
        return sorted(self._placed)

    def at(self, name: str, at_ms: int) -> PlacedCalendar | None:
        """The activation of this calendar that rules at a time; None: it has none then."""
        place = self._moments[name].place(at_ms) if name in self._moments else 0
        return self._placed[name][place - 1] if place else None

    def latest(self, name: str) -> PlacedCalendar | None:
        """The last activation of this calendar, in effect or about to be."""
        return self._placed[name][-1] if name in self._placed else None

    def all(self, name: str) -> list[PlacedCalendar]:
        """All activations of this calendar, the oldest first."""
        return list(self._placed.get(name, []))

"""What a new version of a calendar would change, and how long a calendar still holds.

Owns the comparison, day by day, and when an end is near; it reads and writes nothing. `mesh
calendars` and `mesh status` show it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from mesh.core.calendars import MINUTE_MS, Calendar, WorkingDay

DAY_MS: Final = 24 * 60 * MINUTE_MS
NEAR_MS: Final = 90 * DAY_MS
"""An end that is nearer than this is warned of: a calendar is a thing that people forget."""


class DayChange(msgspec.Struct, frozen=True, kw_only=True):
    """A date whose hours differ. `before`, `after`: hours as `09:00-17:00`; empty: a day off."""

    date: str
    change: Literal["new", "changed", "gone"]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    why: str = ""  # of a day off


class CalendarPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that would change from a time on, within what both versions hold for."""

    is_new: bool
    changes: tuple[DayChange, ...] = ()
    zone_before: str = ""  # if it is another one


def calendar_plan(before: Calendar | None, after: Calendar, from_ms: int) -> CalendarPlan:
    if before is None:
        return CalendarPlan(is_new=True)
    zone_before = before.zone if before.zone != after.zone else ""
    return CalendarPlan(is_new=False, changes=tuple(_changes(before, after, from_ms)), zone_before=zone_before)


def _changes(before: Calendar, after: Calendar, from_ms: int) -> Iterator[DayChange]:
    low, high = max(from_ms, before.from_ms, after.from_ms), min(before.until_ms, after.until_ms)
    was, will = _by_date(before, low, high), _by_date(after, low, high)
    for date in sorted(was.keys() | will.keys()):
        old, new = was.get(date, ()), will.get(date, ())
        if old != new:
            change: Literal["new", "changed", "gone"] = "changed" if old and new else "new" if new else "gone"
            why = after.off.get(date, "") if not new else ""
            yield DayChange(date=date, change=change, before=old, after=new, why=why)


def _by_date(calendar: Calendar, low_ms: int, high_ms: int) -> dict[str, tuple[str, ...]]:
    zone = ZoneInfo(calendar.zone)
    return {
        local(day.begins_ms, zone).date().isoformat(): hours_of(day, zone)
        for day in calendar.days
        if low_ms < day.ends_ms and day.begins_ms < high_ms
    }


def hours_of(day: WorkingDay, zone: ZoneInfo) -> tuple[str, ...]:
    """The hours as the clock on the wall shows them."""
    return tuple(f"{local(start, zone):%H:%M}-{local(end, zone):%H:%M}" for start, end in day.hours)


def local(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)


def last_date(calendar: Calendar) -> str:
    """The last date that it holds for."""
    return local(calendar.until_ms - MINUTE_MS, ZoneInfo(calendar.zone)).date().isoformat()


def why_near(calendar: Calendar, now_ms: int) -> str:
    """`the calendar berlin ends in 12 days, on 2028-12-31`; empty while that is far."""
    left_ms = calendar.until_ms - now_ms
    if left_ms >= NEAR_MS:
        return ""
    if left_ms <= 0:
        return f"the calendar {calendar.name} ended on {last_date(calendar)}"
    days = left_ms // DAY_MS
    return f"the calendar {calendar.name} ends in {days} {'day' if days == 1 else 'days'}, on {last_date(calendar)}"

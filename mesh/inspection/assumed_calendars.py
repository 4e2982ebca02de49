"""Calendars where nobody knows the real ones: work goes on day and night.

Owns a stand-in for what is only told and never done. An instant by it says nothing, so callers tell
the amount that the route writes instead.
"""

from collections.abc import Iterable
from typing import Final

from mesh.core.calendars import MINUTE_MS, Calendar, WorkingDay
from mesh.core.route import Route, approvals_of

_DAY_MS: Final = 24 * 60 * MINUTE_MS
_DAYS: Final = 4_000  # more than the longest duration of a route


def assumed_calendars(routes: Iterable[Route], now_ms: int) -> dict[str, Calendar]:
    """A calendar for each name that these routes ask for."""
    names = {name for route in routes for _, work in approvals_of(route) for name in work.calendars}
    return {name: _round_the_clock(name, now_ms) for name in sorted(names)}


def _round_the_clock(name: str, now_ms: int) -> Calendar:
    starts = range(now_ms, now_ms + _DAYS * _DAY_MS, _DAY_MS)
    days = tuple(WorkingDay(begins_ms=start, hours=((start, start + _DAY_MS),)) for start in starts)
    return Calendar(name=name, zone="UTC", from_ms=now_ms, until_ms=now_ms + _DAYS * _DAY_MS, days=days)

"""Local working hours to UTC: the days of a calendar, whatever the clocks on the wall do.

Owns one rule: it is working time whenever the clock on the wall of the zone shows working hours. So
hours stay what they are when the clocks change, an hour that the wall shows twice counts twice, and
one that it never shows does not count.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from mesh.core.calendars import MINUTE_MS, WorkingDay

_HOUR_MS: Final = 60 * MINUTE_MS

Hours = tuple[tuple[int, int], ...]
"""[start, end) in minutes of a day by the clock on the wall; 24:00 is 1440."""


class Stretch(NamedTuple):
    """[start_ms, end_ms) in UTC, in which the wall is `offset_ms` ahead of UTC."""

    start_ms: int
    end_ms: int
    offset_ms: int

    def cut(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """The part of this stretch in which the wall shows [start_ms, end_ms)."""
        return max(start_ms - self.offset_ms, self.start_ms), min(end_ms - self.offset_ms, self.end_ms)


def working_days(zone: ZoneInfo, hours: Iterable[tuple[date, Hours]]) -> Iterator[WorkingDay]:
    """The days that have hours, of dates in order."""
    for day, spans in hours:
        begins_ms = midnight_ms(zone, day)
        found = _in_utc(zone, day, spans) if spans else ()
        if found:
            yield WorkingDay(begins_ms=begins_ms, hours=found)


def midnight_ms(zone: ZoneInfo, day: date) -> int:
    """When a date begins. If the wall does not show its midnight, the first moment that it does."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def _in_utc(zone: ZoneInfo, day: date, spans: Hours) -> tuple[tuple[int, int], ...]:
    # the wall's times as if they were UTC, from which each stretch is its offset away
    wall_ms = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    pieces = [
        one.cut(wall_ms + start * MINUTE_MS, wall_ms + end * MINUTE_MS)
        for one in _stretches(zone, midnight_ms(zone, day), midnight_ms(zone, day + timedelta(days=1)))
        for start, end in spans
    ]
    return tuple(_joined(sorted(piece for piece in pieces if piece[0] < piece[1])))


def _joined(pieces: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The pieces in order, those that touch as one."""
    last: tuple[int, int] | None = None
    for piece in pieces:
        if last is not None and piece[0] == last[1]:
            last = (last[0], piece[1])
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _stretches(zone: ZoneInfo, start_ms: int, end_ms: int) -> Iterator[Stretch]:
    """[start_ms, end_ms) in stretches of one offset each."""
    edges = [start_ms]
    if _offset_ms(zone, start_ms) != _offset_ms(zone, end_ms - MINUTE_MS):
        hours = [*range(start_ms, end_ms, _HOUR_MS), end_ms]
        edges += [change for one, other in pairwise(hours) if (change := _change_ms(zone, one, other)) is not None]
    for one, other in pairwise([*edges, end_ms]):
        yield Stretch(one, other, _offset_ms(zone, one))


def _change_ms(zone: ZoneInfo, low_ms: int, high_ms: int) -> int | None:
    """The first minute in (low_ms, high_ms] with another offset; None: it is one offset."""
    before = _offset_ms(zone, low_ms)
    if _offset_ms(zone, high_ms) == before:
        return None
    while high_ms - low_ms > MINUTE_MS:
        middle = low_ms + (high_ms - low_ms) // MINUTE_MS // 2 * MINUTE_MS
        low_ms, high_ms = (middle, high_ms) if _offset_ms(zone, middle) == before else (low_ms, middle)
    return high_ms


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)

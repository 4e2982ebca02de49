"""Schedules: the times at which a route starts by itself, in cron's form, in a time zone.

Pure, given the zone's rules as this machine has them. The decision records the time, so replay
never asks again. Times are milliseconds since the epoch, UTC.

What a schedule does when clocks change depends on its times alone, not on how they are written:

- A schedule of every hour of the day keeps going through both changes, as its minutes say.
- Any other schedule has each of its local times once. A time that is skipped when clocks go forward
  becomes the first moment after the gap, and all times of one gap give one start. A time that comes
  twice when clocks go back counts at its first.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby, islice, takewhile
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

FIRED_TYPE: Final = "mesh.schedule.fired"
"""The type of the event that a scheduled workflow starts with.

No route needs to take it: a schedule names its route.
"""

_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
_SPANS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_HOURS: Final = frozenset(range(24))
_STEP: Final = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)/(\d+)")
_DAY: Final = timedelta(days=1)
# the first look back for the last time; each further one is `_WIDER` times as long
_WINDOW_MS: Final = 3_600_000
_WIDER: Final = 24
_MOST_COUNTED: Final = 1_000  # missed times: counting a year of minutes would hold up the partition
_SOME_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)  # for checks, which must not depend on the day


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A cron line and its time zone.

    `cron`: minute, hour, day of the month, month, day of the week.
    """

    cron: str
    timezone: str = "UTC"


class Missed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times that passed without a start: how many, the first and the last.

    `is_more`: there are more than `count`; they were not counted further.
    """

    count: int
    first_ms: int
    last_ms: int
    is_more: bool = False


class ScheduleError(Exception):
    """The schedule is invalid. The message says why."""


class NoSuchZone(ScheduleError):
    """The time zone is not known on this machine."""


def check_schedule(schedule: Schedule) -> None:
    """Check a schedule. Raises `ScheduleError`."""
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise NoSuchZone(f"there is no time zone {schedule.timezone}") from error
    fields = schedule.cron.split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(f"a schedule has five fields: {', '.join(_FIELDS)}")
    for field, name, span in zip(fields, _FIELDS, _SPANS, strict=True):
        _check_steps(field, name, span)
    try:
        next(CronSim(schedule.cron, _SOME_DAY.astimezone(zone)))
    except CronSimError as error:
        raise ScheduleError(f"it is not a cron schedule: {error}") from error
    except StopIteration as error:
        raise ScheduleError("there is no such day") from error


def next_time(schedule: Schedule, after_ms: int) -> int:
    """The first time strictly after `after_ms`."""
    return next(_times(schedule, after_ms))


def last_time(schedule: Schedule, due_ms: int, now_ms: int) -> int:
    """The last time in [`due_ms`, `now_ms`], of which `due_ms` is one."""
    window_ms = _WINDOW_MS
    while True:
        found = max(due_ms, now_ms - window_ms)
        is_whole = found == due_ms
        times = list(takewhile(lambda at_ms: at_ms <= now_ms, _times(schedule, found - 1)))
        if times or is_whole:
            return times[-1] if times else due_ms
        # a rare schedule may have no time in a small window; a frequent one has far too many in a
        # large one
        window_ms *= _WIDER


def missed_times(schedule: Schedule, due_ms: int, fired_ms: int) -> Missed | None:
    """The times in [`due_ms`, `fired_ms`), of which `due_ms` is one; None if there is none."""
    if fired_ms <= due_ms:
        return None
    times = takewhile(lambda at_ms: at_ms < fired_ms, _times(schedule, due_ms - 1))
    # one more than is shown, which tells whether there are more
    count = sum(1 for _ in islice(times, _MOST_COUNTED + 1))
    return Missed(
        count=min(count, _MOST_COUNTED),
        first_ms=due_ms,
        last_ms=last_time(schedule, due_ms, fired_ms - 1),
        is_more=count > _MOST_COUNTED,
    )


def _check_steps(field: str, name: str, span: tuple[int, int]) -> None:
    """Refuse a step that leaves nothing but the first value of its range.

    Raises `ScheduleError`.
    """
    for term in field.split(","):
        found = _STEP.fullmatch(term)
        if found is None:
            continue
        first = int(found[1]) if found[1] else span[0]
        last = int(found[2]) if found[2] else span[1]
        if int(found[3]) > last - first:
            raise ScheduleError(
                f"{term} in the field {name} steps beyond its range, {first} to {last}: "
                f"it would be {first} alone; write {first} if you mean that"
            )


def _times(schedule: Schedule, after_ms: int) -> Iterator[int]:
    """The times strictly after `after_ms`, in order, each once."""
    zone = ZoneInfo(schedule.timezone)
    after = datetime.fromtimestamp(after_ms // 1000, zone)
    # Near a change of the clock, an earlier local time may be a later moment.
    start = (after - _clock_change(after)).replace(tzinfo=None)
    # of every hour: a local time that comes twice counts at both its moments, and one that is
    # skipped at none
    if CronSim(schedule.cron, start).hours == _HOURS:
        first = (_moment(local, zone, fold=0) for local in CronSim(schedule.cron, start))
        second = (_moment(local, zone, fold=1) for local in CronSim(schedule.cron, start))
        moments = merge(_existing(first), _existing(second))
    else:
        moments = (_first_moment(local, zone) for local in CronSim(schedule.cron, start))
    times = (int(moment.timestamp()) * 1000 for moment in moments)
    # all local times of one gap give the same moment, which counts once
    return (at_ms for at_ms, _ in groupby(times) if at_ms > after_ms)


def _clock_change(near: datetime) -> timedelta:
    """How much the zone's offset changes within a day of this time, plus a minute."""
    offsets = [(near.astimezone(UTC) + days * _DAY).astimezone(near.tzinfo).utcoffset() for days in (-1, 0, 1)]
    known = [offset or timedelta() for offset in offsets]
    return max(known) - min(known) + timedelta(minutes=1)


def _moment(local: datetime, zone: ZoneInfo, *, fold: int) -> datetime | None:
    """The moment of a local time, in UTC; None if clocks skip it."""
    aware = local.replace(tzinfo=zone, fold=fold)
    moment = aware.astimezone(UTC)
    return moment if moment.astimezone(zone).replace(tzinfo=None) == local else None


def _existing(moments: Iterator[datetime | None]) -> Iterator[datetime]:
    return (moment for moment in moments if moment is not None)


def _first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """The first moment of a local time, or the first one after the gap that skips it."""
    return _moment(local, zone, fold=0) or _end_of_gap(local, zone)


def _end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    # The offset after the change gives a moment before it, and the offset before it one after it.
    before = int(local.replace(tzinfo=zone, fold=1).timestamp())
    after = int(local.replace(tzinfo=zone, fold=0).timestamp())
    old = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return datetime.fromtimestamp(after, UTC)


def rfc3339(at_ms: int) -> str:
    """A whole second in RFC 3339, UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fired_event(route: str, at_ms: int, late_s: int) -> dict[str, Any]:
    """The CloudEvent that the workflow of this time starts with.

    `late_s`: how many whole seconds after its time it starts.
    """
    time = rfc3339(at_ms)
    return {
        "specversion": "1.0",
        # the time itself, so that a time which is sent twice starts one run
        "id": time,
        "source": f"/mesh/schedules/{route}",
        "type": FIRED_TYPE,
        "time": time,
        "data": {"scheduled_at": time, "late_s": late_s},
    }

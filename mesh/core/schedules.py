"""Schedules: at which times a route starts by itself, as cron says it, on the clocks of a time
zone.

Pure, given the zone's rules as this machine has them: whoever decides on a time writes it down, so
that replay never asks again. Times are milliseconds since the epoch, UTC. Where clocks are put
forward, a time that they leap over is the first after the leap; where they are put back, a time of
day that comes twice counts once, at its first; a schedule that runs every hour or more often (`*`
in its minutes or hours) keeps going through both (Debian's cron, as cronsim has it).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

FIRED_TYPE: Final = "mesh.schedule.fired"
"""The type of the event that a scheduled workflow starts with. No route need take it: a schedule names its route."""

_FIELDS: Final = 5
# the first look back for the last time; each further one is `_WIDER` times as long
_WINDOW_MS: Final = 3_600_000
_WIDER: Final = 24
_SOME_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)  # for checks, which must not depend on the day


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """`cron`: minute, hour, day of the month, month, day of the week."""

    cron: str
    timezone: str = "UTC"


class ScheduleError(Exception):
    """The schedule does not hold. The message says why."""


class NoSuchZone(ScheduleError):
    """The time zone is not known on this machine."""


def check_schedule(schedule: Schedule) -> None:
    """Raises `ScheduleError`."""
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise NoSuchZone(f"there is no time zone {schedule.timezone}") from error
    if len(schedule.cron.split()) != _FIELDS:
        raise ScheduleError("a schedule has five fields: minute, hour, day of the month, month, day of the week")
    try:
        next(CronSim(schedule.cron, _SOME_DAY.astimezone(zone)))
    except CronSimError as error:
        raise ScheduleError(f"it is no cron schedule: {error}") from error
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
        window_ms *= _WIDER


def _times(schedule: Schedule, after_ms: int) -> Iterator[int]:
    after = datetime.fromtimestamp(after_ms // 1000, ZoneInfo(schedule.timezone))
    times = (int(found.timestamp()) * 1000 for found in CronSim(schedule.cron, after))
    # within an hour that comes twice, cronsim gives its first
    return (at_ms for at_ms in times if at_ms > after_ms)


def rfc3339(at_ms: int) -> str:
    """A whole second as RFC 3339 has it, in UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fired_event(route: str, at_ms: int, late_s: int) -> dict[str, Any]:
    """The CloudEvent that the workflow of this time starts with.

    `late_s`: whole seconds that it starts after its time.
    """
    time = rfc3339(at_ms)
    return {
        "specversion": "1.0",
        "id": time,
        "source": f"/mesh/schedules/{route}",
        "type": FIRED_TYPE,
        "time": time,
        "data": {"scheduled_at": time, "late_s": late_s},
    }

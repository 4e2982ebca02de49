"""A schedule's versions, and the times at which it fired."""

from typing import Any

from mesh.core.events.event import LogEvent
from mesh.core.schedules import Missed, Schedule


class ScheduleChanged(LogEvent, tag="ScheduleChanged.1", frozen=True, kw_only=True):
    """A schedule has a new definition.

    `schedule` None: its route no longer starts by itself.
    """

    route: str
    digest: str
    since_ms: int
    schedule: Schedule | None = None
    next_at_ms: int | None = None
    by: str = ""


class ScheduleFired(LogEvent, tag="ScheduleFired.1", frozen=True, kw_only=True):
    """A scheduled time has come, and a workflow starts.

    `missed`: the times before it that passed without a start. No router lived, or it was held up.
    None: there were none, or a version wrote this that did not note them.
    """

    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]  # that it starts with
    scheduled_at_ms: int
    next_at_ms: int
    missed: Missed | None = None

"""A schedule's versions, and the times at which it fired."""

from typing import Any

from mesh.core.events.event import LogEvent
from mesh.core.schedules import Schedule


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
    """A scheduled time has come, and a workflow starts."""

    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]  # that it starts with
    scheduled_at_ms: int
    next_at_ms: int

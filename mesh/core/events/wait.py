"""Waits for times and events, and events that are kept until a step asks for them."""

from typing import Any

from mesh.core.events.event import LogEvent
from mesh.core.state import KeptEvent


class WaitStarted(LogEvent, tag="WaitStarted.1", frozen=True, kw_only=True):
    """A step waits for an event or for a time.

    `awaits`: the event's type; empty if only a time is awaited. `due_at_ms`: when the wait ends or
    is given up.
    """

    step: str
    reason: str
    awaits: str = ""
    due_at_ms: int | None = None


class WaitEnded(LogEvent, tag="WaitEnded.1", frozen=True, kw_only=True):
    """The time has come."""

    step: str


class EventReceived(LogEvent, tag="EventReceived.1", frozen=True, kw_only=True):
    """The event that a step waited for has come, now or earlier (`kept`)."""

    step: str
    cloud_event: dict[str, Any]
    kept: bool = False


class EventKept(LogEvent, tag="EventKept.1", frozen=True, kw_only=True):
    """An event came before the step that will wait for it.

    Before the workflow's first run, it makes the workflow `expected`: `route`, `digest` and `key`
    are what the event was matched with, and the event is kept until `expires_at_ms`.
    """

    kept: KeptEvent
    route: str
    digest: str
    key: str
    expires_at_ms: int


class EventUnclaimed(LogEvent, tag="EventUnclaimed.1", frozen=True, kw_only=True):
    """A kept event that no step waited for; it goes to the dead letters."""

    kept: KeptEvent
    reason: str

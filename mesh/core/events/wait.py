"""Waits for times and events, and events that are kept until a step asks for them."""

from typing import Any

from mesh.core.events.event import LogEvent
from mesh.core.state import KeptEvent


class WaitStarted(LogEvent, tag="WaitStarted.1", frozen=True, kw_only=True):
    """`awaits`: an event's type; empty where only the time is awaited.

    `due_at_ms`: when the wait ends, or is given up.
    """

    step: str
    reason: str
    awaits: str = ""
    due_at_ms: int | None = None


class WaitEnded(LogEvent, tag="WaitEnded.1", frozen=True, kw_only=True):
    """The time has come."""

    step: str


class EventReceived(LogEvent, tag="EventReceived.1", frozen=True, kw_only=True):
    """What a step waited for, now or kept from before."""

    step: str
    cloud_event: dict[str, Any]
    kept: bool = False


class EventKept(LogEvent, tag="EventKept.1", frozen=True, kw_only=True):
    """An event that some step will wait for.

    Without a run yet it makes one expected: `route`, `digest` and `key` are what it was matched
    with, and it is kept until `expires_at_ms`.
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

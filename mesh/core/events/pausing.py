"""Pauses of agents and routes, in one partition."""

from mesh.core.events.event import LogEvent


class PauseSet(LogEvent, tag="PauseSet.1", frozen=True, kw_only=True):
    """An operator holds an agent or a route: nothing of it is dispatched in this partition.

    `target`: `agent/<name>` or `route/<name>`.
    """

    target: str
    by: str
    reason: str = ""


class PauseLifted(LogEvent, tag="PauseLifted.1", frozen=True, kw_only=True):
    """The agent or the route has resumed. What it held goes on from now, in portions."""

    target: str
    by: str
    reason: str = ""


class HeldReleased(LogEvent, tag="HeldReleased.1", frozen=True, kw_only=True):
    """All that the pauses which were lifted had held has gone on."""

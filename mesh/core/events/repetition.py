"""Work that repeats: for each item of a list, and in the rounds of a loop."""

from typing import Any

from mesh.core.events.event import LogEvent


class ForEachStarted(LogEvent, tag="ForEachStarted.1", frozen=True, kw_only=True):
    step: str
    items: list[Any]
    reason: str


class PortionScheduled(LogEvent, tag="PortionScheduled.1", frozen=True, kw_only=True):
    """More items may begin than one decision should hold. The next ones begin at `due_at_ms`."""

    step: str
    due_at_ms: int


class ForEachEnded(LogEvent, tag="ForEachEnded.1", frozen=True, kw_only=True):
    """Every item is settled.

    The step's output is the list of the items' outputs, null for those that failed.
    """

    step: str
    failed: int = 0


class LoopLeft(LogEvent, tag="LoopLeft.1", frozen=True, kw_only=True):
    """A loop that an operator had is done after all, by what its last round gave."""

    step: str  # that closes it
    reason: str
    rejected: bool = False  # how that step had come out


class RoundStarted(LogEvent, tag="RoundStarted.1", frozen=True, kw_only=True):
    """A loop goes round again: these steps begin again."""

    step: str  # that decided so
    round: int
    steps: tuple[str, ...]
    reason: str

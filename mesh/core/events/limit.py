"""Slots of limits: what a workflow asks for, and what a limiter grants."""

from typing import Any

from mesh.core.events.event import LogEvent


class SlotRequested(LogEvent, tag="SlotRequested.1", frozen=True, kw_only=True):
    """A limiter is asked for a slot for this attempt, which is queued until then.

    The numbers are the limit's as of now.
    """

    step: str
    limit: str  # the limiter's workflow id
    task_id: str
    attempt: int  # the one to come
    agent: str
    input: Any
    reason: str
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    priority: float = 0.0
    retry_budget_from: int = 1
    round: int = 1
    hop: int = 1
    reserved: dict[str, float] | None = None  # of the budget, until it goes out


class SlotReleased(LogEvent, tag="SlotReleased.1", frozen=True, kw_only=True):
    """The attempt needs its slot no more, or does not want it any more: the limiter gets it back."""

    step: str
    limit: str
    task_id: str
    attempt: int
    asked_at_ms: int


class SlotQueued(LogEvent, tag="SlotQueued.1", frozen=True, kw_only=True):
    """A limiter has heard of an attempt that wants a slot, and of the numbers that count from now
    on.
    """

    task_id: str
    attempt: int
    asked_at_ms: int
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    priority: float = 0.0


class SlotGranted(LogEvent, tag="SlotGranted.1", frozen=True, kw_only=True):
    """The attempt has the slot, from `granted_at_ms` on: never before a grant that came before it."""

    task_id: str
    attempt: int
    asked_at_ms: int
    granted_at_ms: int


class SlotFreed(LogEvent, tag="SlotFreed.1", frozen=True, kw_only=True):
    """A slot was given back, or a place in the queue was given up."""

    task_id: str
    attempt: int


class SlotRefused(LogEvent, tag="SlotRefused.1", frozen=True, kw_only=True):
    """A request that could not be read: who asked is told, and waits no longer."""

    task_id: str
    attempt: int
    message: str

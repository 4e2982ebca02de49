"""Slots of limits: what a workflow asks for, and what a limiter grants."""

from typing import Any

from mesh.core.events.event import LogEvent


class SlotRequested(LogEvent, tag="SlotRequested.1", frozen=True, kw_only=True):
    """An attempt asks a limiter for a slot, and is queued until it has one.

    The numbers are the limit's at this moment.
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
    """The attempt no longer needs its slot, or no longer waits for one.

    The limiter gets it back.
    """

    step: str
    limit: str
    task_id: str
    attempt: int
    asked_at_ms: int


class SlotQueued(LogEvent, tag="SlotQueued.1", frozen=True, kw_only=True):
    """A limiter has heard of an attempt that wants a slot.

    It has also heard the numbers that count from now on.
    """

    task_id: str
    attempt: int
    asked_at_ms: int
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    priority: float = 0.0


class SlotGranted(LogEvent, tag="SlotGranted.1", frozen=True, kw_only=True):
    """The attempt has the slot from `granted_at_ms` on, which is never before an earlier grant."""

    task_id: str
    attempt: int
    asked_at_ms: int
    granted_at_ms: int


class SlotFreed(LogEvent, tag="SlotFreed.1", frozen=True, kw_only=True):
    """A slot was given back, or a place in the queue was given up."""

    task_id: str
    attempt: int


class SlotRefused(LogEvent, tag="SlotRefused.1", frozen=True, kw_only=True):
    """A request that could not be read. The sender gets the reason and stops waiting."""

    task_id: str
    attempt: int
    message: str

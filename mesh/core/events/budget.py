"""What a run may spend, what it has spent, and what waits for more."""

from typing import Any

from mesh.core.events.event import LogEvent


class TaskHeld(LogEvent, tag="TaskHeld.1", frozen=True, kw_only=True):
    """The budget does not have what this attempt needs, so the attempt waits until there is more.

    The attempt may be a task's or a call's. `is_paused`: it waits until its workflow, its route or
    its agent resumes.
    """

    step: str
    attempt: int  # the one to come
    agent: str  # empty: it is to be chosen, or the attempt is a call
    input: Any
    reason: str
    retry_budget_from: int = 1
    hop: int = 1
    is_paused: bool = False


class BudgetRaised(LogEvent, tag="BudgetRaised.1", frozen=True, kw_only=True):
    """Somebody granted more. `granted` is what is added to each limit, by name."""

    granted: dict[str, float]
    by: str
    expires_at_ms: int | None = None  # when the time is over now


class BudgetTimeOver(LogEvent, tag="BudgetTimeOver.1", frozen=True, kw_only=True):
    """The budget's time is over: no task goes out until more time is granted."""


class UsageReported(LogEvent, tag="UsageReported.1", frozen=True, kw_only=True):
    """What a call that nobody waited for any more took of the budget.

    `usage` None: the call does not say, and counts with all that was reserved for it.
    """

    step: str
    task_id: str
    attempt: int
    usage: dict[str, float] | None = None

"""Attempts at tasks: sent, succeeded, failed, handed over, due again."""

from typing import Any

import msgspec

from mesh.core.events.event import LogEvent
from mesh.core.route import Periods
from mesh.core.tool_approvals import ToolVerdict


class TaskDispatched(LogEvent, tag="TaskDispatched.1", frozen=True, kw_only=True):
    """An attempt at a task is sent to an agent.

    The event is self-contained: the task record is a function of it and its decision, without the
    route.
    """

    step: str
    task_id: str
    attempt: int
    agent: str
    input: Any
    due_at_ms: int  # with no result at the broker by then, the attempt has failed
    traceparent: str  # the span of this attempt, in the workflow's trace
    reason: str  # why now, for people: "needs classify, duplicates: both succeeded"
    retry_budget_from: int = (
        # the attempt from which the route's `attempts` are counted (an operator's retry starts
        # the count again)
        1
    )
    round: int = 1  # of the loop that the step is in
    hop: int = 1  # 1: the route's own agent; each hand-over adds one
    reserved: dict[str, float] | None = None  # of the budget, for this attempt
    periods: Periods | None = None  # of signs of life; None: the agent is asked for none
    capability: str = ""  # for which the agent was chosen; `reason` says how
    deaths: int = 0  # processes of the agent that have died with the task in their hands
    # on the calls that its agent has asked about
    approvals: tuple[ToolVerdict, ...] = ()


class TaskSucceeded(LogEvent, tag="TaskSucceeded.1", frozen=True, kw_only=True):
    step: str
    task_id: str
    attempt: int
    output: Any
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class TaskFailed(LogEvent, tag="TaskFailed.1", frozen=True, kw_only=True):
    """An attempt failed.

    `kind` is `timeout` where no result came in time, `start_timeout`, `run_timeout`,
    `heartbeat_timeout` where no sign of life did, `undeliverable` where the task could not be sent,
    `interrupted` where the agent's process died and the task goes out again, `agent_died` where too
    many have.

    `deaths`: where a process of the agent died, all that have died with the task in their hands so
    far, this one last; of some the name is unknown and empty. Such an attempt is not one of the
    route's `attempts`. `retry_after_s`: the agent asked not to be tried again before.
    """

    step: str
    task_id: str
    attempt: int
    kind: str
    message: str
    retryable: bool
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None
    deaths: tuple[str, ...] = ()
    retry_after_s: float | None = None


class TaskHandedOver(LogEvent, tag="TaskHandedOver.1", frozen=True, kw_only=True):
    """The agent passed its task on.

    The dispatch to the other agent follows in the same decision.
    """

    step: str
    task_id: str
    attempt: int
    to: str
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class ApprovalWanted(LogEvent, tag="ApprovalWanted.1", frozen=True, kw_only=True):
    """The attempt has ended, and goes on after the verdict on the call `name`.

    The question follows in the same decision, at the place `<step>.tool-<name>`. The attempt is not
    one of the route's `attempts`. `digest`: of the payload.
    """

    step: str
    task_id: str
    attempt: int
    name: str
    digest: str
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class RetryScheduled(LogEvent, tag="RetryScheduled.1", frozen=True, kw_only=True):
    step: str
    attempt: int  # the one to come
    due_at_ms: int


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt that nobody wants any more."""

    task_id: str
    attempt: int
    agent: str


class TasksWithdrawn(LogEvent, tag="TasksWithdrawn.1", frozen=True, kw_only=True):
    """These attempts were out, and this decision makes them needless: their agents hear of it."""

    tasks: tuple[Withdrawn, ...]

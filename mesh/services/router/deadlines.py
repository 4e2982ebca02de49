"""A partition's deadlines: what is due without an input, and the earliest time it may fire.

The times in its workflows, the silence of agents, and the barrier that both wait for. All times are
milliseconds by the broker's clock.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from mesh.core.events import (
    ApprovalEscalated,
    ApprovalRequested2,
    BudgetRaised,
    DeadlineMoved,
    Decision,
    Event,
    QuestionAsked,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowStarted,
)
from mesh.core.state import StepState, Workflow
from mesh.services.router.liveness import Liveness
from mesh.services.router.timers import AWAITED, Awaited, Timers

_SETS_TIME: Final = (WorkflowStarted, BudgetRaised)
_ENDS_ATTEMPT: Final = (TaskSucceeded, TaskFailed)
_OF_APPROVALS: Final = frozenset({ApprovalRequested2, ApprovalEscalated, DeadlineMoved, QuestionAsked})
_ASK_AGAIN_MS: Final = 200  # while ingress has not copied all answers yet


class Barrier(NamedTuple):
    """Every input that the broker took before `up_to_ms` is below `targets` (offset by topic).

    `copied`: which other inputs that also covers, because ingress has copied them by then.
    """

    up_to_ms: int
    targets: dict[str, int]
    copied: frozenset[Awaited]


class Deadlines:
    """The deadlines of one partition.

    Derived from its workflows and from agents' signs of life. None is in the log before it has
    come.
    """

    __slots__ = ("barrier", "signs", "timers")

    def __init__(self) -> None:
        self.timers = Timers()
        self.signs = Liveness()
        self.barrier: Barrier | None = None

    def arm(self, decision: Decision, workflow: Workflow) -> None:
        """Arm the timers of a workflow that a decision has changed."""
        for event in decision.events:
            if workflow.expires_at_ms is not None and isinstance(event, _SETS_TIME):
                self.timers.arm_budget(workflow.expires_at_ms, workflow.workflow_id, workflow.run_id)
            name = getattr(event, "step", None)
            step = workflow.steps.get(name) if name else None
            # only a time that this decision has set: an older one is armed already
            if step is not None and step.due_at_ms is not None and step.since_ms == decision.at_ms:
                self.timers.arm(step.due_at_ms, workflow.workflow_id, str(name), workflow.run_id, step)
            # the most frequent first, and none of the rest is tried on most
            if isinstance(event, TaskDispatched):
                if step is not None:  # or its own decision made it needless
                    self.signs.watch(workflow, event.step, step)
            elif isinstance(event, _ENDS_ATTEMPT):
                self.signs.forget(event.task_id)
            elif step is not None and type(event) in _OF_APPROVALS:
                self._arm_approval(event, workflow, step)
        if workflow.plan is not None and workflow.plan.next_at_ms is not None:
            self.timers.arm_schedule(workflow.plan.next_at_ms, workflow.workflow_id)
        if workflow.limiter is not None:
            self.timers.arm_rate(workflow)
        if workflow.forget_at_ms is not None and workflow.updated_at_ms == decision.at_ms:
            self.timers.arm_forget(workflow.forget_at_ms, workflow.workflow_id, workflow.run_id)

    def _arm_approval(self, event: Event, workflow: Workflow, step: StepState) -> None:
        match event:
            case ApprovalRequested2() | ApprovalEscalated():
                self.timers.arm_stage(workflow, event.step, step)
            case DeadlineMoved() | QuestionAsked() if step.status == "asking" and step.due_at_ms is not None:
                self.timers.arm(step.due_at_ms, workflow.workflow_id, event.step, workflow.run_id, step)
            case _:
                pass

    def nearest_at_ms(self) -> int | None:
        """The nearest time of all."""
        return _earlier(self.timers.nearest_at_ms(), self.signs.next_due_at_ms())

    def fires_up_to(self, awaited: Awaited, now_ms: int, decided: Callable[[str], int]) -> int:
        """The last time whose timers may fire.

        No input that came before it, or in its own millisecond, can be unread. `decided`: how far a
        topic has been decided.
        """
        if awaited == "nothing":
            return now_ms
        barrier = self.barrier
        if barrier is None or (awaited != "results" and awaited not in barrier.copied):
            return -1
        if any(decided(topic) < offset for topic, offset in barrier.targets.items()):
            return -1
        # An input of `up_to_ms` itself may lie behind the targets, and one that comes in a
        # deadline's own millisecond is in time.
        return min(now_ms, barrier.up_to_ms - 1)

    def wants_barrier(self, now_ms: int) -> int | None:
        """The time up to which inputs must be known to be read; None: no need to ask.

        There is one if a timer is due that such inputs could beat.
        """
        nearest_ms, known = self.nearest_at_ms(), self.barrier
        if nearest_ms is None or nearest_ms >= now_ms:  # as in most turns
            return None
        for awaited in self.beatable(now_ms):
            due = self._next_at_ms(awaited)
            if known is None or (due is not None and known.up_to_ms <= due):
                return now_ms
            # the end of the inbox is known, but not whether ingress has
            # copied everything into it by then
            if awaited != "results" and awaited not in known.copied and now_ms - known.up_to_ms >= _ASK_AGAIN_MS:
                return now_ms
        return None

    def beatable(self, now_ms: int) -> list[Awaited]:
        """The kinds of input that timers which are due wait for."""
        return [
            awaited
            for awaited in AWAITED
            if awaited != "nothing" and (due := self._next_at_ms(awaited)) is not None and due < now_ms
        ]

    def _next_at_ms(self, awaited: Awaited) -> int | None:
        due = self.timers.next_due_at_ms(awaited)
        return _earlier(due, self.signs.next_due_at_ms()) if awaited == "results" else due


def _earlier(one_ms: int | None, other_ms: int | None) -> int | None:
    if one_ms is None or other_ms is None:
        return other_ms if one_ms is None else one_ms
    return min(one_ms, other_ms)

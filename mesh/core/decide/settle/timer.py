"""A timer that is due: a time-out, a retry, a deadline, or the end of a closed id's memory.

A timer that no longer fits the state changes nothing.
"""

from typing import Final, assert_never

from mesh.core.amounts import as_number
from mesh.core.decide.begin import for_each
from mesh.core.decide.begin.end import end
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import settled
from mesh.core.decide.settle.approval import expire, reach_stage
from mesh.core.decide.settle.attempt import dispatch_again, fail
from mesh.core.decide.settle.call import time_out_call
from mesh.core.decide.settle.pausing import on_resumed
from mesh.core.events import (
    BudgetTimeOver,
    EventUnclaimed,
    IncidentRaised,
    StepSkipped,
    TaskFailed,
    WaitEnded,
    WorkflowForgotten,
)
from mesh.core.inputs import TimerDue
from mesh.core.route import WaitWork
from mesh.core.state import StepState

_SIGNS: Final = {
    "start_timeout": "no instance of agent {agent} has begun it after {waited_s:.1f} s",
    "run_timeout": "no result of agent {agent} {waited_s:.1f} s after it had begun",
    "heartbeat_timeout": "no sign of life of agent {agent} for {waited_s:.1f} s",
}
"""What is said where no sign of life has put a time-out off."""


def on_timer(draft: Draft, given: TimerDue) -> None:
    workflow = draft.workflow
    # timers are not taken back, so one of an earlier run may still fire
    if workflow is None or workflow.run_id != given.run_id:
        return
    if given.kind == "forget":
        # the time may have been put off since the timer was set, by another event that is kept
        if workflow.forget_at_ms is not None and workflow.forget_at_ms <= given.due_at_ms:
            for kept in workflow.kept:
                draft.add(EventUnclaimed(kept=kept, reason="no workflow of this id started in time"))
            draft.add(WorkflowForgotten())
        return
    if given.kind == "budget_time":
        if (
            workflow.status == "running"
            and workflow.expires_at_ms is not None
            and workflow.expires_at_ms <= given.due_at_ms
        ):
            draft.add(BudgetTimeOver())
        return
    if given.kind == "resumed":
        on_resumed(draft)
        return
    step = workflow.steps.get(given.step)
    if workflow.status == "running" and step is not None:
        _on_step(draft, given, step)


def _on_step(draft: Draft, given: TimerDue, step: StepState) -> None:
    # `due_at_ms` says nothing about these: the owner keeps their times outside the log (ADR 9)
    if given.kind in _SIGNS:
        if step.status == "running":
            _fall_silent(draft, given, step)
        return
    # not the step's own time either: its stages have instants of theirs
    if given.kind == "approval_stage":
        reach_stage(draft, given.step, given.due_at_ms)
        return
    # the step has moved on since the timer was set
    if step.due_at_ms is None or step.due_at_ms > given.due_at_ms:
        return
    _fire(draft, given, step)


def _fire(draft: Draft, given: TimerDue, step: StepState) -> None:
    """Fire the timer if its kind fits the step's status.

    A retry may fire at once. A time-out waits until every input that could beat it has been read.
    """
    # a timer is not taken back when its step moves on, so kind and status must fit
    match given.kind, step.status:
        case "task_timeout", "running":
            _time_out(draft, given.step, step)
        case "retry", "retrying":
            dispatch_again(draft, given.step, step)
        case "approval_deadline", "asking":
            expire(draft, given.step, step)
        case "call_timeout", "calling":
            time_out_call(draft, given.step, step)
        case "wait", "waiting" if not step.awaits:
            draft.add(WaitEnded(step=given.step))
            settled(draft, given.step)
        case "event_timeout", "waiting" if step.awaits:
            _give_up_waiting(draft, given.step, step)
        case "portion", "iterating":
            for_each.advance(draft, given.step, alone=True)  # not the last, since more are to begin


def _give_up_waiting(draft: Draft, name: str, step: StepState) -> None:
    work = draft.route.steps[name].work
    if not isinstance(work, WaitWork):
        raise TypeError(f"step {name} of {draft.workflow_id} waits, but its route does not say for what")
    message = f"no event {step.awaits} came in {as_number((draft.now_ms - step.since_ms) / 1000)} s"
    match work.on_timeout:
        case "skip":
            draft.add(StepSkipped(step=name, reason=message))
            settled(draft, name)
        case "fail":
            end(draft, "failed", f"{name}: {message}")
        case "incident":
            draft.add(IncidentRaised(step=name, kind="timeout", message=message))
        case _:
            assert_never(work.on_timeout)


def _time_out(draft: Draft, name: str, step: StepState) -> None:
    waited_s = (draft.now_ms - step.since_ms) / 1000
    message = f"no result of agent {step.agent} after {waited_s:.1f} s"
    fail(
        draft,
        TaskFailed(
            step=name, task_id=step.task_id, attempt=step.attempt, kind="timeout", message=message, retryable=True
        ),
    )


def _fall_silent(draft: Draft, given: TimerDue, step: StepState) -> None:
    """Fail an attempt that gave no sign of life in time."""
    period_s = step.periods.of(given.kind) if step.periods is not None else None
    # nobody decides on signs, so the owner says when the time is up; but a timer that is due before
    # a whole period has passed since the dispatch is one of an earlier attempt
    if period_s is None or given.due_at_ms < step.since_ms + int(period_s * 1000):
        return
    waited_s = period_s + (draft.now_ms - given.due_at_ms) / 1000
    message = _SIGNS[given.kind].format(agent=step.agent, waited_s=waited_s)
    fail(
        draft,
        TaskFailed(
            step=given.step,
            task_id=step.task_id,
            attempt=step.attempt,
            kind=given.kind,
            message=message,
            retryable=True,
        ),
    )

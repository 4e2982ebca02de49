"""Evolve: what one event makes of a workflow's state.

Everything that replay knows lives here: it needs no route, no clock and no directory. An event's meaning never changes; a new version is a new case.
Called by `decide` (on its own events, as it goes) and by `replay` (on the log's).
"""

from typing import Any, Final, assert_never

from msgspec.structs import replace

from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    CommandAccepted,
    CommandRefused,
    EffectUndeliverable,
    Event,
    IncidentRaised,
    IncidentResolved,
    InputAttempted,
    InputDismissed,
    InputParked,
    RetryScheduled,
    StartRepeated,
    StepBlocked,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowStarted,
)
from mesh.core.state import FINISHED, Incident, StepState, Workflow

__all__ = ["approval_output", "evolve"]

_EARLIER_RUNS: Final = 100  # runs that a workflow's id remembers: about a kilobyte


def evolve(workflow: Workflow | None, event: Event, *, workflow_id: str, at_ms: int) -> Workflow | None:
    """The state after `event`. None: there is no such workflow (yet, or any more).

    Raises `ValueError` for an event that its state can't have had: a log that no owner of this protocol writes.
    """
    match event:  # the most frequent first: a fold is made of these
        case (
            TaskDispatched()
            | TaskSucceeded()
            | TaskFailed()
            | RetryScheduled()
            | StepSkipped()
            | StepBlocked()
            | ApprovalRequested()
            | ApprovalClosed()
            | ApprovalWithdrawn()
            | IncidentRaised()
            | IncidentResolved()
        ):
            before = _begun(workflow, event, workflow_id)
            steps = {**before.steps, event.step: _step(before.steps.get(event.step), event, at_ms)}
            return replace(before, steps=steps, updated_at_ms=at_ms)
        case WorkflowStarted():
            return _started(workflow, event, workflow_id, at_ms)
        case WorkflowEnded():
            return _ended(_begun(workflow, event, workflow_id), event, at_ms)
        case WorkflowForgotten():
            return None
        case (
            InputDismissed()
            | StartRepeated()
            | AnswerRefused()
            | CommandAccepted()
            | CommandRefused()
            | EffectUndeliverable()
            | InputParked()
            | InputAttempted()
        ):
            return workflow
        case _:
            assert_never(event)


def _begun(workflow: Workflow | None, event: Event, workflow_id: str) -> Workflow:
    if workflow is None:
        raise ValueError(f"{type(event).__name__} for workflow {workflow_id}, which has not started")
    return workflow


def approval_output(
    verdict: str, payload: Any, *, by: str = "", reason: str = "", edited: bool = False
) -> dict[str, Any]:
    """What expressions see as `steps.<approval>`."""
    return {"verdict": verdict, "payload": payload, "by": by, "reason": reason, "edited": edited}


_StepEvent = (
    TaskDispatched
    | TaskSucceeded
    | TaskFailed
    | RetryScheduled
    | StepSkipped
    | StepBlocked
    | ApprovalRequested
    | ApprovalClosed
    | ApprovalWithdrawn
    | IncidentRaised
    | IncidentResolved
)


def _step(step: StepState | None, event: _StepEvent, at_ms: int) -> StepState:
    match event:
        case TaskDispatched():
            return _dispatched(step, event, at_ms)
        case StepSkipped():
            return StepState(status="skipped", since_ms=at_ms, output=event.output)
        case StepBlocked():
            return StepState(status="blocked", since_ms=at_ms)
        case ApprovalRequested():
            return _asked(event, at_ms)
        case IncidentRaised():
            return _stuck(step or StepState(status="incident"), event, at_ms)
        case _:
            if step is None:
                raise ValueError(f"{type(event).__name__} for step {event.step}, which has not begun")
            return _moved(step, event, at_ms)


def _moved(
    step: StepState,
    event: TaskSucceeded | TaskFailed | RetryScheduled | ApprovalClosed | ApprovalWithdrawn | IncidentResolved,
    at_ms: int,
) -> StepState:
    match event:
        case TaskSucceeded():
            return replace(
                step, status="succeeded", since_ms=at_ms, due_at_ms=None, input=None, output=event.output, error=""
            )
        case TaskFailed():
            error = f"{event.kind}: {event.message}"
            return replace(step, status="failed", since_ms=at_ms, due_at_ms=None, error=error)
        case RetryScheduled():
            return replace(step, status="retrying", since_ms=at_ms, due_at_ms=event.due_at_ms)
        case ApprovalClosed():
            return _closed(step, event, at_ms)
        case ApprovalWithdrawn():
            return replace(step, status="cancelled", since_ms=at_ms, due_at_ms=None, input=None)
        case IncidentResolved():
            return replace(step, status="retrying", since_ms=at_ms, due_at_ms=None, incident=None)
        case _:
            assert_never(event)


def _stuck(step: StepState, event: IncidentRaised, at_ms: int) -> StepState:
    incident = Incident(kind=event.kind, message=event.message, raised_at_ms=at_ms)
    return replace(step, status="incident", since_ms=at_ms, due_at_ms=None, incident=incident)


def _started(before: Workflow | None, event: WorkflowStarted, workflow_id: str, at_ms: int) -> Workflow:
    return Workflow(
        workflow_id=workflow_id,
        run_id=event.run_id,
        route=event.route,
        digest=event.digest,
        key=event.key,
        status="running",
        started_at_ms=at_ms,
        updated_at_ms=at_ms,
        cloud_event=event.cloud_event,
        trace_id=event.trace_id,
        parent_span_id=event.parent_span_id,
        steps={},
        closed_retention_s=event.closed_retention_s,
        earlier_runs=(*before.earlier_runs, before.run_id)[-_EARLIER_RUNS:] if before else (),
    )


def _dispatched(step: StepState | None, event: TaskDispatched, at_ms: int) -> StepState:
    return StepState(
        status="running",
        task_id=event.task_id,
        attempt=event.attempt,
        retry_budget_from=event.retry_budget_from,
        since_ms=at_ms,
        due_at_ms=event.due_at_ms,
        input=event.input,
        agent=event.agent,
        error=step.error if step else "",
    )


def _asked(event: ApprovalRequested, at_ms: int) -> StepState:
    return StepState(
        status="asking",
        task_id=event.approval_id,
        since_ms=at_ms,
        due_at_ms=event.deadline_at_ms,
        input=event.payload,
        digest=event.digest,
        role=event.role,
        on_expiry=event.on_expiry,
        payload_schema=event.payload_schema,
    )


def _closed(step: StepState, event: ApprovalClosed, at_ms: int) -> StepState:
    output = approval_output(event.verdict, event.payload, by=event.by, reason=event.reason, edited=event.edited)
    status = "succeeded" if event.verdict == "approved" else "rejected"
    return replace(
        step,
        status=status,
        since_ms=at_ms,
        due_at_ms=None,
        input=None,
        output=output,
        payload_schema=None,
        expired=event.expired,
    )


def _ended(workflow: Workflow, event: WorkflowEnded, at_ms: int) -> Workflow:
    """Payloads are dropped, so that the memory of a closed workflow is small; the log keeps them."""
    steps = {
        name: StepState(
            status=step.status if step.status in FINISHED else "cancelled",
            task_id=step.task_id,
            attempt=step.attempt,
            since_ms=step.since_ms if step.status in FINISHED else at_ms,
            error=step.error,
            expired=step.expired,
        )
        for name, step in workflow.steps.items()
    }
    cloud_event = {name: value for name, value in workflow.cloud_event.items() if name not in {"data", "data_base64"}}
    return replace(
        workflow,
        status=event.status,
        steps=steps,
        cloud_event=cloud_event,
        updated_at_ms=at_ms,
        ended_at_ms=at_ms,
        forget_at_ms=event.forget_at_ms,
        reason=event.reason,
    )

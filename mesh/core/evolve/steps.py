"""What the events of a step make of its state: `evolve`'s part for everything but the run as a whole, by the same rules."""

from typing import Any, Final, assert_never

from msgspec.structs import replace

from mesh.core.events import (
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    CallFailed,
    CallMade,
    CallSucceeded,
    CallWithdrawn,
    EventEmitted,
    EventReceived,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    IncidentResolved,
    PortionScheduled,
    RetryScheduled,
    SlotRequested,
    StepBlocked,
    StepCancelled,
    StepComputed,
    StepGivenUp,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskHeld,
    TaskSucceeded,
    WaitEnded,
    WaitStarted,
)
from mesh.core.evolve.calls import CallEvent, evolve_call
from mesh.core.evolve.limits import queue_up
from mesh.core.state import Fan, Incident, StepState, StepStatus

_DOING: Final = frozenset({"running", "calling", "iterating", "succeeded", "claiming"})
_UNHEARD: Final = ("timeout: ", "start_timeout: ", "run_timeout: ", "heartbeat_timeout: ")


StepEvent = (
    TaskDispatched
    | TaskSucceeded
    | TaskFailed
    | TaskHandedOver
    | TaskHeld
    | SlotRequested
    | RetryScheduled
    | StepSkipped
    | StepBlocked
    | StepCancelled
    | StepGivenUp
    | StepComputed
    | EventEmitted
    | ForEachStarted
    | PortionScheduled
    | ForEachEnded
    | WaitStarted
    | WaitEnded
    | EventReceived
    | ApprovalRequested
    | ApprovalClosed
    | ApprovalWithdrawn
    | IncidentRaised
    | IncidentResolved
)


def approval_output(
    verdict: str, payload: Any, *, by: str = "", reason: str = "", edited: bool = False
) -> dict[str, Any]:
    """What expressions see as `steps.<approval>`."""
    return {"verdict": verdict, "payload": payload, "by": by, "reason": reason, "edited": edited}


def may_be_done(step: StepState) -> bool:
    """Whether the step's work was done, or may have been without a word of it: its task or its call is out, or was last heard of by a time-out."""
    return step.acted or step.status in _DOING or step.fan is not None or step.error.startswith(_UNHEARD)


def evolve_step(step: StepState | None, event: StepEvent | CallEvent, at_ms: int) -> StepState:
    """The step after `event`; `step` None: it has not begun. Raises `ValueError` for an event that it can't have had."""
    match event:
        case TaskDispatched():
            return _dispatched(step, event, at_ms)
        case TaskSucceeded() if step is not None:
            return replace(
                step,
                status="succeeded",
                since_ms=at_ms,
                due_at_ms=None,
                input=None,
                output=event.output,
                error="",
                reserved=None,
                charged=None,
            )
        case StepSkipped():
            return StepState(status="skipped", since_ms=at_ms, output=event.output, acted=acted_before(step))
        case StepBlocked():
            return StepState(status="blocked", since_ms=at_ms, acted=acted_before(step))
        case StepComputed():
            return _fresh(step, "succeeded", at_ms, output=event.output)
        case EventEmitted():
            output = {"id": event.cloud_event["id"], "type": event.cloud_event["type"]}
            return _fresh(step, "succeeded", at_ms, output=output)
        case ForEachStarted():
            begun = _fresh(step, "iterating", at_ms, output=step.output if step else None)
            return replace(begun, input=event.items, fan=Fan(total=len(event.items)))
        case WaitStarted():
            begun = _fresh(step, "waiting", at_ms, output=step.output if step else None)
            return replace(begun, awaits=event.awaits, due_at_ms=event.due_at_ms)
        case ApprovalRequested():
            return _asked(step, event, at_ms)
        case TaskHeld() | SlotRequested():
            return _held(step, event, at_ms)
        case IncidentRaised():
            return _stuck(step or StepState(status="incident"), event, at_ms)
        case StepCancelled():
            return _closed_without(step or StepState(status="cancelled"), "cancelled", at_ms)
        case CallMade() | CallSucceeded() | CallFailed() | CallWithdrawn():
            return evolve_call(step, event, at_ms, acted=acted_before(step))
        case _:
            if step is None or isinstance(event, TaskSucceeded):
                raise ValueError(f"{type(event).__name__} for step {event.step}, which has not begun")
            return _moved(step, event, at_ms)


def _moved(
    step: StepState,
    event: TaskFailed
    | TaskHandedOver
    | RetryScheduled
    | StepGivenUp
    | PortionScheduled
    | ForEachEnded
    | WaitEnded
    | EventReceived
    | ApprovalClosed
    | ApprovalWithdrawn
    | IncidentResolved,
    at_ms: int,
) -> StepState:
    match event:
        case TaskFailed():
            return replace(
                step,
                status="failed",
                since_ms=at_ms,
                due_at_ms=None,
                error=f"{event.kind}: {event.message}",
                reserved=None,
                acted=step.acted or step.error.startswith(_UNHEARD),
            )
        case TaskHandedOver():
            acted = step.acted or step.error.startswith(_UNHEARD)
            return replace(step, error="", reserved=None, charged=None, acted=acted)
        case RetryScheduled():
            return replace(step, status="retrying", since_ms=at_ms, due_at_ms=event.due_at_ms)
        case StepGivenUp():
            return _closed_without(step, "failed", at_ms)
        case PortionScheduled():
            return replace(step, since_ms=at_ms, due_at_ms=event.due_at_ms)
        case ForEachEnded():
            return replace(step, status="succeeded", since_ms=at_ms, due_at_ms=None, input=None, fan=None)
        case WaitEnded():
            return replace(step, status="succeeded", since_ms=at_ms, due_at_ms=None, output=None)
        case EventReceived():
            return replace(
                step, status="succeeded", since_ms=at_ms, due_at_ms=None, output=event.cloud_event, awaits=""
            )
        case ApprovalClosed():
            return _closed(step, event, at_ms)
        case ApprovalWithdrawn():
            return replace(step, status="cancelled", since_ms=at_ms, due_at_ms=None, input=None)
        case IncidentResolved():
            status: StepStatus = "retrying" if step.fan is None else "iterating"
            return replace(step, status=status, since_ms=at_ms, due_at_ms=None, incident=None)
        case _:
            assert_never(event)


def _fresh(step: StepState | None, status: StepStatus, at_ms: int, *, output: Any) -> StepState:
    """A step that begins (anew)."""
    return StepState(
        status=status, since_ms=at_ms, output=output, round=step.round if step else 1, acted=acted_before(step)
    )


def acted_before(step: StepState | None) -> bool:
    """Whether a step that begins anew may have done something already."""
    return step is not None and may_be_done(step)


def _closed_without(step: StepState, status: StepStatus, at_ms: int) -> StepState:
    """Settled, and nothing came of it."""
    return replace(
        step,
        status=status,
        since_ms=at_ms,
        due_at_ms=None,
        input=None,
        output=None,
        fan=None,
        awaits="",
        incident=None,
        reserved=None,
        charged=None,
        acted=acted_before(step),
    )


def _stuck(step: StepState, event: IncidentRaised, at_ms: int) -> StepState:
    incident = Incident(kind=event.kind, message=event.message, raised_at_ms=at_ms)
    acted = step.acted or step.status in _DOING
    reserved = None if step.status == "queued" else step.reserved
    return replace(
        step, status="incident", since_ms=at_ms, due_at_ms=None, incident=incident, acted=acted, reserved=reserved
    )


def _dispatched(step: StepState | None, event: TaskDispatched, at_ms: int) -> StepState:
    begun = StepState(  # with one more argument, CPython 3.11 would pack them into a dict: three times as long
        status="running",
        task_id=event.task_id,
        attempt=event.attempt,
        retry_budget_from=event.retry_budget_from,
        since_ms=at_ms,
        due_at_ms=event.due_at_ms,
        input=event.input,
        agent=event.agent,
        periods=event.periods,
        error=step.error if step else "",
        output=step.output if step else None,
        round=event.round,
        hop=event.hop,
        reserved=event.reserved,
        acted=step.acted if step else False,
    )
    return begun if step is None or step.charged is None else replace(begun, charged=step.charged)


def _held(step: StepState | None, event: TaskHeld | SlotRequested, at_ms: int) -> StepState:
    """What is needed to send it once there is more budget, or a slot. An earlier attempt may still be answered."""
    if isinstance(event, SlotRequested):
        return queue_up(step, event, at_ms)
    return replace(
        step or StepState(status="held"),
        status="held",
        since_ms=at_ms,
        due_at_ms=None,
        input=event.input,
        agent=event.agent,
        attempt=event.attempt - 1,
        retry_budget_from=event.retry_budget_from,
        hop=event.hop,
        reserved=None,
    )


def _asked(step: StepState | None, event: ApprovalRequested, at_ms: int) -> StepState:
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
        output=step.output if step else None,
        round=event.round,
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

"""What the events of a step change in its state.

`evolve`'s part for everything but the run as a whole, by the same rules.
"""

from typing import Any, Final, assert_never

from msgspec.structs import replace

from mesh.core import events as ev
from mesh.core.evolve.calls import CallEvent, evolve_call
from mesh.core.evolve.limits import queue_up
from mesh.core.evolve.voting import VotingEvent, asked_voters, closed_by_votes, evolve_voting
from mesh.core.state import Fan, Incident, StepState, StepStatus
from mesh.core.tool_approvals import ToolState, idle

_DOING: Final = frozenset({"running", "calling", "iterating", "succeeded", "claiming"})
_UNHEARD: Final = ("timeout: ", "start_timeout: ", "run_timeout: ", "heartbeat_timeout: ")


StepEvent = (
    ev.TaskDispatched
    | ev.TaskSucceeded
    | ev.TaskFailed
    | ev.TaskHandedOver
    | ev.ApprovalWanted
    | ev.TaskHeld
    | ev.SlotRequested
    | ev.RetryScheduled
    | ev.StepSkipped
    | ev.StepBlocked
    | ev.StepCancelled
    | ev.StepGivenUp
    | ev.StepComputed
    | ev.StepCompleted
    | ev.EventEmitted
    | ev.ForEachStarted
    | ev.PortionScheduled
    | ev.ForEachEnded
    | ev.WaitStarted
    | ev.WaitEnded
    | ev.EventReceived
    | ev.ApprovalRequested
    | ev.ApprovalClosed
    | ev.ApprovalWithdrawn
    | ev.LoopLeft
    | ev.IncidentRaised
    | ev.IncidentResolved
    | VotingEvent
)


def approval_output(
    verdict: str, payload: Any, *, by: str = "", reason: str = "", edited: bool = False
) -> dict[str, Any]:
    """What expressions see as `steps.<approval>`."""
    return {"verdict": verdict, "payload": payload, "by": by, "reason": reason, "edited": edited}


def may_be_done(step: StepState) -> bool:
    """Whether the step's work was done, or may have been without anybody hearing of it.

    Its task or its call is out, or the last attempt timed out.
    """
    return step.acted or step.status in _DOING or step.fan is not None or step.error.startswith(_UNHEARD)


def evolve_step(step: StepState | None, event: StepEvent | CallEvent, at_ms: int) -> StepState:
    """The step after `event`. `step` None: it has not begun.

    Raises `ValueError` for an event that it can't have had.
    """
    match event:
        case ev.TaskDispatched():
            return _dispatched(step, event, at_ms)
        case ev.TaskSucceeded() if step is not None:
            done = replace(
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
            return done if step.tools is None else replace(done, tools=None)
        case ev.StepSkipped():
            return StepState(status="skipped", since_ms=at_ms, output=event.output, acted=acted_before(step))
        case ev.StepBlocked():
            return StepState(status="blocked", since_ms=at_ms, acted=acted_before(step))
        case ev.StepComputed():
            return _fresh(step, "succeeded", at_ms, output=event.output)
        case ev.EventEmitted():
            output = {"id": event.cloud_event["id"], "type": event.cloud_event["type"]}
            return _fresh(step, "succeeded", at_ms, output=output)
        case ev.ForEachStarted():
            begun = _fresh(step, "iterating", at_ms, output=step.output if step else None)
            return replace(begun, input=event.items, fan=Fan(total=len(event.items)))
        case ev.WaitStarted():
            begun = _fresh(step, "waiting", at_ms, output=step.output if step else None)
            return replace(begun, awaits=event.awaits, due_at_ms=event.due_at_ms)
        case ev.ApprovalRequested():
            return _asked(step, event, at_ms)
        case ev.TaskHeld() | ev.SlotRequested():
            return _held(step, event, at_ms)
        case ev.IncidentRaised():
            return _stuck(step or StepState(status="incident"), event, at_ms)
        case ev.StepCancelled():
            return _closed_without(step or StepState(status="cancelled"), "cancelled", at_ms)
        case ev.CallMade() | ev.CallSucceeded() | ev.CallFailed() | ev.CallWithdrawn():
            return evolve_call(step, event, at_ms, acted=acted_before(step))
        case _:
            if step is None or isinstance(event, ev.TaskSucceeded):
                raise ValueError(f"{type(event).__name__} for step {event.step}, which has not begun")
            return _moved(step, event, at_ms)


def _moved(
    step: StepState,
    event: ev.TaskFailed
    | ev.TaskHandedOver
    | ev.ApprovalWanted
    | ev.RetryScheduled
    | ev.StepCompleted
    | ev.StepGivenUp
    | ev.PortionScheduled
    | ev.ForEachEnded
    | ev.WaitEnded
    | ev.EventReceived
    | ev.ApprovalClosed
    | ev.ApprovalWithdrawn
    | ev.LoopLeft
    | ev.IncidentResolved
    | VotingEvent,
    at_ms: int,
) -> StepState:
    match event:
        case ev.TaskFailed():
            return _failed(step, event, at_ms)
        case ev.TaskHandedOver():
            acted = step.acted or step.error.startswith(_UNHEARD)
            # the deaths were those of the other agent's processes
            return replace(step, error="", reserved=None, charged=None, acted=acted, deaths=(), tools=None)
        case ev.ApprovalWanted():
            return _suspended(step, event, at_ms)
        case ev.RetryScheduled():
            return replace(step, status="retrying", since_ms=at_ms, due_at_ms=event.due_at_ms)
        case ev.StepGivenUp() | ev.StepCompleted():
            return _given_up(step, event, at_ms)
        case ev.PortionScheduled():
            return replace(step, since_ms=at_ms, due_at_ms=event.due_at_ms)
        case ev.ForEachEnded():
            return replace(step, status="succeeded", since_ms=at_ms, due_at_ms=None, input=None, fan=None)
        case ev.WaitEnded():
            return replace(step, status="succeeded", since_ms=at_ms, due_at_ms=None, output=None)
        case ev.EventReceived():
            return replace(
                step, status="succeeded", since_ms=at_ms, due_at_ms=None, output=event.cloud_event, awaits=""
            )
        case ev.ApprovalClosed():
            return _closed(step, event, at_ms)
        case ev.ApprovalWithdrawn():
            return replace(step, status="cancelled", since_ms=at_ms, due_at_ms=None, input=None)
        case ev.IncidentResolved():
            status: StepStatus = "retrying" if step.fan is None else "iterating"
            # an input that was given, or made again, is of the present version
            stale = step.stale and not event.input
            # an operator's retry starts the count of deaths again (ADR 12)
            tools = None if step.tools is None else replace(step.tools, asked=0)
            begun = replace(step, status=status, since_ms=at_ms, due_at_ms=None, incident=None, deaths=(), stale=stale)
            return begun if tools is None else replace(begun, tools=tools)
        case ev.LoopLeft():
            return replace(step, status="rejected" if event.rejected else "succeeded", since_ms=at_ms)
        case (
            ev.VoteCast()
            | ev.VoteTakenBack()
            | ev.PayloadEdited()
            | ev.NoteAdded()
            | ev.QuestionAsked()
            | ev.QuestionAnswered()
            | ev.ApprovalEscalated()
            | ev.AnswerHeld()
            | ev.ApprovalClaimed()
            | ev.ApprovalReassigned()
            | ev.ApprovalReleased()
            | ev.DeadlineMoved()
            | ev.AnswerRefused2()
        ):
            return evolve_voting(step, event)
        case _:
            assert_never(event)


def _failed(step: StepState, event: ev.TaskFailed, at_ms: int) -> StepState:
    """An attempt has failed. One whose process died is not among the route's `attempts`."""
    failed = replace(
        step,
        status="failed",
        since_ms=at_ms,
        due_at_ms=None,
        error=f"{event.kind}: {event.message}",
        reserved=None,
        # an earlier attempt ended without a word, so its work may be done whatever became of this
        # one
        acted=step.acted or step.error.startswith(_UNHEARD),
    )
    if not event.deaths:
        return failed
    return replace(failed, deaths=event.deaths, retry_budget_from=step.retry_budget_from + 1, acted=True)


def _suspended(step: StepState, event: ev.ApprovalWanted, at_ms: int) -> StepState:
    """An attempt has ended for a question, and is not among the route's `attempts`."""
    before = step.tools or ToolState()
    return replace(
        step,
        status="suspended",
        since_ms=at_ms,
        due_at_ms=None,
        retry_budget_from=step.retry_budget_from + 1,
        error="",
        reserved=None,
        acted=step.acted or step.error.startswith(_UNHEARD) or before.has_approved,
        tools=replace(before, waits_for=event.name, digest=event.digest, asked=before.asked + 1),
    )


def _fresh(step: StepState | None, status: StepStatus, at_ms: int, *, output: Any) -> StepState:
    """A step that begins, or begins again."""
    return StepState(
        status=status, since_ms=at_ms, output=output, round=step.round if step else 1, acted=acted_before(step)
    )


def acted_before(step: StepState | None) -> bool:
    """Whether a step that begins again may have done something already."""
    return step is not None and may_be_done(step)


def _closed_without(step: StepState, status: StepStatus, at_ms: int) -> StepState:
    """The step, settled without an output."""
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
        tools=None,
    )


def _given_up(step: StepState, event: ev.StepGivenUp | ev.StepCompleted, at_ms: int) -> StepState:
    """The step, settled without a result: without an output, or with one by hand."""
    if isinstance(event, ev.StepGivenUp):
        return _closed_without(step, "failed", at_ms)
    return replace(_closed_without(step, "succeeded", at_ms), output=event.output, error="")


def _stuck(step: StepState, event: ev.IncidentRaised, at_ms: int) -> StepState:
    incident = Incident(kind=event.kind, message=event.message, raised_at_ms=at_ms)
    # what is out when the incident comes may still do its work, and then has to be undone
    acted = step.acted or step.status in _DOING
    # the account has just given back what a queued step had reserved
    reserved = None if step.status == "queued" else step.reserved
    return replace(
        step, status="incident", since_ms=at_ms, due_at_ms=None, incident=incident, acted=acted, reserved=reserved
    )


def _dispatched(step: StepState | None, event: ev.TaskDispatched, at_ms: int) -> StepState:
    # with one more argument, CPython 3.11 would pack them into a dict: three times as long
    begun = StepState(
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
    if step is None or (step.charged is None and not step.deaths and not step.stale and step.tools is None):
        return begun
    tools = None if step.tools is None else idle(step.tools)
    return replace(begun, charged=step.charged, deaths=step.deaths, stale=step.stale, tools=tools)


def _held(step: StepState | None, event: ev.TaskHeld | ev.SlotRequested, at_ms: int) -> StepState:
    """Keep what is needed to send the task once there is more budget, or a slot.

    An earlier attempt may still be answered.
    """
    if isinstance(event, ev.SlotRequested):
        return queue_up(step, event, at_ms)
    return replace(
        step or StepState(status="held"),
        status="held",
        since_ms=at_ms,
        due_at_ms=None,
        input=event.input,
        agent=event.agent,
        # that attempt is not made yet: it counts when it is sent
        attempt=event.attempt - 1,
        retry_budget_from=event.retry_budget_from,
        hop=event.hop,
        reserved=None,
    )


def _asked(step: StepState | None, event: ev.ApprovalRequested, at_ms: int) -> StepState:
    asked = StepState(
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
        hop=event.asked,
    )
    return asked_voters(asked, step, event) if isinstance(event, ev.ApprovalRequested2) else asked


def _closed(step: StepState, event: ev.ApprovalClosed, at_ms: int) -> StepState:
    output = approval_output(event.verdict, event.payload, by=event.by, reason=event.reason, edited=event.edited)
    # only where it says something: old logs must give the same outputs
    if event.on_behalf:
        output["for"] = event.on_behalf
    status = "succeeded" if event.verdict == "approved" else "rejected"
    closed = replace(
        step,
        status=status,
        since_ms=at_ms,
        due_at_ms=None,
        input=None,
        output=output,
        payload_schema=None,
        expired=event.expired,
    )
    return closed_by_votes(closed, event) if isinstance(event, ev.ApprovalClosed2) else closed

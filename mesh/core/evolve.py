"""Evolve: what one event makes of a workflow's state.

Everything that replay knows lives here: it needs no route, no clock and no directory. An event's meaning never changes; a new version is a new case.
Called by `decide` (on its own events, as it goes) and by `replay` (on the log's).
"""

from typing import Any, Final, assert_never

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.accounts import booked, budgeted, charged
from mesh.core.calls import Slice
from mesh.core.events import (
    AliasBound,
    AliasGranted,
    AliasRefused,
    AliasReturned,
    AliasSought,
    AliasWaived,
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    BudgetRaised,
    BudgetTimeOver,
    CallFailed,
    CallMade,
    CallRefused,
    CallSucceeded,
    CallWithdrawn,
    CommandAccepted,
    CommandRefused,
    CompensationStarted,
    EffectUndeliverable,
    Event,
    EventEmitted,
    EventKept,
    EventReceived,
    EventRedirected,
    EventUnclaimed,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    IncidentResolved,
    InputAttempted,
    InputDismissed,
    InputParked,
    PortionScheduled,
    RetryScheduled,
    RoundStarted,
    ScheduleChanged,
    ScheduleFired,
    SlotFreed,
    SlotGranted,
    SlotQueued,
    SlotRefused,
    SlotReleased,
    SlotRequested,
    StartRepeated,
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
    UsageReported,
    WaitEnded,
    WaitStarted,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowMigrated,
    WorkflowStarted,
)
from mesh.core.evolve_built_in import BuiltIn, evolve_built_in
from mesh.core.evolve_calls import CallEvent, evolve_call
from mesh.core.evolve_limits import LimiterEvent, asked, evolve_limiter, queue_up, released
from mesh.core.state import FINISHED, Account, Ending, Fan, Incident, StepState, StepStatus, Workflow

__all__ = ["approval_output", "evolve", "may_be_done"]

_EARLIER_RUNS: Final = 100  # runs that a workflow's id remembers: about a kilobyte
_HEARD: Final = 100  # events: about two
_DOING: Final = frozenset({"running", "calling", "iterating", "succeeded", "claiming"})
_UNHEARD: Final = ("timeout: ", "start_timeout: ", "run_timeout: ", "heartbeat_timeout: ")


def evolve(workflow: Workflow | None, event: Event, *, workflow_id: str, at_ms: int) -> Workflow | None:
    """The state after `event`. None: there is no such workflow (yet, or any more).

    Raises `ValueError` for an event that its state can't have had: a log that no owner of this protocol writes.
    """
    match event:  # the most frequent first: a fold is made of these
        case TaskDispatched() | TaskSucceeded():
            return _with_step(_begun(workflow, event, workflow_id), event, at_ms)
        case WorkflowStarted():
            return _started(workflow, event, workflow_id, at_ms)
        case WorkflowEnded():
            return _ended(_begun(workflow, event, workflow_id), event, at_ms)
        case (
            TaskFailed()
            | TaskHandedOver()
            | TaskHeld()
            | RetryScheduled()
            | StepSkipped()
            | StepBlocked()
            | StepCancelled()
            | StepGivenUp()
            | StepComputed()
            | EventEmitted()
            | ForEachStarted()
            | PortionScheduled()
            | ForEachEnded()
            | WaitStarted()
            | WaitEnded()
            | ApprovalRequested()
            | ApprovalClosed()
            | ApprovalWithdrawn()
            | IncidentRaised()
            | IncidentResolved()
            | CallMade()
            | CallSucceeded()
            | CallFailed()
            | CallWithdrawn()
        ):
            return _with_step(_begun(workflow, event, workflow_id), event, at_ms)
        case EventReceived():
            return _received(_begun(workflow, event, workflow_id), event, at_ms)
        case RoundStarted():
            return _round(_begun(workflow, event, workflow_id), event, at_ms)
        case BudgetRaised() | BudgetTimeOver() | UsageReported():
            return budgeted(_begun(workflow, event, workflow_id), event)
        case CompensationStarted():
            ending = Ending(status=event.status, reason=event.reason, undo=event.steps)
            return replace(_begun(workflow, event, workflow_id), ending=ending, updated_at_ms=at_ms)
        case EventKept():
            return _kept(workflow, event, workflow_id, at_ms)
        case EventUnclaimed():
            before = _begun(workflow, event, workflow_id)
            return replace(before, kept=tuple(one for one in before.kept if one != event.kept))
        case WorkflowMigrated():
            return _migrated(_begun(workflow, event, workflow_id), event, at_ms)
        case (
            AliasSought()
            | AliasGranted()
            | AliasWaived()
            | AliasReturned()
            | AliasBound()
            | EventRedirected()
            | ScheduleChanged()
            | ScheduleFired()
            | SlotRequested()
            | SlotReleased()
            | SlotQueued()
            | SlotGranted()
            | SlotFreed()
        ):
            return _built_in(workflow, event, workflow_id, at_ms)
        case WorkflowForgotten():
            return None
        case (
            InputDismissed()
            | StartRepeated()
            | AnswerRefused()
            | CallRefused()
            | AliasRefused()
            | SlotRefused()
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


def may_be_done(step: StepState) -> bool:
    """Whether the step's work was done, or may have been without a word of it: its task or its call is out, or was last heard of by a time-out."""
    return step.acted or step.status in _DOING or step.fan is not None or step.error.startswith(_UNHEARD)


_StepEvent = (
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


def _with_step(before: Workflow, event: _StepEvent | CallEvent, at_ms: int) -> Workflow:
    place = event.step
    was = before.steps.get(place)
    steps = {**before.steps, place: _step(was, event, at_ms)}
    if before.account is not None:
        if was is not None and isinstance(event, TaskFailed):
            steps[place] = replace(steps[place], charged=charged(before.account, was, event))
        before = replace(before, account=booked(before.account, was, event, before.steps))
    if before.ending is not None:
        before = replace(before, ending=_undone(before.ending, event))
        if was is not None and isinstance(event, StepCancelled):
            steps[place] = replace(steps[place], output=was.output)  # to be undone by what it gave last
    if ids.is_item(place):
        _account(steps, place, event)
    elif was is not None and was.fan is not None and steps[place].status in FINISHED:
        steps = _gathered(steps, place, was.fan, was_ending=before.ending is not None)
    return replace(before, steps=steps, updated_at_ms=at_ms)


def _undone(ending: Ending, event: _StepEvent | CallEvent) -> Ending:
    """What is still to be undone."""
    if not (isinstance(event, TaskSucceeded | StepSkipped) and ids.is_undo(event.step)):
        return ending
    return replace(ending, undo=tuple(name for name in ending.undo if ids.undo_place(name) != event.step))


def _account(steps: dict[str, StepState], place: str, event: _StepEvent | CallEvent) -> None:
    """Let the for-each know how its item does."""
    name = ids.step_of(place)
    parent = steps[name]
    fan = parent.fan
    if fan is None:
        raise ValueError(f"{type(event).__name__} for {place}, and {name} is no for-each under way")
    match event:
        case TaskDispatched() | CallMade() | IncidentRaised() | TaskHeld() | SlotRequested():
            index = ids.index_of(place)
            if index >= fan.begun:
                steps[name] = replace(parent, fan=replace(fan, begun=index + 1), due_at_ms=None)
        case TaskSucceeded() | CallSucceeded():
            steps[name] = replace(parent, fan=replace(fan, settled=fan.settled + 1))
        case StepGivenUp():
            steps[name] = replace(parent, fan=replace(fan, settled=fan.settled + 1, failed=fan.failed + 1))
        case _:
            pass


def _gathered(steps: dict[str, StepState], name: str, fan: Fan, *, was_ending: bool) -> dict[str, StepState]:
    """The items of a for-each that is settled become its output, and go. One that failed, or is to be undone, has what its items gave so far, else null."""
    places = [ids.item_place(name, index) for index in range(fan.begun)]
    step = steps[name]
    if step.status in {"succeeded", "failed"} or (step.status == "cancelled" and was_ending):
        outputs = [steps[place].output for place in places]
        steps[name] = replace(step, output=outputs + [None] * (fan.total - fan.begun))
    gone = set(places)
    return {place: state for place, state in steps.items() if place not in gone}


def _step(step: StepState | None, event: _StepEvent | CallEvent, at_ms: int) -> StepState:
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
            return StepState(status="skipped", since_ms=at_ms, output=event.output, acted=_acted(step))
        case StepBlocked():
            return StepState(status="blocked", since_ms=at_ms, acted=_acted(step))
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
            return evolve_call(step, event, at_ms, acted=_acted(step))
        case _:
            if step is None or isinstance(event, TaskSucceeded):
                raise ValueError(f"{type(event).__name__} for step {event.step}, which has not begun")
            return _moved(step, event, at_ms)


def _fresh(step: StepState | None, status: StepStatus, at_ms: int, *, output: Any) -> StepState:
    """A step that begins (anew)."""
    return StepState(status=status, since_ms=at_ms, output=output, round=step.round if step else 1, acted=_acted(step))


def _acted(step: StepState | None) -> bool:
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
        acted=_acted(step),
    )


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


def _received(before: Workflow, event: EventReceived, at_ms: int) -> Workflow:
    mark = ids.event_mark(event.cloud_event["source"], event.cloud_event["id"])
    heard = tuple(one for one in before.heard if one != mark)  # taken by two at once
    after = replace(_with_step(before, event, at_ms), heard=(*heard, mark)[-_HEARD:])
    if not event.kept:
        return after
    return replace(after, kept=tuple(one for one in before.kept if one.cloud_event != event.cloud_event))


def _built_in(
    workflow: Workflow | None,
    event: SlotRequested | SlotReleased | LimiterEvent | BuiltIn,
    workflow_id: str,
    at_ms: int,
) -> Workflow:
    """In a built-in workflow, or in one that asks it for something."""
    match event:
        case SlotRequested():
            before = _begun(workflow, event, workflow_id)
            return _with_step(replace(before, slots=asked(before.slots, event, at_ms)), event, at_ms)
        case SlotReleased():
            return released(_begun(workflow, event, workflow_id), event)
        case SlotQueued() | SlotGranted() | SlotFreed():
            return evolve_limiter(workflow, event, workflow_id, at_ms)
        case _:
            return evolve_built_in(workflow, event, workflow_id, at_ms)


def _round(before: Workflow, event: RoundStarted, at_ms: int) -> Workflow:
    """The steps of the body are to begin anew; what they gave last can be read until they give something else."""
    steps = dict(before.steps)
    for name in event.steps:
        was = steps.get(name)
        output = was.output if was else None
        steps[name] = StepState(status="again", since_ms=at_ms, round=event.round, output=output, acted=_acted(was))
    return replace(before, steps=steps, updated_at_ms=at_ms)


def _kept(before: Workflow | None, event: EventKept, workflow_id: str, at_ms: int) -> Workflow:
    """Kept with the run; or in the place of a run that is still to come."""
    if before is not None:
        until = event.expires_at_ms if before.status == "expected" else before.forget_at_ms
        return replace(before, kept=(*before.kept, event.kept), updated_at_ms=at_ms, forget_at_ms=until)
    return Workflow(
        workflow_id=workflow_id,
        run_id="",
        route=event.route,
        digest=event.digest,
        key=event.key,
        status="expected",
        started_at_ms=at_ms,
        updated_at_ms=at_ms,
        forget_at_ms=event.expires_at_ms,
        cloud_event={},
        trace_id="",
        steps={},
        kept=(event.kept,),
    )


def _stuck(step: StepState, event: IncidentRaised, at_ms: int) -> StepState:
    incident = Incident(kind=event.kind, message=event.message, raised_at_ms=at_ms)
    acted = step.acted or step.status in _DOING
    reserved = None if step.status == "queued" else step.reserved
    return replace(
        step, status="incident", since_ms=at_ms, due_at_ms=None, incident=incident, acted=acted, reserved=reserved
    )


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
        account=None if event.budget is None else _account_of(event.budget, event.slice),
        expires_at_ms=event.expires_at_ms,
        caller=event.caller,
        earlier_runs=(*before.earlier_runs, before.run_id)[-_EARLIER_RUNS:] if before and before.run_id else (),
        kept=before.kept if before else (),
        heard=before.heard if before else (),
    )


def _account_of(limits: dict[str, float], part: Slice | None) -> Account:
    counted = () if part is None else tuple(name for name in part.counted if name not in limits)
    return Account(limits=limits, counted=counted)


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


def _migrated(workflow: Workflow, event: WorkflowMigrated, at_ms: int) -> Workflow:
    steps = {place: state for place, state in workflow.steps.items() if place not in event.begins_anew}
    return replace(
        workflow,
        digest=event.digest,
        steps=steps,
        closed_retention_s=event.closed_retention_s,
        updated_at_ms=at_ms,
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
        if not ids.is_item(name)
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
        kept=(),
        ending=None,
        expires_at_ms=None,
        account=None if workflow.account is None else replace(workflow.account, unheard={}),
    )

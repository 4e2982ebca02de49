"""Evolve: what one event changes in a workflow's state.

Everything that replay knows lives here. It needs no route, no clock and no directory. An event's
meaning never changes; a new version is a new case. Called by `decide` (on its own events, as it
goes) and by `replay` (on the log's).
"""

from collections.abc import Mapping
from typing import Final, assert_never

from msgspec import UNSET
from msgspec.structs import replace

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.calls import Slice
from mesh.core.evolve.budget import booked, budgeted, charged
from mesh.core.evolve.built_in import BuiltIn, evolve_built_in
from mesh.core.evolve.calls import CallEvent
from mesh.core.evolve.ends import ended, left
from mesh.core.evolve.limits import LimiterEvent, asked, evolve_limiter, released
from mesh.core.evolve.steps import StepEvent, acted_before, evolve_step
from mesh.core.layered import changed, with_entry
from mesh.core.questions import MOST_QUESTIONS
from mesh.core.state import FINISHED, Account, Ending, Fan, Origin, Pause, StepState, Workflow
from mesh.core.tool_approvals import ToolVerdict, with_verdict

_EARLIER_RUNS: Final = 100  # runs that a workflow's id remembers: about a kilobyte
_HEARD: Final = 100  # events: about two


def evolve(workflow: Workflow | None, event: ev.Event, *, workflow_id: str, at_ms: int) -> Workflow | None:
    """The state after `event`; None if there is no such workflow (yet, or any more).

    Raises `ValueError` for an event that its state can't have had, in a log that no owner of this
    protocol writes.
    """
    match event:  # the most frequent first: a fold is made of these
        case ev.TaskDispatched() | ev.TaskSucceeded():
            return _with_step(workflow or _begun(workflow, event, workflow_id), event, at_ms)
        case ev.WorkflowStarted():
            return _started(workflow, event, workflow_id, at_ms)
        case ev.WorkflowEnded():
            return ended(_begun(workflow, event, workflow_id), event, at_ms)
        case (
            ev.TaskFailed()
            | ev.TaskHandedOver()
            | ev.ApprovalWanted()
            | ev.TaskHeld()
            | ev.RetryScheduled()
            | ev.StepSkipped()
            | ev.StepBlocked()
            | ev.StepCancelled()
            | ev.StepGivenUp()
            | ev.StepComputed()
            | ev.StepCompleted()
            | ev.EventEmitted()
            | ev.ForEachStarted()
            | ev.PortionScheduled()
            | ev.ForEachEnded()
            | ev.WaitStarted()
            | ev.WaitEnded()
            | ev.ApprovalRequested()
            | ev.ApprovalClosed()
            | ev.VoteCast()
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
            | ev.LoopLeft()
            | ev.ApprovalWithdrawn()
            | ev.IncidentRaised()
            | ev.IncidentResolved()
            | ev.CallMade()
            | ev.CallSucceeded()
            | ev.CallFailed()
            | ev.CallWithdrawn()
        ):
            return _with_step(_begun(workflow, event, workflow_id), event, at_ms)
        case ev.EventReceived():
            return _received(_begun(workflow, event, workflow_id), event, at_ms)
        case ev.RoundStarted() | ev.ApprovalReopened():
            return _again(_begun(workflow, event, workflow_id), event, at_ms)
        case ev.BudgetRaised() | ev.BudgetTimeOver() | ev.UsageReported():
            return budgeted(_begun(workflow, event, workflow_id), event)
        case (
            ev.CompensationStarted()
            | ev.WorkflowMigrated()
            | ev.WorkflowPaused()
            | ev.WorkflowResumed()
            | ev.WorkflowForked()
        ):
            return _turned(_begun(workflow, event, workflow_id), event, at_ms)
        case ev.EventKept():
            return _kept(workflow, event, workflow_id, at_ms)
        case ev.EventUnclaimed():
            before = _begun(workflow, event, workflow_id)
            return replace(before, kept=tuple(one for one in before.kept if one != event.kept))
        case (
            ev.AliasSought()
            | ev.AliasGranted()
            | ev.AliasWaived()
            | ev.AliasReturned()
            | ev.AliasBound()
            | ev.EventRedirected()
            | ev.ScheduleChanged()
            | ev.ScheduleFired()
            | ev.PauseSet()
            | ev.PauseLifted()
            | ev.HeldReleased()
            | ev.SlotRequested()
            | ev.SlotReleased()
            | ev.SlotQueued()
            | ev.SlotGranted()
            | ev.SlotFreed()
        ):
            return _built_in(workflow, event, workflow_id, at_ms)
        case ev.WorkflowForgotten() | ev.PayloadsErased():
            return left(event, workflow_id, at_ms)
        # other refusals need no memory: the same answer, sent again, is refused again
        case ev.AnswerRefused2() if event.is_remembered or event.source is not None:
            before = _begun(workflow, event, workflow_id)
            # nothing is kept of an item once its for-each, or the workflow, has ended
            is_gone = ids.is_of_item(event.step) and event.step not in before.steps
            return before if is_gone else _with_step(before, event, at_ms)
        case (
            ev.InputDismissed()
            # without the key nothing is known of what was decided
            | ev.PayloadsSealed()
            | ev.StartRepeated()
            | ev.TasksWithdrawn()
            | ev.AnswerRefused()
            | ev.AnswerSigned()
            # the topic of delegations has what follows of these
            | ev.DelegationGiven()
            | ev.DelegationTakenBack()
            | ev.AbsenceSaid()
            | ev.CallRefused()
            | ev.AliasRefused()
            | ev.SlotRefused()
            | ev.ClockHeld()
            | ev.ClockReleased()
            | ev.LogImported()
            | ev.CommandAccepted()
            | ev.CommandRefused()
            | ev.EffectUndeliverable()
            | ev.InputParked()
            | ev.InputAttempted()
        ):
            return _operated(workflow, event)
        case _:
            assert_never(event)


def _operated(workflow: Workflow | None, event: ev.Event) -> Workflow | None:
    """The workflow, with the operation of which this event decides a command."""
    operation = event.operation if isinstance(event, ev.CommandAccepted | ev.CommandRefused) else ""
    if workflow is None or not operation:
        return workflow
    return replace(workflow, operations=(*workflow.operations, operation))


def _begun(workflow: Workflow | None, event: ev.Event, workflow_id: str) -> Workflow:
    if workflow is None:
        raise ValueError(f"{type(event).__name__} for workflow {workflow_id}, which has not started")
    return workflow


def _with_step(before: Workflow, event: StepEvent | CallEvent, at_ms: int) -> Workflow:
    place = event.step
    was = before.steps.get(place)
    step = evolve_step(was, event, at_ms)
    if before.account is not None:
        if was is not None and isinstance(event, ev.TaskFailed | ev.ApprovalWanted):
            step = replace(step, charged=charged(before.account, was, event))
        # with the states as they were: they say what is reserved, and for which attempt
        before = replace(before, account=booked(before.account, was, event, before.steps))
    if before.ending is not None:
        before = replace(before, ending=_undone(before.ending, event))
        if was is not None and isinstance(event, ev.StepCancelled):
            # to be undone by what it gave last
            step = replace(step, output=was.output)
    if was is not None and isinstance(event, ev.ApprovalRequested2):
        before = replace(before, steps=_without_questions(before.steps, event))
    # a step of the route, as most are: nobody else hears of it
    if place.isidentifier():
        steps = with_entry(before.steps, place, step)
    elif ids.is_item(place):
        steps = changed(before.steps, {place: step, **_account(before.steps, event)})
    elif isinstance(event, ev.ApprovalClosed2) and ids.is_tool(place):
        steps = changed(before.steps, {place: step, **_told(before.steps, event)})
    else:
        steps = with_entry(before.steps, place, step)
    if was is not None and was.fan is not None and step.status in FINISHED:
        steps = _gathered(steps, place, was.fan, was_ending=before.ending is not None)
    return replace(before, steps=steps, updated_at_ms=at_ms)


def _told(steps: Mapping[str, StepState], event: ev.ApprovalClosed2) -> dict[str, StepState]:
    """The step whose agent wanted this approval, with the verdict."""
    place = ids.asker_of(event.step)
    step = steps.get(place)
    if step is None or step.tools is None:
        raise ValueError(f"ApprovalClosed2 for {event.step}, and the agent of {place} wants no approval")
    verdict = ToolVerdict(
        name=step.tools.waits_for,
        digest=step.tools.digest,
        approval_id=event.approval_id,
        verdict=event.verdict,
        choice=event.choice,
        by=event.by,
        reason=event.reason,
        expired=event.expired,
        form=event.form,
        payload=event.payload if event.edited else UNSET,
    )
    return {place: replace(step, tools=with_verdict(step.tools, verdict))}


def _without_questions(steps: Mapping[str, StepState], event: ev.ApprovalRequested2) -> Mapping[str, StepState]:
    """Drop the tasks of questions that another approval at this place has asked.

    Each was for another task, so nothing of its attempts may count for that of the new one.
    """
    was = steps.get(event.step)
    # asked again under the same id it goes on with the numbers of its questions
    if was is None or was.task_id == event.approval_id:
        return steps
    gone = {ids.question_place(event.step, number) for number in range(1, MOST_QUESTIONS + 1)} & steps.keys()
    return {place: state for place, state in steps.items() if place not in gone} if gone else steps


def _undone(ending: Ending, event: StepEvent | CallEvent) -> Ending:
    """What is still to be undone."""
    if not (isinstance(event, ev.TaskSucceeded | ev.StepCompleted | ev.StepSkipped) and ids.is_undo(event.step)):
        return ending
    return replace(ending, undo=tuple(name for name in ending.undo if ids.undo_place(name) != event.step))


def _account(steps: Mapping[str, StepState], event: StepEvent | CallEvent) -> dict[str, StepState]:
    """The for-each of an item, with the item's event counted; nothing if it does not count."""
    name = ids.step_of(event.step)
    parent = steps[name]
    fan = parent.fan
    if fan is None:
        raise ValueError(f"{type(event).__name__} for {event.step}, and {name} is not a for-each under way")
    match event:
        # an item that became an incident before it had a task has begun too, or each portion would
        # begin it once more
        case (
            ev.TaskDispatched()
            | ev.CallMade()
            | ev.IncidentRaised()
            | ev.TaskHeld()
            | ev.SlotRequested()
            | ev.ApprovalRequested2()
        ):
            index = ids.index_of(event.step)
            # another attempt at an item does not begin one more
            if index >= fan.begun:
                return {name: replace(parent, fan=replace(fan, begun=index + 1), due_at_ms=None)}
        case ev.TaskSucceeded() | ev.CallSucceeded() | ev.StepCompleted():
            return {name: replace(parent, fan=replace(fan, settled=fan.settled + 1))}
        case ev.StepGivenUp():
            return {name: replace(parent, fan=replace(fan, settled=fan.settled + 1, failed=fan.failed + 1))}
        case ev.ApprovalClosed2():
            failed = fan.failed + (event.verdict == "rejected")
            return {name: replace(parent, fan=replace(fan, settled=fan.settled + 1, failed=failed))}
        case _:
            pass
    return {}


def _gathered(steps: Mapping[str, StepState], name: str, fan: Fan, *, was_ending: bool) -> dict[str, StepState]:
    """Replace the items of a settled for-each by its output.

    One that failed, or is to be undone, keeps what its items gave so far, else null.
    """
    places = [ids.item_place(name, index) for index in range(fan.begun)]
    step = steps[name]
    if step.status in {"succeeded", "failed"} or (step.status == "cancelled" and was_ending):
        outputs = [steps[place].output for place in places]
        # items that never began are null: places in the output are places in the list
        step = replace(step, output=outputs + [None] * (fan.total - fan.begun))
    gone = set(places)
    # with the questions that were asked back about them, and the approvals that their agents wanted
    gone |= {place for place in steps if _is_aside(place) and ids.step_of(place) == name}
    return {place: step if place == name else state for place, state in steps.items() if place not in gone}


def _is_aside(place: str) -> bool:
    return ids.is_question(place) or ids.is_tool(place)


def _received(before: Workflow, event: ev.EventReceived, at_ms: int) -> Workflow:
    mark = ids.event_mark(event.cloud_event["source"], event.cloud_event["id"])
    heard = tuple(one for one in before.heard if one != mark)  # taken by two at once
    after = replace(_with_step(before, event, at_ms), heard=(*heard, mark)[-_HEARD:])
    if not event.kept:
        return after
    return replace(after, kept=tuple(one for one in before.kept if one.cloud_event != event.cloud_event))


def _built_in(
    workflow: Workflow | None,
    event: ev.SlotRequested | ev.SlotReleased | LimiterEvent | BuiltIn,
    workflow_id: str,
    at_ms: int,
) -> Workflow:
    """An event of a built-in workflow, or of one that asks it for something."""
    match event:
        case ev.SlotRequested():
            before = _begun(workflow, event, workflow_id)
            return _with_step(replace(before, slots=asked(before.slots, event, at_ms)), event, at_ms)
        case ev.SlotReleased():
            return released(_begun(workflow, event, workflow_id), event)
        case ev.SlotQueued() | ev.SlotGranted() | ev.SlotFreed():
            return evolve_limiter(workflow, event, workflow_id, at_ms)
        case _:
            return evolve_built_in(workflow, event, workflow_id, at_ms)


def _again(before: Workflow, event: ev.RoundStarted | ev.ApprovalReopened, at_ms: int) -> Workflow:
    """Steps are to begin again: in the next round of their loop, or in the one that they are in."""
    if isinstance(event, ev.RoundStarted):
        return _round(before, event, at_ms)
    return _reopened(before, event, at_ms)


def _round(before: Workflow, event: ev.RoundStarted, at_ms: int) -> Workflow:
    """The steps of the loop's body begin again.

    Their last outputs can be read until they give new ones.
    """
    steps = dict(before.steps)
    for name in event.steps:
        was = steps.get(name)
        output = was.output if was else None
        # nothing but the output is taken along: a late result of the round before must find no task
        steps[name] = StepState(
            status="again", since_ms=at_ms, round=event.round, output=output, acted=acted_before(was)
        )
    return replace(before, steps=steps, updated_at_ms=at_ms)


def _reopened(before: Workflow, event: ev.ApprovalReopened, at_ms: int) -> Workflow:
    """The approval, and what came after it, are to begin again in the round that they are in."""
    steps = dict(before.steps)
    asked = steps[event.step]
    # without its id, so that an answer to the old question is refused; the next one counts `hop`
    steps[event.step] = replace(asked, status="again", since_ms=at_ms, task_id="", hop=asked.hop + 1, expired=False)
    for name in event.begins_again:
        steps[name] = replace(
            steps[name], status="again", since_ms=at_ms, due_at_ms=None, input=None, stale=False, tools=None
        )
    return replace(before, steps=steps, updated_at_ms=at_ms)


def _kept(before: Workflow | None, event: ev.EventKept, workflow_id: str, at_ms: int) -> Workflow:
    """Keep the event with the run, or with a run that is still to come."""
    if before is not None:
        # a run has no such time: what it keeps goes with its end
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


def _started(before: Workflow | None, event: ev.WorkflowStarted, workflow_id: str, at_ms: int) -> Workflow:
    begun = Workflow(  # 15 arguments, as in `steps`: with one more it takes three times as long
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
        expires_at_ms=event.expires_at_ms,
        caller=event.caller,
    )
    if event.private:
        begun = replace(begun, private=True)
    if event.budget is not None:
        begun = replace(begun, account=_account_of(event.budget, event.slice))
    if before is None:
        return begun
    return replace(
        begun,
        # so that their start events, sent again, start nothing
        earlier_runs=(*before.earlier_runs, before.run_id)[-_EARLIER_RUNS:] if before.run_id else (),
        # kept events came for the run that begins now; those that steps took before count once only
        kept=before.kept,
        heard=before.heard,
    )


def _account_of(limits: dict[str, float], part: Slice | None) -> Account:
    counted = () if part is None else tuple(name for name in part.counted if name not in limits)
    return Account(limits=limits, counted=counted)


def _turned(
    workflow: Workflow,
    event: ev.CompensationStarted | ev.WorkflowMigrated | ev.WorkflowPaused | ev.WorkflowResumed | ev.WorkflowForked,
    at_ms: int,
) -> Workflow:
    """The run changes course: it is undone, follows another version, is held, or goes on."""
    match event:
        case ev.WorkflowMigrated():
            return _migrated(workflow, event, at_ms)
        case ev.CompensationStarted():
            ending = Ending(status=event.status, reason=event.reason, undo=event.steps)
            return replace(workflow, ending=ending, updated_at_ms=at_ms)
        case ev.WorkflowPaused():
            pause = Pause(by=event.by, reason=event.reason, at_ms=at_ms)
            return replace(workflow, pause=pause, updated_at_ms=at_ms)
        case ev.WorkflowForked():
            return workflow if event.into else _forked(workflow, event, at_ms)
        case ev.WorkflowResumed():
            return replace(workflow, pause=None, updated_at_ms=at_ms)
        case _:
            assert_never(event)


def _forked(workflow: Workflow, event: ev.WorkflowForked, at_ms: int) -> Workflow:
    kept = {
        name: StepState(status=one.status, since_ms=at_ms, output=one.output)
        for name, one in (event.steps or {}).items()
    }
    origin = Origin(workflow_id=event.of, run_id=event.of_run_id, step=event.step, kept=tuple(kept))
    return replace(workflow, steps=kept, origin=origin, updated_at_ms=at_ms)


def _migrated(workflow: Workflow, event: ev.WorkflowMigrated, at_ms: int) -> Workflow:
    steps = {place: state for place, state in workflow.steps.items() if place not in event.begins_anew}
    steps |= {place: replace(steps[place], stale=True) for place in event.new_inputs}
    return replace(
        workflow,
        digest=event.digest,
        steps=steps,
        closed_retention_s=event.closed_retention_s,
        updated_at_ms=at_ms,
    )

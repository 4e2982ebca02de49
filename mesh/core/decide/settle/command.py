"""Operators' commands, and effects that the broker would not take: both need a person."""

from typing import Any

import msgspec

from mesh.core import ids
from mesh.core.crossings import parse_crossing_id
from mesh.core.decide.begin.call import withdraw_items
from mesh.core.decide.begin.end import end
from mesh.core.decide.begin.undo import cancel_step, close, leave_undone
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import go_on, settled
from mesh.core.decide.settle.alias import on_claim_undeliverable, resolve_alias
from mesh.core.decide.settle.call import on_call_undeliverable
from mesh.core.decide.settle.completing import on_complete
from mesh.core.decide.settle.erasing import on_erase
from mesh.core.decide.settle.forking import on_fork
from mesh.core.decide.settle.limit import fail_to_ask
from mesh.core.decide.settle.orders import on_order
from mesh.core.decide.settle.pausing import on_pause, on_resume
from mesh.core.decide.settle.refusing import REPEATED, accept_command, refuse_command
from mesh.core.decide.settle.retry import ask_again, begin_again, is_closed_approval, why_no_input, why_not_asked_again
from mesh.core.decide.settle.tools import want_again
from mesh.core.events import (
    EffectUndeliverable,
    IncidentRaised,
    IncidentResolved,
    StepGivenUp,
    StepSkipped,
    WorkflowMigrated,
)
from mesh.core.evolve.voting import skipped_output
from mesh.core.inputs import CommandGiven, CommandUnreadable, Undeliverable
from mesh.core.migration import misfits, to_begin_again, with_new_inputs
from mesh.core.route import ApprovalWork, Route
from mesh.core.state import StepState, Workflow


def on_command(draft: Draft, given: CommandGiven, target: Route | None) -> None:
    workflow = draft.workflow
    if given.command == "release":
        refuse_command(draft, given, "built_in", "what can be released is a clock: `mesh clock release`")
    elif given.command == "fork":
        on_fork(draft, given, target)
    elif given.command == "erase":
        on_erase(draft, given)
    elif workflow is None:
        refuse_command(draft, given, "unknown", f"no workflow {given.workflow_id}: `mesh workflows` lists them")
    elif workflow.status == "expected":
        message = f"{given.workflow_id} has not started: there are only events that it will wait for"
        refuse_command(draft, given, "unknown", message)
    # the router that sends the commands of an operation may die, and the next sends some again
    elif given.operation and given.operation in workflow.operations:
        refuse_command(draft, given, REPEATED, f"operation {given.operation} has been decided on here before")
    elif workflow.status != "running":
        refuse_command(draft, given, "ended", f"the workflow has ended: {workflow.status}")
    elif given.order is not None:
        on_order(draft, given, given.order)
    elif given.command == "cancel":
        accept_command(draft, given)
        _cancel(draft, f"cancelled by {given.by}" + (f": {given.reason}" if given.reason else ""))
    elif given.command == "migrate":
        _on_migrate(draft, given, workflow, target)
    elif given.command == "pause":
        on_pause(draft, given, workflow.pause)
    elif given.command == "resume":
        on_resume(draft, given, workflow.pause)
    else:
        _on_incident(draft, given, workflow)


def _cancel(draft: Draft, reason: str) -> None:
    """Cancel the workflow. A second cancel ends one that is being undone as it is."""
    if draft.live.ending is None:
        end(draft, "cancelled", reason)
    else:
        close(draft, "cancelled", f"{reason}, before all was undone")


def _on_incident(draft: Draft, given: CommandGiven, workflow: Workflow) -> None:
    steps = draft.route.steps
    if given.step is not None and ids.step_of(given.step) not in steps:
        refuse_command(draft, given, "unknown_step", f"the route has no step {given.step}: {', '.join(steps)}")
        return
    if given.command == "complete":
        on_complete(draft, given)
        return
    if given.command == "retry" and given.step is not None and is_closed_approval(draft, given.step):
        _ask_again(draft, given, given.step)
        return
    # a command about a step is about its items and its compensation too
    stuck = [n for n, s in workflow.steps.items() if s.status == "incident" and given.step in {None, n, ids.step_of(n)}]
    if not stuck:
        which = f"step {given.step}" if given.step else "the workflow"
        refuse_command(draft, given, "no_incident", f"{which} has no incident to {given.command}")
        return
    why_not = "" if given.task_input is msgspec.UNSET else why_no_input(draft, given, stuck)
    if why_not:
        refuse_command(draft, given, "input", why_not)
        return
    accept_command(draft, given)
    # after one acceptance for all of them: a command has one receipt (ADR 15)
    for place in stuck:
        state = draft.live.steps.get(place)
        # the one before may have settled this one too, or ended the workflow
        if draft.live.status == "running" and state is not None and state.status == "incident":
            _resolve(draft, given, place, state)


def _ask_again(draft: Draft, given: CommandGiven, name: str) -> None:
    why_not = why_not_asked_again(draft, name)
    if given.task_input is not msgspec.UNSET:
        why_not = f"{name} is an approval, and takes no input: it is asked as the route says"
    if why_not:
        refuse_command(draft, given, "acted" if given.task_input is msgspec.UNSET else "input", why_not)
        return
    accept_command(draft, given)
    ask_again(draft, given, name)


def _resolve(draft: Draft, given: CommandGiven, place: str, state: StepState) -> None:
    failed = f"{place} was failed by {given.by}" + (f": {given.reason}" if given.reason else "")
    if given.command == "fail" and draft.live.ending is None:
        end(draft, "failed", failed)
        return
    if ids.is_tool(place) and given.command in ("retry", "skip"):
        _resolve_tool(draft, given, place)
        return
    is_alias = state.incident is not None and state.incident.kind == "alias"
    if given.command == "retry" and not ids.is_budget(place) and not is_alias:
        # it resolves the incident itself, because that event says where the input is from
        begin_again(draft, given, place, state)
        return
    draft.add(IncidentResolved(step=place, action=given.command, by=given.by))
    if given.command == "fail":
        leave_undone(draft, place, failed)
    elif ids.is_budget(place):
        # it is asked again, if there is still not enough
        cancel_step(draft, place, f"{given.command} by {given.by}")
    elif is_alias:
        resolve_alias(draft, place, state, "skip" if given.command == "skip" else "retry", given.by)
    else:
        _skip(draft, place, state, f"skipped by {given.by}")


def _resolve_tool(draft: Draft, given: CommandGiven, place: str) -> None:
    """Have the agent ask again for the approval at this place, or skip its step."""
    draft.add(IncidentResolved(step=place, action=given.command, by=given.by))
    if given.command == "retry":
        want_again(draft, place, given.by)
        return
    asker, reason = ids.asker_of(place), f"skipped by {given.by}"
    cancel_step(draft, place, reason)
    _skip(draft, asker, draft.live.steps[asker], reason)


def _skip(draft: Draft, place: str, state: StepState, reason: str) -> None:
    """Skip the step: those that need it continue.

    An item counts as failed, and its for-each continues whatever it tolerates.
    """
    if ids.is_item(place):
        draft.add(StepGivenUp(step=place, reason=reason))
    else:
        withdraw_items(draft, ids.step_of(place), reason)
        draft.add(StepSkipped(step=place, reason=reason, output=_output_of_skipped(draft, place, state)))
    settled(draft, place)


def _output_of_skipped(draft: Draft, place: str, state: StepState) -> Any:
    """The output of a step that an operator skipped.

    An approval's payload passes through, as if its `if` were false. A loop keeps its last round's
    output.
    """
    # the step's own work is done; only its loop was stuck
    if _closes_loop(state):
        return state.output
    work = None if ids.is_undo(place) else draft.route.steps[place].work
    if isinstance(work, ApprovalWork) and draft.route.steps[place].for_each is None:
        return skipped_output(state.input, is_voted=work.voting is not None, asking=state.asking)
    return None


def _closes_loop(state: StepState) -> bool:
    return state.incident is not None and state.incident.kind == "loop"


def _on_migrate(draft: Draft, given: CommandGiven, workflow: Workflow, target: Route | None) -> None:
    """Go over to another version, and let what it makes possible act.

    `target`: that version; None where it is not stored, or can't be read.
    """
    if target is None:
        message = (
            f"there is no version {given.to} that can be read here: `mesh routes list` lists those that are stored"
        )
        refuse_command(draft, given, "no_version", message)
        return
    if target.name != workflow.route:
        refuse_command(
            draft, given, "other_route", f"version {given.to} is of route {target.name}, not of {workflow.route}"
        )
        return
    if target.digest == workflow.digest:
        refuse_command(draft, given, "already", "it runs on that version already")
        return
    why_not = misfits(workflow, draft.route, target)
    if why_not:
        refuse_command(draft, given, "misfit", "; ".join(why_not))
        return
    accept_command(draft, given)
    again = to_begin_again(workflow)
    # before the migration, which drops the states of these steps
    for place in again:
        draft.add(IncidentResolved(step=place, action="migrate", by=given.by))
    draft.add(
        WorkflowMigrated(
            before=workflow.digest,
            digest=target.digest,
            by=given.by,
            begins_anew=again,
            new_inputs=tuple(with_new_inputs(workflow, draft.route, target)),
            closed_retention_s=target.closed_retention_s,
        )
    )
    # after the event: as in replay, what follows belongs to the new version
    draft.go_over(target)
    # any step of the new version may be able to act now
    go_on(draft, target.steps)


def on_unreadable_command(draft: Draft, given: CommandUnreadable) -> None:
    """Refuse a command that can't be read."""
    refuse_command(draft, given, given.code, given.message)


def on_undeliverable(draft: Draft, given: Undeliverable) -> None:
    """Note that a record could not be sent.

    If it was a question or a call, an operator has to act.
    """
    draft.add(EffectUndeliverable(effect_id=given.effect_id, topic=given.topic, code=given.code, message=given.message))
    workflow, parsed = draft.workflow, ids.parse_step_id(given.effect_id)
    if workflow is None or parsed is None:
        return
    on_call_undeliverable(draft, given.effect_id, given.message)
    on_claim_undeliverable(draft, given.effect_id, given.message)
    about = parse_crossing_id(given.effect_id)
    if about is not None and about.what == "acquire":
        fail_to_ask(draft, about, "undeliverable", f"a limit could not be asked for a slot: {given.message}")
    step = workflow.steps.get(parsed.step)
    if step is not None and step.status == "asking" and step.task_id == given.effect_id:
        message = f"the approval request could not be sent: {given.message}"
        draft.add(IncidentRaised(step=parsed.step, kind="undeliverable", message=message))

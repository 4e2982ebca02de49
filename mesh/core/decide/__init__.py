"""Decide what one input brings about, as events.

The heart of the router, and pure:

    decide(state, input, route, directory, now) -> events, and the state after them

Everything that a workflow does is decided here: what starts, and what is dispatched, retried,
skipped, asked, refused or ended. `begin` has what a step does when it acts, `settle` what an input
brings, and `built_in` the mesh's own workflows. Nothing here reads a clock, draws a random number
or does I/O. A choice that depends on the directory is recorded in the events, so replay (`evolve`
alone) never needs the directory again.

An input that changes nothing also gives an event (`InputDismissed`, `StartRepeated`,
`AnswerRefused`, `CommandRefused`), so each input has exactly one decision and can be asked about.
Only a timer that no longer fits gives nothing.

docs/core.md has the picture of how a step moves.
"""

from collections.abc import Mapping
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from mesh.core import ids
from mesh.core import inputs as inp
from mesh.core.crossings import CrossingId
from mesh.core.decide.begin.limit import look_after_slots
from mesh.core.decide.built_in.alias import decide_alias
from mesh.core.decide.built_in.clock import decide_clock
from mesh.core.decide.built_in.limiter import decide_limiter
from mesh.core.decide.built_in.pauses import decide_pauses
from mesh.core.decide.built_in.schedule import decide_schedule
from mesh.core.decide.draft import NOTHING_WITHHELD, Draft
from mesh.core.decide.settle.alias import on_alias_answered
from mesh.core.decide.settle.approval import ENDS, on_answer, on_unreadable_answer, refuse_held
from mesh.core.decide.settle.budget import look_after_budget, release_held
from mesh.core.decide.settle.call import on_call_cancelled, on_call_ended
from mesh.core.decide.settle.command import (
    on_command,
    on_undeliverable,
    on_unreadable_command,
)
from mesh.core.decide.settle.event import on_forwarded, on_offered
from mesh.core.decide.settle.limit import on_slot_denied, on_slot_given
from mesh.core.decide.settle.parked import on_parked
from mesh.core.decide.settle.refusing import refuse_command
from mesh.core.decide.settle.start import on_event
from mesh.core.decide.settle.task import on_result, on_task_undeliverable
from mesh.core.decide.settle.timer import on_timer
from mesh.core.decide.settle.withdrawal import ENDS_TASKS, withdraw
from mesh.core.events import AnswerRefused, CommandRefused, Event, IncidentRaised, InputDismissed, InputParked
from mesh.core.limits import is_limiter
from mesh.core.pauses import NO_PAUSES
from mesh.core.people import id_of, person_of
from mesh.core.route import Route
from mesh.core.state import Directory, Pause, Workflow


class Decided(NamedTuple):
    """Events in order, and the workflow after `evolve` has applied them."""

    events: tuple[Event, ...]
    workflow: Workflow | None


def decide(
    workflow: Workflow | None,
    given: inp.Input,
    *,
    route: Route | None,
    directory: Directory,
    now_ms: int,
    target: Route | None = None,
    withheld: Mapping[str, str] = NOTHING_WITHHELD,
    pauses: Mapping[str, Pause] = NO_PAUSES,
) -> Decided:
    """Decide what `given` brings about.

    `route`: the definition that the workflow runs on (`given.digest`'s for a start); it may be None
    if the workflow is not live. `target`: the definition that a `migrate` names, or None. `now_ms`:
    the owner's clock. `withheld`: places where what would follow is too large, from an earlier try,
    and what to say of it (`Draft`). `pauses`: the agents and routes that are paused in the
    partition, by target (`mesh.core.pauses`).
    """
    draft = Draft(workflow, given.workflow_id, route, directory, now_ms, withheld=withheld, pauses=pauses)
    # no route's name can begin so, so a route's workflow never comes here
    if given.workflow_id.startswith(ids.BUILT_IN):
        _decide_built_in(draft, given)
    else:
        _decide(draft, given, target)
    timer = given.kind if isinstance(given, inp.TimerDue) else ""
    # Held tasks alone may be due, of a for-each or after a pause: then no event has changed the
    # workflow so far.
    if draft.workflow is not None and (draft.workflow is not workflow or timer in ("portion", "resumed")):
        # the budget first: if it ends the workflow, slots are left to give back
        if draft.workflow.account is not None:
            look_after_budget(draft)
        # the rest of what a resumed workflow had held
        elif timer == "portion" and not draft.is_paused:
            release_held(draft, "the workflow has resumed")
        if draft.workflow.slots:
            look_after_slots(draft)
        # last: the budget may have ended the workflow just now, and then its tasks are not wanted
        # either; most decisions end nothing
        if workflow is not None:
            kinds = set(map(type, draft.events))
            if not kinds.isdisjoint(ENDS):
                refuse_held(draft, workflow)
            if not kinds.isdisjoint(ENDS_TASKS):
                withdraw(draft, workflow, given)
    return Decided(tuple(draft.events), draft.workflow)


def _decide_built_in(draft: Draft, given: inp.Input) -> None:
    """Decide for a workflow that has no route document."""
    # an answer that names no approval, or what can't be read, comes to a workflow of the mesh's
    # own; it is refused the ordinary way, since its sender needs a receipt (ADR 15)
    if isinstance(given, inp.AnswerGiven | inp.AnswerGiven2 | inp.AnswerUnreadable | inp.CommandUnreadable):
        _decide(draft, given, None)
    elif ids.is_alias(given.workflow_id):
        decide_alias(draft, given)
    elif ids.is_schedule(given.workflow_id):
        decide_schedule(draft, given)
    elif ids.is_clock(given.workflow_id):
        decide_clock(draft, given)
    elif ids.is_pauses(given.workflow_id):
        decide_pauses(draft, given)
    elif is_limiter(given.workflow_id):
        decide_limiter(draft, given)
    elif isinstance(given, inp.CommandGiven):
        # also for an id that only a newer version knows: each command gets its receipt (ADR 15)
        refuse_command(draft, given, "built_in", f"{given.workflow_id} takes no commands")
    else:
        draft.add(
            InputDismissed(code="unknown", message=f"this version knows no built-in workflow {given.workflow_id}")
        )


def _decide(draft: Draft, given: inp.Input, target: Route | None) -> None:
    match given:
        case inp.ResultReceived():
            on_result(draft, given)
        case inp.EventMatched() | inp.WorkflowCalled() | inp.ScheduledStart():
            on_event(draft, given)
        case inp.EventOffered():
            on_offered(draft, given)
        case inp.EventForwarded():
            on_forwarded(draft, given)
        case inp.TimerDue():
            on_timer(draft, given)
        case (
            inp.AnswerGiven()
            | inp.AnswerGiven2()
            | inp.AnswerUnreadable()
            | inp.CommandGiven()
            | inp.CommandUnreadable()
        ):
            _on_person(draft, given, target)
        case inp.CallEnded():
            on_call_ended(draft, given)
        case inp.CallCancelled():
            on_call_cancelled(draft, given)
        case inp.AliasAnswered() | inp.SlotGiven() | inp.SlotDenied():
            _on_built_in_answered(draft, given)
        case inp.TaskUndeliverable():
            on_task_undeliverable(draft, given)
        case inp.Undeliverable():
            on_undeliverable(draft, given)
        # misdirected, which no router of this version does; an input has its decision all the same
        # (ADR 5)
        case inp.AliasClaimed() | inp.AliasReleased() | inp.ScheduleSet() | inp.SlotWanted() | inp.SlotReturned():
            message = f"{type(given).__name__} is for built-in workflows, and {given.workflow_id} is none"
            draft.add(InputDismissed(code="unknown", message=message))
        case _:
            assert_never(given)


def _on_person(
    draft: Draft,
    given: inp.AnswerGiven | inp.AnswerGiven2 | inp.AnswerUnreadable | inp.CommandGiven | inp.CommandUnreadable,
    target: Route | None,
) -> None:
    """Take what a person sent, who gets exactly one receipt for it."""
    match given:
        case inp.AnswerGiven() | inp.AnswerGiven2():
            # events know people by their ids, whatever name an answer was given under
            given = replace(given, by=id_of(draft.directory.people, given.by))
            if isinstance(given, inp.AnswerGiven2) and given.on_behalf:
                giver = id_of(draft.directory.people, given.on_behalf)
                # for oneself is one's own
                given = replace(given, on_behalf="" if person_of(giver) == person_of(given.by) else giver)
            on_answer(draft, given)
        case inp.AnswerUnreadable():
            on_unreadable_answer(draft, given)
        case inp.CommandGiven():
            on_command(draft, given, target)
        case inp.CommandUnreadable():
            on_unreadable_command(draft, given)
        case _:
            assert_never(given)


def _on_built_in_answered(draft: Draft, given: inp.AliasAnswered | inp.SlotGiven | inp.SlotDenied) -> None:
    """Take the answer of a built-in workflow that this one asked for something."""
    match given:
        case inp.AliasAnswered():
            on_alias_answered(draft, given)
        case inp.SlotGiven():
            on_slot_given(draft, given)
        case inp.SlotDenied():
            on_slot_denied(draft, given)
        case _:
            assert_never(given)


def park(
    workflow: Workflow | None,
    parked: InputParked,
    about: CrossingId | None,
    *,
    workflow_id: str,
    now_ms: int,
    refused: AnswerRefused | CommandRefused | None = None,
) -> Decided:
    """Decide what follows when an input can't be decided on and is set aside.

    `about`: what the record's name says, if another workflow sent it. `refused`: what its sender
    hears, if a person sent it.
    """
    draft = Draft(workflow, workflow_id, None, Directory(), now_ms)
    on_parked(draft, parked, about)
    if refused is not None:
        draft.add(refused)
    # a parked grant makes the step an incident, so it does not queue any more, and its slot must go
    # back here too (ADR 7)
    if draft.workflow is not None and draft.workflow.slots:
        look_after_slots(draft)
    return Decided(tuple(draft.events), draft.workflow)


def get_stuck(workflow: Workflow, step: str, message: str, *, workflow_id: str, now_ms: int) -> Decided:
    """Decide that a step needs an operator: an input that no record holds can't be decided on."""
    draft = Draft(workflow, workflow_id, None, Directory(), now_ms)
    draft.add(IncidentRaised(step=step, kind="parked", message=message))
    # a deadline ends an approval by this, too
    refuse_held(draft, workflow)
    return Decided(tuple(draft.events), draft.workflow)

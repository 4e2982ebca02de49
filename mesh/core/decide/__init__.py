"""Decide: what one input brings about, as events.

The heart of the router, and pure.

    decide(state, input, route, directory, now) -> events, and the state after them

Everything that a workflow does is decided here: what starts, what is dispatched, retried, skipped,
asked, refused, ended; the rules are in `mesh.core.deciding`, one concern a module. It reads no
clock, draws no random number and does no I/O; a choice that it takes from the directory is recorded
in its events, so that replay (`evolve` alone) never needs it again.

What it gives for an input that changes nothing is an event too (`InputDismissed`, `StartRepeated`,
`AnswerRefused`, `CommandRefused`), so that each input has its one decision and can be asked about.
Only a timer that no longer fits gives nothing.

How a step moves:

    (waits for its needs) --> running --> succeeded
            |                   |  ^
            |                   v  |
            |                 retrying <---.
            |                   |          | an operator's retry
            |                   v          |
            |                incident -----'
            +--> held (for more budget) --> queued (for the slots of its limits) --> running
            +--> calling --> succeeded | incident (another call, by an operator's retry)
            +--> asking --> succeeded | rejected | incident (a deadline with `on_expiry: incident`)
            +--> waiting --> succeeded | skipped | incident (for an event that did not come in time)
            +--> iterating (a for-each: its items move as steps do) --> succeeded | failed
            +--> claiming (any of these that succeeds and has an alias) --> succeeded | incident
            +--> succeeded at once (a value, an event that is emitted, an end that is reached)
            +--> skipped (its `if` is false), blocked (a step it needs was rejected or failed), cancelled (not wanted any more)

    settled --> again (its loop goes round: to begin anew)
"""

from typing import NamedTuple, assert_never

from mesh.core import ids
from mesh.core import inputs as inp
from mesh.core.crossings import CrossingId
from mesh.core.decide.begin.limit import look_after_slots
from mesh.core.decide.built_in.alias import decide_alias
from mesh.core.decide.built_in.clock import decide_clock
from mesh.core.decide.built_in.limiter import decide_limiter
from mesh.core.decide.built_in.schedule import decide_schedule
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.alias import on_alias_answered
from mesh.core.decide.settle.approval import on_answer
from mesh.core.decide.settle.budget import look_after_budget
from mesh.core.decide.settle.call import on_call_cancelled, on_call_ended
from mesh.core.decide.settle.command import on_command, on_undeliverable
from mesh.core.decide.settle.event import on_forwarded, on_offered
from mesh.core.decide.settle.limit import on_slot_denied, on_slot_given
from mesh.core.decide.settle.parked import on_parked
from mesh.core.decide.settle.start import on_event
from mesh.core.decide.settle.task import on_result, on_task_undeliverable
from mesh.core.decide.settle.timer import on_timer
from mesh.core.decide.settle.withdrawal import withdraw
from mesh.core.events import Event, InputDismissed, InputParked
from mesh.core.limits import is_limiter
from mesh.core.route import Route
from mesh.core.state import Directory, Workflow


class Decided(NamedTuple):
    """Events, in order, and the workflow as `evolve` leaves it after them."""

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
) -> Decided:
    """What `given` brings about.

    `route` is the definition that the workflow runs on (`given.digest`'s for a start); it may be
    None where the workflow is not live. `target`: the one that a `migrate` names, None if there is
    none. `now_ms`: the owner's clock.
    """
    draft = Draft(workflow, given.workflow_id, route, directory, now_ms)
    if given.workflow_id.startswith(ids.BUILT_IN):
        _decide_built_in(draft, given)
    else:
        _decide(draft, given, target)
    if draft.workflow is not None and (draft.workflow is not workflow or _is_portion(given)):
        if draft.workflow.account is not None:
            look_after_budget(draft)
        if draft.workflow.slots:
            look_after_slots(draft)
        if workflow is not None and workflow.steps:
            withdraw(draft, workflow, given)
    return Decided(tuple(draft.events), draft.workflow)


def _is_portion(given: inp.Input) -> bool:
    """The time for more items, which may be held."""
    return isinstance(given, inp.TimerDue) and given.kind == "portion"


def _decide_built_in(draft: Draft, given: inp.Input) -> None:
    """Workflows without a route document."""
    if ids.is_alias(given.workflow_id):
        decide_alias(draft, given)
    elif ids.is_schedule(given.workflow_id):
        decide_schedule(draft, given)
    elif ids.is_clock(given.workflow_id):
        decide_clock(draft, given)
    elif is_limiter(given.workflow_id):
        decide_limiter(draft, given)
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
        case inp.AnswerGiven():
            on_answer(draft, given)
        case inp.CommandGiven():
            on_command(draft, given, target)
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
        case inp.AliasClaimed() | inp.AliasReleased() | inp.ScheduleSet() | inp.SlotWanted() | inp.SlotReturned():
            message = f"{type(given).__name__} is for built-in workflows, and {given.workflow_id} is none"
            draft.add(InputDismissed(code="unknown", message=message))
        case _:
            assert_never(given)


def _on_built_in_answered(draft: Draft, given: inp.AliasAnswered | inp.SlotGiven | inp.SlotDenied) -> None:
    """What a built-in workflow has to say to one that asked it for something."""
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
    workflow: Workflow | None, parked: InputParked, about: CrossingId | None, *, workflow_id: str, now_ms: int
) -> Decided:
    """What follows where an input can't be decided on.

    `about`: what its name says, where another workflow sent it.
    """
    draft = Draft(workflow, workflow_id, None, Directory(), now_ms)
    on_parked(draft, parked, about)
    if draft.workflow is not None and draft.workflow.slots:
        look_after_slots(draft)
    return Decided(tuple(draft.events), draft.workflow)

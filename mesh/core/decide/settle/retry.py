"""Retry: what an operator's `retry` begins again, and with which input.

A task goes out again with the input it had; or with the one that the command gives; or with one
made again, if the agent refused the old one unread or the workflow has gone over to a version that
makes it otherwise. A loop's condition is asked again of what is there. An approval that is
closed is asked again, as long as nothing was done because of its verdict.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from mesh.core import ids
from mesh.core.decide.begin import for_each
from mesh.core.decide.begin.call import call, call_again
from mesh.core.decide.begin.loop import go_round
from mesh.core.decide.begin.task import dispatch, work_at
from mesh.core.decide.begin.undo import begin_undo
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import begin, go_on, settled
from mesh.core.decide.settle.attempt import dispatch_again
from mesh.core.events import ApprovalReopened, IncidentRaised, IncidentResolved, LoopLeft
from mesh.core.evolve.steps import may_be_done
from mesh.core.inputs import CommandGiven
from mesh.core.route import AgentWork, ApprovalWork, CallWork, ExpressionError, Repeat, Scope, ValueWork
from mesh.core.schemas import why_unfit
from mesh.core.state import StepState

_REFUSED: Final = "input_invalid: "
_NO_INPUT: Final = frozenset({"loop", "alias"})
_UNSENT: Final = frozenset({"expression", "too_large"})  # its input could not be made, or sent
_CLOSED: Final = frozenset({"succeeded", "rejected"})
_MAY_HAVE_DONE_NOTHING: Final = frozenset({"incident", "skipped", "blocked"})


class NextInput(NamedTuple):
    """The input of what is begun again, and where it comes from; empty: it is as it was."""

    origin: Literal["", "given", "made"]
    value: Any


def next_input(draft: Draft, given: CommandGiven, place: str, state: StepState) -> NextInput:
    """The input of the next attempt, and where it is from.

    Raises `ExpressionError` if it has to be made again, and can't be.
    """
    if given.task_input is not msgspec.UNSET:
        return NextInput("given", given.task_input)
    is_done = state.incident is not None and state.incident.kind in _NO_INPUT
    # after a hand-over the input is what the other agent gave, which no template makes again
    is_first = bool(state.attempt) and state.hop == 1 and not ids.is_undo(place) and not is_done
    is_unsent = state.incident is not None and state.incident.kind in _UNSENT
    if is_first and (state.stale or is_unsent or state.error.startswith(_REFUSED)):
        name = ids.step_of(place)
        if ids.is_item(place):
            return NextInput("made", for_each.input_of(draft, name, ids.index_of(place)))
        return NextInput("made", work_at(draft, place).input.render(draft.scope_of(name)))
    return NextInput("", state.input)


def why_no_input(draft: Draft, given: CommandGiven, stuck: list[str]) -> str:
    """Why the input that the command gives can't be had; empty if it can."""
    if len(stuck) != 1:
        return f"an input is for one step: name it with --step; these have an incident: {', '.join(stuck)}"
    place = stuck[0]
    name, state = ids.step_of(place), draft.live.steps[place]
    kind = state.incident.kind if state.incident is not None else ""
    step = draft.route.steps[name]
    is_whole_list = step.for_each is not None and place == name
    work = step.undo if ids.is_undo(place) else step.work
    has_none = ids.is_budget(place) or ids.is_tool(place) or kind in _NO_INPUT or is_whole_list
    if has_none or not isinstance(work, AgentWork | CallWork):
        return f"{place} takes no input: that is for a task or a call"
    card = draft.directory.agents.get(state.agent or (work.agent if isinstance(work, AgentWork) else ""))
    # only the agent can tell then, and refuses the input unread if it must
    if card is None or card.input_schema is None:
        return ""
    problem = why_unfit(card.input_schema, given.task_input, "the input", at="input")
    return f"{card.name} does not take this input: {problem}" if problem else ""


def begin_again(draft: Draft, given: CommandGiven, place: str, state: StepState) -> None:
    """Begin again what is an incident at this place.

    A task gets new attempts, and so does a call. A loop gets one more round, if its condition is
    still false. A step that never got that far begins afresh.
    """
    problem, again = "", NextInput("", state.input)
    try:
        again = next_input(draft, given, place, state)
    except ExpressionError as error:
        problem = str(error)
    # also if the input can't be made: the command was accepted, and a new incident says why
    draft.add(IncidentResolved(step=place, action="retry", by=given.by, input=again.origin))
    if problem:
        draft.add(IncidentRaised(step=place, kind="expression", message=problem))
    # nothing of it was ever sent, so it begins, with this input for its first attempt
    elif again.origin == "given" and not state.attempt:
        begin_with(draft, place, again.value, f"retried by {given.by}, with an input of theirs")
    elif _may_begin(draft, place, state):
        begin_as_it_was(draft, place, replace(state, input=again.value))


def begin_with(draft: Draft, place: str, value: Any, reason: str) -> None:
    """Begin the first attempt of a task or a call with this input."""
    work = work_at(draft, place)
    if isinstance(work, CallWork):
        call(draft, place, work, value, reason)
    else:
        dispatch(draft, place, work, value, reason, attempt=1)


def _may_begin(draft: Draft, place: str, state: StepState) -> bool:
    """Whether it begins now: what can't be held as a task stays `retrying` while it is paused."""
    is_loop = state.incident is not None and state.incident.kind == "loop"
    can_be_held = bool(state.attempt) or is_loop or state.fan is not None or ids.is_undo(place)
    return can_be_held or not draft.is_paused


def begin_as_it_was(draft: Draft, place: str, state: StepState) -> None:
    """Begin again what is at this place, as its state was when it became an incident."""
    name = ids.step_of(place)
    step = draft.route.steps[name]
    # before the attempts are looked at: the work of a stuck loop is done, and must not be repeated
    if step.repeat is not None and state.incident is not None and state.incident.kind == "loop":
        _ask_the_loop(draft, name, step.repeat, state)
    elif state.attempt and isinstance(step.work, CallWork) and not ids.is_undo(place):
        call_again(draft, place, step.work, state)
    elif state.attempt:
        dispatch_again(draft, place, state, restarts=True)
    elif ids.is_item(place):
        for_each.begin_item(draft, name, ids.index_of(place))
    elif state.fan is not None:
        for_each.advance(draft, name)
    elif ids.is_undo(place):
        begin_undo(draft, name)
    elif begin(draft, step):
        settled(draft, name)


# Loops --------------------------------------------------------------------------------------------


def _ask_the_loop(draft: Draft, name: str, repeat: Repeat, state: StepState) -> None:
    """Whether the loop is done by what its last round gave: the condition may be another by now.

    One more round, where it is false, or what the round gave still says nothing.
    """
    # the status says only `incident` by now; the output still has the verdict
    is_rejection = isinstance(state.output, dict) and state.output.get("verdict") == "rejected"
    rejected = is_rejection and isinstance(draft.route.steps[name].work, ApprovalWork)
    try:
        is_done = repeat.until.is_true(_scope_after(draft, name, state, rejected=rejected))
    except ExpressionError:
        is_done = False
    if not is_done:
        go_round(draft, name, repeat)
        go_on(draft, repeat.body)
        return
    draft.add(LoopLeft(step=name, reason=f"{repeat.until.source} is true", rejected=rejected))
    # not by `settled`, which would ask the loop once more
    go_on(draft, draft.route.dependents[name])


def _scope_after(draft: Draft, name: str, state: StepState, *, rejected: bool) -> Scope:
    """What the loop's condition saw: the step that closes it was done."""
    scope = draft.scope_of(name)
    scope = {**scope, "steps": {**scope["steps"], name: state.output}}
    if "status" in scope:
        scope["status"] = {**scope["status"], name: "rejected" if rejected else "succeeded"}
    return scope


# Approvals ----------------------------------------------------------------------------------------


def is_closed_approval(draft: Draft, name: str) -> bool:
    """Whether somebody, or its deadline, has decided it."""
    state = draft.live.steps.get(name)
    is_approval = name in draft.route.steps and isinstance(draft.route.steps[name].work, ApprovalWork)
    return is_approval and state is not None and bool(state.task_id) and state.status in _CLOSED


def why_not_asked_again(draft: Draft, name: str) -> str:
    """Why this approval can't be asked again: somebody acted on its verdict. Empty if it can."""
    if draft.live.ending is not None:
        return f"{name} can't be asked again: the workflow is being undone"
    for other in _begun_after(draft, name):
        state = draft.live.steps[other]
        if not _has_done_nothing(draft, other, state):
            return f"{name} can't be asked again: {other} is {state.status}, and came after its verdict"
    return ""


def ask_again(draft: Draft, given: CommandGiven, name: str) -> None:
    """Ask the question again, as another approval; what came after the verdict begins again."""
    # listed before the events below, which change what has begun
    state, after = draft.live.steps[name], tuple(_begun_after(draft, name))
    for other in after:
        if draft.live.steps[other].status == "incident":
            draft.add(IncidentResolved(step=other, action="ask_again", by=given.by))
    draft.add(ApprovalReopened(step=name, approval_id=state.task_id, by=given.by, begins_again=after))
    # else it begins when the workflow resumes, as any step whose needs are settled
    if not draft.is_paused and begin(draft, draft.route.steps[name]):
        settled(draft, name)


def _begun_after(draft: Draft, name: str) -> Iterator[str]:
    """The steps that need it, directly or through others, and have begun."""
    reached = {name}
    for other, step in draft.route.steps.items():  # each comes after those it needs
        if reached.intersection(step.needs):
            reached.add(other)
            state = draft.live.steps.get(other)
            if state is not None and state.status != "again":
                yield other


def _has_done_nothing(draft: Draft, name: str, state: StepState) -> bool:
    """A value may be made again; a task that was refused, or told that it failed, did nothing."""
    if isinstance(draft.route.steps[name].work, ValueWork):
        return True
    return state.status in _MAY_HAVE_DONE_NOTHING and not may_be_done(state)

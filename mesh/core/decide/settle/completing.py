"""An operator's `complete`: a step's output by hand, where its agent will give none.

It counts as the agent's result would: it is held to the schema that the agent's card promises, what
needs the step goes on with it, and a later result of the agent is dismissed.
"""

from typing import Final

import msgspec

from mesh.core import ids
from mesh.core.decide.begin.call import withdraw
from mesh.core.decide.begin.undo import end_tools
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import settled
from mesh.core.decide.settle.refusing import Refusal, accept_command, refuse_command
from mesh.core.events import IncidentResolved, StepCompleted
from mesh.core.inputs import CommandGiven
from mesh.core.route import AgentWork, CallWork
from mesh.core.schemas import why_unfit
from mesh.core.state import FINISHED, StepState

_IS_DONE: Final = frozenset({"loop", "alias"})
"""Incidents of a step whose own work is done."""


def on_complete(draft: Draft, given: CommandGiven) -> None:
    """Settle the step that the command names with the output that it gives."""
    place = given.step
    if place is None or given.output is msgspec.UNSET:
        refuse_command(draft, given, "malformed", "complete needs the step, and its output")
        return
    why_not = _why_not(draft, given, place)
    if why_not is not None:
        refuse_command(draft, given, why_not.code, why_not.message)
        return
    accept_command(draft, given)
    _complete(draft, given, place, draft.live.steps[place])
    settled(draft, place)


def _why_not(draft: Draft, given: CommandGiven, place: str) -> Refusal | None:
    """Why this output can't be the step's; None if it can."""
    step = draft.route.steps[ids.step_of(place)]
    work = step.undo if ids.is_undo(place) else step.work
    is_aside = ids.is_question(place) or ids.is_tool(place) or ids.is_budget(place)
    if is_aside or not isinstance(work, AgentWork | CallWork):
        return Refusal("no_task", f"{place} is no task and no call: nobody can give its output by hand")
    if step.for_each is not None and place == step.name:
        return Refusal("no_task", f"{place} is a for-each: complete its items, such as {ids.item_place(place, 0)}")
    state = draft.live.steps.get(place)
    if state is None or state.status == "again":
        return Refusal("not_begun", f"{place} has not begun: it can be completed when it is under way or an incident")
    if state.status in FINISHED:
        return Refusal("settled", f"{place} has {state.status}, and has its output")
    if state.status == "claiming" or (state.incident is not None and state.incident.kind in _IS_DONE):
        return Refusal("settled", f"{place} has its output: what it waits for is another thing (`mesh workflows show`)")
    problem = _why_unfit(draft, given, state, work)
    return Refusal("output", problem) if problem else None


def _why_unfit(draft: Draft, given: CommandGiven, state: StepState, work: AgentWork | CallWork) -> str:
    """What is wrong with the output, by the cards of the agent; empty if nothing is known to be."""
    agent = state.agent or (work.agent if isinstance(work, AgentWork) else "")
    card = draft.directory.agents.get(agent)
    own = () if card is None or card.output_schema is None else (card.output_schema,)
    problem = ""
    # replicas whose cards differ promise one of several outputs; any of them will do
    for schema in draft.directory.promised.get(agent, ()) or own:
        problem = why_unfit(schema, given.output, "the output", at="output")
        if not problem:
            return ""
    return f"it is not what agent {agent} promises: {problem}" if problem else ""


def _complete(draft: Draft, given: CommandGiven, place: str, state: StepState) -> None:
    if state.status == "incident":
        draft.add(IncidentResolved(step=place, action="complete", by=given.by))
    reason = f"completed by {given.by}"
    # nobody waits for the workflow that it called, or for the approval that its agent wants
    if state.status == "calling":
        withdraw(draft, place, state, reason)
    end_tools(draft, place, state, reason)
    draft.add(StepCompleted(step=place, output=given.output, by=given.by, reason=given.reason))

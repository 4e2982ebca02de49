"""Migration: whether a running workflow can move to another version of its route, and if not, why.

Owns the rules alone. `mesh.core.decide.settle.command` asks them for an operator's `migrate`, and
the command line asks what a migration would change. What has not begun may differ in any way. What
has begun or is settled must still make sense under the new version:

    the step exists                     else its state would belong to nothing
    it does the same work               a task that is out, or an output, is that agent's or route's
    what it newly needs is settled      it can't have begun before it
    while it is under way, its for_each, wait and the like are the same
                                        they have state made of the old text; only what FREE names
                                        is read again each time
    a loop that is going round stays    its rounds are counted, and its steps depend on them
    its budget limits the same things   what it may spend was granted when it began, and since

A step that got stuck before it began (its own expression could not be evaluated, or what it gave
was too large to be sent) begins again under the new version.
"""

from collections.abc import Iterator
from typing import Any, Final

from mesh.core import ids
from mesh.core.route import AgentWork, Budget, CallWork, Repeat, Route, Step, Work
from mesh.core.state import FINISHED, StepState, Workflow

FREE: Final = frozenset(
    {
        "needs",
        "if",
        "agent",
        "capability",
        "input",
        "timeout",
        "start_timeout",
        "run_timeout",
        "heartbeat",
        "retry",
        "on_exhausted",
        "approval",
        "undo",
        "repeat",
        "reserve",
        "approve",
    }
)
"""Keys of a step that may differ while it is under way.

They have rules of their own here, or are read at the next attempt, or were read when it began.
"""

_STUCK: Final = frozenset({"expression", "too_large", "nobody", "unknown_route", "too_deep"})
_GIVEN: Final = (AgentWork, CallWork)
_NEVER_WORKED: Final = frozenset({"skipped", "blocked", "cancelled"})


def misfits(workflow: Workflow, old: Route, new: Route) -> list[str]:
    """Why this workflow can't move from `old`, its version, to `new`; empty if it can.

    One line for each reason, with the step and what to do.
    """
    if workflow.ending is not None:
        return [f"it is being undone, and will end as {workflow.ending.status}: nothing new begins in it"]
    again = set(to_begin_again(workflow))
    begun = {place: state for place, state in workflow.steps.items() if place not in again}
    found = [line for place in begun for line in _of_step(place, begun, old, new)]
    found += [line for name, step in old.steps.items() for line in _of_loop(name, step.repeat, begun, new)]
    return found + list(_of_budget(old.budget, new.budget))


def to_begin_again(workflow: Workflow) -> tuple[str, ...]:
    """The steps that got stuck before anything of them began."""
    return tuple(place for place, state in workflow.steps.items() if _never_began(place, state))


def with_new_inputs(workflow: Workflow, old: Route, new: Route) -> Iterator[str]:
    """The places that have an input which the new version makes differently.

    Their task or call is under way, or stuck. An operator's retry makes the input again.
    """
    for place, state in workflow.steps.items():
        if not state.attempt or state.status in FINISHED or ids.is_undo(place):
            continue
        before, after = old.steps[ids.step_of(place)].work, new.steps[ids.step_of(place)].work
        if isinstance(before, _GIVEN) and isinstance(after, _GIVEN) and before.input.source != after.input.source:
            yield place


def _never_began(place: str, state: StepState) -> bool:
    """Whether the step is stuck in its first round. Later rounds count as begun."""
    incident = state.incident
    is_own = ids.step_of(place) == place and incident is not None and incident.kind in _STUCK
    return is_own and not state.attempt and not state.task_id and state.fan is None and state.round == 1


def _of_step(place: str, begun: dict[str, StepState], old: Route, new: Route) -> Iterator[str]:
    name, state = ids.step_of(place), begun[place]
    if name != place:
        return  # an item: its for-each is looked at
    it, before, after = f"step {name} ({state.status})", old.steps[name], new.steps.get(name)
    if after is None:
        yield f"{it} is not in the new version: keep it there, or let this workflow end under its own"
        return
    if type(after.work) is not type(before.work):
        yield f"{it} does something of another kind in the new version: keep it, and put what is new in a step of another name"
        return
    # what nobody has done may be somebody else's in the new version
    if state.status not in _NEVER_WORKED:
        yield from _of_doer(it, before.work, after.work)
    yield from _of_needs(it, begun, before, after)
    # a settled step is not read again: only its output counts
    if state.status not in FINISHED:
        yield from _of_parts(it, old.definition["steps"][name], new.definition["steps"][name])


def _of_doer(it: str, before: Work, after: Work) -> Iterator[str]:
    """The step must be done by the same agent, or as the same called workflow."""
    was, will = _doer(before), _doer(after)
    if was != will:
        yield f"{it} is done by {was}, and by {will} in the new version: keep it, and put what is new in a step of another name"


def _doer(work: Work) -> str:
    match work:
        case AgentWork():
            return f"capability {work.capability}" if work.capability else f"agent {work.agent}"
        case CallWork():
            return f"route {work.route}"
        case _:
            return ""


def _of_needs(it: str, begun: dict[str, StepState], before: Step, after: Step) -> Iterator[str]:
    for need in after.needs:
        other = begun.get(need)
        if need not in before.needs and (other is None or other.status not in FINISHED):
            stands = "not begun" if other is None else other.status
            yield f"{it} newly needs {need} ({stands}): migrate when that is done, or take it out of the needs"


def _of_parts(it: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """The keys that a step under way depends on must be unchanged."""
    differing = sorted(
        key for key in before.keys() | after.keys() if key not in FREE and before.get(key) != after.get(key)
    )
    if differing:
        yield f"{it} has another {' and another '.join(differing)} in the new version: migrate when it is done"


def _of_loop(name: str, repeat: Repeat | None, begun: dict[str, StepState], new: Route) -> Iterator[str]:
    """A loop under way must stay.

    It is under way from its first step's beginning until the step that closes it is settled.
    """
    closing = begun.get(name)
    is_over = closing is not None and closing.status in FINISHED
    if repeat is None or is_over or not any(step in begun for step in repeat.body):
        return
    after = new.steps[name].repeat if name in new.steps else None
    if after is None or (after.start, after.body) != (repeat.start, repeat.body):
        yield f"the loop from {repeat.start} to {name} is under way, and another in the new version: migrate when it is done"


def _of_budget(before: Budget | None, after: Budget | None) -> Iterator[str]:
    """The budget must limit the same things. The amounts may differ: a run keeps its own."""
    was, will = _budgeted(before), _budgeted(after)
    if was != will:
        yield f"it has a budget of {was or 'nothing'}, and the new version one of {will or 'nothing'}: name the same things there"


def _budgeted(budget: Budget | None) -> str:
    if budget is None:
        return ""
    return ", ".join([*sorted(budget.limits), *(["time"] if budget.time_s is not None else [])])

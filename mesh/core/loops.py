"""Loops, as everybody else must see them: whether a step is over, or a loop may begin it again.

A settled step is over only if no loop around it can go round. Who asks "does anything still come of
this step?" asks here, and not its status. Rules on the route and the states alone.
"""

from collections.abc import Iterable, Mapping

from mesh.core.route import Route
from mesh.core.state import FINISHED, StepState


def is_over(route: Route, steps: Mapping[str, StepState], name: str) -> bool:
    """Whether the step is settled for good: nothing begins it again in this run."""
    return is_settled(steps.get(name)) and not may_begin_again(route, steps, name)


def may_begin_again(route: Route, steps: Mapping[str, StepState], name: str) -> bool:
    """Whether a loop around this step is under way: the step that closes it is not settled.

    In its last round too: an operator may give a loop one more.
    """
    return name in route.looped and any(
        name in step.repeat.body and not is_settled(steps.get(closing))
        for closing, step in route.steps.items()
        if step.repeat is not None
    )


def are_settled(names: Iterable[str], steps: Mapping[str, StepState]) -> bool:
    """Whether all of these steps are settled. Each decision asks it of all steps of its route."""
    for name in names:
        state = steps.get(name)
        if state is None or state.status not in FINISHED:
            return False
    return True


def is_settled(state: StepState | None) -> bool:
    """Whether the step is settled in the round that it is in."""
    return state is not None and state.status in FINISHED

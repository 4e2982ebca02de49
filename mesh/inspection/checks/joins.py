"""Check joins: races of a single step, steps that a race blocks, and ends that leave nothing to do.

Owns the findings about `any`, `first_of` and `end`. `mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator

from mesh.core.joins import takes
from mesh.core.route import EndWork, Route, Step
from mesh.inspection.checks.finding import RouteFinding, error, warning


def findings(route: Route) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if step.enough is not None and len(step.needs) == 1:
            word = "first_of" if step.first_of else "any"
            message = f"{word} of one step has nothing to choose from"
            yield warning(("steps", name, "needs"), "no_effect", message, f"write needs: {step.needs[0]}")
        elif step.first_of:
            yield from _losers(route, step)
        if isinstance(step.work, EndWork) and not step.needs and step.condition is None:
            message = "the workflow ends as soon as it starts"
            yield error(("steps", name, "end"), "ends_at_once", message, "write needs or if to say when it should end")


def _losers(route: Route, race: Step) -> Iterator[RouteFinding]:
    """Find steps outside a race that need a step inside it.

    The race may cancel that step, and then they are blocked.
    """
    for need in race.needs:
        for name in route.dependents[need]:
            step = route.steps[name]
            if name == race.name or step.enough is not None or takes(step, need, rejected=False):
                continue
            if _serves_only(route, name, race):
                continue
            message = (
                f"it is blocked if {race.name} goes on with another step than {need}, because {need} is then cancelled"
            )
            fix = f"needs: {{any: ...}} in {race.name} lets the others go on; or read status.{need} in its if"
            yield warning(("steps", name, "needs"), "cancelled_need", message, fix)


def _serves_only(route: Route, name: str, race: Step) -> bool:
    """Whether the step works for the race alone, so that nothing is lost once the race is won."""
    todo = [name]
    while todo:
        step = todo.pop()
        if step not in race.needs:
            below = route.dependents[step]
            if not below or race.name in below:
                return False
            todo += below
    return True

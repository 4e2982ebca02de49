"""Joins: whether a step takes the outcome of a step it needs. Rules on the route alone."""

from mesh.core.route import Expression, Route, Step


def takes(step: Step, other: str, *, rejected: bool) -> bool:
    """Whether the step's `if` reads how the other step ended, and so handles it.

    For a rejection, it may also read the approval's other fields.
    """
    return step.condition is not None and _speaks_of(step.condition, other, rejected=rejected)


def _speaks_of(condition: Expression, other: str, *, rejected: bool) -> bool:
    whole = f"steps.{other}"
    return any(
        # a rejection is in the approval's output too, so an `if` that reads that handles it as well
        path == f"status.{other}" or (rejected and (path == whole or path.startswith(whole + ".")))
        for path in condition.paths
    )


def rejection_is_taken(route: Route, approval: str) -> bool:
    """Whether something handles a rejection: a step, a join that can do without it, or a loop.

    If nothing does, it ends the workflow.
    """
    repeat = route.steps[approval].repeat
    if repeat is not None and _speaks_of(repeat.until, approval, rejected=True):
        return True
    return any(takes_rejection(route.steps[d], approval) for d in route.dependents[approval])


def takes_rejection(step: Step, approval: str) -> bool:
    """Whether this step handles a rejection of the approval.

    A join of some can do without it. A race can't: a rejection is a decision as much as an approval
    is, and it came first.
    """
    return (step.enough is not None and not step.first_of) or takes(step, approval, rejected=True)


def upstream(route: Route, name: str) -> set[str]:
    """The steps that must have settled before this one.

    Those it needs, those they need, and so on.
    """
    found: set[str] = set()
    to_follow = [*route.steps[name].needs]
    while to_follow:
        need = to_follow.pop()
        if need not in found:
            found.add(need)
            to_follow += route.steps[need].needs
    return found

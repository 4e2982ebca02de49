"""Check loops: those that never repeat, always end at their limit, or start each other without end.

Owns the findings about `repeat`, and about calls and events that lead back to the same route.
`mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator, Mapping

from mesh.core.route import CallWork, EmitWork, Repeat, Route
from mesh.inspection.checks.finding import Known, RouteFinding, error, warning
from mesh.inspection.inference.partial_evaluation import Facts, constant_of, outcome
from mesh.routes.problems import DocumentPath


def findings(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, CallWork):
            yield from _circle(route, name, step.work, known.routes or {})
        if step.repeat is not None:
            yield from _loop(name, step.repeat)
        if isinstance(step.work, EmitWork) and _starts_itself(route, step.work):
            message = "the event starts this route again, and so on without end"
            fix = f"keep it out with a guard, such as on: {{if: event.source != '/mesh/{route.name}'}}, or emit another type"
            yield warning(("steps", name, "emit", "type"), "starts_itself", message, fix)


def _circle(route: Route, name: str, work: CallWork, routes: Mapping[str, Route]) -> Iterator[RouteFinding]:
    """Find a call that leads back to this route."""
    trail = _trail(work.route, route.name, routes, (route.name,))
    if trail:
        message = f"its call leads back to this route, without end unless some if stops it: {' -> '.join(trail)}"
        yield warning(("steps", name, "workflow"), "calls_itself", message, "break the circle, or limit it with repeat")


def _trail(at: str, goal: str, routes: Mapping[str, Route], before: tuple[str, ...]) -> tuple[str, ...]:
    if at == goal:
        return (*before, at)
    # a circle that leaves out this route is found when its own routes are checked
    if at in before or at not in routes:
        return ()
    called = [step.work.route for step in routes[at].steps.values() if isinstance(step.work, CallWork)]
    return next((found for one in called if (found := _trail(one, goal, routes, (*before, at)))), ())


def _loop(name: str, repeat: Repeat) -> Iterator[RouteFinding]:
    path: DocumentPath = ("steps", name, "repeat")
    if repeat.limit == 1:
        yield warning((*path, "limit"), "no_effect", "the loop never repeats: its limit is 1", "raise the limit")
    constant = constant_of(repeat.until.source)
    until = (*path, "until")
    if constant is not None and constant.error:
        yield error(until, "always_fails", f"its until always fails: {constant.error}", "correct the expression")
    elif constant is not None and constant.value:
        yield warning(until, "constant", "the loop never repeats: its until is always true", "correct the until")
    elif repeat.on_limit != "continue" and (constant is not None or not _changes(repeat)):
        once = "is always false, so the loop ends at its limit alone"
        either = "reads nothing that a round changes, so the loop ends after one round or at its limit"
        message = f"its until {once if constant is not None else either}, as {_end(repeat)}"
        fix = f"read what {', '.join(repeat.body)} give; or on_limit: continue, to repeat {repeat.limit} times"
        yield warning(until, "until_fixed", message, fix)


def _changes(repeat: Repeat) -> bool:
    """Whether the `until` reads anything that a round can change.

    That is an output or a status inside the loop's body, or the round itself.
    """
    for path in repeat.until.paths:
        root, _, rest = path.partition(".")
        if root == "round" or (root in ("steps", "status") and rest.partition(".")[0].partition("[")[0] in repeat.body):
            return True
    return False


def _end(repeat: Repeat) -> str:
    return "an incident" if repeat.on_limit == "incident" else "a failure"


def _starts_itself(route: Route, work: EmitWork) -> bool:
    """Whether the step emits an event that starts its own route again.

    Only certain if the event's type is written out and no guard refuses the event.
    """
    if route.on is None or work.event.source["type"] != route.on.type:
        return False
    facts = Facts({("event", "source"): f"/mesh/{route.name}", ("event", "type"): route.on.type}, {})
    return route.on.condition is None or outcome(route.on.condition.source, facts) is not False

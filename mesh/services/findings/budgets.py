"""Budgets that the steps' own limits exceed, and slices that are too much together, or too little for what is called."""

from collections.abc import Iterator, Mapping

from mesh.core.reachability import raced
from mesh.core.route import AgentWork, ApprovalWork, Budget, CallWork, EndWork, Route, Step, WaitWork
from mesh.services.findings.finding import Known, RouteFinding, error, warning, written

__all__ = ["findings"]


def findings(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, CallWork) and step.work.reserve:
            yield from _too_little(name, step.work, known.routes or {})
    if route.budget is None:
        return
    yield from _too_much(route, route.budget)
    hops, tasks = route.budget.limits.get("hops"), _tasks(route)
    if hops is not None and tasks > hops:
        message = f"a run that is done sends {tasks} tasks at least, and the budget has {hops:g} hops"
        yield error(("budget", "hops"), "over_budget", message, "raise hops; each attempt is one")
    for name, step in route.steps.items():
        key, lasts_s = _longest(step)
        is_written = lasts_s is not None and key[0] in written(route, name)
        if route.budget.time_s is not None and is_written and (lasts_s or 0) > route.budget.time_s:
            message = f"it may take {lasts_s:g} s, and the budget's time is {route.budget.time_s:g} s in all"
            yield warning(("steps", name, *key), "over_budget", message, "raise the budget's time, or shorten this one")


def _too_little(name: str, work: CallWork, routes: Mapping[str, Route]) -> Iterator[RouteFinding]:
    """What a step of the called route reserves must be in the slice, or its task never goes out, unless somebody grants more."""
    called = routes.get(work.route)
    if called is None:
        return
    asks = called.budget is not None and called.budget.on_exhausted == "ask"
    then = "somebody is asked each time" if asks else "that one is never begun"
    for inner, step in called.steps.items():
        for what, amount in step.work.reserve.items() if isinstance(step.work, AgentWork | CallWork) else ():
            if amount > work.reserve.get(what, amount):
                little = f"its slice has {work.reserve[what]:g} {what}, and step {inner} of route {work.route} reserves {amount:g}"
                found = warning if asks else error
                path = ("steps", name, "reserve", what)
                yield found(path, "over_budget", f"{little}: {then}", f"reserve {amount:g} or more")


def _too_much(route: Route, budget: Budget) -> Iterator[RouteFinding]:
    """Slices are set aside whole while their workflows run: more than there is can't be at once."""
    sure = _sure(route)
    for what, limit in budget.limits.items():
        slices = {
            name: step.work.reserve[what]
            for name, step in route.steps.items()
            if name in sure and isinstance(step.work, CallWork) and what in step.work.reserve
        }
        if sum(slices.values()) > limit:
            message = f"the slices of {', '.join(slices)} are {sum(slices.values()):g} {what} together, and the budget has {limit:g}: the last ones wait for what the others leave"
            yield warning(("budget", what), "over_budget", message, f"raise {what}, or make the slices smaller")


def _sure(route: Route) -> set[str]:
    """The steps that a run which is done has begun: those that nothing holds back. None for sure where it may end early."""
    if any(isinstance(step.work, EndWork) for step in route.steps.values()):
        return set()
    sure: set[str] = set()
    for name, step in route.steps.items():
        if step.condition is None and step.enough is None and sure.issuperset(step.needs):
            sure.add(name)
    return sure - raced(route)


def _tasks(route: Route) -> int:
    """How many tasks a run sends before it is done, at the least."""
    steps = [route.steps[name] for name in _sure(route)]
    return sum(isinstance(step.work, AgentWork) and step.for_each is None for step in steps)


def _longest(step: Step) -> tuple[tuple[str, ...], float | None]:
    """How long the step may take by its own limit, and where that is written."""
    match step.work:
        case AgentWork(timeout_s=timeout_s) | CallWork(timeout_s=timeout_s):
            return ("timeout",), timeout_s
        case ApprovalWork(deadline_s=deadline_s):
            return ("approval", "deadline"), deadline_s
        case WaitWork(event=None, seconds=seconds):
            return ("wait",), seconds
        case WaitWork(timeout_s=timeout_s):
            return ("wait", "timeout"), timeout_s
        case _:
            return (), None

"""Budgets that the steps' own limits exceed."""

from collections.abc import Iterator

from mesh.core.reachability import raced
from mesh.core.route import AgentWork, ApprovalWork, CallWork, EndWork, Route, Step, WaitWork
from mesh.services.findings.finding import RouteFinding, error, warning, written

__all__ = ["findings"]


def findings(route: Route) -> Iterator[RouteFinding]:
    if route.budget is None:
        return
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


def _tasks(route: Route) -> int:
    """How many tasks a run sends before it is done: those of steps that nothing holds back. None for sure where it may end early."""
    if any(isinstance(step.work, EndWork) for step in route.steps.values()):
        return 0
    sure: set[str] = set()
    for name, step in route.steps.items():
        if step.condition is None and step.enough is None and sure.issuperset(step.needs):
            sure.add(name)
    sure -= raced(route)
    return sum(isinstance(route.steps[name].work, AgentWork) and route.steps[name].for_each is None for name in sure)


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

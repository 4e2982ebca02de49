"""Check budgets: limits of steps that exceed them, and slices that are too small for a call.

Owns what is certain about a budget before a run. It counts only the steps that run in every
workflow that goes well, however its conditions come out. Together they may reserve more than the
budget has and still run, since each may use less than it reserves; so that is only a warning.
`mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import NamedTuple

from mesh.core.amounts import as_number
from mesh.core.joins import rejection_is_taken
from mesh.core.route import AgentWork, ApprovalWork, Budget, CallWork, EndWork, Route, Step, WaitWork
from mesh.inspection.checks.finding import Known, RouteFinding, error, warning, written
from mesh.inspection.inference.reachability import raced

_WAIT = "the last ones wait for what the others leave, and if that is too little,"


class _Share(NamedTuple):
    """What one step reserves, for all its items together."""

    named: str
    amount: float


def findings(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, CallWork) and step.work.reserve:
            yield from _too_little(name, step.work, known.routes or {})
    if route.budget is None:
        return
    yield from _too_much(route, route.budget)
    hops, tasks = route.budget.limits.get("hops"), _tasks(route)
    if hops is not None and tasks > hops:
        message = f"a completed run sends at least {tasks} tasks, and the budget has {as_number(hops)} hops"
        yield error(("budget", "hops"), "over_budget", message, "raise hops; each attempt is one")
    if route.budget.time_s is not None:
        yield from _too_long(route, route.budget.time_s)


def _too_little(name: str, work: CallWork, routes: Mapping[str, Route]) -> Iterator[RouteFinding]:
    """Where the slice of a call is too small for the steps of the called route.

    A step whose own reserve is more than the slice never gets its task sent, unless somebody grants
    more. If all the reserves together are more than the slice, that is a warning.
    """
    called = routes.get(work.route)
    if called is None:
        return
    asks = called.budget is not None and called.budget.on_exhausted == "ask"
    for what, there in work.reserve.items():
        path = ("steps", name, "reserve", what)
        more = [
            (inner, step.work.reserve[what])
            for inner, step in called.steps.items()
            if isinstance(step.work, AgentWork | CallWork) and step.work.reserve.get(what, 0) > there
        ]
        for inner, amount in more:
            little = f"its slice has {as_number(there)} {what}, and step {inner} of route {work.route} reserves {as_number(amount)}"
            then = "people are asked each time" if asks else "that one never begins"
            found = warning if asks else error
            yield found(path, "over_budget", f"{little}: {then}", f"reserve {as_number(amount)} or more")
        own = called.budget.limits.get(what, inf) if called.budget is not None else inf
        shares = _shares(called, what)
        total = sum(share.amount for share in shares)
        if not more and total > there and there < own:  # else the check of that route reports it
            then = "people are asked" if asks else f"{work.route} fails"
            message = f"its slice has {as_number(there)} {what}, and {_said(shares, what)} in route {work.route}: {_WAIT} {then}"
            yield warning(path, "over_budget", message, f"reserve {as_number(total)} or more")


def _too_much(route: Route, budget: Budget) -> Iterator[RouteFinding]:
    then = "people are asked" if budget.on_exhausted == "ask" else "the workflow fails"
    for what, limit in budget.limits.items():
        shares = _shares(route, what)
        if sum(share.amount for share in shares) > limit:
            message = f"{_said(shares, what)}, and the budget has {as_number(limit)}: {_WAIT} {then}"
            yield warning(("budget", what), "over_budget", message, f"raise {what}, or reserve less")


def _shares(route: Route, what: str) -> list[_Share]:
    """What is reserved by each step that runs in every workflow that goes well.

    A for-each counts once for each item, if the route writes the list out.
    """
    found = []
    sure = frozenset(_sure(route, goes_well=True))
    for name in (name for name in route.definition["steps"] if name in sure):  # in the order of the document
        step = route.steps[name]
        amount = step.work.reserve.get(what, 0) if isinstance(step.work, AgentWork | CallWork) else 0
        count = _count(step)
        if amount * count > 0:
            found.append(_Share(name if step.for_each is None else f"{name} ({count} items)", amount * count))
    return found


def _said(shares: list[_Share], what: str) -> str:
    """The shares in words: `a, b reserve 101 tokens together`."""
    total = as_number(sum(share.amount for share in shares))
    names = ", ".join(share.named for share in shares)
    return f"{names} reserve {total} {what} together" if len(shares) > 1 else f"{names} reserves {total} {what}"


def _count(step: Step) -> int:
    """How often, at the least, the step's work is done.

    For a for-each: the number of items, if the route writes the list out. Any other list may be
    empty.
    """
    if step.for_each is None:
        return 1
    items = step.for_each.items.source
    return len(items) if isinstance(items, list) else 0


def _sure(route: Route, *, goes_well: bool) -> list[str]:
    """The steps that every completed run has begun, because nothing can hold them back.

    If the route has a step that ends the workflow early, no step is certain. `goes_well`: assume
    that no step fails and no approval is rejected.
    """
    if any(isinstance(step.work, EndWork) for step in route.steps.values()):
        return []
    sure: list[str] = []
    for name, step in route.steps.items():
        blocked = not goes_well and any(_may_block(route, need) for need in step.needs)
        if step.condition is None and step.enough is None and set(sure).issuperset(step.needs) and not blocked:
            sure.append(name)
    # the winner of a race may cancel these before they begin
    races = raced(route)
    return [name for name in sure if name not in races]


def _may_block(route: Route, name: str) -> bool:
    """Whether a run can complete although a step that needs this one never began."""
    match route.steps[name].work:
        case AgentWork(on_exhausted="continue") | CallWork(on_exhausted="continue"):
            return True
        case ApprovalWork():
            return route.steps[name].for_each is None and rejection_is_taken(route, name)
        case _:
            return False


def _tasks(route: Route) -> int:
    """How many tasks, at the least, a completed run has sent."""
    steps = [route.steps[name] for name in _sure(route, goes_well=False)]
    return sum(_count(step) for step in steps if isinstance(step.work, AgentWork))


def _too_long(route: Route, time_s: float) -> Iterator[RouteFinding]:
    earliest = _earliest(route)
    for name, step in route.steps.items():
        key, lasts_s = _longest(step)
        after_s = earliest[name]
        if lasts_s is None or key[0] not in written(route, name) or after_s > time_s or after_s + lasts_s <= time_s:
            continue
        takes = f"it may take {as_number(lasts_s)} s"
        if after_s:
            takes = (
                f"it begins {as_number(after_s)} s after the start at the earliest, and may take {as_number(lasts_s)} s"
            )
        message = f"{takes}, and the budget's time is {as_number(time_s)} s in all"
        yield warning(("steps", name, *key), "over_budget", message, "raise the budget's time, or shorten this one")


def _earliest(route: Route) -> dict[str, float]:
    """How many seconds after the start each step can begin, at the earliest.

    Only waits count that every run has to wait for.
    """
    begins: dict[str, float] = {}
    ends: dict[str, float] = {}
    for name, step in route.steps.items():
        before = sorted(ends[need] for need in step.needs)
        # it begins when enough of what it needs has ended, so the latest of these says when
        begins[name] = before[(step.enough or len(before)) - 1] if before else 0.0
        waits = step.work.seconds if isinstance(step.work, WaitWork) and step.condition is None else None
        ends[name] = begins[name] + (waits or 0.0)
    return begins


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

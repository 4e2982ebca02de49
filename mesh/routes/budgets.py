"""Budgets in a route: `budget` at the top, `reserve` on a step.

`compiler` and `tasks` call these.
"""

from mesh.core.amounts import as_number
from mesh.core.route import Budget
from mesh.routes.problems import Part


def budget(root: Part) -> Budget | None:
    part = root.mapping("budget")
    if part is None:
        return None
    asks = part.choice("on_exhausted") == "ask"
    if asks and "role" not in part.value:
        part.missing("role")
    for key in ("role", "deadline"):
        if key in part.value and not asks:
            part.problem(key, f"{key} goes with on_exhausted: ask", "write on_exhausted: ask, or remove it")
    limits = _amounts(part)
    if not limits and "time" not in part.value:
        root.problem("budget", "the budget limits nothing", "write tokens, usd, hops or time")
    return Budget(
        limits=limits,
        time_s=part.duration_or_none("time"),
        on_exhausted="ask" if asks else "fail",
        role=(part.text("role", "who may grant more") or "") if "role" in part.value else "",
        deadline_s=part.duration_or_none("deadline"),
    )


def reserve(step: Part, budget: Budget | None, *, is_called: bool) -> dict[str, float]:
    """What each attempt of the step may take of the route's budget.

    If no event starts the route (`is_called`), its callers may let it spend what its own budget
    does not limit.
    """
    part = step.mapping("reserve")
    if part is None:
        return {}
    amounts = _amounts(part)
    limits = {} if budget is None else budget.limits
    for name, amount in amounts.items():
        if name not in limits:
            if is_called:
                continue
            part.problem(name, f"the route's budget has no {name}", f"add it at the top: budget: {{{name}: ...}}")
        elif amount > limits[name]:
            part.problem(
                name,
                f"{as_number(amount)} {name} are more than the whole budget of {as_number(limits[name])}",
                "reserve less",
            )
    return amounts


def _amounts(part: Part) -> dict[str, float]:
    names = [name for name in ("tokens", "usd", "hops") if name in part.keys and name in part.value]
    return {name: float(part.number(name)) for name in names}

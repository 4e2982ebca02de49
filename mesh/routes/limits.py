"""Limits and priority in a route: `limits` and `priority` at the top, `limit` on an agent's step.

`compiler` and `tasks` call these.
"""

from collections.abc import Mapping
from typing import Final

from mesh.core.json_values import kind_of
from mesh.core.limits import AGENT, Limit
from mesh.core.route import StepLimit
from mesh.routes.expressions.compiler import CompiledTemplate
from mesh.routes.keys import LIMIT, MOST, RATE, ROUTE
from mesh.routes.problems import Part, is_name, near, shown
from mesh.routes.step_keys import STEP_LIMIT
from mesh.routes.values import LONGEST_S, NAME_HINT, seconds_of

_EXAMPLE: Final = ROUTE.keys["limits"].example
_STEP_HINT: Final = "limit: NAME, or limit: {name: NAME, key: ${{ event.data.tenant }}}"


def limits(root: Part) -> dict[str, Limit]:
    """The limits by name."""
    if "limits" not in root.value:
        return {}
    part = root.part("limits", _EXAMPLE)
    if part is None:
        return {}
    if not part.value:
        root.problem("limits", "limits is empty", _EXAMPLE)
    found: dict[str, Limit] = {}
    for name in part.value:
        if name == AGENT:
            part.problem(
                name, f"a limit can't be named {AGENT}", "agents' own limits are kept under that name; choose another"
            )
        elif not is_name(name):
            part.problem(name, f"a limit can't be named {shown(name)}", NAME_HINT)
        one = part.part(name, _EXAMPLE, LIMIT.keys)
        if one is not None:
            found[name] = _limit(part, name, one)
    return found


def _limit(parent: Part, name: str, part: Part) -> Limit:
    part.check_keys()
    if "concurrency" not in part.value and "rate" not in part.value:
        parent.problem(name, f"the limit {name} limits nothing", "write concurrency, rate, or both")
    concurrency = part.whole("concurrency") if "concurrency" in part.value else None
    rate, per_ms = _rate(part) if "rate" in part.value else (None, 0)
    return Limit(concurrency=concurrency, rate=rate, per_ms=per_ms)


def _rate(part: Part) -> tuple[int | None, int]:
    value = part.value["rate"]
    found = RATE.fullmatch(value) if isinstance(value, str) else None
    seconds = seconds_of(found[2]) if found else None
    if found is None or not seconds or seconds > LONGEST_S or int(found[1]) > MOST:
        part.problem("rate", f"rate can't be {shown(value)}", "write a number and a time, such as 100/1m or 5/1s")
        return None, 0
    # part of a millisecond would be a window of nothing
    return int(found[1]), max(1, int(seconds * 1000))


def priority_of(root: Part) -> CompiledTemplate | None:
    """A number, or a template on the event."""
    if "priority" not in root.value:
        return None
    value = root.value["priority"]
    # to Python true is a number
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        root.problem("priority", f"priority must be a number or a template, not {kind_of(value)}", "priority: 5")
        return None
    priority = root.template("priority")
    if isinstance(value, str) and priority is not None and priority.whole is None:
        root.problem(
            "priority", f"priority must be a number, and {shown(value)} is a text", "priority: ${{ event.data.n }}"
        )
    return priority


def step_limit(step: Part, known: Mapping[str, Limit]) -> StepLimit | None:
    if "limit" not in step.value:
        return None
    value = step.value["limit"]
    key: CompiledTemplate | None = None
    where, name = step, value
    if not isinstance(value, str):
        part = step.part("limit", _STEP_HINT, STEP_LIMIT.keys)
        if part is None:
            return None
        part.check_keys()
        if "name" not in part.value:
            part.missing("name", _STEP_HINT)
            return None
        where, name = part, part.value["name"]
        key = part.text_template("key", "such as ${{ event.data.tenant }}")
    if not isinstance(name, str) or name not in known:
        at = "limit" if where is step else "name"
        where.problem(
            at,
            f"the route has no limit {shown(name)}",
            near(str(name), known) if known else f"add it at the top: {_EXAMPLE}",
        )
        return None
    return StepLimit(name=name, limit=known[name], key=key)

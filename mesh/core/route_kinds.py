"""What a step may be besides a task or a question, and what may be done with it: waits, values, events, ends; for-each, loops, hand-overs, joins.

Each function reads one part of the document, notes what is wrong with it and gives the compiled piece; `route_compile` calls them and owns the whole.
"""

import re
from typing import Any, Final, Literal, NamedTuple, cast

from mesh.core.amounts import as_number
from mesh.core.cel_paths import kind_of
from mesh.core.expressions import CompiledTemplate, compile_expression, compile_template
from mesh.core.route import (
    AwaitedEvent,
    Budget,
    EmitWork,
    EndWork,
    ForEach,
    HandOver,
    OnLimit,
    OnTimeout,
    Repeat,
    ValueWork,
    WaitWork,
)
from mesh.core.route_problems import NAME_LENGTH, Part, shown

__all__ = [
    "EMPTY",
    "Join",
    "budget",
    "emit",
    "end",
    "for_each",
    "handover",
    "join_of",
    "names_in",
    "repeat",
    "reserve",
    "value",
    "wait",
]

JOIN_KEYS: Final = ("any", "count", "of", "first_of")
FOR_EACH_KEYS: Final = ("items", "concurrency", "tolerate")
REPEAT_KEYS: Final = ("from", "until", "limit", "on_limit")
WAIT_KEYS: Final = ("until", "event", "alias", "key", "if", "timeout", "on_timeout")
EMIT_KEYS: Final = ("type", "subject", "data")
END_KEYS: Final = ("status", "reason", "output")
HANDOVER_KEYS: Final = ("to", "hops")

BUDGET_KEYS: Final = ("tokens", "usd", "hops", "time", "on_exhausted", "role", "deadline")
RESERVE_KEYS: Final = ("tokens", "usd")

END_STATUSES: Final = ("completed", "failed", "rejected")
MAX_CONCURRENCY: Final = 10_000
MAX_ROUNDS: Final = 1_000
MAX_HOPS: Final = 100
MAX_AMOUNT: Final = 1e12
CONCURRENCY: Final = 100

NAME: Final = re.compile(r"[a-z][a-z0-9-]*")  # a route's or an agent's
NAME_HINT: Final = "a-z first, then a-z, 0-9 and -"

EMPTY: Final = compile_template(None)
_PERCENT: Final = re.compile(r"(100|[0-9]{1,2})%")
_JOIN_HINT: Final = "{any: [a, b]}, {count: 2, of: [a, b, c]} or {first_of: [a, b]}"
_WAIT_HINT: Final = "wait: 2d, wait: {until: ...} or wait: {event: TYPE}"
_NEVER: Final = "never"
_EVENT_ONLY: Final = ("alias", "key", "if", "timeout", "on_timeout")


class Join(NamedTuple):
    """`enough`: how many of the needs; None: all."""

    enough: int | None = None
    first_of: bool = False


def join_of(part: Part) -> tuple[Any, tuple[str | int, ...], Join]:
    """The list that `needs` names its steps in, the path to it from the step, and how many of them there must be."""
    found = part.value.get("needs", [])
    if not isinstance(found, dict):
        return found, ("needs",), Join()
    join = Part(found, (*part.path, "needs"), part.book)
    join.check_keys(JOIN_KEYS)
    kinds = [key for key in ("any", "of", "first_of") if key in found]
    if len(kinds) != 1:
        part.problem("needs", "needs must say one of any, count and of, first_of", _JOIN_HINT)
        return [], ("needs",), Join()
    kind = kinds[0]
    if kind != "of" and "count" in found:
        join.problem("count", f"count goes with of, not with {kind}", _JOIN_HINT)
    named = found[kind]
    if not isinstance(named, list) or not named:
        join.problem(kind, f"{kind} must be a list of steps that is not empty", _JOIN_HINT)
        return [], ("needs", kind), Join()
    count = _whole(join, "count", len(named), 1, len(named)) if kind == "of" else 1
    if kind == "of" and "count" not in found:
        join.missing("count", "how many of them: count: 2")
    return named, ("needs", kind), Join(enough=count, first_of=kind == "first_of")


def _whole(part: Part, key: str, default: int, low: int, high: int) -> int:
    """A whole number in [low, high]."""
    value = part.value.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    part.problem(key, f"{key} can't be {shown(value)}", f"write a whole number from {low} to {high}")
    return default


def names_in(part: Part, key: str, hint: str) -> list[str]:
    """A name or a list of them."""
    value = part.value.get(key, [])
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(name, str) and name for name in names):
        return names
    part.problem(key, f"{key} must be a name or a list of names", hint)
    return []


def for_each(step: Part) -> ForEach | None:
    if "for_each" not in step.value:
        return None
    found = step.value["for_each"]
    if not isinstance(found, dict):
        return ForEach(items=_list(step, "for_each"), concurrency=CONCURRENCY)
    part = Part(found, (*step.path, "for_each"), step.book)
    part.check_keys(FOR_EACH_KEYS)
    if "items" not in part.value:
        part.missing("items", "the list, such as items: ${{ event.data.files }}")
    count, share = _tolerance(part)
    return ForEach(
        items=_list(part, "items") if "items" in part.value else EMPTY,
        concurrency=_whole(part, "concurrency", CONCURRENCY, 1, MAX_CONCURRENCY),
        tolerate=count,
        tolerate_share=share,
    )


def _list(part: Part, key: str) -> CompiledTemplate:
    found = part.value[key]
    if not isinstance(found, str | list):
        part.problem(key, f"{key} needs a list, not {kind_of(found)}", "such as ${{ event.data.files }}")
    return part.template(key) or EMPTY


def _tolerance(part: Part) -> tuple[int, float]:
    value = part.value.get("tolerate", 0)
    if value == "all":
        return 0, 1.0
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value, 0.0
    percent = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if percent:
        return 0, int(percent[1]) / 100
    part.problem(
        "tolerate", f"tolerate can't be {shown(value)}", 'write a number of items, a part such as "10%", or all'
    )
    return 0, 0.0


def repeat(step: Part) -> Repeat | None:
    """With its body still empty: who needs whom says what is in it."""
    if "repeat" not in step.value:
        return None
    hint = "repeat: {from: STEP, until: EXPRESSION, limit: 5}"
    part = step.part("repeat", hint)
    if part is None:
        return None
    part.check_keys(REPEAT_KEYS)
    for key, why in (("until", "when the loop is done"), ("limit", "how many rounds at the most")):
        if key not in part.value:
            part.missing(key, why)
    start = part.text("from", "the step that the loop goes back to") if "from" in part.value else str(step.path[-1])
    return Repeat(
        start=start or "",
        until=part.expression("until") or compile_expression("true"),
        limit=_whole(part, "limit", 1, 1, MAX_ROUNDS),
        on_limit=cast("OnLimit", part.choice("on_limit", ("incident", "fail", "continue"))),
    )


def wait(step: Part) -> WaitWork | None:
    if isinstance(step.value["wait"], str):
        return WaitWork(seconds=step.duration("wait", 0.0))
    part = step.part("wait", _WAIT_HINT)
    if part is None:
        return None
    part.check_keys(WAIT_KEYS)
    if ("until" in part.value) == ("event" in part.value):
        step.problem("wait", "a wait must say until or event, one of them", _WAIT_HINT)
        return None
    if "until" in part.value:
        for key in _EVENT_ONLY:
            if key in part.value:
                part.problem(key, f"{key} goes with event, not with until", "take it out")
        part.text("until", "a time, such as ${{ event.data.due }}")
        return WaitWork(until=part.template("until") or EMPTY)
    awaited = AwaitedEvent(
        type=part.text("event", "the CloudEvents type that is awaited") or "",
        key=_key(part),
        condition=part.expression("if"),
        alias=(part.text("alias", "the step that gives the alias") or "") if "alias" in part.value else "",
    )
    return WaitWork(
        event=awaited,
        timeout_s=None if part.value.get("timeout", _NEVER) == _NEVER else part.duration("timeout", 1.0),
        on_timeout=cast("OnTimeout", part.choice("on_timeout", ("incident", "fail", "skip"))),
    )


def _key(part: Part) -> CompiledTemplate | None:
    if "key" not in part.value or part.text("key", "such as ${{ event.data.order }}") is None:
        return None
    return part.template("key")


def value(step: Part) -> ValueWork:
    return ValueWork(value=step.template("value") or EMPTY)


def emit(step: Part) -> EmitWork | None:
    part = step.part("emit", "emit: {type: com.example.done, data: ...}")
    if part is None:
        return None
    part.check_keys(EMIT_KEYS)
    if "type" not in part.value:
        part.missing("type", "the CloudEvents type that goes out")
    for key in ("type", "subject"):
        if key in part.value:
            part.text(key, "a CloudEvents attribute")
    return EmitWork(event=step.template("emit") or EMPTY)


def end(step: Part) -> EndWork | None:
    if isinstance(step.value["end"], str):
        return EndWork(status=_status(step, "end"), reason=_NO_REASON)
    part = step.part("end", "end: {status: completed, output: ...}")
    if part is None:
        return None
    part.check_keys(END_KEYS)
    if "status" not in part.value:
        part.missing("status", "completed, failed or rejected")
    status = _status(part, "status")
    if status != "completed" and "output" in part.value:
        part.problem("output", f"a workflow that ends as {status} has no output", "say it in reason")
    reason = part.template("reason") if "reason" in part.value and part.text("reason", "why it ends here") else None
    return EndWork(status=status, reason=reason or _NO_REASON, output=part.template("output"))


_NO_REASON: Final = compile_template("")


def _status(part: Part, key: str) -> Literal["completed", "failed", "rejected"]:
    return cast('Literal["completed", "failed", "rejected"]', part.choice(key, END_STATUSES))


def handover(step: Part) -> HandOver | None:
    if "handover" not in step.value:
        return None
    part = step.part("handover", "handover: {to: [AGENT, AGENT], hops: 3}")
    if part is None:
        return None
    part.check_keys(HANDOVER_KEYS)
    agents = names_in(part, "to", "the agents that may get the task: to: [billing, tech]")
    for agent in agents:
        if not NAME.fullmatch(agent) or len(agent) > NAME_LENGTH:
            part.problem("to", f"an agent can't be named {shown(agent)}", f"{NAME_HINT}; {NAME_LENGTH} at the most")
    return HandOver(
        to=frozenset(agents),
        hops=_whole(part, "hops", HandOver(to=frozenset()).hops, 1, MAX_HOPS),
    )


def budget(root: Part) -> Budget | None:
    if "budget" not in root.value:
        return None
    part = root.part("budget", "budget: {tokens: 50000, usd: 1.5, time: 2h}")
    if part is None:
        return None
    part.check_keys(BUDGET_KEYS)
    asks = part.choice("on_exhausted", ("fail", "ask")) == "ask"
    if asks and "role" not in part.value:
        part.missing("role", "who may grant more, such as role: lead")
    for key in ("role", "deadline"):
        if key in part.value and not asks:
            part.problem(key, f"{key} goes with on_exhausted: ask", "write on_exhausted: ask, or take it out")
    limits = _amounts(part, ("tokens", "usd", "hops"))
    if not limits and "time" not in part.value:
        root.problem("budget", "the budget limits nothing", "write tokens, usd, hops or time")
    return Budget(
        limits=limits,
        time_s=part.duration("time", 1.0) if "time" in part.value else None,
        on_exhausted="ask" if asks else "fail",
        role=(part.text("role", "who may grant more") or "") if "role" in part.value else "",
        deadline_s=part.duration("deadline", 1.0) if "deadline" in part.value else None,
    )


def reserve(step: Part, budget: Budget | None, *, is_called: bool) -> dict[str, float]:
    """What each attempt of the step may take of the route's budget. Where no event starts the route (`is_called`), its callers may let it spend what its own budget does not speak of."""
    if "reserve" not in step.value:
        return {}
    part = step.part("reserve", "reserve: {tokens: 2000, usd: 0.02}")
    if part is None:
        return {}
    part.check_keys(RESERVE_KEYS)
    amounts = _amounts(part, RESERVE_KEYS)
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


def _amounts(part: Part, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(part.number(name, 0, 0, MAX_AMOUNT)) for name in names if name in part.value}

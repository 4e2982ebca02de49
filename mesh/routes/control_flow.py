"""Control flow: waits, values, events and ends, and for-each, loops and joins of any step.

Each function reads one part of the document, notes what is wrong with it, and returns the compiled
piece. `compiler` calls them and owns the whole.
"""

from typing import Any, Final, Literal, NamedTuple, cast

from mesh.core.json_values import kind_of
from mesh.core.route import (
    AwaitedEvent,
    EmitWork,
    EndWork,
    ForEach,
    OnLimit,
    OnTimeout,
    Repeat,
    ValueWork,
    WaitWork,
)
from mesh.routes.expressions.compiler import CompiledTemplate, compile_expression, compile_template
from mesh.routes.problems import Part, is_whole, shown
from mesh.routes.step_keys import EVENT_ONLY, FOR_EACH, JOIN, PERCENT

EMPTY: Final = compile_template(None)
_JOIN_HINT: Final = "{any: [a, b]}, {count: 2, of: [a, b, c]} or {first_of: [a, b]}"


class Join(NamedTuple):
    """The steps that a step needs. `enough`: how many of them; None: all."""

    enough: int | None = None
    first_of: bool = False


def join_of(part: Part) -> tuple[Any, tuple[str | int, ...], Join]:
    """The list in `needs`, its path from the step, and how many of the steps must succeed."""
    found = part.value.get("needs", [])
    if not isinstance(found, dict):
        return found, ("needs",), Join()
    join = Part(found, (*part.path, "needs"), part.book, JOIN.keys)
    join.check_keys()
    kinds = [key for key in ("any", "of", "first_of") if key in found]
    if len(kinds) != 1:
        part.problem("needs", "needs must say one of any, count and of, first_of", _JOIN_HINT)
        return [], ("needs",), Join()
    kind = kinds[0]
    if kind != "of" and "count" in found:
        join.problem("count", f"count goes with of, not with {kind}", _JOIN_HINT)
    named = found[kind]
    if not isinstance(named, list) or not named:
        join.problem(kind, f"{kind} must be a list of at least one step", _JOIN_HINT)
        return [], ("needs", kind), Join()
    count = 1
    if kind == "of" and "count" not in found:
        join.missing("count", "how many of them: count: 2")
    elif kind == "of":
        count = join.whole("count", high=len(named))
    return named, ("needs", kind), Join(enough=count, first_of=kind == "first_of")


def for_each(step: Part) -> ForEach | None:
    if "for_each" not in step.value:
        return None
    found = step.value["for_each"]
    if not isinstance(found, dict):
        return ForEach(items=_list(step, "for_each"))
    part = Part(found, (*step.path, "for_each"), step.book, FOR_EACH.keys)
    part.check_keys()
    part.check_required()
    count, share = _tolerance(part)
    return ForEach(
        items=_list(part, "items") if "items" in part.value else EMPTY,
        concurrency=part.whole("concurrency"),
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
    if is_whole(value) and value >= 0:
        return value, 0.0
    percent = PERCENT.fullmatch(value) if isinstance(value, str) else None
    if percent:
        return 0, int(percent[1]) / 100
    part.problem(
        "tolerate", f"tolerate can't be {shown(value)}", 'write a number of items, a part such as "10%", or all'
    )
    return 0, 0.0


def repeat(step: Part) -> Repeat | None:
    """The loop, with its body still empty: the graph says what is in it."""
    part = step.mapping("repeat")
    if part is None:
        return None
    part.check_required()
    start = part.text("from", "the step that the loop goes back to") if "from" in part.value else str(step.path[-1])
    return Repeat(
        start=start or "",
        until=part.expression("until") or compile_expression("true"),
        limit=part.whole("limit"),
        on_limit=cast("OnLimit", part.choice("on_limit")),
    )


def wait(step: Part, *, keyed: bool) -> WaitWork | None:
    """The wait of a step.

    `keyed`: the route has a key, by which an event finds the workflow that waits.
    """
    if isinstance(step.value["wait"], str):
        return WaitWork(seconds=step.duration("wait"))
    part = step.mapping("wait")
    if part is None:
        return None
    if ("until" in part.value) == ("event" in part.value):
        step.problem("wait", "a wait must say until or event, one of them", step.keys["wait"].example)
        return None
    if "until" in part.value:
        for key in EVENT_ONLY:
            if key in part.value:
                part.problem(key, f"{key} goes with event, not with until", "remove it")
        part.text("until", "a time, such as ${{ event.data.due }}")
        return WaitWork(until=part.template("until") or EMPTY)
    awaited = AwaitedEvent(
        type=part.text("event", "the CloudEvents type that is awaited") or "",
        key=part.text_template("key", "such as ${{ event.data.order }}"),
        condition=part.expression("if"),
        alias=(part.text("alias", "the step that gives the alias") or "") if "alias" in part.value else "",
    )
    work = WaitWork(
        event=awaited,
        timeout_s=part.duration_or_never("timeout"),
        on_timeout=cast("OnTimeout", part.choice("on_timeout")),
    )
    if awaited.alias and awaited.key is None:
        step.problem(
            "wait",
            f"nothing says which {awaited.alias} an event is about",
            "write key: beside alias, such as ${{ event.data.payment_id }}",
        )
    elif awaited.key is None and not keyed:
        step.problem(
            "wait",
            "nothing says which workflow an event is for",
            "write key: beside event, or a key for the route, such as ${{ event.subject }}",
        )
    return work


def value(step: Part) -> ValueWork:
    return ValueWork(value=step.template("value") or EMPTY)


def emit(step: Part) -> EmitWork | None:
    part = step.mapping("emit")
    if part is None:
        return None
    part.check_required()
    for key in ("type", "subject"):
        if key in part.value:
            part.text(key, "a CloudEvents attribute")
    return EmitWork(event=step.template("emit") or EMPTY)


def end(step: Part) -> EndWork | None:
    if isinstance(step.value["end"], str):
        return EndWork(status=_status(step, "end"), reason=_NO_REASON)
    part = step.mapping("end")
    if part is None:
        return None
    part.check_required()
    status = _status(part, "status")
    if status != "completed" and "output" in part.value:
        part.problem("output", f"a workflow that ends as {status} has no output", "say it in reason")
    reason = part.text_template("reason", "why it ends here") or _NO_REASON
    return EndWork(status=status, reason=reason, output=part.template("output"))


_NO_REASON: Final = compile_template("")


def _status(part: Part, key: str) -> Literal["completed", "failed", "rejected"]:
    return cast('Literal["completed", "failed", "rejected"]', part.choice(key))

"""A picture of a route, or of one workflow on it, as a Mermaid flowchart.

Owns the drawing. Tasks are boxes (stacked for a for-each), questions to people hexagons, calls
boxes with double sides, waits half round, values slanted, events flags, and ends round. Loops go
back with their bound, and an undo is dashed. In the picture of a workflow, each step has the colour
of its status, its duration, its round and the counts of its items, and the way that was taken is
drawn thick. Everything from outside is escaped. This module reads nothing: `mesh routes graph`
brings the route, the state and the decisions.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, assert_never

import msgspec
import orjson

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.amounts import as_number
from mesh.core.route import (
    AgentWork,
    ApprovalWork,
    CallWork,
    EmitWork,
    EndWork,
    Route,
    Step,
    StepLimit,
    ValueWork,
    WaitWork,
    asks,
)
from mesh.core.state import FINISHED, Fan, StepState, Workflow

_HOLE: Final = re.compile(r"\$\{\{\s*((?:(?!\}\}).)*?)\s*\}\}", re.DOTALL)
_LABEL: Final = 60  # characters of a condition in a box
START: Final = "start_"
END: Final = "end_"
_BUDGET: Final = "budget_"
_GONE: Final = frozenset(
    {
        "succeeded",
        "rejected",
        "skipped",
        "running",
        "retrying",
        "asking",
        "calling",
        "waiting",
        "iterating",
        "again",
        "claiming",
        "held",
        "queued",
        "suspended",
        "incident",
        "failed",
    }
)
_COLOURS: Final = {
    "succeeded": "fill:#d3f2dc,stroke:#1a7f37,color:#0b3d1a",
    "skipped": "fill:#f3f4f6,stroke:#8c959f,color:#57606a,stroke-dasharray:4 3",
    "running": "fill:#d6ecff,stroke:#0969da,color:#0a3069",
    "retrying": "fill:#fff1c9,stroke:#bf8700,color:#5c4100",
    "asking": "fill:#fff1c9,stroke:#bf8700,color:#5c4100",
    "calling": "fill:#d6ecff,stroke:#0969da,color:#0a3069",
    "incident": "fill:#ffd7d5,stroke:#cf222e,color:#6e0f17",
    "rejected": "fill:#ffe3cc,stroke:#bc4c00,color:#5e2600",
    "failed": "fill:#ffd7d5,stroke:#cf222e,color:#6e0f17",
    "blocked": "fill:#f3f4f6,stroke:#8c959f,color:#57606a",
    "cancelled": "fill:#f3f4f6,stroke:#8c959f,color:#57606a",
    "waiting": "fill:#fff1c9,stroke:#bf8700,color:#5c4100",
    "iterating": "fill:#d6ecff,stroke:#0969da,color:#0a3069",
    "again": "fill:#eddeff,stroke:#8250df,color:#3e1f79",
    "held": "fill:#ffe3cc,stroke:#bc4c00,color:#5e2600",
    "queued": "fill:#fff1c9,stroke:#bf8700,color:#5c4100",
    "suspended": "fill:#fff1c9,stroke:#bf8700,color:#5c4100",
    "claiming": "fill:#d6ecff,stroke:#0969da,color:#0a3069",
    "to_come": "fill:#ffffff,stroke:#d0d7de,color:#8c959f",
}


class StepTime(msgspec.Struct, frozen=True, kw_only=True):
    """When a step of the last run began and ended.

    `attempts`: how often its task was dispatched.
    """

    began_at_ms: int
    ended_at_ms: int | None = None
    attempts: int = 0


def step_times(decisions: Iterable[ev.Decision]) -> dict[str, StepTime]:
    """When each step began and ended, in the last run among these decisions."""
    found: dict[str, StepTime] = {}
    for decision in decisions:
        for event in decision.events:
            match event:
                case ev.WorkflowStarted():
                    found = {}
                case ev.TaskHeld(step=step) | ev.SlotRequested(step=step):
                    found.setdefault(step, StepTime(began_at_ms=decision.at_ms))
                case ev.TaskDispatched(step=step):
                    known = found.get(step, StepTime(began_at_ms=decision.at_ms))
                    found[step] = msgspec.structs.replace(known, attempts=known.attempts + 1, ended_at_ms=None)
                case ev.ApprovalRequested(step=step) | ev.StepSkipped(step=step) | ev.StepBlocked(step=step):
                    ended = None if isinstance(event, ev.ApprovalRequested) else decision.at_ms
                    found[step] = StepTime(began_at_ms=decision.at_ms, ended_at_ms=ended)
                case ev.CallMade(step=step):
                    known = found.get(step, StepTime(began_at_ms=decision.at_ms))
                    found[step] = msgspec.structs.replace(known, attempts=known.attempts + 1, ended_at_ms=None)
                case ev.ForEachStarted(step=step) | ev.WaitStarted(step=step):
                    found[step] = StepTime(began_at_ms=decision.at_ms)
                case (
                    ev.TaskSucceeded(step=step)
                    | ev.CallSucceeded(step=step)
                    | ev.StepCompleted(step=step)
                    | ev.ApprovalClosed(step=step)
                    | ev.ForEachEnded(step=step)
                    | ev.WaitEnded(step=step)
                    | ev.EventReceived(step=step)
                    | ev.StepCancelled(step=step)
                    | ev.StepGivenUp(step=step)
                    | ev.ApprovalWithdrawn(step=step)
                    | ev.CallWithdrawn(step=step)
                    | ev.IncidentRaised(step=step)
                ) if step in found:
                    found[step] = msgspec.structs.replace(found[step], ended_at_ms=decision.at_ms)
                case _:
                    pass
    return found


def of_route(route: Route) -> str:
    """The flowchart of a route as it is written."""
    return "\n".join(_lines(route, {name: about_step(step) for name, step in route.steps.items()})) + "\n"


def of_workflow(route: Route, workflow: Workflow, times: dict[str, StepTime], *, now_ms: int) -> str:
    """The flowchart of a workflow: its statuses as colours, its durations, and its way."""
    steps = workflow.steps
    labels = {
        name: [*about_step(step), *said_of_state(name, workflow, times.get(name), now_ms)]
        for name, step in route.steps.items()
    }
    lines = list(_lines(route, labels, workflow))
    statuses = {node_of(name): status_of(name, workflow) for name in route.steps}
    statuses |= {undo_of(place): steps[place].status for place in map(ids.undo_place, route.steps) if place in steps}
    if (asked := _asked(workflow)) is not None and _asks(route):
        statuses[_BUDGET] = asked.status
    for status in sorted(set(statuses.values())):
        names = ",".join(node for node, found in statuses.items() if found == status)
        lines += [f"    classDef {status} {_COLOURS[status]}", f"    class {names} {status}"]
    gone = [str(number) for number, edge in enumerate(edges_of(route)) if is_gone(edge, workflow)]
    if gone:
        lines.append(f"    linkStyle {','.join(gone)} stroke:#1a7f37,stroke-width:3px")
    return "\n".join(lines) + "\n"


def _lines(route: Route, labels: dict[str, list[str]], workflow: Workflow | None = None) -> Iterator[str]:
    yield "flowchart TD"
    yield f"    {START}([{_quoted(_start(route))}])"
    for name, step in route.steps.items():
        yield f"    {node_of(name)}{_box(step, _quoted([name, *labels[name]]))}"
        if step.undo is not None:
            undone = [f"undo {name}", _doer(step.undo), *_undone(name, workflow)]
            yield f"    {undo_of(name)}[{_quoted(undone)}]"
    if (budget := route.budget) is not None and _asks(route):
        until = f", {_seconds(budget.deadline_s)}, then no" if budget.deadline_s is not None else ""
        asked = _asked(workflow) if workflow is not None else None
        yield f"    {_BUDGET}{{{{{_quoted(['more budget?', f'asks {budget.role}{until}', *([asked.status] if asked else [])])}}}}}"
    yield f"    {END}([{_quoted([workflow.status if workflow else 'end'])}])"
    for edge in edges_of(route):
        label = f"|{_quoted([edge.label])}|" if edge.label else ""
        yield f"    {edge.before} {edge.line}{label} {edge.after}"
    for name, step in route.steps.items():
        if step.undo is not None:
            yield f"    style {undo_of(name)} stroke-dasharray:4 3"


def node_of(name: str) -> str:
    """A node's id.

    The prefix is needed because a step may be called `end`, which is a word of Mermaid's own.
    """
    return f"s_{name}"


def undo_of(place: str) -> str:
    return f"u_{ids.step_of(place)}"


def _box(step: Step, label: str) -> str:
    match step.work:
        case ApprovalWork():
            return f"{{{{{label}}}}}"
        case CallWork():
            return f"[[{label}]]" if step.for_each is None else f"@{{ shape: procs, label: {label} }}"
        case WaitWork():
            return f"@{{ shape: delay, label: {label} }}"
        case ValueWork():
            return f"[/{label}/]"
        case EmitWork():
            return f">{label}]"
        case EndWork():
            return f"([{label}])"
        case AgentWork():
            return f"[{label}]" if step.for_each is None else f"@{{ shape: procs, label: {label} }}"
        case _:
            assert_never(step.work)


def _start(route: Route) -> list[str]:
    if route.on is None:
        return ["called", *_budget(route)]
    if route.on.schedule is not None:
        return [route.on.schedule.cron, route.on.schedule.timezone, *_budget(route)]
    guard = route.on.condition
    return [route.on.type, *([f"if {_clipped(guard.source)}"] if guard else []), *_budget(route)]


def _budget(route: Route) -> list[str]:
    if route.budget is None:
        return []
    amounts = [f"{as_number(limit)} {name}" for name, limit in route.budget.limits.items()]
    amounts += [_seconds(route.budget.time_s)] if route.budget.time_s is not None else []
    return [f"budget {', '.join(amounts)}, then {route.budget.on_exhausted}"]


def about_step(step: Step) -> list[str]:
    lines = [_what(step)]
    if step.for_each is not None:
        lines.append(f"for each of {_clipped(_expression(step.for_each.items.source))}")
    if isinstance(step.work, AgentWork) and step.work.handover is not None:
        lines.append(f"may hand over to {', '.join(sorted(step.work.handover.to))}, {step.work.handover.hops} times")
    if isinstance(step.work, AgentWork) and step.work.approve is not None:
        lines.append(f"may ask {_asked_of(step.work.approve.asks)}")
    if isinstance(step.work, AgentWork) and step.work.limit is not None:
        lines.append(_limit(step.work.limit))
    if step.alias is not None:
        lines.append(f"alias {_clipped(_expression(step.alias.source))}")
    return [*lines, *([f"if {_clipped(step.condition.source)}"] if step.condition else [])]


def _limit(limit: StepLimit) -> str:
    by = f" by {_clipped(_expression(limit.key.source))}" if limit.key is not None else ""
    numbers = [f"{limit.limit.concurrency} at once"] if limit.limit.concurrency is not None else []
    if limit.limit.rate is not None:
        numbers.append(f"{limit.limit.rate} in {_seconds(limit.limit.per_ms / 1_000)}")
    return f"limit {limit.name}{by}: {', '.join(numbers)}"


def _what(step: Step) -> str:
    match step.work:
        case AgentWork() as work:
            return _doer(work)
        case CallWork(route=called):
            return f"workflow {called}"
        case ApprovalWork() as work:
            return f"asks {_asked_of(work)}"
        case WaitWork() as work:
            return _awaited(work)
        case ValueWork(value=value):
            return _clipped(_expression(value.source))
        case EmitWork(event=event):
            return f"emits {_clipped(_expression(event.source['type']))}"
        case EndWork(status=status, reason=reason):
            return f"ends as {status}: {_clipped(_expression(reason.source))}" if reason.source else f"ends as {status}"
        case _:
            assert_never(step.work)


def _asked_of(work: ApprovalWork) -> str:
    lasts = _lasts(work)
    return asks(work) + (f", {lasts}, then {work.on_expiry}" if lasts else "")


def _lasts(work: ApprovalWork) -> str:
    """How long a question is open; empty where the route gives no such time."""
    if work.deadline_working is not None:
        return str(work.deadline_working)
    return "" if work.deadline_s is None else _seconds(work.deadline_s)


def _doer(work: AgentWork) -> str:
    return f"agent {work.agent}" if work.agent else f"capability {work.capability}"


def _awaited(work: WaitWork) -> str:
    if work.event is not None:
        until = f", {_seconds(work.timeout_s)}, then {work.on_timeout}" if work.timeout_s is not None else ""
        taken = f" if {_clipped(work.event.condition.source)}" if work.event.condition is not None else ""
        alias = f" by alias {work.event.alias}" if work.event.alias else ""
        return f"waits for {work.event.type}{alias}{taken}{until}"
    return (
        f"waits {_seconds(work.seconds or 0)}"
        if work.until is None
        else f"waits until {_clipped(_expression(work.until.source))}"
    )


def _expression(source: Any) -> str:
    """A template as people read it.

    One that is a single expression is shown as that; expressions within text as `{expression}`.
    """
    text = source if isinstance(source, str) else orjson.dumps(source).decode()
    found = _HOLE.fullmatch(text)
    return found[1] if found else _HOLE.sub(r"{\1}", text)


class Edge(NamedTuple):
    before: str
    after: str
    label: str = ""
    line: str = "-->"
    steps: tuple[str, str] = ("", "")  # the names of the steps at its ends; empty: the start or the end


def edges_of(route: Route) -> list[Edge]:
    """All edges of the picture.

    Their order matters, because `linkStyle` refers to an edge by its number.
    """
    steps = route.steps
    edges = [Edge(START, node_of(name), steps=("", name)) for name, step in steps.items() if not step.needs]
    edges += [_needed(need, step) for step in steps.values() for need in step.needs]
    edges += [Edge(node_of(name), END, steps=(name, "")) for name in steps if not route.dependents[name]]
    for name, step in steps.items():
        if step.repeat is not None:
            label = f"{step.repeat.limit} rounds, until {_clipped(step.repeat.until.source)}"
            edges.append(Edge(node_of(name), node_of(step.repeat.start), label, "-.->", (name, step.repeat.start)))
        if isinstance(step.work, EndWork) and route.dependents[name]:
            edges.append(Edge(node_of(name), END, "ends it", steps=(name, "")))
        if step.undo is not None:
            edges.append(Edge(node_of(name), undo_of(name), line="-.-"))
    if _asks(route):
        edges.append(Edge(START, _BUDGET, "exhausted", "-.->"))
    return edges


def _needed(need: str, step: Step) -> Edge:
    label = ""
    if step.enough is not None:
        total = len(step.needs)
        label = "first of" if step.first_of else "any" if step.enough == 1 else f"{step.enough} of {total}"
    return Edge(node_of(need), node_of(step.name), label, steps=(need, step.name))


def _asks(route: Route) -> bool:
    return route.budget is not None and route.budget.on_exhausted == "ask"


def _asked(workflow: Workflow) -> StepState | None:
    """The last step state of a question for more budget; None if nobody was asked."""
    asked = [state for place, state in workflow.steps.items() if ids.is_budget(place)]
    return max(asked, key=lambda state: state.since_ms, default=None)


def _undone(name: str, workflow: Workflow | None) -> list[str]:
    state = workflow.steps.get(ids.undo_place(name)) if workflow is not None else None
    return [] if state is None else [state.status]


def status_of(name: str, workflow: Workflow) -> str:
    """The status whose colour the step gets.

    A step that is not reached has a colour of its own. A for-each has the colour of an incident if
    one of its items is one.
    """
    state = workflow.steps.get(name)
    if state is None:
        return "to_come"
    return "incident" if state.status == "iterating" and "incident" in _items(name, workflow) else state.status


def _items(name: str, workflow: Workflow) -> Counter[str]:
    """How many items of a for-each have each status."""
    return Counter(
        state.status for place, state in workflow.steps.items() if ids.is_item(place) and ids.step_of(place) == name
    )


def is_gone(edge: Edge, workflow: Workflow) -> bool:
    """Whether the workflow went along this edge: both of its ends were reached."""
    before, after = edge.steps
    if not before and not after:
        return False
    states = workflow.steps
    began = not before or (before in states and states[before].status in FINISHED & _GONE)
    if edge.line != "-->":
        return after in states and states[after].round > 1
    if not after:
        ended = workflow.status not in {"running", "cancelled"}
        return began and ended and (not edge.label or states[before].status == "succeeded")
    return began and after in states and states[after].status in _GONE


def said_of_state(name: str, workflow: Workflow, time: StepTime | None, now_ms: int) -> list[str]:
    step = workflow.steps.get(name)
    if step is None:
        return ["not yet"]
    said: str = step.status
    if time is not None and step.status not in {"skipped", "blocked"}:
        ended = time.ended_at_ms if step.status in FINISHED or step.status == "incident" else None
        said += f", {_duration((ended or now_ms) - time.began_at_ms)}"
        said += f", {time.attempts} attempts" if time.attempts > 1 else ""
    lines = [said]
    if step.fan is not None:
        lines.append(_fanned(name, workflow, step.fan))
    if step.round > 1:
        lines.append(f"round {step.round}")
    if step.hop > 1:
        lines.append(f"handed over to {step.agent}")
    return lines


def _fanned(name: str, workflow: Workflow, fan: Fan) -> str:
    open_items = ", ".join(
        f"{number} {status}" for status, number in sorted(_items(name, workflow).items()) if status not in FINISHED
    )
    failed = f", {fan.failed} failed" if fan.failed else ""
    return f"{fan.settled} of {fan.total} items done{failed}" + (f", {open_items}" if open_items else "")


def _quoted(lines: Sequence[str]) -> str:
    return '"' + "<br/>".join(_escaped(line) for line in lines) + '"'


def _escaped(text: str) -> str:
    """The text in Mermaid's entity codes.

    Nothing from outside may end the label, or be markup in it.
    """
    return "".join(c if c.isalnum() or c in " .,:;_-+*/=()'!?%" else f"#{ord(c)};" for c in " ".join(text.split()))


def _clipped(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LABEL else flat[: _LABEL - 3] + "..."


def _duration(ms: int) -> str:
    return f"{ms} ms" if ms < 1_000 else _seconds(ms / 1_000)  # noqa: PLR2004 - a second


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"

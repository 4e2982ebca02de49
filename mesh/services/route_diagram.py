"""A picture of a route, or of one workflow on it, as a Mermaid flowchart.

Owns the drawing: agents are boxes, questions to people hexagons, start and end round. Of a workflow, each step has the colour of its status and how long it took, and the way that was
gone is drawn thick. Everything from outside is escaped. It reads nothing: `mesh routes graph` brings route, state and decisions.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from mesh.core.events import (
    ApprovalClosed,
    ApprovalRequested,
    Decision,
    IncidentRaised,
    StepBlocked,
    StepSkipped,
    TaskDispatched,
    TaskSucceeded,
    WorkflowStarted,
)
from mesh.core.route import AgentWork, ApprovalWork, CallWork, Route, Step
from mesh.core.state import FINISHED, StepState, Workflow

__all__ = ["StepTime", "of_route", "of_workflow", "step_times"]

_LABEL: Final = 60  # characters of a condition in a box
_START: Final = "start_"
_END: Final = "end_"
_GONE: Final = frozenset(
    {"succeeded", "rejected", "skipped", "running", "retrying", "asking", "calling", "incident", "failed"}
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
    "waiting": "fill:#ffffff,stroke:#d0d7de,color:#8c959f",
}


class StepTime(msgspec.Struct, frozen=True, kw_only=True):
    """When a step of the last run began and ended; `attempts`: how often its task was dispatched."""

    began_at_ms: int
    ended_at_ms: int | None = None
    attempts: int = 0


def step_times(decisions: Iterable[Decision]) -> dict[str, StepTime]:
    """Of the last run among them."""
    found: dict[str, StepTime] = {}
    for decision in decisions:
        for event in decision.events:
            match event:
                case WorkflowStarted():
                    found = {}
                case TaskDispatched(step=step):
                    known = found.get(step, StepTime(began_at_ms=decision.at_ms))
                    found[step] = msgspec.structs.replace(known, attempts=known.attempts + 1, ended_at_ms=None)
                case ApprovalRequested(step=step) | StepSkipped(step=step) | StepBlocked(step=step):
                    ended = None if isinstance(event, ApprovalRequested) else decision.at_ms
                    found[step] = StepTime(began_at_ms=decision.at_ms, ended_at_ms=ended)
                case TaskSucceeded(step=step) | ApprovalClosed(step=step) | IncidentRaised(step=step) if step in found:
                    found[step] = msgspec.structs.replace(found[step], ended_at_ms=decision.at_ms)
                case _:
                    pass
    return found


def of_route(route: Route) -> str:
    """The flowchart of a route as it is written."""
    return "\n".join(_lines(route, {name: _about(step) for name, step in route.steps.items()})) + "\n"


def of_workflow(route: Route, workflow: Workflow, times: dict[str, StepTime], *, now_ms: int) -> str:
    """The flowchart of a workflow: statuses as colours, durations, the way that was gone."""
    labels = {
        name: [*_about(step), _state(workflow.steps.get(name), times.get(name), now_ms)]
        for name, step in route.steps.items()
    }
    lines = list(_lines(route, labels, workflow))
    statuses = {name: _status(workflow.steps.get(name)) for name in route.steps}
    for status in sorted(set(statuses.values())):
        names = ",".join(_node(name) for name, found in statuses.items() if found == status)
        lines += [f"    classDef {status} {_COLOURS[status]}", f"    class {names} {status}"]
    gone = [str(number) for number, edge in enumerate(_edges(route)) if _is_gone(edge, workflow)]
    if gone:
        lines.append(f"    linkStyle {','.join(gone)} stroke:#1a7f37,stroke-width:3px")
    return "\n".join(lines) + "\n"


def _lines(route: Route, labels: dict[str, list[str]], workflow: Workflow | None = None) -> Iterator[str]:
    yield "flowchart TD"
    yield f"    {_START}([{_quoted(_start(route))}])"
    for name, step in route.steps.items():
        opening, closing = ("{{", "}}") if isinstance(step.work, ApprovalWork) else ("[", "]")
        yield f"    {_node(name)}{opening}{_quoted([name, *labels[name]])}{closing}"
    yield f"    {_END}([{_quoted([workflow.status if workflow else 'end'])}])"
    for before, after in _edges(route):
        yield f"    {_node(before)} --> {_node(after)}"


def _node(name: str) -> str:
    """A node's id: a step may be called `end`, which to Mermaid is a word of its own."""
    return name if name in (_START, _END) else f"s_{name}"


def _start(route: Route) -> list[str]:
    if route.on is None:
        return ["called"]
    if route.on.schedule is not None:
        return [route.on.schedule.cron, route.on.schedule.timezone]
    guard = route.on.condition
    return [route.on.type, *([f"if {_clipped(guard.source)}"] if guard else [])]


def _about(step: Step) -> list[str]:
    match step.work:
        case AgentWork(agent=agent, capability=capability):
            lines = [f"agent {agent}" if agent else f"capability {capability}"]
        case CallWork(route=called):
            lines = [f"workflow {called}"]
        case ApprovalWork(role=role, deadline_s=deadline_s, on_expiry=on_expiry):
            until = f", {_seconds(deadline_s)}, then {on_expiry}" if deadline_s is not None else ""
            lines = [f"asks {role}{until}"]
    return [*lines, *([f"if {_clipped(step.condition.source)}"] if step.condition else [])]


def _edges(route: Route) -> list[tuple[str, str]]:
    edges = [(_START, name) for name, step in route.steps.items() if not step.needs]
    edges += [(need, name) for name, step in route.steps.items() for need in step.needs]
    return edges + [(name, _END) for name in route.steps if not route.dependents[name]]


def _status(step: StepState | None) -> str:
    return "waiting" if step is None else step.status


def _is_gone(edge: tuple[str, str], workflow: Workflow) -> bool:
    """Whether both ends were reached: the way that the workflow took."""
    before, after = edge
    began = before == _START or (before in workflow.steps and workflow.steps[before].status in FINISHED & _GONE)
    if after == _END:
        return began and workflow.status not in {"running", "cancelled"}
    return began and after in workflow.steps and workflow.steps[after].status in _GONE


def _state(step: StepState | None, time: StepTime | None, now_ms: int) -> str:
    if step is None:
        return "not yet"
    said: str = step.status
    if time is not None and step.status not in {"skipped", "blocked"}:
        ended = time.ended_at_ms if step.status in FINISHED or step.status == "incident" else None
        said += f", {_duration((ended or now_ms) - time.began_at_ms)}"
        said += f", {time.attempts} attempts" if time.attempts > 1 else ""
    return said


def _quoted(lines: Sequence[str]) -> str:
    return '"' + "<br/>".join(_escaped(line) for line in lines) + '"'


def _escaped(text: str) -> str:
    """As Mermaid's entity codes: nothing from outside may end the label, or be markup in it."""
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

"""Explaining an event: which routes it starts and which not, what every part of their conditions came to, and what would happen first.

Owns the answers as values. It decides nothing by itself: `RouteIndex` matches and `decide` starts, on a workflow that nobody keeps. `mesh routes explain` shows it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, assert_never

import msgspec

from mesh.core import ids
from mesh.core.capabilities import stand_ins
from mesh.core.decide import decide
from mesh.core.events import (
    ApprovalRequested,
    CallMade,
    Event,
    IncidentRaised,
    StartRepeated,
    StepSkipped,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.expressions import compile_template
from mesh.core.inputs import EventMatched
from mesh.core.matching import Match, MatchProblem, RouteIndex
from mesh.core.route import Route
from mesh.core.state import Directory, Workflow
from mesh.core.subexpressions import Part, parts_of

__all__ = ["First", "RouteSaid", "explain_event"]


class First(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would happen at once. `what`: dispatch, ask, call, skip, incident, ended, nothing. `value`: the task's input, the approval's payload, the outcome's data."""

    what: str
    step: str = ""
    to: str = ""  # the agent, the role, or the route
    said: str = ""  # the question, or why
    value: Any = None
    condition: Part | None = None


class RouteSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What one route says to an event. `guard`, `key`: what their parts came to, where the route has them and they were asked."""

    route: str
    digest: str
    matched: bool
    reason: str
    workflow_id: str = ""
    guard: Part | None = None
    key: tuple[Part, ...] = ()
    first: tuple[First, ...] = ()


def explain_event(
    routes: Iterable[Route], event: dict[str, Any], *, workflows: Mapping[str, Workflow] | None = None, now_ms: int
) -> list[RouteSaid]:
    """Every route's answer, in the order of their names. `workflows`: those that are there already, by id; one of them may take the start for a repeat."""
    named = {route.name: route for route in routes}
    directory = Directory(routes={name: route.digest for name, route in named.items()})
    return [_said(named[name], event, workflows or {}, directory, now_ms) for name in sorted(named)]


def _said(
    route: Route, event: dict[str, Any], workflows: Mapping[str, Workflow], directory: Directory, now_ms: int
) -> RouteSaid:
    index = RouteIndex([route])
    [explanation] = index.explain(event)
    asked = route.on is not None and event.get("type") == route.on.type
    condition = route.on.condition if route.on is not None and asked else None
    said = RouteSaid(
        route=route.name,
        digest=route.digest,
        matched=explanation.matched,
        reason=explanation.reason,
        guard=parts_of(condition.source, {"event": event}) if condition else None,
        key=_key(route, event) if any(index.match(event)) else (),
    )
    for match in index.match(event):
        match match:
            case MatchProblem():
                return said
            case Match():
                first = _first(match, event, workflows.get(match.workflow_id), directory, now_ms)
                return msgspec.structs.replace(said, workflow_id=match.workflow_id, first=tuple(first))
            case _:
                assert_never(match)
    return said


def _key(route: Route, event: dict[str, Any]) -> tuple[Part, ...]:
    """What the key's template reads, expression by expression."""
    if route.key is None:
        return ()
    compiled = compile_template(route.key.source)
    sources = [compiled.whole.source] if compiled.whole else sorted(compiled.paths)
    return tuple(parts_of(source, {"event": event}) for source in sources)


def _first(
    match: Match, event: dict[str, Any], workflow: Workflow | None, directory: Directory, now_ms: int
) -> list[First]:
    given = EventMatched(
        workflow_id=match.workflow_id,
        route=match.route.name,
        digest=match.route.digest,
        key=match.key,
        cloud_event=event,
        source_topic="",
        source_partition=0,
        source_offset=0,
        source_at_ms=now_ms,
    )
    directory = msgspec.structs.replace(directory, registered=stand_ins(match.route))
    decided = decide(workflow, given, route=match.route, directory=directory, now_ms=now_ms)
    scope = _scope(event, decided.workflow)
    return [first for one in decided.events for first in _told(one, match.route, scope, decided.events)]


def _scope(event: dict[str, Any], workflow: Workflow | None) -> dict[str, Any]:
    steps = {name: step.output for name, step in workflow.steps.items()} if workflow else {}
    about = (
        {"id": workflow.workflow_id, "run_id": workflow.run_id, "route": workflow.route, "key": workflow.key}
        if workflow
        else {}
    )
    return {"event": event, "steps": steps, "workflow": about}


def _told(event: Event, route: Route, scope: dict[str, Any], events: Sequence[Event]) -> list[First]:
    def condition(step: str) -> Part | None:
        found = route.steps[ids.step_of(step)].condition
        return parts_of(found.source, scope) if found else None

    match event:
        case TaskDispatched(step=step):
            return [First(what="dispatch", step=step, to=event.agent, value=event.input, condition=condition(step))]
        case CallMade(step=step):
            return [First(what="call", step=step, to=event.route, value=event.input, condition=condition(step))]
        case ApprovalRequested(step=step):
            asked = First(what="ask", step=step, to=event.role, said=event.question, value=event.payload)
            return [msgspec.structs.replace(asked, condition=condition(step))]
        case StepSkipped(step=step):
            return [First(what="skip", step=step, said=event.reason, condition=condition(step))]
        case IncidentRaised(step=step):
            return [First(what="incident", step=step, said=event.message, condition=condition(step))]
        case WorkflowEnded():
            return [First(what="ended", said=f"{event.status}: {event.reason}", value=event.output)]
        case StartRepeated() if len(events) == 1:
            return [First(what="nothing", said=event.reason)]
        case _:
            return []

"""Judges what evaluations cost: what takes more than one may take has no value.

Owns this part of what `mesh.testing.promises.judge` checks, with a count of its own: the lengths of
the lists that macros go through, multiplied. It is a lower bound as long as no macro is decided
early, so give it routes whose macros are not.

* no step acts, or is skipped, on the value of an expression that takes too many steps
* no workflow starts by such a guard or under such a key
* nothing becomes an incident for its cost that goes through far fewer items
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.route import Route, Scope
from mesh.core.state import Workflow
from mesh.routes.expressions.compiler import expressions_in
from mesh.routes.expressions.meter import MAX_STEPS
from mesh.routes.expressions.paths import macros_of, segments_of
from mesh.routes.expressions.syntax import MACROS, Call, Node, parse

_ACTS: Final = (
    ev.TaskDispatched
    | ev.SlotRequested
    | ev.ApprovalRequested
    | ev.CallMade
    | ev.StepComputed
    | ev.EventEmitted
    | ev.ForEachStarted
)
_FEWEST: Final = MAX_STEPS // 50
"""Fewer items than this are never too many, whatever a route of the simulation does with each."""
_BARE: Final = frozenset({"if", "until"})
"""Keys whose value is an expression without `${{`."""


class _Costly(msgspec.Struct, frozen=True, kw_only=True):
    """The expressions of a route that have a macro inside a macro: of its trigger, and by step."""

    trigger: tuple[Node, ...]
    steps: dict[str, tuple[Node, ...]]


class Costs:
    """Ask it with each decision; `routes` by digest, as the log names them."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._costly = {digest: _costly_of(route) for digest, route in routes.items()}

    def take(self, before: Workflow | None, decision: ev.Decision) -> Iterator[str]:
        started = next((event for event in decision.events if isinstance(event, ev.WorkflowStarted)), None)
        found = started or before
        costly = self._costly.get(found.digest) if found is not None else None
        if costly is None or found is None:
            return
        scope: Scope = {"event": found.cloud_event}
        if started is not None and _most(costly.trigger, scope) > MAX_STEPS:
            yield f"{decision.workflow_id} starts, and its key or guard takes more than {MAX_STEPS:,} steps"
        for event in decision.events:
            yield from _judge(event, costly, scope, is_ordered=decision.cause.kind == "command")


def _judge(event: ev.Event, costly: _Costly, scope: Scope, *, is_ordered: bool) -> Iterator[str]:
    place: str = getattr(event, "step", "")
    nodes = costly.steps.get(ids.step_of(place), ()) if place else ()
    goes_on = isinstance(event, _ACTS) or (isinstance(event, ev.StepSkipped) and not is_ordered)
    if goes_on and _most(nodes, scope) > MAX_STEPS:
        yield f"{place} goes on ({type(event).__name__}), and an expression of it takes more than {MAX_STEPS:,} steps"
    elif isinstance(event, ev.IncidentRaised) and _is_of_cost(event) and _most(nodes, scope) < _FEWEST:
        yield f"{place} is an incident for its cost, and goes through few items: {event.message}"


def _is_of_cost(event: ev.IncidentRaised) -> bool:
    return event.kind == "expression" and "steps: a list is too long" in event.message


def least_steps(node: Node, scope: Scope) -> int:
    """How many items its macros go through, if none of them is decided early."""
    total = 0
    for macro in _outermost(node):
        assert macro.target is not None
        inside = sum(least_steps(part, scope) for part in macro.args[1:])
        total += least_steps(macro.target, scope) + _length(macro.target, scope) * max(1, inside)
    return total


def _most(nodes: tuple[Node, ...], scope: Scope) -> int:
    return max((least_steps(node, scope) for node in nodes), default=0)


def _outermost(node: Node) -> Iterator[Call]:
    """The macros in the tree that are inside no other."""
    end = -1
    for macro in macros_of(node):
        if macro.end > end:
            end = macro.end
            yield macro


def _length(node: Node, scope: Scope) -> int:
    """The length of the list at a path; 0 for anything else."""
    holder: Any = scope
    for segment in segments_of(node) or ():
        holder = holder.get(segment) if isinstance(holder, dict) else None
    return len(holder) if isinstance(holder, list) else 0


def _costly_of(route: Route) -> _Costly:
    document = route.definition
    steps = {name: tuple(_nodes(step)) for name, step in document["steps"].items()}
    trigger = (*_nodes(document.get("on") or {}), *_nodes({"key": document.get("key")}))
    return _Costly(trigger=trigger, steps={name: nodes for name, nodes in steps.items() if nodes})


def _nodes(value: Any, key: str = "") -> Iterator[Node]:
    """The expressions anywhere below that have a macro."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _nodes(below, name)
    elif isinstance(value, list):
        for below in value:
            yield from _nodes(below)
    elif isinstance(value, str):
        is_template = "${{" in value
        if (key in _BARE or is_template) and any(f".{macro}(" in value for macro in MACROS):
            yield from map(parse, expressions_in(value))

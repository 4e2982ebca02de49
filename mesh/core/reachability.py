"""Which steps of a route can ever run: found by trying every way in which approvals and unknown conditions can come out.

Owns the search. It knows little of values (an approval's verdict, that a skipped agent's output is null) and takes everything else for possible, so a step that it calls
unreachable is so for every event. The rules of progress are those of `mesh.core.deciding`. `mesh.services.route_check` calls it.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from mesh.core.cel_paths import Segments
from mesh.core.cel_syntax import Conditional, Logic, Node, Not
from mesh.core.deciding.ending import rejection_is_taken, takes
from mesh.core.route import AgentWork, ApprovalWork, ExpressionError, Route, Step, WaitWork
from mesh.core.subexpressions import part_closure, part_reads, tree

__all__ = ["Constant", "Unreachable", "constant_of", "unreachable"]

MAX_WORLDS: Final = 20_000
_Outcome = Literal["succeeded", "rejected", "skipped", "blocked", "failed", "cancelled"]
_World = dict[str, _Outcome]
Known = Mapping[Segments, Any]


class Constant(msgspec.Struct, frozen=True):
    """What a condition comes to whatever happens: a bool, or the error that it always ends in."""

    value: bool | None
    error: str = ""


class Unreachable(msgspec.Struct, frozen=True, kw_only=True):
    """`condition`: its needs can be done, but then its `if` is false each time. Else its needs can never be done together."""

    step: str
    condition: bool


def constant_of(source: str) -> Constant | None:
    """The value of a condition that does not depend on anything it reads; None for all others."""
    node = tree(source)
    if not part_reads(node):
        try:
            value = part_closure(source, node)({})
        except ExpressionError as error:
            return Constant(None, str(error))
        return Constant(value) if isinstance(value, bool) else Constant(None, f"it is no condition: {source}")
    value = outcome(source, node, {})
    return None if value is None else Constant(value)


def outcome(source: str, node: Node, known: Known) -> bool | None:
    """What a condition comes to where only `known` is known; None: it may be true, false or an error."""
    found = [read.segments for read in part_reads(node)]
    if all(segments in known for segments in found):
        try:
            value = part_closure(source, node)(_scope({segments: known[segments] for segments in found}))
        except ExpressionError:
            return None
        return value if isinstance(value, bool) else None
    match node:
        case Logic(op=op, operands=operands):
            values = [outcome(source, one, known) for one in operands]
            decisive = op == "||"
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        case Not(operand=operand):
            value = outcome(source, operand, known)
            return None if value is None else not value
        case Conditional(test=test, then=then, otherwise=otherwise):
            chosen = outcome(source, test, known)
            if chosen is None:
                return None
            return outcome(source, then if chosen else otherwise, known)
        case _:
            return None


def _scope(values: Known) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    for segments, value in values.items():
        holder = scope
        for segment in segments[:-1]:
            holder = holder.setdefault(str(segment), {})
        holder[str(segments[-1])] = value
    return scope


def unreachable(route: Route) -> list[Unreachable]:
    """The steps that no outcome of the others lets run. Empty where there are too many ways to try."""
    search = _Search(route)
    search.run()
    if search.worlds >= MAX_WORLDS:
        return []
    return [Unreachable(step=name, condition=name in search.asked) for name in route.steps if name not in search.ran]


class _Search:
    def __init__(self, route: Route) -> None:
        self.route = route
        self.order = list(route.steps)
        self.ran: set[str] = set()
        self.asked: set[str] = set()  # steps whose `if` was asked, at least once
        self.worlds = 0
        self.racing = _racing(route)

    def run(self) -> None:
        todo: list[_World] = [{}]
        while todo and self.worlds < MAX_WORLDS and len(self.ran) < len(self.order):
            world = todo.pop()
            self.worlds += 1
            if len(world) < len(self.order):
                step = self.route.steps[self.order[len(world)]]
                todo += [{**world, step.name: outcome} for outcome in self._outcomes(step, world)]

    def _outcomes(self, step: Step, world: _World) -> list[_Outcome]:
        """The likeliest last, since it is tried first."""
        hindered = _hindered(step, world)
        if hindered is not None:
            return [hindered]
        self.asked.add(step.name)
        holds = (
            True
            if step.condition is None
            else outcome(step.condition.source, tree(step.condition.source), _known(self.route, world))
        )
        if holds is False:
            return ["skipped"]
        self.ran.add(step.name)
        found: list[_Outcome] = ["skipped"] if holds is None else []
        if step.name in self.racing:
            found.append("cancelled")
        return [*found, *_otherwise(self.route, step), "succeeded"]


def _hindered(step: Step, world: _World) -> _Outcome | None:
    """What becomes of a step whose needs do not let it act; None if they do."""
    good = [need for need in step.needs if _counts(step, need, world[need], skipped=step.enough is None)]
    if step.enough is None:
        return None if len(good) == len(step.needs) else "blocked"
    if len(good) >= step.enough:
        return None
    return "skipped" if all(world[need] in ("succeeded", "skipped") for need in step.needs) else "blocked"


def _counts(step: Step, need: str, state: _Outcome, *, skipped: bool) -> bool:
    if state == "succeeded" or (skipped and state == "skipped"):
        return True
    return takes(step, need, rejected=state == "rejected")


def _racing(route: Route) -> set[str]:
    """The steps that lose with a race, or only serve one that may."""
    found: set[str] = set()
    for name in reversed(route.steps):
        dependents = route.dependents[name]
        if any(route.steps[d].first_of for d in dependents) or (dependents and found.issuperset(dependents)):
            found.add(name)
    return found


def _otherwise(route: Route, step: Step) -> list[_Outcome]:
    """How else a step may come out once it runs, and the workflow goes on."""
    match step.work:
        case ApprovalWork():
            # If nobody takes it, a rejection ends the workflow, and nothing more runs.
            return ["rejected"] if rejection_is_taken(route, step.name) else []
        case AgentWork(on_exhausted="continue"):
            return ["failed"]
        case WaitWork(on_timeout="skip", timeout_s=float()):
            return ["skipped"]
        case _:
            return []


_VERDICTS: Final = {"succeeded": "approved", "rejected": "rejected", "skipped": "skipped"}


def _known(route: Route, world: _World) -> dict[Segments, Any]:
    known: dict[Segments, Any] = {}
    for name, state in world.items():
        known["status", name] = state
        if isinstance(route.steps[name].work, ApprovalWork):
            known["steps", name, "verdict"] = _VERDICTS.get(state)
        elif state == "skipped":
            known["steps", name] = None
    return known

"""What is wrong, or hardly meant, in one route that compiles: the rules of `mesh routes check`, one concern a function.

Owns the rules and their words. It knows no files and no lines: a finding's path leads into the document. `mesh.services.route_check` calls it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from mesh.core.capabilities import Contract
from mesh.core.cel_paths import Segments, path_text, segments_of
from mesh.core.cel_syntax import Binary, Node
from mesh.core.cel_syntax import Constant as Written
from mesh.core.reachability import Constant, constant_of, unreachable
from mesh.core.route import AgentWork, ApprovalWork, CallWork, Route, Step
from mesh.core.route_compile import _RouteCompiler
from mesh.core.route_problems import Book, DocumentPath, Reading, near
from mesh.core.shapes import (
    ANYTHING,
    TEXT,
    TRUTH,
    Fields,
    Found,
    Misfit,
    Of,
    Shape,
    follow,
    misfits,
    one_of,
    shape_of,
    values_of,
)
from mesh.core.state import AgentCard
from mesh.core.subexpressions import operands, tree
from mesh.services.capability_findings import Schemas, capability_problems, schemas_of

__all__ = ["Known", "RouteFinding", "findings_of"]

Severity = Literal["error", "warning"]
_RETRY_WAITS: Final = ("backoff", "factor", "max_backoff", "jitter")
_VERDICTS: Final = ("approved", "rejected", "skipped")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to hold a route against; None: not known, so not checked."""

    agents: Mapping[str, AgentCard] | None = None
    roles: Collection[str] | None = None
    routes: Collection[str] | None = None  # in the files that are checked
    contracts: Mapping[str, Contract] | None = None

    def schemas(self, work: AgentWork) -> Schemas | None:
        return schemas_of(work, self.agents, self.contracts)


class RouteFinding(msgspec.Struct, frozen=True, kw_only=True):
    path: DocumentPath
    severity: Severity
    code: str
    message: str
    hint: str = ""


def findings_of(route: Route, known: Known) -> list[RouteFinding]:
    """All findings of one route, in no promised order."""
    shapes = _Shapes(route, known)
    readings = _readings(route)
    return [
        *_start(route),
        *_conditions(route),
        *_agents(route, known),
        *_capabilities(route, known),
        *_roles(route, known),
        *_calls(route, known),
        *_deadlines(route),
        *_waits(route),
        *_reads(readings, shapes),
        *_skipped_reads(route, readings),
        *_comparisons(route, shapes),
        *_inputs(route, known, shapes),
    ]


def _error(path: DocumentPath, code: str, message: str, hint: str = "") -> RouteFinding:
    return RouteFinding(path=path, severity="error", code=code, message=message, hint=hint)


def _warning(path: DocumentPath, code: str, message: str, hint: str = "") -> RouteFinding:
    return RouteFinding(path=path, severity="warning", code=code, message=message, hint=hint)


# Conditions ---------------------------------------------------------------------------------------------------------------------------


def _start(route: Route) -> Iterator[RouteFinding]:
    if route.on is not None and route.on.condition is not None:
        constant = constant_of(route.on.condition.source)
        if constant is not None and constant.value is not True:
            why = constant.error or f"its guard is always false: {route.on.condition.source}"
            yield _warning(
                ("on", "if"), "never_starts", f"the route never starts: {why}", "take the guard out, or mend it"
            )
        elif constant is not None:
            yield _warning(("on", "if"), "constant", "the guard is always true", "take it out")
    if route.on_repeat == "new_run_after_end" and route.key is None:
        message = "on_repeat has no effect: without key, an event's id is its own, and never comes again"
        yield _warning(("on_repeat",), "no_effect", message, "write a key, or take on_repeat out")


def _conditions(route: Route) -> Iterator[RouteFinding]:
    constants: dict[str, Constant] = {}
    for name, step in route.steps.items():
        constant = None if step.condition is None else constant_of(step.condition.source)
        if constant is not None:
            constants[name] = constant
            yield _constant(step, constant)
    for found in unreachable(route):
        if found.step in constants:
            continue
        if found.condition:
            source = getattr(route.steps[found.step].condition, "source", "")
            message = f"it never runs: whenever its needs are done, its if is false: {source}"
            yield _error(("steps", found.step, "if"), "unreachable", message, _rejection_hint(route, found.step))
        elif not any(need in constants for need in _upstream(route, found.step)):
            needs = ", ".join(route.steps[found.step].needs)
            message = f"it never runs: what it needs ({needs}) is never done together"
            yield _error(("steps", found.step, "needs"), "unreachable", message, "mend the conditions of what it needs")


def _constant(step: Step, constant: Constant) -> RouteFinding:
    path: DocumentPath = ("steps", step.name, "if")
    if constant.error:
        return _error(path, "always_fails", f"its if fails each time: {constant.error}", "mend the expression")
    if constant.value:
        return _warning(path, "constant", "its if is always true", "take it out")
    return _warning(path, "unreachable", "it never runs: its if is always false", "take the step out, or mend the if")


def _rejection_hint(route: Route, name: str) -> str:
    """Only a step that needs the approval itself can take its rejection."""
    step = route.steps[name]
    paths = step.condition.paths if step.condition else frozenset()
    for other, work in ((other, route.steps[other].work) for other in _upstream(route, name)):
        if isinstance(work, ApprovalWork) and other not in step.needs and f"steps.{other}.verdict" in paths:
            return f"a rejection ends the workflow, unless a step that needs {other} itself takes it: add {other} to its needs"
    return "mend the if, or take the step out"


def _upstream(route: Route, name: str) -> set[str]:
    found: set[str] = set()
    todo = list(route.steps[name].needs)
    while todo:
        need = todo.pop()
        if need not in found:
            found.add(need)
            todo += route.steps[need].needs
    return found


def _comparisons(route: Route, shapes: "_Shapes") -> Iterator[RouteFinding]:
    """`==` with what a value can never be: a word that is not among those that its schema lists."""
    for name, step in route.steps.items():
        if step.condition is not None:
            path: DocumentPath = ("steps", name, "if")
            for node in _nodes(tree(step.condition.source)):
                if isinstance(node, Binary) and node.op in ("==", "!="):
                    yield from _comparison(path, node, shapes)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for one in operands(node):
        yield from _nodes(one)


def _comparison(path: DocumentPath, node: Binary, shapes: "_Shapes") -> Iterator[RouteFinding]:
    for side, other in ((node.left, node.right), (node.right, node.left)):
        segments = segments_of(side)
        if segments is None or not isinstance(other, Written) or other.foreign or segments[0] != "steps":
            continue
        values = values_of(shapes.at(segments).shape)
        if values and other.value is not None and other.value not in values:
            message = f"{path_text(segments)} is never {other.value!r}"
            yield _error(path, "never_equal", message, near(str(other.value), (str(value) for value in values)))


# Who there is -------------------------------------------------------------------------------------------------------------------------


def _agents(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if not isinstance(step.work, AgentWork) or step.work.capability or known.agents is None:
            continue
        if step.work.agent not in known.agents:
            message = f"no agent is called {step.work.agent}"
            yield _error(("steps", name, "agent"), "unknown_agent", message, near(step.work.agent, known.agents))


def _capabilities(route: Route, known: Known) -> Iterator[RouteFinding]:
    for path, code, message, hint in capability_problems(route, known.agents, known.contracts):
        yield _error(path, code, message, hint)


def _roles(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, ApprovalWork) and known.roles is not None and step.work.role not in known.roles:
            message = f"nobody has the role {step.work.role}, so every answer would be refused"
            yield _error(
                ("steps", name, "approval", "role"), "unknown_role", message, near(step.work.role, known.roles)
            )


def _calls(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, CallWork) and known.routes is not None and step.work.route not in known.routes:
            message = f"no route of these files is called {step.work.route}: the step is an incident where the router has none either"
            yield _warning(("steps", name, "workflow"), "unknown_route", message, near(step.work.route, known.routes))


# Times ----------------------------------------------------------------------------------------------------------------------------------


def _deadlines(route: Route) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if not isinstance(step.work, ApprovalWork):
            continue
        written: dict[str, Any] = route.definition["steps"][name]["approval"]
        path: DocumentPath = ("steps", name, "approval")
        if "deadline" not in written:
            message = "the approval has no deadline: it may wait for ever"
            yield _warning(path, "no_deadline", message, "deadline: 24h, or deadline: never if that is meant")
        if "on_expiry" in written and step.work.deadline_s is None:
            message = "on_expiry has no effect without a deadline"
            yield _warning((*path, "on_expiry"), "no_effect", message, "write a deadline, or take on_expiry out")


def _waits(route: Route) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if not isinstance(step.work, AgentWork) or step.work.retry.attempts > 1:
            continue
        for key in route.definition["steps"][name].get("retry", {}):
            if key in _RETRY_WAITS:
                message = f"{key} has no effect: with attempts: 1 there is no second one to wait for"
                yield _warning(("steps", name, "retry", key), "no_effect", message, "raise attempts, or take it out")


# Values -------------------------------------------------------------------------------------------------------------------------------


class _Shapes:
    """What is known of everything that a route's expressions can read."""

    def __init__(self, route: Route, known: Known) -> None:
        self._route = route
        self._known = known
        self._payloads: dict[str, Shape] = {}

    def at(self, segments: Segments) -> Found:
        """Of a path as an expression reads it."""
        if segments[0] == "workflow":
            return Found(shape=TEXT)
        if segments[0] != "steps" or len(segments) == 1 or segments[1] not in self._route.steps:
            return Found(shape=ANYTHING)
        name = str(segments[1])
        return follow(self._step(name), segments[2:], f"steps.{name}")

    def shape_at(self, segments: Segments) -> Shape:
        found = self.at(segments)
        return ANYTHING if found.missing else found.shape

    def _step(self, name: str) -> Shape:
        work = self._route.steps[name].work
        if isinstance(work, ApprovalWork):
            verdict = one_of(*_VERDICTS)
            payload = self.payload(name, work)
            return Fields({"verdict": verdict, "payload": payload, "by": TEXT, "reason": TEXT, "edited": TRUTH})
        if not isinstance(work, AgentWork) or self._route.steps[name].for_each is not None:
            return ANYTHING
        schemas = self._known.schemas(work)
        return ANYTHING if schemas is None or schemas.output is None else Of(schemas.output, schemas.output)

    def payload(self, name: str, work: ApprovalWork) -> Shape:
        """What an approval passes on: what its edits must meet where that is known, else what it asks."""
        if name not in self._payloads:
            self._payloads[name] = (
                ANYTHING if work.payload_schema is None else Of(work.payload_schema, work.payload_schema)
            )
            if work.payload_schema is None:
                self._payloads[name] = shape_of(work.payload.source, self.shape_at)
        return self._payloads[name]


def _readings(route: Route) -> list[Reading]:
    """What the route's expressions read, and where: noted by the compiler itself, so that every key of the language is there."""
    book = Book()
    _RouteCompiler(route.definition, book).compile()
    return book.readings


def _reads(readings: list[Reading], shapes: _Shapes) -> Iterator[RouteFinding]:
    tested = {(reading.path, reading.read.segments) for reading in readings if reading.read.tested}
    for reading in readings:
        found = shapes.at(reading.read.segments)
        place = f", at column {reading.read.column} of: {reading.text.strip()}"
        if found.missing:
            yield _error(reading.path, "unknown_field", found.missing + place, found.hint)
        elif found.unsure and not reading.read.tested and (reading.path, reading.read.segments) not in tested:
            mend = f"test it first: has({path_text(reading.read.segments)}) && ..."
            yield _warning(reading.path, "maybe_missing", found.unsure + place, mend)


def _skipped_reads(route: Route, readings: list[Reading]) -> Iterator[RouteFinding]:
    """A field of what is null where its step was skipped: an incident, unless somebody has thought of it."""
    for reading in readings:
        segments = reading.read.segments
        if segments[0] != "steps" or len(segments) < 3:  # noqa: PLR2004 - a field of a step
            continue
        name = str(segments[1])
        step = route.steps[name]
        if (
            step.condition is None
            or not isinstance(step.work, AgentWork)
            or _thought_of(route, readings, reading, step)
        ):
            continue
        message = f"{name} is null where it was skipped, and then {path_text(segments)} is an incident"
        mend = f"steps.{name} == null || ..., or the same if as {name} has"
        yield _warning(reading.path, "maybe_skipped", message, mend)


def _thought_of(route: Route, readings: list[Reading], reading: Reading, step: Step) -> bool:
    """Whether the reading step's `if`, or another reading of the same string, asks about the step; or both have the same `if`."""
    whole = ("steps", step.name)
    beside = [other.read for other in readings if other.path == reading.path and other.text == reading.text]
    if any(read.segments == whole or (read.tested and read.segments[:2] == whole) for read in beside):
        return True
    condition = route.steps[str(reading.path[1])].condition if reading.path[0] == "steps" else None
    if condition is None or step.condition is None or reading.path[-1] == "if":
        return False
    asked = any(path == f"steps.{step.name}" or path.startswith(f"steps.{step.name}.") for path in condition.paths)
    return asked or condition.source == step.condition.source


def _inputs(route: Route, known: Known, shapes: _Shapes) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, AgentWork):
            schemas = known.schemas(step.work)
            if schemas is not None and schemas.input is not None:
                given = shape_of(step.work.input.source, shapes.shape_at)
                path: DocumentPath = ("steps", name, "input")
                for misfit in misfits(given, schemas.input, schemas.input):
                    yield _misfit(path, misfit, f"input of {schemas.name}")
        elif isinstance(step.work, ApprovalWork) and step.work.payload_schema is not None:
            given = shape_of(step.work.payload.source, shapes.shape_at)
            schema = step.work.payload_schema
            for misfit in misfits(given, schema, schema):
                yield _misfit(("steps", name, "approval", "payload"), misfit, "payload")


def _misfit(path: DocumentPath, misfit: Misfit, what: str) -> RouteFinding:
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in misfit.path)
    label = f"{what}: {inside.lstrip('.')}" if inside else what
    return RouteFinding(
        path=path + misfit.path,
        severity=misfit.severity,
        code="input_misfit",
        message=f"{label} {misfit.message}",
        hint=misfit.hint,
    )

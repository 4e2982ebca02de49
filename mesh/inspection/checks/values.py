"""Check values: what is read but does not exist, and what is given but can't fit.

Owns the findings from agents' schemas and from what the route writes.
`mesh.inspection.checks.known_values` says what a value can be, and
`mesh.inspection.inference.schema_fit` whether it fits. `mesh.inspection.checks.findings_of` calls
it.
"""

from collections.abc import Iterator

from mesh.core.route import AgentWork, ApprovalWork, EmitWork, ForEach, Route, Step, WaitWork
from mesh.inspection.checks.finding import Known, RouteFinding, error, warning, written
from mesh.inspection.checks.known_values import Shapes
from mesh.inspection.inference.schema_fit import Misfit, misfits
from mesh.inspection.inference.value_types import ANYTHING, TEXT, Shape
from mesh.routes.expressions.paths import path_text
from mesh.routes.problems import DocumentPath, Reading


def findings(route: Route, known: Known, shapes: Shapes, readings: list[Reading]) -> Iterator[RouteFinding]:
    yield from dict.fromkeys(_reads(route, readings, shapes))
    for name, step in route.steps.items():
        if step.for_each is not None:
            yield from _list(route, name, step.for_each, shapes)
        yield from dict.fromkeys(_inputs(name, step, known, shapes))


# What is read -------------------------------------------------------------------------------------


def _reads(route: Route, readings: list[Reading], shapes: Shapes) -> Iterator[RouteFinding]:
    tested = {(reading.path, reading.read.segments) for reading in readings if reading.read.tested}
    for reading in readings:
        reader = str(reading.path[1]) if reading.path[0] == "steps" else ""
        is_tested = reading.read.tested or (reading.path, reading.read.segments) in tested
        for item in shapes.items_of(reader) if reader in route.steps else [ANYTHING]:
            found = _read(reading, item, shapes, is_tested=is_tested)
            if found is not None:
                yield found


def _read(reading: Reading, item: Shape, shapes: Shapes, *, is_tested: bool) -> RouteFinding | None:
    found = shapes.at(reading.read.segments, item)
    place = f", at column {reading.read.column} of: {reading.text.strip()}"
    if found.missing:
        return error(reading.path, "unknown_field", found.missing + place, found.hint)
    if found.unsure and not is_tested:
        test = f"{found.null} != null" if found.null else f"has({path_text(reading.read.segments)})"
        return warning(reading.path, "maybe_missing", found.unsure + place, f"test it first: {test} && ...")
    return None


# What is given ------------------------------------------------------------------------------------


def _inputs(name: str, step: Step, known: Known, shapes: Shapes) -> Iterator[RouteFinding]:
    path: DocumentPath = ("steps", name)
    for item in shapes.items_of(name):
        if isinstance(step.work, AgentWork):
            yield from _input((*path, "input"), step.work, shapes.of_template(step.work.input.source, item), known)
    if step.undo is not None:
        yield from _input((*path, "undo", "input"), step.undo, shapes.of_template(step.undo.input.source), known)
    match step.work:
        case ApprovalWork(payload_schema=dict() as schema, payload=payload):
            given = shapes.of_template(payload.source)
            yield from (
                _misfit((*path, "approval", "payload"), one, "payload") for one in misfits(given, schema, schema)
            )
        case EmitWork(event=event):
            for key in ("type", "subject"):
                yield from _text((*path, "emit", key), event.source.get(key, ""), f"the event's {key}", shapes)
        case WaitWork(until=until) if until is not None:
            yield from _text((*path, "wait", "until"), until.source, "until", shapes)


def _list(route: Route, name: str, each: ForEach, shapes: Shapes) -> Iterator[RouteFinding]:
    path: DocumentPath = ("steps", name, "for_each")
    if isinstance(written(route, name)["for_each"], dict):
        path = (*path, "items")
    for misfit in misfits(shapes.of_template(each.items.source), {"type": "array"}, {}):
        yield _misfit(path, misfit, "the list of for_each")


def _input(path: DocumentPath, work: AgentWork, given: Shape, known: Known) -> Iterator[RouteFinding]:
    schemas = known.schemas(work)
    if schemas is not None and schemas.input is not None:
        for misfit in misfits(given, schemas.input, schemas.input):
            yield _misfit(path, misfit, f"input of {schemas.name}")


def _text(path: DocumentPath, template: object, what: str, shapes: Shapes) -> Iterator[RouteFinding]:
    for misfit in misfits(shapes.of_template(template), TEXT.schema, {}):
        yield _misfit(path, misfit, what)


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

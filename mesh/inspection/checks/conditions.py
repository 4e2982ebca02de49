"""Check conditions: those that always come out the same, and steps that never run because of them.

Owns the findings about guards, `if`s, and comparisons with a value that can't occur. It has no
rules of evaluation of its own: `mesh.inspection.inference` has them.
`mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Collection, Iterator
from typing import Any

from mesh.core.joins import upstream
from mesh.core.route import AgentWork, ApprovalWork, CallWork, EndWork, Expression, Route, Step, WaitWork
from mesh.inspection.checks.event_attributes import nodes
from mesh.inspection.checks.finding import RouteFinding, error, warning
from mesh.inspection.checks.known_values import Shapes
from mesh.inspection.inference.partial_evaluation import Constant, constant_of
from mesh.inspection.inference.reachability import Unreachable, unreachable
from mesh.inspection.inference.value_types import values_of
from mesh.routes.expressions.paths import Segments, path_text, segments_of
from mesh.routes.expressions.subexpressions import tree
from mesh.routes.expressions.syntax import Binary
from mesh.routes.expressions.syntax import Constant as Written
from mesh.routes.problems import DocumentPath, near


def findings(route: Route, shapes: Shapes) -> Iterator[RouteFinding]:
    comparisons = list(_comparisons(route, shapes))
    # such a condition is false because of the comparison: one finding is enough
    told = {one.path for one in comparisons}
    yield from _start(route)
    yield from (one for one in _constants(route) if one.path not in told)
    yield from _awaited(route)
    yield from comparisons


def _start(route: Route) -> Iterator[RouteFinding]:
    path: DocumentPath = ("on", "if")
    guard = route.on.condition if route.on is not None else None
    constant = constant_of(guard.source) if guard is not None else None
    if constant is not None and guard is not None:
        if constant.value is True:
            yield warning(path, "constant", "the guard is always true", "remove it")
        else:
            why = constant.error or f"its guard is always false: {guard.source}"
            yield warning(path, "never_starts", f"the route never starts: {why}", "remove the guard, or correct it")
    if route.on_repeat == "new_run_after_end" and route.key is None:
        message = "on_repeat has no effect: without key, no second event gives the same id"
        yield warning(("on_repeat",), "no_effect", message, "write a key, or remove on_repeat")


# Steps that never run -----------------------------------------------------------------------------


def _constants(route: Route) -> Iterator[RouteFinding]:
    constants: dict[str, Constant] = {}
    for name, step in route.steps.items():
        constant = None if step.condition is None else constant_of(step.condition.source)
        if constant is not None:
            constants[name] = constant
            yield _constant(step, constant)
    never = unreachable(route)
    told = constants.keys() | {found.step for found in never}
    for found in never:
        if found.step not in constants and (found.condition or not _follows(route, found.step, told)):
            yield _unreachable(route, found)


def _follows(route: Route, name: str, told: Collection[str]) -> bool:
    """Whether the step never runs for a reason that another finding names already."""
    step = route.steps[name]
    if step.enough is not None:
        return all(need in told for need in step.needs)
    return any(need in told for need in upstream(route, name))


def _constant(step: Step, constant: Constant) -> RouteFinding:
    path: DocumentPath = ("steps", step.name, "if")
    if constant.error:
        return error(path, "always_fails", f"its if always fails: {constant.error}", "correct the expression")
    if constant.value:
        return warning(path, "constant", "its if is always true", "remove it")
    return warning(path, "unreachable", "it never runs: its if is always false", "remove the step, or correct the if")


def _unreachable(route: Route, found: Unreachable) -> RouteFinding:
    step = route.steps[found.step]
    if found.condition and step.condition is not None:
        message = f"it never runs: whenever its needs are done, its if is false: {step.condition.source}"
        return error(("steps", step.name, "if"), "unreachable", message, _taking_hint(route, step))
    path: DocumentPath = ("steps", step.name, "needs")
    ends = [need for need in step.needs if _is_sure_end(route.steps[need])]
    if ends:
        message, fix = (
            f"it never runs: {ends[0]}, which it needs, ends the workflow",
            f"remove {ends[0]} from its needs",
        )
    elif step.enough is None:
        message = f"it never runs: what it needs ({', '.join(step.needs)}) is never done together"
        fix = "correct the conditions of the steps it needs"
    else:
        message = f"it never runs: of {', '.join(step.needs)} never {step.enough} succeed in one workflow"
        fix = "correct their conditions, or count fewer of them"
    return error(path, "unreachable", message, fix)


def _is_sure_end(step: Step) -> bool:
    return isinstance(step.work, EndWork) and step.condition is None


def _taking_hint(route: Route, step: Step) -> str:
    """How to correct an `if` that waits in vain for a rejection or a failure.

    Only a step that needs the other step directly can take its rejection or its failure.
    """
    paths = step.condition.paths if step.condition else frozenset()
    for other in sorted(upstream(route, step.name) - set(step.needs)):
        if isinstance(route.steps[other].work, ApprovalWork) and f"steps.{other}.verdict" in paths:
            return f"a rejection ends the workflow, unless a step that needs {other} itself takes it: add {other} to its needs"
        if f"status.{other}" in paths:
            return f"a failure blocks the steps that need {other}, unless their if reads its status: add {other} to its needs"
    return "correct the if, or remove the step"


def _awaited(route: Route) -> Iterator[RouteFinding]:
    """Check the conditions on the events that steps wait for."""
    for name, step in route.steps.items():
        awaited = step.work.event if isinstance(step.work, WaitWork) else None
        constant = constant_of(awaited.condition.source) if awaited is not None and awaited.condition else None
        path: DocumentPath = ("steps", name, "wait", "if")
        if constant is not None and constant.value:
            yield warning(path, "constant", "the if of its wait is always true", "remove it")
        elif constant is not None:
            why = constant.error or "the if of its wait is always false"
            yield error(path, "never_comes", f"it waits for an event that never comes: {why}", "correct the if")


# Comparisons --------------------------------------------------------------------------------------


def _comparisons(route: Route, shapes: Shapes) -> Iterator[RouteFinding]:
    """Find comparisons of a step's output or status with a value that it can never have.

    Either the output's schema does not list the value, or the step never has that status.
    """
    for name, step in route.steps.items():
        conditions: list[tuple[DocumentPath, Expression | None]] = [(("steps", name, "if"), step.condition)]
        conditions += [(("steps", name, "repeat", "until"), step.repeat.until)] if step.repeat is not None else []
        for path, condition in conditions:
            for node in nodes(tree(condition.source)) if condition is not None else ():
                if isinstance(node, Binary) and node.op in ("==", "!="):
                    yield from _comparison(route, path, node, shapes)


def _comparison(route: Route, path: DocumentPath, node: Binary, shapes: Shapes) -> Iterator[RouteFinding]:
    for side, other in ((node.left, node.right), (node.right, node.left)):
        segments = segments_of(side)
        if (
            segments is None
            or not isinstance(other, Written)
            or other.foreign
            or segments[0] not in ("steps", "status")
        ):
            continue
        values = values_of(shapes.at(segments).shape)
        if values and other.value is not None and other.value not in values:
            message = f"{path_text(segments)} is never {other.value!r}"
            known = near(str(other.value), (str(value) for value in values if value != ""))
            yield error(path, "never_equal", message, _status_hint(route, segments, other.value) or known)


def _status_hint(route: Route, segments: Segments, value: Any) -> str:
    """What to add to a step whose failure a condition asks for, although it ends the workflow."""
    name = str(segments[1])
    if segments[0] == "status" and value == "failed" and isinstance(route.steps[name].work, AgentWork | CallWork):
        return f"write on_exhausted: continue on {name}, or its failure is an incident or the workflow's end"
    return ""

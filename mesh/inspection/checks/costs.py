"""Check costs: what may take more than an evaluation allows, and what can't be checked at all.

Owns two warnings. One is for a macro inside another one, over a list that does not come from the
outer item, so that the lengths multiply. The other is for an agent's schema with a pattern that the
mesh's engine refuses, if edits of an approval have to fit it. `mesh.inspection.checks.findings_of`
calls it.
"""

from collections.abc import Iterator

from mesh.core.route import ApprovalWork, Route
from mesh.inspection.checks.finding import Known, RouteFinding, warning
from mesh.routes.expressions.compiler import expressions_in
from mesh.routes.expressions.meter import MAX_STEPS
from mesh.routes.expressions.paths import macros_of, path_text, reads
from mesh.routes.expressions.subexpressions import tree
from mesh.routes.expressions.syntax import Call, Node
from mesh.routes.problems import Reading


def findings(route: Route, known: Known, readings: list[Reading]) -> Iterator[RouteFinding]:
    for path, text in dict.fromkeys((reading.path, reading.text) for reading in readings):
        for source in expressions_in(text):
            for outer, inner in _multiplying(tree(source)):
                yield warning(
                    path,
                    "costly_expression",
                    f"{inner} is gone through for each item of {outer}, so their lengths multiply,"
                    f" and an evaluation that takes more than {MAX_STEPS:,} steps is an incident",
                    "go through one list, or let an agent do it",
                )
    for name, step in route.steps.items():
        if isinstance(step.work, ApprovalWork):
            yield from _of_schema(name, step.work, known)


def _multiplying(node: Node) -> Iterator[tuple[str, str]]:
    """Pairs of lists, an outer and an inner one, of nested macros that both read the scope."""
    for macro in macros_of(node):
        outer = _list_of(macro, frozenset())
        bound = frozenset({str(next(iter(reads(macro.args[0]))).segments[0])})
        for part in macro.args[1:]:
            for below in macros_of(part):
                inner = _list_of(below, bound)
                if outer and inner:
                    yield outer, inner


def _list_of(macro: Call, bound: frozenset[str]) -> str:
    """The list that the macro goes through; empty if it comes from an outer item."""
    assert macro.target is not None  # noqa: S101 - a macro is a method
    return next((path_text(read.segments) for read in reads(macro.target, bound)), "")


def _of_schema(name: str, work: ApprovalWork, known: Known) -> Iterator[RouteFinding]:
    from mesh.core.schemas import unusable_patterns  # noqa: PLC0415 - slow to load, and few routes ask people

    card = (known.agents or {}).get(work.payload_from or "")
    if card is None or work.payload_schema is not None:
        return
    for _, reason in unusable_patterns(card.output_schema):
        yield warning(
            ("steps", name, "approval"),
            "unusable_schema",
            f"edits are held against the output schema of {card.name}, and {reason}, so no edit will pass",
            "change the pattern in the agent, or give the approval a payload_schema",
        )

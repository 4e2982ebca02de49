"""Check what is done with an event's attributes, which are text, extensions too.

Owns the findings about attributes that are used as if they were numbers or booleans: such a
condition never holds, whichever mode the event comes in (docs/events.md).
`mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator
from typing import Any

from mesh.inspection.checks.finding import RouteFinding, error
from mesh.routes.expressions.compiler import expressions_in
from mesh.routes.expressions.paths import Segments, path_text, segments_of
from mesh.routes.expressions.subexpressions import operands, tree
from mesh.routes.expressions.syntax import Binary, Constant, Node
from mesh.routes.problems import Reading


def findings(readings: list[Reading]) -> Iterator[RouteFinding]:
    texts = {(reading.path, reading.text): None for reading in readings if _is_attribute(reading.read.segments)}
    for path, text in texts:
        for node in (node for source in expressions_in(text) for node in nodes(tree(source))):
            said = _misused(node) if isinstance(node, Binary) else None
            if said is not None:
                yield error(path, "attribute_is_text", *said)


def nodes(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for one in operands(node):
        yield from nodes(one)


def _is_attribute(segments: Segments) -> bool:
    return len(segments) > 1 and segments[0] in ("event", "start") and segments[1] != "data"


def _misused(node: Binary) -> tuple[str, str] | None:
    for side, other in ((node.left, node.right), (node.right, node.left)):
        segments = segments_of(side)
        if segments is None or not _is_attribute(segments) or not isinstance(other, Constant):
            continue
        if isinstance(other.value, bool | int | float):
            name = path_text(segments)
            return f"{name} is text, and can't be {_done(node)} {_shown(other.value)}", _hint(name, other.value)
    return None


def _done(node: Binary) -> str:
    return "used in arithmetic with" if node.op in "+-*/%" else "compared with"


def _shown(value: Any) -> str:
    return str(value).lower()


def _hint(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"write {name} == '{_shown(value)}'"
    return f"write int({name})" if isinstance(value, int) else f"write double({name})"

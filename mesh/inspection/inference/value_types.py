"""Value types: what is known of a value before it exists.

The knowledge comes from the literal parts of a template and from agents' JSON Schemas.

Owns the shapes, and how to follow a path into one; `mesh.inspection.inference.schema_fit` says
where a shape can't fit. Both serve checks before deployment, so they must never report a false
error: what they do not understand is `ANYTHING`, which fits everything. A schema that lists
`properties` and does not mention others is taken to have no others, as agents' own models do.
`mesh.inspection.checks` calls it.
"""

from collections.abc import Callable
from typing import Any, Final, assert_never

import msgspec

from mesh.core.json_values import kind_of
from mesh.core.route import ExpressionError
from mesh.inspection.inference.schemas import Schema, branches, is_optional, item_of, property_of, types_of
from mesh.routes.expressions.compiler import compile_template
from mesh.routes.expressions.paths import Segments, segments_of
from mesh.routes.expressions.syntax import Binary, Has, Logic, Node, Not, parse
from mesh.routes.problems import near


class Anything(msgspec.Struct, frozen=True):
    """A value of which nothing is known."""


class Scalar(msgspec.Struct, frozen=True):
    """A literal that is neither an object nor a list."""

    value: Any


class Fields(msgspec.Struct, frozen=True):
    fields: dict[str, "Shape"]


class Items(msgspec.Struct, frozen=True):
    items: list["Shape"]


class Of(msgspec.Struct, frozen=True):
    """A value that meets a schema. `root`: the schema that each `$ref` points into."""

    schema: Schema
    root: Schema


class Many(msgspec.Struct, frozen=True):
    """A list of unknown length, of values of one shape."""

    item: "Shape"


class OneOf(msgspec.Struct, frozen=True):
    """A value of any of several shapes."""

    shapes: tuple["Shape", ...]


Shape = Anything | Scalar | Fields | Items | Of | Many | OneOf

ANYTHING: Final = Anything()
NULL: Final = Scalar(None)
NUMBER: Final = Of({"type": "integer"}, {})
TEXT: Final = Of({"type": "string"}, {})
TRUTH: Final = Of({"type": "boolean"}, {})


def one_of(*values: str) -> Of:
    return Of({"enum": list(values)}, {})


def alternatives(shapes: list[Shape]) -> Shape:
    """The shape of a value that has any of these shapes.

    If nothing is known of one of them, nothing is known of the value.
    """
    if ANYTHING in shapes:
        return ANYTHING
    return shapes[0] if len(shapes) == 1 else OneOf(tuple(shapes))


# From templates -----------------------------------------------------------------------------------


def shape_of(template: Any, shape_of_path: Callable[[Segments], Shape]) -> Shape:
    """The shape of what a template gives.

    `shape_of_path`: the shape of what a path in an expression leads to.
    """
    match template:
        case dict():
            return Fields({key: shape_of(value, shape_of_path) for key, value in template.items()})
        case list():
            return Items([shape_of(item, shape_of_path) for item in template])
        case str():
            return _of_string(template, shape_of_path)
        case _:
            return Scalar(template)


def _of_string(template: str, shape_of_path: Callable[[Segments], Shape]) -> Shape:
    compiled = compile_template(template)
    if not compiled.reads:
        try:
            return _literal(compiled.render({}))
        except ExpressionError:
            return ANYTHING
    if compiled.whole is None:
        return TEXT
    return _of_node(parse(compiled.whole.source), shape_of_path)


def _of_node(node: Node, shape_of_path: Callable[[Segments], Shape]) -> Shape:
    segments = segments_of(node)
    if segments is not None:
        return shape_of_path(segments)
    match node:
        case Logic() | Not() | Has():
            return TRUTH
        case Binary(op=op) if op not in "+-*/%":
            return TRUTH
        case _:
            return ANYTHING


def _literal(value: Any) -> Shape:
    match value:
        case dict():
            return Fields({key: _literal(item) for key, item in value.items()})
        case list():
            return Items([_literal(item) for item in value])
        case _:
            return Scalar(value)


# Into shapes --------------------------------------------------------------------------------------


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a path leads to.

    `missing`: why it can't exist (`hint`: how to correct that). `unsure`: why it may not exist.
    `null`: what may be null on the way to it.
    """

    shape: Shape = ANYTHING
    missing: str = ""
    hint: str = ""
    unsure: str = ""
    null: str = ""


def follow(shape: Shape, segments: Segments, label: str) -> Found:
    """Follow names and indexes into a shape.

    `label`: what messages call the shape itself.
    """
    first = Found()
    for segment in segments:
        found = _step(shape, segment, label)
        if found.missing:
            return found
        # the first doubt on the way is the one to name
        first = first if first.unsure else found
        shape, label = found.shape, f"{label}[{segment}]" if isinstance(segment, int) else f"{label}.{segment}"
    return Found(shape=shape, unsure=first.unsure, null=first.null)


def _step(shape: Shape, segment: str | int, label: str) -> Found:
    match shape:
        case Anything():
            return Found()
        case Fields(fields=fields) if isinstance(segment, str):
            return Found(shape=fields[segment]) if segment in fields else _no_field(label, segment, fields)
        case Items(items=items) if isinstance(segment, int):
            there = 0 <= segment < len(items)
            return Found(shape=items[segment]) if there else Found(missing=f"{label} is a list of {len(items)}")
        case Many(item=item) if isinstance(segment, int):
            return Found(shape=item)
        case Of():
            return _into_schema(shape, segment, label)
        case OneOf(shapes=shapes):
            return _into_some(shapes, segment, label)
        case Fields():
            return Found(missing=f"{label} is an object, and has no place {segment}")
        case Items() | Many():
            return Found(missing=f"{label} is a list, and has no {segment}")
        case Scalar(value=value):
            return Found(missing=f"{label} is {kind_of(value)}, and has no {segment}")
        case _:
            assert_never(shape)


def _no_field(label: str, segment: str, known: Any) -> Found:
    return Found(missing=f"{label} has no {segment}", hint=near(segment, known))


def _into_some(shapes: tuple[Shape, ...], segment: str | int, label: str) -> Found:
    """Follow one step into a value of several possible shapes.

    What one of the shapes has may exist; what none of them has can't.
    """
    found = [_step(shape, segment, label) for shape in shapes]
    there = [one for one in found if not one.missing]
    if not there:
        # nothing has fields in null, so the message is about what may be meant
        return next((one for one, shape in zip(found, shapes, strict=True) if shape != NULL), found[0])
    shape = alternatives([one.shape for one in there])
    if len(there) == len(found):
        first = next((one for one in there if one.unsure), there[0])
        return Found(shape=shape, unsure=first.unsure, null=first.null)
    if NULL in shapes:
        return Found(shape=shape, unsure=f"{label} may be null", null=label)
    return Found(shape=shape, unsure=f"{label} may come without {segment}")


def _into_schema(shape: Of, segment: str | int, label: str) -> Found:
    holder = "object" if isinstance(segment, str) else "array"
    every = list(branches(shape.schema, shape.root))
    fitting = [branch for branch in every if holder in types_of(branch)]
    if not fitting:
        kinds = " or ".join(sorted({kind for branch in every for kind in types_of(branch)}))
        return Found(missing=f"{label} is {a_kind(kinds)}, and has no {segment}")
    parts = [item_of(branch) if isinstance(segment, int) else property_of(branch, segment) for branch in fitting]
    there = [part for part in parts if part is not None]
    if not there:
        return _no_field(label, str(segment), {name for branch in fitting for name in branch.get("properties", {})})
    if any(part is True for part in there):
        return Found()
    schema = there[0] if len(there) == 1 else {"anyOf": there}
    inside = Of(schema, shape.root) if isinstance(schema, dict) else ANYTHING
    if len(fitting) < len(every) and "null" in {kind for branch in every for kind in types_of(branch)}:
        return Found(shape=inside, unsure=f"{label} may be null", null=label)
    optional = isinstance(segment, str) and any(is_optional(branch, segment) for branch in fitting)
    return Found(shape=inside, unsure=f"{label} may come without {segment}" if optional else "")


def values_of(shape: Shape) -> list[Any] | None:
    """All the values that the shape allows, if they are known; else None."""
    match shape:
        case Scalar(value=value):
            return [value]
        case OneOf(shapes=shapes):
            each = [values_of(one) for one in shapes]
            return None if None in each else [value for values in each for value in values or ()]
        case Of():
            return _values_of_schema(shape)
        case _:
            return None


def _values_of_schema(shape: Of) -> list[Any] | None:
    found: list[Any] = []
    for branch in branches(shape.schema, shape.root):
        if "const" in branch:
            found.append(branch["const"])
        elif "enum" in branch:
            found += branch["enum"]
        elif types_of(branch) == {"null"}:
            found.append(None)
        else:
            return None
    return found


def a_kind(kind: str) -> str:
    """The kind with its article; null has none."""
    if kind.startswith("null"):
        return kind
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"

"""Shapes: what is known of a value before there is one, from the literal parts of a template and from agents' JSON Schemas.

Owns following a path into a shape, and saying where a shape can't fit a schema. It is made for checks before deployment, so it must never cry wolf: what it does not understand is
`ANYTHING`, which fits everything. A schema that lists `properties` and says nothing of others is taken to give no others, as agents' own models do.
`mesh.services.route_check` calls it.
"""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Final, Literal, assert_never

import msgspec

from mesh.core.cel_paths import Segments, kind_of, segments_of
from mesh.core.cel_syntax import Binary, Has, Logic, Node, Not, parse
from mesh.core.expressions import compile_template
from mesh.core.route import ExpressionError
from mesh.core.route_problems import near

__all__ = [
    "ANYTHING",
    "TEXT",
    "TRUTH",
    "Anything",
    "Fields",
    "Found",
    "Items",
    "Misfit",
    "Of",
    "Scalar",
    "Shape",
    "follow",
    "misfits",
    "one_of",
    "shape_of",
    "values_of",
]

DEPTH: Final = 6  # of schemas in schemas: deeper ones fit
_ALL_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_Schema = dict[str, Any]


class Anything(msgspec.Struct, frozen=True):
    """Nothing is known."""


class Scalar(msgspec.Struct, frozen=True):
    """A literal that is no object and no list."""

    value: Any


class Fields(msgspec.Struct, frozen=True):
    fields: dict[str, "Shape"]


class Items(msgspec.Struct, frozen=True):
    items: list["Shape"]


class Of(msgspec.Struct, frozen=True):
    """Whatever meets a schema. `root`: the schema that `$ref`s point into."""

    schema: _Schema
    root: _Schema


_Known = Scalar | Fields | Items | Of
Shape = Anything | _Known

ANYTHING: Final = Anything()
TEXT: Final = Of({"type": "string"}, {})
TRUTH: Final = Of({"type": "boolean"}, {})


def one_of(*values: str) -> Of:
    return Of({"enum": list(values)}, {})


# From templates -----------------------------------------------------------------------------------------------------------------------


def shape_of(template: Any, shape_of_path: Callable[[Segments], Shape]) -> Shape:
    """The shape of what a template gives; `shape_of_path` knows what expressions read."""
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


# Into shapes ----------------------------------------------------------------------------------------------------------------------------


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a path leads to. `missing`: it can't be there, and why (with a mend); `unsure`: it need not be there, and why."""

    shape: Shape = ANYTHING
    missing: str = ""
    hint: str = ""
    unsure: str = ""


def follow(shape: Shape, segments: Segments, label: str) -> Found:
    """Follow names and places into a shape; `label` is what the shape itself is called, for messages."""
    unsure = ""
    for segment in segments:
        found = _step(shape, segment, label)
        if found.missing:
            return found
        unsure = unsure or found.unsure
        shape, label = found.shape, f"{label}[{segment}]" if isinstance(segment, int) else f"{label}.{segment}"
    return Found(shape=shape, unsure=unsure)


def _step(shape: Shape, segment: str | int, label: str) -> Found:
    match shape:
        case Anything():
            return Found()
        case Fields(fields=fields) if isinstance(segment, str):
            return Found(shape=fields[segment]) if segment in fields else _no_field(label, segment, fields)
        case Items(items=items) if isinstance(segment, int):
            there = 0 <= segment < len(items)
            return Found(shape=items[segment]) if there else Found(missing=f"{label} is a list of {len(items)}")
        case Of():
            return _into_schema(shape, segment, label)
        case Fields():
            return Found(missing=f"{label} is an object, and has no place {segment}")
        case Items():
            return Found(missing=f"{label} is a list, and has no {segment}")
        case Scalar(value=value):
            return Found(missing=f"{label} is {kind_of(value)}, and has no {segment}")
        case _:
            assert_never(shape)


def _no_field(label: str, segment: str, known: Any) -> Found:
    return Found(missing=f"{label} has no {segment}", hint=near(segment, known))


def _into_schema(shape: Of, segment: str | int, label: str) -> Found:
    holder = "object" if isinstance(segment, str) else "array"
    every = list(_branches(shape.schema, shape.root))
    branches = [branch for branch in every if holder in _types(branch)]
    if not branches:
        kinds = " or ".join(sorted({kind for branch in every for kind in _types(branch)}))
        return Found(missing=f"{label} is {_a(kinds)}, and has no {segment}")
    parts = [_item(branch) if isinstance(segment, int) else _property(branch, segment) for branch in branches]
    there = [part for part in parts if part is not None]
    if not there:
        return _no_field(label, str(segment), {name for branch in branches for name in branch.get("properties", {})})
    if any(part is True for part in there):
        return Found()
    schema = there[0] if len(there) == 1 else {"anyOf": there}
    optional = isinstance(segment, str) and any(_is_optional(branch, segment) for branch in branches)
    unsure = f"{label} may come without {segment}" if optional else ""
    if len(branches) < len(every) and "null" in {kind for branch in every for kind in _types(branch)}:
        unsure = f"{label} may be null"
    return Found(shape=Of(schema, shape.root) if isinstance(schema, dict) else ANYTHING, unsure=unsure)


def _property(branch: _Schema, name: str) -> Any:
    """The schema of a property; True where anything may be there, None where nothing can."""
    properties = branch.get("properties")
    if isinstance(properties, dict) and name in properties:
        return properties[name]
    if "patternProperties" in branch:
        return True
    others = branch.get("additionalProperties", not isinstance(properties, dict))
    return None if others is False else others


def _is_optional(branch: _Schema, name: str) -> bool:
    """A property with a default is written by whoever has one, required or not."""
    schema = branch.get("properties", {}).get(name)
    return name not in branch.get("required", ()) and not (isinstance(schema, dict) and "default" in schema)


def _item(branch: _Schema) -> Any:
    if "prefixItems" in branch:
        return True
    return branch.get("items", True)


def values_of(shape: Shape) -> list[Any] | None:
    """All values that it can have, where that is known; else None."""
    if isinstance(shape, Scalar):
        return [shape.value]
    if not isinstance(shape, Of):
        return None
    found: list[Any] = []
    for branch in _branches(shape.schema, shape.root):
        if "const" in branch:
            found.append(branch["const"])
        elif "enum" in branch:
            found += branch["enum"]
        elif _types(branch) == {"null"}:
            found.append(None)
        else:
            return None
    return found


# Schemas --------------------------------------------------------------------------------------------------------------------------------


def _branches(schema: Any, root: _Schema, depth: int = DEPTH) -> Iterator[_Schema]:
    """The alternatives that a schema allows, `$ref`s resolved; `{}` for what is not understood."""
    if not isinstance(schema, dict) or depth == 0:
        yield {}
        return
    if "$ref" in schema:
        yield from _branches(_resolved(schema["$ref"], root), root, depth - 1)
        return
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            for one in schema[word]:
                yield from _branches(one, root, depth - 1)
            return
    if isinstance(schema.get("allOf"), list):
        if len(schema["allOf"]) == 1:
            yield from _branches(schema["allOf"][0], root, depth - 1)
        else:
            yield {}
        return
    yield schema


def _resolved(reference: Any, root: _Schema) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return {}
    found: Any = root
    for name in reference[1:].strip("/").split("/") if reference != "#" else ():
        found = found.get(name.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
    return found


def _types(branch: _Schema) -> frozenset[str]:
    kinds = branch.get("type")
    if isinstance(kinds, str | list):
        found = frozenset([kinds] if isinstance(kinds, str) else kinds)
        return found | {"integer"} if "number" in found else found
    if "const" in branch or "enum" in branch:
        return frozenset(_type_of(value) for value in branch.get("enum", [branch.get("const")]))
    if "properties" in branch:
        return frozenset({"object"})
    return _ALL_TYPES


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


# Fitting --------------------------------------------------------------------------------------------------------------------------------


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """`path` leads into the shape. `severity` warning: it can pass, but hardly as it was meant."""

    path: Segments
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


def misfits(shape: Shape, schema: Any, root: _Schema, path: Segments = ()) -> list[Misfit]:
    """Where the shape can't meet the schema; of several alternatives, the one that it fits best."""
    if len(path) > DEPTH or isinstance(shape, Anything):
        return []
    found = [_against(shape, branch, root, path) for branch in _branches(schema, root)]
    return min(found, key=_weight, default=[])


def _weight(found: list[Misfit]) -> tuple[int, int, int]:
    """An alternative of another type fits less than one of the right type with something missing in it."""
    errors = [one for one in found if one.severity == "error"]
    return (len(errors) > 0, -max((len(one.path) for one in errors), default=0), len(found))


def _against(shape: _Known, branch: _Schema, root: _Schema, path: Segments) -> list[Misfit]:
    wanted = _types(branch)
    given = _given(shape)
    if not given & wanted:
        return [Misfit(path=path, message=f"is {_a(_alternatives(given))}, not {_a(_alternatives(wanted))}")]
    match shape:
        case Scalar(value=value):
            return _scalar(value, branch, path)
        case Fields(fields=fields):
            return _object(fields, branch, root, path)
        case Items(items=items) if isinstance(branch.get("items"), dict):
            return [one for at, item in enumerate(items) for one in misfits(item, branch["items"], root, (*path, at))]
        case Of():
            return _schema(shape, branch, root, path)
        case _:
            return []


def _given(shape: _Known) -> frozenset[str]:
    match shape:
        case Scalar(value=value):
            kind = _type_of(value)
            return frozenset({kind, "number"} if kind == "integer" else {kind})
        case Fields():
            return frozenset({"object"})
        case Items():
            return frozenset({"array"})
        case Of(schema=schema, root=root):
            found = {kind for branch in _branches(schema, root) for kind in _types(branch)}
            return frozenset(found | {"number"} if "integer" in found else found)
        case _:
            assert_never(shape)


def _scalar(value: Any, branch: _Schema, path: Segments) -> list[Misfit]:
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - slow to load, and few inputs are literals

    try:
        Draft202012Validator.check_schema(branch)
        problem = next(Draft202012Validator(branch).iter_errors(value), None)
    except SchemaError:
        return []
    if problem is None:
        return []
    close = get_close_matches(value, [str(one) for one in branch.get("enum", ())], 1) if isinstance(value, str) else []
    hint = f"did you mean {close[0]}?" if close else ""
    return [Misfit(path=path, message=f"does not fit: {problem.message[:200]}", hint=hint)]


def _object(fields: dict[str, Shape], branch: _Schema, root: _Schema, path: Segments) -> list[Misfit]:
    properties = branch.get("properties")
    known = properties if isinstance(properties, dict) else {}
    required = [name for name in branch.get("required", ()) if isinstance(name, str)]
    strangers = [name for name in fields if known and name not in known and _property(branch, name) is None]
    found = [
        Misfit(path=path, message=f"lacks {name}, which is required", hint=_spelt(name, strangers))
        for name in required
        if name not in fields
    ]
    # Models pass over what they don't know, so that a wrong name of an optional field would be lost without a word.
    strict = branch.get("additionalProperties") is False
    severity: Literal["error", "warning"] = "error" if strict else "warning"
    left = {name for name in known if name not in fields}
    found += [
        Misfit(path=(*path, name), message="is not known there", hint=near(name, left or known), severity=severity)
        for name in strangers
    ]
    for name, shape in fields.items():
        if name in known:
            found += misfits(shape, known[name], root, (*path, name))
    return found


def _spelt(name: str, strangers: list[str]) -> str:
    close = get_close_matches(name, strangers, 1)
    return f"is it what is called {close[0]} here?" if close else ""


def _schema(shape: Of, branch: _Schema, root: _Schema, path: Segments) -> list[Misfit]:
    """A schema against a schema: only what no value of the one can have the other."""
    sources = [one for one in _branches(shape.schema, shape.root) if _types(one) & _types(branch)]
    wanted, given = values_of(Of(branch, root)), values_of(shape)
    if wanted and given is not None and not [value for value in given if value in wanted]:
        return [Misfit(path=path, message=f"is one of {_listed(given)}, not of {_listed(wanted)}")]
    if len(sources) != 1 or not isinstance(sources[0].get("properties"), dict):
        return []
    return [
        one
        for one in _object(
            {name: Of(part, shape.root) for name, part in sources[0]["properties"].items() if isinstance(part, dict)},
            branch,
            root,
            path,
        )
        if one.severity == "error" and not (one.message.startswith("lacks") and _is_open(sources[0]))
    ]


def _is_open(branch: _Schema) -> bool:
    return bool(branch.get("additionalProperties")) or "patternProperties" in branch


def _listed(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _alternatives(kinds: frozenset[str]) -> str:
    shown = kinds - {"integer"} if "number" in kinds else kinds
    return " or ".join(sorted(shown))


def _a(kind: str) -> str:
    if kind.startswith("null"):
        return kind
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"

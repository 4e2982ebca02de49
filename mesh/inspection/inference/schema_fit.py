"""Schema fit: where a value's type can't meet a JSON Schema, whatever the value is.

Owns the comparison and its words. It must never report a false error: of several alternatives it
takes the one that fits best, and a schema that it does not understand fits.
`mesh.inspection.checks` calls it.
"""

from difflib import get_close_matches
from typing import Any, Literal, assert_never

import msgspec

from mesh.inspection.inference.schemas import DEPTH, Schema, branches, is_open, property_of, type_of, types_of
from mesh.inspection.inference.value_types import (
    Anything,
    Fields,
    Items,
    Many,
    Of,
    OneOf,
    Scalar,
    Shape,
    a_kind,
    values_of,
)
from mesh.routes.expressions.paths import Segments
from mesh.routes.problems import near

_Known = Scalar | Fields | Items | Of | Many


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """A place where a shape can't meet a schema.

    `path` leads into the shape. `severity` warning: the value can pass, but is probably a mistake.
    """

    path: Segments
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


def misfits(shape: Shape, schema: Any, root: Schema, path: Segments = ()) -> list[Misfit]:
    """Where the shape can't meet the schema, by the alternative that fits best."""
    # a schema may refer to itself, and has no end then
    if len(path) > DEPTH or isinstance(shape, Anything):
        return []
    if isinstance(shape, OneOf):
        found = [misfits(one, schema, root, path) for one in shape.shapes]
    else:
        found = [_against(shape, branch, root, path) for branch in branches(schema, root)]
    return min(found, key=_weight, default=[])


def _weight(found: list[Misfit]) -> tuple[int, int, int]:
    """How badly an alternative fits.

    One of another type fits worse than one of the right type that lacks something.
    """
    errors = [one for one in found if one.severity == "error"]
    return (len(errors) > 0, -max((len(one.path) for one in errors), default=0), len(found))


def _against(shape: _Known, branch: Schema, root: Schema, path: Segments) -> list[Misfit]:
    wanted = types_of(branch)
    given = _given(shape)
    if not given & wanted:
        return [Misfit(path=path, message=f"is {a_kind(_kinds(given))}, not {a_kind(_kinds(wanted))}")]
    match shape:
        case Scalar(value=value):
            return _scalar(value, branch, path)
        case Fields(fields=fields):
            return _object(fields, branch, root, path)
        case Items(items=items) if isinstance(branch.get("items"), dict):
            return [one for at, item in enumerate(items) for one in misfits(item, branch["items"], root, (*path, at))]
        case Many(item=item) if isinstance(branch.get("items"), dict):
            return [_of_each(one, path) for one in misfits(item, branch["items"], root)]
        case Of():
            return _schema(shape, branch, root, path)
        case _:
            return []


def _of_each(misfit: "Misfit", path: Segments) -> "Misfit":
    """The misfit of every item of a list, as a misfit of the list.

    No path of the document leads to such an item.
    """
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in misfit.path)
    whose = f"whose {inside.lstrip('.')}" if inside else "of which each"
    return msgspec.structs.replace(misfit, path=path, message=f"has items {whose} {misfit.message}")


def _given(shape: _Known) -> frozenset[str]:
    match shape:
        case Scalar(value=value):
            kind = type_of(value)
            # in JSON Schema, each integer is a number as well
            return frozenset({kind, "number"} if kind == "integer" else {kind})
        case Fields():
            return frozenset({"object"})
        case Items() | Many():
            return frozenset({"array"})
        case Of(schema=schema, root=root):
            found = {kind for branch in branches(schema, root) for kind in types_of(branch)}
            return frozenset(found | {"number"} if "integer" in found else found)
        case _:
            assert_never(shape)


def _scalar(value: Any, branch: Schema, path: Segments) -> list[Misfit]:
    # slow to load, and few inputs are literals
    from mesh.core.schemas import SchemaTooCostly, SchemaUnusable, misfit  # noqa: PLC0415

    try:
        problem = misfit(branch, value)
    except (SchemaTooCostly, SchemaUnusable):
        return []
    if problem is None:
        return []
    close = get_close_matches(value, [str(one) for one in branch.get("enum", ())], 1) if isinstance(value, str) else []
    hint = f"did you mean {close[0]}?" if close else ""
    return [Misfit(path=path, message=f"does not fit: {problem.message[:200]}", hint=hint)]


def _object(fields: dict[str, Shape], branch: Schema, root: Schema, path: Segments) -> list[Misfit]:
    properties = branch.get("properties")
    known = properties if isinstance(properties, dict) else {}
    required = [name for name in branch.get("required", ()) if isinstance(name, str)]
    strangers = [name for name in fields if known and name not in known and property_of(branch, name) is None]
    found = [
        Misfit(path=path, message=f"lacks {name}, which is required", hint=_spelt(name, strangers))
        for name in required
        if name not in fields
    ]
    # Models ignore fields that they don't know: a misspelt optional field would be lost
    # silently.
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
    return f"is it called {close[0]} here?" if close else ""


def _schema(shape: Of, branch: Schema, root: Schema, path: Segments) -> list[Misfit]:
    """Where no value of the shape's schema can meet this one."""
    sources = [one for one in branches(shape.schema, shape.root) if types_of(one) & types_of(branch)]
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
        if one.severity == "error" and not (one.message.startswith("lacks") and is_open(sources[0]))
    ]


def _listed(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _kinds(kinds: frozenset[str]) -> str:
    shown = kinds - {"integer"} if "number" in kinds else kinds
    return " or ".join(sorted(shown))

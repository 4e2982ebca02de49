"""JSON Schemas as the checks of routes read them: alternatives, types and properties.

Owns the reading of a schema, as far as it is understood; the rest is taken to allow everything.
`mesh.inspection.inference.value_types` and `mesh.inspection.inference.schema_fit` call it.
"""

from collections.abc import Iterator
from typing import Any, Final

DEPTH: Final = 6  # nesting of schemas that is followed: deeper ones count as fitting
_ALL_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
Schema = dict[str, Any]


def branches(schema: Any, root: Schema, depth: int = DEPTH) -> Iterator[Schema]:
    """The alternatives that a schema allows, with each `$ref` resolved.

    `{}` stands for a part that is not understood.
    """
    if not isinstance(schema, dict) or depth == 0:
        yield {}
        return
    if "$ref" in schema:
        yield from branches(_resolved(schema["$ref"], root), root, depth - 1)
        return
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            for one in schema[word]:
                yield from branches(one, root, depth - 1)
            return
    if isinstance(schema.get("allOf"), list):
        if len(schema["allOf"]) == 1:
            yield from branches(schema["allOf"][0], root, depth - 1)
        else:
            yield {}
        return
    yield schema


def _resolved(reference: Any, root: Schema) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return {}
    found: Any = root
    for name in reference[1:].strip("/").split("/") if reference != "#" else ():
        found = found.get(name.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
    return found


def types_of(branch: Schema) -> frozenset[str]:
    kinds = branch.get("type")
    if isinstance(kinds, str | list):
        found = frozenset([kinds] if isinstance(kinds, str) else kinds)
        return found | {"integer"} if "number" in found else found
    if "const" in branch or "enum" in branch:
        return frozenset(type_of(value) for value in branch.get("enum", [branch.get("const")]))
    if "properties" in branch:
        return frozenset({"object"})
    return _ALL_TYPES


def type_of(value: Any) -> str:
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


def property_of(branch: Schema, name: str) -> Any:
    """The schema of a property; True if anything may be there, None if nothing can be."""
    known = branch.get("properties")
    if isinstance(known, dict) and name in known:
        return known[name]
    if "patternProperties" in branch:
        return True
    others = branch.get("additionalProperties", not isinstance(known, dict))
    return None if others is False else others


def is_optional(branch: Schema, name: str) -> bool:
    """Whether the property may be missing.

    One with a default counts as present, even if it is not required: its writer fills it in.
    """
    schema = branch.get("properties", {}).get(name)
    return name not in branch.get("required", ()) and not (isinstance(schema, dict) and "default" in schema)


def item_of(branch: Schema) -> Any:
    if "prefixItems" in branch:
        return True
    return branch.get("items", True)


def is_open(branch: Schema) -> bool:
    return bool(branch.get("additionalProperties")) or "patternProperties" in branch

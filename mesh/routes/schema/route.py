"""The JSON Schema of a route document, for editors.

Editors use it for completion, hovers and red lines while a file is written.

Owns no key: names, kinds, bounds, defaults and texts come from `mesh.routes.keys`, the rules that
join several keys from `rules`. The compiler stays the judge (a schema can't know whether a step
exists or an expression parses). It promises one direction: what `compile_route` takes, the schema
takes. `mesh routes schema` prints the schema, and a test compares docs/route.schema.json with it.
"""

from typing import Any, Final, assert_never

from mesh.routes import values
from mesh.routes.keys import ROUTE
from mesh.routes.problems import written_duration
from mesh.routes.schema.rules import LIMIT_NAME, RULES

Schema = dict[str, Any]

# the newest that editors' YAML support covers as a whole
DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_DURATIONS: Final = ("30s", "5m", "24h", "7d")


def route_schema() -> Schema:
    """The schema of one document."""
    return {
        "$schema": DIALECT,
        "title": "Route",
        "description": "Which events start a workflow, and who works on it in which order (docs/route-reference.md).",
        **_mapping(ROUTE),
    }


def _mapping(table: values.Table) -> Schema:
    # What only some kinds of step require is among the rules.
    required = [name for name, key in table.keys.items() if key.is_required and not key.of]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _key(key) for name, key in table.keys.items()},
        **({"required": required} if required else {}),
        **RULES.get(table.name, {}),
    }


def _key(key: values.Key) -> Schema:
    schema = {**_kind(key.kind), "description": _description(key)}
    default = default_of(key)
    if default is not None:
        schema["default"] = default
    if key.examples:
        schema["examples"] = list(key.examples)
    return schema


def default_of(key: values.Key) -> Any:
    """What an absent key means, as one would write it."""
    if isinstance(key.kind, values.Choice):
        return None if key.is_required else key.kind.options[0]
    if isinstance(key.kind, values.Duration) and key.default is not None:
        return written_duration(key.default)
    return key.default


def _description(key: values.Key) -> str:
    return f"{key.text} Without it: {key.otherwise}." if key.otherwise else key.text


def _kind(kind: values.Kind) -> Schema:  # noqa: C901, PLR0911, PLR0912 - one case for each kind
    match kind:
        case values.Name():
            return {"type": "string", "pattern": f"^{kind.pattern}$", "maxLength": values.NAME_LENGTH}
        case values.Text():
            return {"type": "string", "minLength": 1} if kind.may_be_blank else {"type": "string", "pattern": r"\S"}
        case values.Expression():
            return {"type": "string", "pattern": r"^(?!\s*\$\{\{)[\s\S]*\S"}
        case values.Template():
            return {}
        case values.ListTemplate():
            return {"type": ["string", "array"]}
        case values.Duration():
            some = "" if kind.zero else "(?=.*[1-9])"
            pattern = f"^{some}{values.DURATION.pattern}$"
            return {"type": "string", "pattern": pattern, "examples": list(_DURATIONS)}
        case values.Choice():
            return {"enum": list(kind.options)}
        case values.Whole():
            return {"type": "integer", **_bounds(kind)}
        case values.Number():
            return {"type": "number", **_bounds(kind)}
        case values.Pattern():
            return {"type": "string", "pattern": f"^{kind.pattern}$"}
        case values.Names():
            item = {"type": "string", "minLength": 1} if kind.of is None else _kind(kind.of)
            least = {"minItems": kind.least} if kind.least else {}
            return {"type": "array", "items": item, **least, **({"uniqueItems": True} if kind.is_unique else {})}
        case values.Several():
            return {"type": "array", "items": _kind(kind.of), "minItems": 1}
        case values.Truth():
            return {"type": "boolean"}
        case values.Word():
            return {"const": kind.word}
        case values.SchemaDocument():
            return {"type": "object"}
        case values.Table():
            return _mapping(kind)
        case values.Named():
            return {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {**_kind(kind.name), **(LIMIT_NAME if kind.table.name == "limits" else {})},
                "additionalProperties": _mapping(kind.table),
            }
        case values.Texts():
            return {
                "type": "object",
                "minProperties": 1,
                "maxProperties": kind.most,
                "propertyNames": _kind(kind.name),
                "additionalProperties": {"type": "string", "pattern": r"\S"},
            }
        case values.OneOf():
            return {"anyOf": [_kind(one) for one in kind.kinds]}
        case _:
            assert_never(kind)


def _bounds(kind: values.Whole | values.Number) -> Schema:
    bounds = {"minimum": kind.low, "maximum": kind.high}
    return {name: bound for name, bound in bounds.items() if bound is not None}

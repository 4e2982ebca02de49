"""The JSON Schemas of values in a route: names, choices, durations, numbers, texts, and mappings of
them.

`route` and `steps` are made of these.
"""

from typing import Any, Final

from mesh.routes.budgets import MAX_AMOUNT
from mesh.routes.problems import DURATION, NAME, NAME_LENGTH, UNITS_S

Schema = dict[str, Any]
Shapes = dict[str, Schema]

TEXT: Final[Schema] = {"type": "string", "pattern": r"\S"}
EXPRESSION: Final[Schema] = {"type": "string", "pattern": r"^(?!\s*\$\{\{)[\s\S]*\S"}
LIST: Final[Schema] = {"type": ["string", "array"]}
_SAMPLES: Final = ("30s", "5m", "24h", "7d")


def mapping(keys: tuple[str, ...], shapes: Shapes, *, required: tuple[str, ...] = ()) -> Schema:
    """`keys`: those that the compiler knows, in their order.

    Raises `KeyError` where `shapes` describes others.
    """
    if set(keys) != shapes.keys():
        raise KeyError(f"the compiler and the schema know different keys: {sorted(set(keys) ^ shapes.keys())}")
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: shapes[key] for key in keys},
    }
    return {**schema, "required": list(required)} if required else schema


def name(pattern: str = NAME.pattern) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$", "maxLength": NAME_LENGTH}


def choice(choices: tuple[str, ...]) -> Schema:
    """The first is the default, as in `Part.choice`."""
    return {"enum": list(choices), "default": choices[0]}


def duration(default_s: float | None, *, zero: bool = False) -> Schema:
    some = "" if zero else "(?=.*[1-9])"
    schema: Schema = {"type": "string", "pattern": f"^{some}{DURATION.pattern}$", "examples": list(_SAMPLES)}
    return schema if default_s is None else {**schema, "default": _written(default_s)}


def _written(seconds: float) -> str:
    """A duration as one would write it: the largest unit that divides it."""
    unit = max((unit for unit in UNITS_S if seconds % UNITS_S[unit] == 0), key=lambda unit: UNITS_S[unit], default="s")
    return f"{seconds / UNITS_S[unit]:g}{unit}"


def whole(high: int, default: int | None = None) -> Schema:
    schema: Schema = {"type": "integer", "minimum": 1, "maximum": high}
    return schema if default is None else {**schema, "default": default}


def amount(description: str) -> Schema:
    return {"type": "number", "minimum": 0, "maximum": MAX_AMOUNT, "description": description}

"""The values of expressions: JSON's, and those that CEL has besides.

Owns what each kind is, how kinds are named in messages, CEL's `==`, and the way out: what an
expression gives is JSON, and equal values are written alike. `closures` and what it calls use it.

A map's keys are strings, ints and bools. A bool is kept as a `BoolKey`, since to Python true is 1;
`key_of` and `value_of_key` go there and back.
"""

import enum
import math
from typing import Any, Final

from mesh.core.json_values import kind_of

INT_MIN: Final = -(2**63)
INT_END: Final = 2**63
UINT_END: Final = 2**64


class Unsigned(int):
    """A `uint`. JSON's whole numbers from 2**63 on are also taken as such."""


class Nanoseconds(int):
    """A number of nanoseconds, for the two kinds of time."""


class Timestamp(Nanoseconds):
    """Nanoseconds since 1970 in UTC."""


class Duration(Nanoseconds):
    """A length of time."""


class Kind(str):
    """What `type(x)` gives."""

    __slots__ = ()


class BoolKey(enum.Enum):
    """A bool as the key of a map."""

    FALSE = False
    TRUE = True


class Refused(Exception):
    """A value that an operation does not take; the caller adds where."""


_KIND_NAMES: Final[dict[type, str]] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Unsigned: "uint",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Kind: "type",
}
KINDS: Final = {name: Kind(name) for name in _KIND_NAMES.values() if "." not in name}
"""The names that stand for kinds, as in `type(x) == int`."""

NUMBERS: Final = frozenset({int, float, Unsigned})
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_WORDS: Final[dict[type, str]] = {
    bytes: "bytes",
    Unsigned: "a number",
    Timestamp: "a timestamp",
    Duration: "a duration",
    Kind: "a type",
}


def words(value: Any) -> str:
    """What a value is, for messages."""
    return _WORDS.get(type(value)) or kind_of(value)


def number_kind(value: Any) -> str | None:
    """`int`, `uint` or `double`; None if it is not a number.

    A whole number beyond 64 bits, which no input of the mesh holds, is taken as a double.
    """
    kind = type(value)
    if kind is float:
        return "double"
    if kind is Unsigned:
        return "uint"
    if kind is not int:
        return None
    if INT_MIN <= value < INT_END:
        return "int"
    return "uint" if 0 <= value < UINT_END else "double"


def type_of(value: Any) -> Kind:
    """What CEL's `type` gives."""
    kind = type(value)
    return Kind("uint" if kind is int and number_kind(value) == "uint" else _KIND_NAMES.get(kind, kind.__name__))


def equal(left: Any, right: Any) -> bool:
    """CEL's `==`."""
    kind = type(left)
    # by exact type: to Python true is 1
    if kind is not type(right):
        return kind in NUMBERS and type(right) in NUMBERS and bool(left == right)
    if kind is list:
        return len(left) == len(right) and all(map(equal, left, right))
    if kind is dict:
        return len(left) == len(right) and all(key in right and equal(left[key], right[key]) for key in left)
    return bool(left == right)


# --- maps -----------------------------------------------------------------------------------------


def key_of(value: Any) -> Any:
    """The value as the key of a map. Raises `Refused`."""
    kind = type(value)
    if kind is str:
        return value
    if kind is int or kind is Unsigned:
        return int(value)
    if kind is bool:
        return BoolKey(value)
    raise Refused(f"the key of a map must be a string, a whole number or a bool, not {words(value)}")


def value_of_key(key: Any) -> Any:
    """The opposite of `key_of`."""
    return key.value if type(key) is BoolKey else key


def items_of(holder: list[Any] | dict[Any, Any]) -> list[Any]:
    """What a macro goes through: a list's items, or a map's keys, sorted.

    Two maps that are equal have the same keys in the same order, however they came about.
    """
    if type(holder) is list:
        return holder
    return [value_of_key(key) for key in sorted(holder, key=_rank)]


def _rank(key: Any) -> tuple[int, Any]:
    # bools, numbers, then texts: Python can't order one kind against another
    if type(key) is BoolKey:
        return 0, key.value
    return (1, key) if type(key) is int else (2, key)


# --- out ------------------------------------------------------------------------------------------


def outward(value: Any) -> Any:
    """The value as JSON. Raises `Refused` for what JSON has not."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return _number(value)
    if kind is list:
        return [outward(item) for item in value]
    if kind is dict:
        return _object(value)
    if kind is Unsigned:
        return int(value)
    if kind is Kind:
        return str(value)
    raise Refused(f"the value is {words(value)}, which JSON does not have: turn it into a string with string(...)")


def _number(value: float) -> float:
    if math.isfinite(value):
        return value
    raise Refused(f"the value is {value}, which JSON does not have")


def _object(value: dict[Any, Any]) -> dict[str, Any]:
    if not all(type(key) is str for key in value):
        raise Refused("the value is an object whose keys are not all strings")
    return {key: outward(item) for key, item in value.items()}

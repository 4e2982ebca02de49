"""JSON values: their canonical form, and their kinds in words.

Equal values have equal digests through the canonical form.
"""

import json
from hashlib import sha256
from typing import Any

import orjson


def canonical(value: Any) -> bytes:
    """JSON in UTF-8, keys sorted, no white space.

    Takes JSON types alone; raises `TypeError` on any other.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        if not _is_json(value):
            raise
        # an integer of more than 64 bits: JSON has them, orjson has not
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _is_json(value: Any) -> bool:
    match value:
        case dict():
            return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
        case list() | tuple():
            return all(map(_is_json, value))
        case str():
            # else `encode` above would raise an error of another kind
            return not any("\ud800" <= char <= "\udfff" for char in value)
        case _:
            return value is None or isinstance(value, int | float)


def digest(value: Any) -> str:
    """`sha256:` and 64 hexadecimal digits of the canonical JSON."""
    return "sha256:" + sha256(canonical(value)).hexdigest()


def is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. `true` is not `1` here, as it is in Python; `1.0` is."""
    if one != other:
        return False
    match one:
        case dict():
            return all(is_same(value, other[name]) for name, value in one.items())
        case list() | tuple():
            return all(map(is_same, one, other))
        case _:
            return isinstance(one, bool) == isinstance(other, bool)


def text_of(value: Any) -> str:
    """A value as text, in templates and keys: a string as it is, anything else as JSON.

    Values that are equal in expressions have equal texts: keys are sorted, `1.0` is `1`, and `-0.0`
    is `0`.
    """
    if type(value) is str:
        return value
    plain = _plain(value)
    try:
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # more than 64 bits, or half of a surrogate pair
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and -(2**63) <= value < 2**64:
            return int(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return value


def kind_of(value: Any) -> str:
    """What a value is, in words for people."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"

"""CEL's conversions, such as `int`, `string` and `timestamp`.

The others are `uint`, `double`, `bytes`, `bool` and `duration`. Owns what each one takes and gives
(cel-spec, doc/langdef.md, "List of Standard Definitions"). A value that does not fit is `Refused`
with its kind in the message. `closures` calls it.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from mesh.routes.expressions import times
from mesh.routes.expressions.values import (
    INT_END,
    INT_MIN,
    UINT_END,
    Duration,
    Refused,
    Timestamp,
    Unsigned,
    type_of,
    words,
)

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,40}")
_FRACTION: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE
)
_LONGEST_NUMBER: Final = 400
_SHOWN: Final = 40
_SECOND: Final = 1_000_000_000
_BOOLS: Final = {
    **dict.fromkeys(("true", "True", "TRUE", "t", "1"), True),
    **dict.fromkeys(("false", "False", "FALSE", "f", "0"), False),
}


def _refused(function: str, takes: str, value: Any) -> Refused:
    return Refused(f"{function}() takes {takes}, not {words(value)}")


def _whole(function: str, value: Any) -> int:
    """The whole number that a number or a text stands for, of any size."""
    kind = type(value)
    if kind is int or kind is Unsigned:
        return int(value)
    if kind is float:
        if not math.isfinite(value):
            raise Refused(f"{function}() of {value} is not a whole number")
        return int(value)
    if kind is str:
        if not _WHOLE.fullmatch(value):
            raise Refused(f"{function}() of {value[:_SHOWN]!r}: the text is not a whole number")
        return int(value)
    raise _refused(function, "a number or a string", value)


def _fits(function: str, number: int, low: int, end: int) -> int:
    if low <= number < end:
        return number
    raise Refused(f"{function}() of {number}: the number does not fit in 64 bits")


def to_int(value: Any) -> int:
    if type(value) is Timestamp:
        return value // _SECOND
    if type(value) in (bool, type(None), list, dict, bytes, Duration):
        raise _refused("int", "a number, a string or a timestamp", value)
    return _fits("int", _whole("int", value), INT_MIN, INT_END)


def to_uint(value: Any) -> Unsigned:
    return Unsigned(_fits("uint", _whole("uint", value), 0, UINT_END))


def to_double(value: Any) -> float:
    if type(value) in (int, float, Unsigned):
        return _double(value)
    if type(value) is not str:
        raise _refused("double", "a number or a string", value)
    if len(value) > _LONGEST_NUMBER or not _FRACTION.fullmatch(value):
        raise Refused(f"double() of {value[:_SHOWN]!r}: the text is not a number")
    found = float(value)
    # a text like `inf` means it; digits that come to it are only too many
    if math.isinf(found) and value[-1].isdigit():
        raise Refused(f"double() of {value[:_SHOWN]!r}: the number is too large")
    return found


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Refused("double(): the number is too large") from None


def to_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str and value in _BOOLS:
        return _BOOLS[value]
    raise _refused("bool", "true, false, or one of them as a string", value)


def to_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is not str:
        raise _refused("bytes", "a string", value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Refused("bytes(): the text holds half of a surrogate pair") from None


def to_string(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int or kind is Unsigned:
        return str(int(value))
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return number_text(value)
    if kind is Timestamp:
        return times.timestamp_text(value)
    if kind is Duration:
        return times.duration_text(value)
    if kind is bytes:
        return _decoded(value)
    raise _refused("string", "a number, a bool, bytes, a timestamp or a duration", value)


def number_text(value: float) -> str:
    """A double as its decimal digits, without an exponent.

    Equal numbers have equal texts, so `1.0` is `1`, and `-0.0` is `0`.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    text = f"{Decimal(repr(value)):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused("string(): the bytes are not UTF-8") from None


def to_timestamp(value: Any) -> Timestamp:
    if type(value) is Timestamp:
        return value
    if type(value) is str:
        return times.timestamp_of(value)
    if type(value) is int:
        return times.timestamp(value * _SECOND)
    raise _refused("timestamp", "an RFC 3339 string, or seconds since 1970", value)


def to_duration(value: Any) -> Duration:
    if type(value) is Duration:
        return value
    if type(value) is str:
        return times.duration_of(value)
    raise _refused("duration", "a string such as 1h30m", value)


def same(value: Any) -> Any:
    """`dyn`: the value as it is."""
    return value


CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "int": to_int,
    "uint": to_uint,
    "double": to_double,
    "bool": to_bool,
    "string": to_string,
    "bytes": to_bytes,
    "timestamp": to_timestamp,
    "duration": to_duration,
    "type": type_of,
    "dyn": same,
}

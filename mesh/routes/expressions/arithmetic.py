"""CEL's sums, products and negatives, of numbers and of times.

Owns their types and bounds: nothing is converted, and what does not fit is `Refused`. `closures`
calls it.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from mesh.routes.expressions.times import duration, timestamp
from mesh.routes.expressions.values import (
    INT_END,
    INT_MIN,
    NUMBERS,
    UINT_END,
    Duration,
    Refused,
    Timestamp,
    Unsigned,
    number_kind,
    words,
)

_SUMS: Final[dict[str, Callable[[Any, Any], Any]]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def compute(op: str, a: Any, b: Any) -> Any:
    """`a op b`. Raises `Refused`."""
    kind = number_kind(a)
    if kind is not None and kind == number_kind(b):
        return _fraction(op, a, b) if kind == "double" else _whole(op, a, b, kind)
    found = _times(op, a, b)
    if found is not None:
        return found
    fix = "a whole number and a fraction: write double(...)" if _is_mixed(a, b) else ""
    raise Refused(f"cannot compute {words(a)} {op} {words(b)}{fix and f' ({fix})'}")


def _is_mixed(a: Any, b: Any) -> bool:
    return type(a) in NUMBERS and type(b) in NUMBERS and (type(a) is float) != (type(b) is float)


def _fraction(op: str, a: float, b: float) -> float:
    if op == "%":
        raise Refused("cannot compute a fraction % a fraction: % takes whole numbers")
    try:
        # a whole number beyond 64 bits counts as a double, and may be too large for one
        left, right = float(a), float(b)
    except OverflowError:
        raise Refused(f"the numbers of {op} are too large") from None
    if op == "/":
        return _quotient(left, right)
    return float(_SUMS[op](left, right))


def _quotient(a: float, b: float) -> float:
    """The quotient of two fractions by IEEE 754: by zero it is infinite or NaN."""
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _whole(op: str, a: int, b: int, kind: str) -> int:
    result = _divided(op, int(a), int(b)) if op in "/%" else _SUMS[op](int(a), int(b))
    low, end = (INT_MIN, INT_END) if kind == "int" else (0, UINT_END)
    if not low <= result < end:
        raise Refused(f"the result of {op} does not fit in 64 bits")
    return result if kind == "int" else Unsigned(result)


def _divided(op: str, a: int, b: int) -> int:
    """Towards zero; the remainder has the sign of `a`."""
    if b == 0:
        raise Refused("division by zero" if op == "/" else "the remainder of a division by zero")
    # by absolute values, because Python rounds down and CEL towards zero
    quotient = abs(a) // abs(b)
    if (a < 0) != (b < 0):
        quotient = -quotient
    return quotient if op == "/" else a - b * quotient


def _times(op: str, a: Any, b: Any) -> Any:
    match op, a, b:
        case "+", Timestamp(), Duration():
            return timestamp(a + b)
        case "+", Duration(), Timestamp():
            return timestamp(a + b)
        case "+", Duration(), Duration():
            return duration(a + b)
        case "-", Timestamp(), Timestamp():
            return duration(a - b)
        case "-", Timestamp(), Duration():
            return timestamp(a - b)
        case "-", Duration(), Duration():
            return duration(a - b)
        case _:
            return None


def negative(value: Any) -> Any:
    """`-value`. Raises `Refused` with what it is, as the rest of a sentence."""
    kind = number_kind(value)
    if kind == "double" or (kind == "int" and value != INT_MIN):
        return -value
    raise Refused(words(value) + (" too large" if kind else ""))

"""What an evaluation may cost.

Owns the bound, and what counts. Without macros the work is bounded by the expression's own length;
a macro repeats its body for each item of a list that may come from an event, and macros in macros
multiply. So an expression with a macro counts steps, and ends as an error at `MAX_STEPS`. The count
is a function of the expression and its values, so every router ends it at the same place.

A step is a node of a macro's body for one item (cases of `?` and `&&` that are passed over count
too), an item that is copied, or 64 characters that are read. An item that is compared counts as
two, an entry of a map as four. A million steps take about a third of a second.
"""

from typing import Any, Final

from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.values import NUMBERS, equal

MAX_STEPS: Final = 1_000_000
LONGEST: Final = 4 * 1024 * 1024
"""Characters or items: what `+` may make of two texts or lists."""

_CHARACTERS: Final = 6  # a power of two: the characters that one step is for
_SIZED: Final = frozenset({str, bytes})


class ExpressionTooCostly(ExpressionError):
    """An evaluation that came to its bound. `&&`, `||` and macros pass over no such error."""


class Meter:
    """What is left of one evaluation's steps."""

    __slots__ = ("left", "shown")

    def __init__(self, shown: str) -> None:
        self.left = MAX_STEPS
        self.shown = shown

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise ExpressionTooCostly(
                f"it takes more than {MAX_STEPS:,} steps: a list is too long for what is done with each of its items"
                f" (in: {self.shown})"
            )


class MeteredScope(dict[str, Any]):
    """A scope with the meter of the evaluation that it is for."""

    __slots__ = ("meter",)

    def __init__(self, scope: Scope, meter: Meter) -> None:
        super().__init__(scope)
        self.meter = meter


def charge_length(scope: Any, *values: Any) -> None:
    """Count what goes through texts and bytes."""
    scope.meter.take(sum(len(value) >> _CHARACTERS for value in values if type(value) in _SIZED))


def charge_joined(scope: Any, left: Any, right: Any) -> None:
    """Count what copies two texts or lists into one."""
    length = len(left) + len(right)
    scope.meter.take(length if type(left) is list else length >> _CHARACTERS)


def equal_within(left: Any, right: Any, meter: Meter) -> bool:
    """`equal`, counted item by item."""
    kind = type(left)
    # settled without a look inside, so there is nothing to count
    if kind is not type(right) or kind in NUMBERS:
        return equal(left, right)
    if kind is list:
        meter.take(2 * len(left))
        return len(left) == len(right) and all(equal_within(a, b, meter) for a, b in zip(left, right, strict=True))
    if kind is dict:
        meter.take(4 * len(left))
        return len(left) == len(right) and all(
            key in right and equal_within(left[key], right[key], meter) for key in left
        )
    if kind in _SIZED:
        meter.take(len(left) >> _CHARACTERS)
    return bool(left == right)


def meter_of(scope: Any) -> Meter:
    """The meter of the evaluation that this scope is of."""
    meter: Meter = scope.meter
    return meter


def is_among(value: Any, holder: list[Any], scope: Scope) -> bool:
    """Whether the list has the value, and what the search costs is taken."""
    meter = meter_of(scope)
    if type(value) is str:
        # as Python compares texts: far faster than a step, and one by one only in their beginnings
        meter.take((len(holder) >> 4) * (1 + (len(value) >> 6)) + 1)
        return value in holder
    meter.take(len(holder))
    return any(equal_within(value, item, meter) for item in holder)

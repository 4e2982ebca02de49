"""CEL's macros: `all`, `exists`, `exists_one`, `filter` and `map`, each one loop.

Owns their meaning and what their items cost. `closures` compiles the parts, and finds the items.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.meter import ExpressionTooCostly, MeteredScope


class Macro(msgspec.Struct, frozen=True, kw_only=True):
    """A macro whose parts are compiled.

    `parts` are functions of the scope in which `name` is the item; `weight` is what an item costs.
    `mistyped` makes the error for a condition that came to the value.
    """

    name: str
    parts: list[Callable[[Scope], Any]]
    weight: int
    mistyped: Callable[[Any], ExpressionError]


def _holds(macro: Macro, scope: MeteredScope, item: Any) -> bool:
    scope.meter.take(macro.weight)
    scope[macro.name] = item
    value = macro.parts[0](scope)
    if type(value) is bool:
        return value
    raise macro.mistyped(value)


def _quantified(macro: Macro, items: list[Any], scope: MeteredScope, *, decisive: bool) -> bool:
    """An error counts only if no other item decides."""
    trouble: ExpressionError | None = None
    for item in items:
        try:
            if _holds(macro, scope, item) is decisive:
                return decisive
        # first: absorbed like other errors, it would let the evaluation go on beyond its bound
        except ExpressionTooCostly:
            raise
        except ExpressionError as error:
            trouble = trouble or error
    if trouble is None:
        return not decisive
    try:
        raise trouble
    finally:
        del trouble  # it holds this frame, and the frame held it


def _all(macro: Macro, items: list[Any], scope: MeteredScope) -> bool:
    return _quantified(macro, items, scope, decisive=False)


def _exists(macro: Macro, items: list[Any], scope: MeteredScope) -> bool:
    return _quantified(macro, items, scope, decisive=True)


def _exists_one(macro: Macro, items: list[Any], scope: MeteredScope) -> bool:
    return [_holds(macro, scope, item) for item in items].count(True) == 1


def _filter(macro: Macro, items: list[Any], scope: MeteredScope) -> list[Any]:
    return [item for item in items if _holds(macro, scope, item)]


def _map(macro: Macro, items: list[Any], scope: MeteredScope) -> list[Any]:
    """With three arguments the first part is a condition."""
    if len(macro.parts) > 1:
        return [macro.parts[1](scope) for item in items if _holds(macro, scope, item)]
    run, name, weight, take = macro.parts[0], macro.name, macro.weight, scope.meter.take
    made: list[Any] = []
    for item in items:
        take(weight)
        scope[name] = item
        made.append(run(scope))
    return made


MACRO_RUNS: Final[dict[str, Callable[[Macro, list[Any], MeteredScope], Any]]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
}

"""CEL's common shapes as Python closures: twenty times as fast as the library, and with messages
that name the missing path.

Owns the meaning of paths, comparisons, logic, `in`, sums, products and the string predicates. What
it does not cover (`closure` gives None) runs in the CEL library; a property test holds the two
equal. `compiler` is its only caller.

CEL's rules that Python has not:
- no truthiness: `&&`, `||`, `!` and `?` take true and false alone;
- `&&` and `||` absorb an error of one side when another decides, in either order;
- true is not 1; 1 equals 1.0; values of different types are unequal, and to order them is an error;
- whole numbers have 64 bits, and the sum of a whole number and a fraction is an error.
Where the library (cel 0.14.5 in Rust) departs from the specification, this follows the specification: `size` of a string counts code points (there: UTF-8
bytes), whole numbers beyond 2**53 compare exactly with fractions (there: rounded), a bool has no minus (there: it is negated),
and a list and a map have no sum (there: the map's keys are added).
"""

import operator
from collections.abc import Callable
from typing import Any, Final

from mesh.core.json_values import kind_of
from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.paths import Segments, has_segment, missing, path_text, segments_of, what_is_there
from mesh.routes.expressions.syntax import (
    Binary,
    Call,
    Conditional,
    Constant,
    Has,
    Index,
    ListOf,
    Logic,
    MapOf,
    Negate,
    Node,
    Not,
    Select,
)

Closure = Callable[[Scope], Any]

SHOWN_SOURCE: Final = 200
_INT_MIN: Final = -(2**63)
_INT_END: Final = 2**63
_UINT_END: Final = 2**64


class _Uncovered(Exception):
    """The library must run this."""


def closure(node: Node, source: str) -> Closure | None:
    """The expression as a function of the scope; None where only the library knows how.

    It raises `ExpressionError`.
    """
    try:
        return _Compiler(source).compile(node)
    except _Uncovered:
        return None


def equal(left: Any, right: Any) -> bool:
    """CEL's `==` on JSON values."""
    kind = type(left)
    if kind is not type(right):
        return kind in _NUMBERS and type(right) in _NUMBERS and bool(left == right)
    if kind is list:
        return len(left) == len(right) and all(map(equal, left, right))
    if kind is dict:
        return len(left) == len(right) and all(key in right and equal(left[key], right[key]) for key in left)
    return bool(left == right)


def size(value: Any) -> int:
    """Code points, items or entries; raises `TypeError` where there is no size."""
    if type(value) not in (str, list, dict):
        raise TypeError(f"{kind_of(value)} has no size")
    return len(value)


_NUMBERS: Final = frozenset({int, float})
_ORDERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SUMS: Final[dict[str, Callable[[Any, Any], Any]]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_PREDICATES: Final[dict[str, Callable[[str, str], bool]]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def _number_kind(value: Any) -> str | None:
    """`int`, `uint` or `double`, as the library takes a number from Python; None if it is none."""
    if type(value) is float:
        return "double"
    if type(value) is not int:
        return None
    if _INT_MIN <= value < _INT_END:
        return "int"
    return "uint" if 0 <= value < _UINT_END else "double"


class _Compiler:
    """One method a kind of node; `source` is for messages."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.shown = source if len(source) <= SHOWN_SOURCE else source[:SHOWN_SOURCE] + "..."

    def error(self, message: str) -> ExpressionError:
        return ExpressionError(f"{message} (in: {self.shown})")

    def text(self, node: Node) -> str:
        return self.source[node.start : node.end]

    def compile(self, node: Node) -> Closure:
        segments = segments_of(node)
        if segments is not None:
            return self.path(segments)
        match node:
            case Constant(value=value, foreign=False):
                return lambda _scope: value
            case Select(target=target, field=field):
                return self.index(target, lambda _scope: field)
            case Index(target=target, index=index):
                return self.index(target, self.compile(index))
            case Has(target=target, field=field):
                return self.has(target, field)
            case Call():
                return self.call(node)
            case ListOf(items=items):
                return self.list_of(items)
            case MapOf(entries=entries):
                return self.map_of(entries)
            case Not(operand=operand):
                return self.negation(operand)
            case Negate(operand=operand):
                return self.negative(operand)
            case Binary():
                return self.binary(node)
            case Logic():
                return self.logic(node)
            case Conditional():
                return self.conditional(node)
            case _:  # bytes and unsigned numbers
                raise _Uncovered

    # --- reading ----------------------------------------------------------------------------------

    def path(self, segments: Segments) -> Closure:
        def lost(scope: Scope) -> ExpressionError:
            return self.error(str(missing(scope, segments)))

        def followed(scope: Scope) -> Any:
            holder: Any = scope
            for segment in segments:
                if not has_segment(holder, segment):
                    raise lost(scope)
                holder = holder[segment]
            return holder

        if any(isinstance(segment, int) for segment in segments):
            return followed
        # Only an object takes a string in brackets: with any other value, Python raises what is
        # caught here.
        match segments:
            case (first, second, third):

                def path_of_three(scope: Scope) -> Any:
                    try:
                        return scope[first][second][third]  # type: ignore[index]  # names alone: checked above
                    except (KeyError, TypeError):
                        raise lost(scope) from None

                return path_of_three
            case (first, second, third, fourth):

                def path_of_four(scope: Scope) -> Any:
                    try:
                        return scope[first][second][third][fourth]  # type: ignore[index]  # names alone: checked above
                    except (KeyError, TypeError):
                        raise lost(scope) from None

                return path_of_four
            case _:

                def path_of_names(scope: Scope) -> Any:
                    holder: Any = scope
                    try:
                        for segment in segments:
                            holder = holder[segment]
                    except (KeyError, TypeError):
                        raise lost(scope) from None
                    return holder

                return path_of_names

    def index(self, target: Node, place: Closure) -> Closure:
        holder_of, label = self.compile(target), self.text(target)

        def indexed(scope: Scope) -> Any:
            holder, segment = holder_of(scope), place(scope)
            if type(segment) in (str, int) and has_segment(holder, segment):
                return holder[segment]
            if type(segment) in (str, int):
                raise self.error(f"{path_text((label, segment))} is not there; {what_is_there(label, holder)}")
            what = "a fraction" if type(segment) is float else kind_of(segment)
            raise self.error(f"{label}[...] takes a whole number or a string, not {what}")

        return indexed

    def has(self, target: Node, field: str) -> Closure:
        holder_of, label = self.compile(target), self.text(target)

        def tested(scope: Scope) -> bool:
            holder = holder_of(scope)
            if type(holder) is dict:
                return field in holder
            raise self.error(f"has({label}.{field}) needs an object, but {what_is_there(label, holder)}")

        return tested

    # --- values -----------------------------------------------------------------------------------

    def list_of(self, items: tuple[Node, ...]) -> Closure:
        parts = [self.compile(item) for item in items]
        if all(isinstance(item, Constant) for item in items):
            constant = [part({}) for part in parts]
            return lambda _scope: constant
        return lambda scope: [part(scope) for part in parts]

    def map_of(self, entries: tuple[tuple[Node, Node], ...]) -> Closure:
        parts: list[tuple[str, Closure]] = []
        for key, value in entries:
            if not isinstance(key, Constant) or not isinstance(key.value, str) or key.foreign:
                raise _Uncovered
            parts.append((key.value, self.compile(value)))
        return lambda scope: {key: part(scope) for key, part in parts}

    def call(self, call: Call) -> Closure:
        subject = call.args[0] if call.target is None else call.target
        if call.function == "size":
            return self.size(subject)
        if call.function in _PREDICATES:
            return self.predicate(call.function, subject, call.args[0])
        raise _Uncovered

    def size(self, subject: Node) -> Closure:
        part, label = self.compile(subject), self.text(subject)

        def measured(scope: Scope) -> int:
            value = part(scope)
            if type(value) in (list, str, dict):
                return len(value)
            raise self.error(f"{label} has no size: it is {kind_of(value)}")

        return measured

    def predicate(self, function: str, subject: Node, argument: Node) -> Closure:
        left, right, holds = self.compile(subject), self.compile(argument), _PREDICATES[function]

        def predicted(scope: Scope) -> bool:
            text, part = left(scope), right(scope)
            if type(text) is str and type(part) is str:
                return holds(text, part)
            raise self.error(f"{function}() needs strings, not {kind_of(text)} and {kind_of(part)}")

        return predicted

    # --- comparing --------------------------------------------------------------------------------

    def binary(self, node: Binary) -> Closure:
        if node.op in ("==", "!="):
            return self.equality(node)
        if node.op in _ORDERS:
            return self.order(node)
        if node.op in _SUMS:
            return self.sum(node)
        if node.op == "in":
            return self.membership(node)
        raise _Uncovered

    def equality(self, node: Binary) -> Closure:
        left, right = self.compile(node.left), self.compile(node.right)
        if isinstance(node.right, Constant) and type(node.right.value) is str:
            constant = node.right.value  # a string equals nothing but a string, in Python as in CEL
            if node.op == "==":
                return lambda scope: left(scope) == constant
            return lambda scope: left(scope) != constant
        if node.op == "==":
            return lambda scope: equal(left(scope), right(scope))
        return lambda scope: not equal(left(scope), right(scope))

    def order(self, node: Binary) -> Closure:
        left, right, compare, op = self.compile(node.left), self.compile(node.right), _ORDERS[node.op], node.op

        def ordered(scope: Scope) -> bool:
            a, b = left(scope), right(scope)
            kind = type(a)
            if (kind in _NUMBERS and type(b) in _NUMBERS) or (kind is type(b) and kind in (str, bool)):
                return bool(compare(a, b))
            raise self.error(f"cannot compare {kind_of(a)} {op} {kind_of(b)}")

        return ordered

    def membership(self, node: Binary) -> Closure:
        left, right = self.compile(node.left), self.compile(node.right)

        def contained(scope: Scope) -> bool:
            value, holder = left(scope), right(scope)
            if type(holder) is list:
                if type(value) is str:
                    return value in holder
                return any(equal(value, item) for item in holder)
            if type(holder) is dict and type(value) in (str, int, bool):
                return type(value) is str and value in holder
            raise self.error(f"cannot tell whether {kind_of(value)} is in {kind_of(holder)}")

        return contained

    # --- computing --------------------------------------------------------------------------------

    def sum(self, node: Binary) -> Closure:
        left, right, op = self.compile(node.left), self.compile(node.right), node.op
        joins = op == "+"

        def summed(scope: Scope) -> Any:
            a, b = left(scope), right(scope)
            if joins and type(a) is type(b) and type(a) in (str, list):
                return a + b
            return self.computed(op, a, b)

        return summed

    def computed(self, op: str, a: Any, b: Any) -> int | float:
        kind = _number_kind(a)
        if kind is None or kind != _number_kind(b):
            mend = "a whole number and a fraction: write double(...)" if {type(a), type(b)} == _NUMBERS else ""
            raise self.error(f"cannot compute {kind_of(a)} {op} {kind_of(b)}{mend and f' ({mend})'}")
        if kind == "double":
            try:
                return float(_SUMS[op](float(a), float(b)))
            except OverflowError:
                raise self.error(f"the numbers of {op} are too large") from None
        result: int = _SUMS[op](a, b)
        low, end = (_INT_MIN, _INT_END) if kind == "int" else (0, _UINT_END)
        if low <= result < end:
            return result
        raise self.error(f"the result of {op} does not fit in 64 bits")

    def negative(self, operand: Node) -> Closure:
        part, label = self.compile(operand), self.text(operand)

        def negated(scope: Scope) -> int | float:
            value = part(scope)
            kind = _number_kind(value)
            if kind == "double" or (kind == "int" and value != _INT_MIN):
                return -value  # type: ignore[no-any-return]  # a number
            raise self.error(f"cannot take -{label}: it is {kind_of(value)}" + (" too large" if kind else ""))

        return negated

    # --- logic ------------------------------------------------------------------------------------

    def mistyped(self, what: str, value: Any) -> ExpressionError:
        return self.error(f"{what} must be true or false, not {kind_of(value)}")

    def negation(self, operand: Node) -> Closure:
        part, label = self.compile(operand), self.text(operand)

        def denied(scope: Scope) -> bool:
            value = part(scope)
            if type(value) is bool:
                return not value
            raise self.mistyped(label, value)

        return denied

    def logic(self, node: Logic) -> Closure:
        parts = [(self.compile(operand), self.text(operand)) for operand in node.operands]
        decisive = node.op == "||"

        def decided(scope: Scope) -> bool:
            trouble: ExpressionError | None = None
            for part, label in parts:
                try:
                    value = part(scope)
                except ExpressionError as error:
                    trouble = trouble or error
                    continue
                if value is decisive:
                    return bool(decisive)
                if type(value) is not bool:
                    trouble = trouble or self.mistyped(label, value)
            if trouble is None:
                return not decisive
            try:
                raise trouble
            finally:
                del trouble  # it holds this frame, and the frame held it

        return decided

    def conditional(self, node: Conditional) -> Closure:
        test, label = self.compile(node.test), self.text(node.test)
        then, otherwise = self.compile(node.then), self.compile(node.otherwise)

        def chosen(scope: Scope) -> Any:
            value = test(scope)
            if value is True:
                return then(scope)
            if value is False:
                return otherwise(scope)
            raise self.mistyped(label, value)

        return chosen

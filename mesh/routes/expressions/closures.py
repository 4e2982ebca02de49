"""CEL as Python closures, with messages that name the missing path.

Owns the meaning of comparisons, logic, `in` and calls; paths are in `lookups`, sums in
`arithmetic`, macros in `macros`, conversions in `conversions`, times in `times`. What an expression
gives is a function of its scope alone: macros go through a map by its sorted keys, and times are in
UTC. `compiler` and `subexpressions` are its only callers; a property test holds it equal to a CEL
library.

CEL's rules that Python has not:
- no truthiness: `&&`, `||`, `!` and `?` take true and false alone;
- `&&` and `||` absorb an error of one side when another decides, in either order, and so do `all`
  and `exists`;
- true is not 1; 1 equals 1.0; values of different types are unequal, and to order them is an error;
- whole numbers have 64 bits, and the sum of a whole number and a fraction is an error.

A macro's variable is an entry in a copy of the scope, one for each time that the macro runs, which
is changed from item to item: no closure keeps the scope that it was given.
"""

import operator
from collections.abc import Callable
from typing import Any, Final

from mesh.core.patterns import PatternRefused, pattern
from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions import times
from mesh.routes.expressions.arithmetic import compute, negative
from mesh.routes.expressions.conversions import CONVERSIONS
from mesh.routes.expressions.lookups import Closure, follow, has_field, index
from mesh.routes.expressions.macros import MACRO_RUNS, Macro
from mesh.routes.expressions.meter import (
    LONGEST,
    ExpressionTooCostly,
    Meter,
    MeteredScope,
    charge_joined,
    charge_length,
    equal_within,
    is_among,
    meter_of,
)
from mesh.routes.expressions.paths import (
    Segments,
    macros_of,
    nodes_of,
    segments_of,
)
from mesh.routes.expressions.syntax import (
    MACROS,
    Binary,
    Call,
    Conditional,
    Constant,
    Has,
    Index,
    ListOf,
    Logic,
    MapOf,
    Name,
    Negate,
    Node,
    Not,
    Select,
)
from mesh.routes.expressions.tokens import wrong
from mesh.routes.expressions.values import (
    KINDS,
    NUMBERS,
    Duration,
    Refused,
    Timestamp,
    Unsigned,
    equal,
    items_of,
    key_of,
    outward,
    words,
)

SHOWN_SOURCE: Final = 200
_JSON_SCALARS: Final = frozenset({str, int, bool, type(None)})
_SIZED: Final = frozenset({str, list, dict, bytes})
_JOINED: Final = frozenset({str, list, bytes})
_ORDERED: Final = frozenset({str, bool, bytes, Timestamp, Duration})
_ORDERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PREDICATES: Final[dict[str, Callable[[str, str], bool]]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def closure(node: Node, source: str) -> Closure:
    """The expression as a function of the scope, which raises `ExpressionError`.

    Raises `ExpressionSyntaxError` for a pattern that can't be used.
    """
    compiler = _Compiler(source, metered=any(macros_of(node)))
    run = compiler.compile(node)
    if compiler.metered:
        run = _metered(run, compiler.shown)
    # what only reads gives JSON as it is, and most rules only read
    return compiler.outward(run) if compiler.computes else run


def _metered(run: Closure, shown: str) -> Closure:
    # a meter for each evaluation, or one would be charged for those before it
    return lambda scope: run(MeteredScope(scope, Meter(shown)))


class _Compiler:
    """One method a kind of node; `source` is for messages.

    `computes`: the value may be one that JSON has not. `metered`: it has a macro, so the scope will
    be a `MeteredScope`, and whatever depends on the size of a value is counted.
    """

    def __init__(self, source: str, *, metered: bool) -> None:
        self.source = source
        self.metered = metered
        self.computes = metered
        self.bound: frozenset[str] = frozenset()
        self.shown = source if len(source) <= SHOWN_SOURCE else source[:SHOWN_SOURCE] + "..."

    def error(self, message: str) -> ExpressionError:
        return ExpressionError(f"{message} (in: {self.shown})")

    def text(self, node: Node) -> str:
        return self.source[node.start : node.end]

    def outward(self, run: Closure) -> Closure:
        def given(scope: Scope) -> Any:
            value = run(scope)
            if type(value) in _JSON_SCALARS:
                return value
            try:
                return outward(value)
            except Refused as refused:
                raise self.error(str(refused)) from None

        return given

    def compile(self, node: Node) -> Closure:
        segments = None if isinstance(node, Name) else segments_of(node)
        if segments is not None and not self.is_of_a_map(segments):
            return self.path(segments)
        match node:
            case Constant(value=value, foreign=foreign):
                return self.constant(value, foreign=foreign)
            case Select(target=target, field=field):
                return self.index(target, lambda _scope: field)
            case Index(target=target, index=index):
                return self.index(target, self.compile(index))
            case Has(target=target, field=field):
                return has_field(self.compile(target), self.text(target), field, self.error)
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
            case _:
                return self.path((node.name,))

    def is_of_a_map(self, segments: Segments) -> bool:
        """Whether the path may lead into a map whose keys are numbers.

        A macro's variable can hold such a map.
        """
        return segments[0] in self.bound and any(isinstance(segment, int) for segment in segments)

    def constant(self, value: Any, *, foreign: bool) -> Closure:
        if foreign:
            self.computes = True
            value = Unsigned(value) if isinstance(value, int) else value
        return lambda _scope: value

    # --- reading ----------------------------------------------------------------------------------

    def path(self, segments: Segments) -> Closure:
        # a macro's variable may be called `int`, and then it hides the kind
        if len(segments) == 1 and segments[0] in KINDS and segments[0] not in self.bound:
            self.computes = True
            return self.constant(KINDS[str(segments[0])], foreign=False)
        return follow(segments, self.error)

    def index(self, target: Node, place: Closure) -> Closure:
        return index(self.compile(target), self.text(target), place, self.error)

    # --- values -----------------------------------------------------------------------------------

    def list_of(self, items: tuple[Node, ...]) -> Closure:
        parts = [self.compile(item) for item in items]
        if all(isinstance(item, Constant) for item in items):
            # shared by all evaluations: values are never changed in place
            constant = [part({}) for part in parts]
            return lambda _scope: constant
        return lambda scope: [part(scope) for part in parts]

    def map_of(self, entries: tuple[tuple[Node, Node], ...]) -> Closure:
        if all(isinstance(key, Constant) and type(key.value) is str and not key.foreign for key, _ in entries):
            # fixed texts as keys: nothing to check, and the map is JSON already
            named = [(key.value, self.compile(value)) for key, value in entries if isinstance(key, Constant)]
            return lambda scope: {key: part(scope) for key, part in named}
        self.computes = True
        parts = [(self.compile(key), self.compile(value)) for key, value in entries]

        def mapped(scope: Scope) -> dict[Any, Any]:
            try:
                return {key_of(key(scope)): part(scope) for key, part in parts}
            except Refused as refused:
                raise self.error(str(refused)) from None

        return mapped

    def call(self, call: Call) -> Closure:
        subject = call.args[0] if call.target is None else call.target
        if call.function == "size":
            return self.size(subject)
        if call.function in _PREDICATES:
            return self.predicate(call.function, subject, call.args[0])
        if call.function == "matches":
            return self.matching(subject, call.args[0])
        if call.function in MACROS:
            return self.macro(call, subject)
        self.computes = True
        if call.function in CONVERSIONS:
            return self.of_one(CONVERSIONS[call.function], subject)
        return self.getter(call.function, subject, *call.args)

    def size(self, subject: Node) -> Closure:
        part, label = self.compile(subject), self.text(subject)

        def measured(scope: Scope) -> int:
            value = part(scope)
            if type(value) in _SIZED:
                return len(value)
            raise self.error(f"{label} has no size: it is {words(value)}")

        return measured

    def predicate(self, function: str, subject: Node, argument: Node) -> Closure:
        left, right, holds = self.compile(subject), self.compile(argument), _PREDICATES[function]
        metered = self.metered

        def predicted(scope: Scope) -> bool:
            text, part = left(scope), right(scope)
            if metered:
                charge_length(scope, text)
            if type(text) is str and type(part) is str:
                return holds(text, part)
            raise self.error(f"{function}() needs strings, not {words(text)} and {words(part)}")

        return predicted

    def matching(self, subject: Node, argument: Node) -> Closure:
        left, right = self.compile(subject), self.compile(argument)
        metered = self.metered
        if isinstance(argument, Constant) and type(argument.value) is str:
            try:
                # compiled now, so that a mistake is found when the route is loaded, and not by an
                # event
                pattern(argument.value)
            except PatternRefused as refused:
                raise wrong(str(refused), argument.start) from None

        def matched(scope: Scope) -> bool:
            text, wanted = left(scope), right(scope)
            if type(text) is not str or type(wanted) is not str:
                raise self.error(f"matches() needs strings, not {words(text)} and {words(wanted)}")
            if metered:
                charge_length(scope, text, wanted)
            try:
                return pattern(wanted).is_in(text)
            except PatternRefused as refused:
                raise self.error(str(refused)) from None

        return matched

    def of_one(self, function: Callable[[Any], Any], subject: Node) -> Closure:
        part, metered = self.compile(subject), self.metered

        def converted(scope: Scope) -> Any:
            value = part(scope)
            if metered:
                charge_length(scope, value)
            try:
                return function(value)
            except Refused as refused:
                raise self.error(str(refused)) from None

        return converted

    def getter(self, function: str, subject: Node, *zone: Node) -> Closure:
        parts = [self.compile(node) for node in (subject, *zone)]

        def got(scope: Scope) -> int:
            try:
                return times.part_of(function, *[part(scope) for part in parts])
            except Refused as refused:
                raise self.error(str(refused)) from None

        return got

    def macro(self, call: Call, subject: Node) -> Closure:
        outer, name = self.bound, self.text(call.args[0])
        holder_of, label = self.compile(subject), self.text(subject)
        # after the subject: the variable is bound in the body alone
        self.bound = outer | {name}
        parts = [self.compile(part) for part in call.args[1:]]
        self.bound = outer
        macro = Macro(
            name=name,
            parts=parts,
            weight=1 + sum(nodes_of(part) for part in call.args[1:]),
            mistyped=lambda value: self.mistyped(self.text(call.args[1]), value),
        )
        run = MACRO_RUNS[call.function]

        def ran(scope: Any) -> Any:
            holder = holder_of(scope)
            if type(holder) not in (list, dict):
                raise self.error(f"{call.function}() needs a list or a map, but {label} is {words(holder)}")
            if type(holder) is dict:
                # sorting the keys is work too
                scope.meter.take(len(holder))
            return run(macro, items_of(holder), MeteredScope(scope, scope.meter))

        return ran

    # --- comparing --------------------------------------------------------------------------------

    def binary(self, node: Binary) -> Closure:
        if node.op in ("==", "!="):
            return self.equality(node)
        if node.op in _ORDERS:
            return self.order(node)
        if node.op == "in":
            return self.membership(node)
        return self.sum(node)

    def equality(self, node: Binary) -> Closure:
        left, right = self.compile(node.left), self.compile(node.right)
        if isinstance(node.right, Constant) and type(node.right.value) is str:
            # such a text is as short as the expression: comparing with it needs no counting
            constant = node.right.value  # a string equals nothing but a string, in Python as in CEL
            if node.op == "==":
                return lambda scope: left(scope) == constant
            return lambda scope: left(scope) != constant
        wanted = node.op == "=="
        if self.metered:
            return lambda scope: equal_within(left(scope), right(scope), meter_of(scope)) is wanted
        return lambda scope: equal(left(scope), right(scope)) is wanted

    def order(self, node: Binary) -> Closure:
        left, right, compare, op = self.compile(node.left), self.compile(node.right), _ORDERS[node.op], node.op
        metered = self.metered

        def ordered(scope: Scope) -> bool:
            a, b = left(scope), right(scope)
            if metered:
                charge_length(scope, a)
            kind = type(a)
            if (kind in NUMBERS and type(b) in NUMBERS) or (kind is type(b) and kind in _ORDERED):
                return bool(compare(a, b))
            raise self.error(f"cannot compare {words(a)} {op} {words(b)}")

        return ordered

    def membership(self, node: Binary) -> Closure:
        left, right, metered = self.compile(node.left), self.compile(node.right), self.metered

        def contained(scope: Scope) -> bool:
            value, holder = left(scope), right(scope)
            if type(holder) is list:
                if metered:
                    return is_among(value, holder, scope)
                # a string equals nothing but a string, so Python's own search is right, and fast
                if type(value) is str:
                    return value in holder
                return any(equal(value, item) for item in holder)
            if type(holder) is dict and type(value) in (str, int, bool, Unsigned):
                return key_of(value) in holder
            raise self.error(f"cannot tell whether {words(value)} is in {words(holder)}")

        return contained

    # --- computing --------------------------------------------------------------------------------

    def sum(self, node: Binary) -> Closure:
        left, right, op = self.compile(node.left), self.compile(node.right), node.op
        joins, metered = op == "+", self.metered
        self.computes = True

        def summed(scope: Scope) -> Any:
            a, b = left(scope), right(scope)
            if joins and type(a) is type(b) and type(a) in _JOINED:
                if metered:
                    charge_joined(scope, a, b)
                # before it is made: macros in macros can double a text again and again
                if len(a) + len(b) > LONGEST:
                    raise self.error(f"the result of + is too long: the most is {LONGEST:,} characters or items")
                return a + b
            try:
                return compute(op, a, b)
            except Refused as refused:
                raise self.error(str(refused)) from None

        return summed

    def negative(self, operand: Node) -> Closure:
        part, label = self.compile(operand), self.text(operand)
        self.computes = True

        def negated(scope: Scope) -> Any:
            try:
                return negative(part(scope))
            except Refused as refused:
                raise self.error(f"cannot take -{label}: it is {refused}") from None

        return negated

    # --- logic ------------------------------------------------------------------------------------

    def mistyped(self, what: str, value: Any) -> ExpressionError:
        return self.error(f"{what} must be true or false, not {words(value)}")

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
                # first: absorbed like other errors, it would let the evaluation go on beyond its
                # bound
                except ExpressionTooCostly:
                    raise
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

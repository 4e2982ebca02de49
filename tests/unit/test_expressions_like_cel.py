"""Expressions give what a CEL library gives: values, and errors or none.

They are random, and so are their scopes.

Left out is where the library (cel 0.14.5 in Rust) departs from CEL's specification: it counts a
string's bytes, so its `size` is replaced here; it rounds whole numbers beyond 2**53 where it
compares them with fractions, so fractions here are small; it negates bools, so numbers alone get a
minus; it adds a map's keys to a list, so no sum here has a list and a map; it takes a map's keys in
any order, so macros over maps ask questions that have one answer; its `string` knows no bool, and
writes times in its own way; its `int` knows no timestamp. NaN and infinite numbers, which JSON has
not, are errors here. The value of a macro is compared where its list is a list.
"""

import logging
import re
from typing import Any

import cel
from draws import draws
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.core.route import ExpressionError
from mesh.routes.expressions.compiler import compile_expression
from mesh.routes.expressions.values import equal

NAMES = ("a", "b", "kind", "x y")
TEXTS = ("", "a", "high", "é😀", "1")

numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**70]),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.5, 2.0, 1e300]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(TEXTS))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=8,
)
scopes = st.fixed_dictionaries(
    {"event": st.dictionaries(st.sampled_from(NAMES), values, max_size=3)},
    optional={"steps": values, "workflow": values},
)


def _quoted(text: str) -> str:
    return "'" + text + "'"


scalar_literals = st.one_of(
    st.sampled_from(["true", "false", "null"]),
    st.integers(-3, 9).map(str),
    st.sampled_from(["9223372036854775807", "-9223372036854775808", "0x10", "1.5", "2.0", "1e3", ".5"]),
    st.sampled_from(TEXTS).map(_quoted),
)
literals = st.one_of(scalar_literals, st.sampled_from(["[]", "{}"]))


_bodies = st.sampled_from(["true", "x == 1", "x != 'a'", "x < 2", "x == 1 || x > 'a'", "x.a == 1", "x", "size(x) > 0"])


@st.composite
def paths(draw: st.DrawFn) -> str:
    path = draw(st.sampled_from(["event", "event", "event", "steps", "workflow"]))
    for _ in range(draw(st.integers(0, 3))):
        path += draw(st.sampled_from([".a", ".b", ".kind", "['x y']", "['a']", "[0]", "[1]", "[-1]"]))
    return path


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def joined(*signs: str) -> st.SearchStrategy[str]:
        return st.tuples(inner, st.sampled_from(signs), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")

    return st.one_of(
        joined("&&", "||"),
        joined("==", "!="),
        joined("<", "<=", ">", ">="),
        joined("-", "*"),
        st.tuples(scalar_literals, inner).map(lambda t: f"({t[0]} + {t[1]})"),
        st.tuples(inner, scalar_literals).map(lambda t: f"({t[0]} + {t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"(({t[0]} * 1) + {t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} + ('' + {t[1]}))"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} + [{t[1]}])"),
        joined("in"),
        st.lists(inner, min_size=2, max_size=4).flatmap(
            lambda parts: st.sampled_from([" && ", " || "]).map(lambda sign: f"({sign.join(parts)})")
        ),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        joined("/", "%"),
        inner.map(lambda part: f"!{part}"),
        inner.map(lambda part: f"!!{part}"),
        st.tuples(inner, st.sampled_from(["1", "1.0"])).map(lambda t: f"(-({t[0]} * {t[1]}))"),
        st.tuples(inner, st.sampled_from(["all", "exists", "exists_one"]), _bodies).map(
            lambda t: f"({t[0]}).{t[1]}(x, {t[2]})"
        ),
        st.tuples(inner, _bodies).map(lambda t: f"([{t[0]}] + []).filter(x, {t[1]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"[{t[0]}, {t[1]}].map(x, x == {t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"[{t[0]}].map(x, x == x, [x, {t[1]}])"),
        st.tuples(st.sampled_from(["int", "uint", "double"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(inner, st.sampled_from(["a", "^[a-z]+$", ".", "é"])).map(lambda t: f"({t[0]}).matches('{t[1]}')"),
        inner.map(lambda part: f"size({part})"),
        inner.map(lambda part: f"({part}).size()"),
        st.tuples(inner, st.sampled_from(["startsWith", "endsWith", "contains"]), inner).map(
            lambda t: f"({t[0]}).{t[1]}({t[2]})"
        ),
        st.tuples(inner, inner).map(lambda t: f"({t[0]})[{t[1]}]"),
        inner.map(lambda part: f"({part}).a"),
        paths().map(lambda path: f"has({path}.a)"),
        inner.map(lambda part: f"has(({part}).b)"),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(inner, max_size=2).map(
            lambda parts: "{" + ", ".join(f"'{name}': {part}" for name, part in zip(NAMES, parts, strict=False)) + "}"
        ),
    )


expressions = st.recursive(st.one_of(literals, paths(), paths()), _compound, max_leaves=7)

FAILED = object()
NOT_JSON = object()
OVERFLOWED = object()
"""The library takes the negative of the least number for that number.

The language's specification has an error there, and so have we.
"""
logging.getLogger("cel").setLevel(logging.ERROR)  # or each failing `size` below is a warning


def by_closures(source: str, scope: dict[str, Any]) -> Any:
    try:
        return compile_expression(source).evaluate(scope)
    except ExpressionError as error:
        if re.search("which JSON does not have", str(error)):
            return NOT_JSON
        return OVERFLOWED if re.search("cannot take -.*too large", str(error), re.DOTALL) else FAILED


def by_library(source: str, scope: dict[str, Any]) -> Any:
    def size(value: Any) -> int:
        if not isinstance(value, str | list | dict):
            raise TypeError
        return len(value)

    context = cel.Context(variables=scope, functions={"size_": size})
    try:
        return cel.compile(source.replace("size(", "size_(")).execute(context)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return FAILED


@settings(max_examples=draws(1_000), deadline=None)
@given(expressions, scopes)
@example("(event.a == 1 || true)", {"event": {}})
@example("(1 == true)", {"event": {}})
@example("!!!-1", {"event": {}})
@example("(event.a in [true])", {"event": {"a": 1}})
@example("(event.a + 1)", {"event": {"a": 2**63 - 1}})
@example("(event.a - 1)", {"event": {"a": 2**63}})
def test_expressions_give_what_the_library_gives(source: str, scope: dict[str, Any]) -> None:
    ours, theirs = by_closures(source, scope), by_library(source, scope)
    if ours is OVERFLOWED or ours is NOT_JSON:
        return
    assert (ours is FAILED) == (theirs is FAILED), (source, scope, ours, theirs)
    assert ours is FAILED or equal(ours, theirs), (source, scope, ours, theirs)


def test_the_negative_of_the_least_number_is_an_error_as_the_specification_says() -> None:
    assert by_closures("(-(event.a * 1))", {"event": {"a": -(2**63)}}) is OVERFLOWED
    assert by_closures("(-(event.a * 1))", {"event": {"a": 1 - 2**63}}) == 2**63 - 1

"""What an evaluation may cost: linear work, and an end to what multiplies."""

from typing import Any

import pytest

from mesh.core.route import ExpressionError
from mesh.routes.expressions import meter
from mesh.routes.expressions.compiler import compile_expression
from mesh.routes.expressions.meter import LONGEST, MAX_STEPS

LONG: dict[str, Any] = {
    "event": {
        "n": [1] * 1_000,
        "s": ["a" * 300] * 1_000,
        "t": "a" * 100_000,
        "m": {f"k{number}": 1 for number in range(1_000)},
        "deep": [[[1] * 1_000]],
    }
}

LINEAR: list[tuple[str, Any]] = [
    ("size(event.n.map(x, x + 1))", 1_000),
    ("event.n.all(x, x == 1)", True),
    ("event.n.exists(x, x == 2)", False),
    ("event.n.exists_one(x, x == 1)", False),
    ("size(event.n.filter(x, x > 0 && x < 2))", 1_000),
    ("size(event.n.map(x, x == 1, {'a': x}))", 1_000),
    ("size(event.m.map(k, k))", 1_000),
    ("size(event.s.map(x, x + x))", 1_000),
    ("event.s.all(x, x.startsWith('a') && x.matches('^a+$'))", True),
    ("event.n.map(x, x) == event.n", True),
    ("event.n.filter(x, x == 1).map(x, x * 2).exists(x, x == 2)", True),
    ("['a', 'b'].all(x, x in event.s) || true", True),
]

MULTIPLYING: list[str] = [
    "event.n.map(x, event.n.map(y, x + y))",
    "event.n.filter(x, event.n.exists(y, y > x))",
    "event.n.all(x, event.n.all(y, x == y))",
    "event.n.exists_one(x, event.n.exists_one(y, x == y))",
    "event.n.map(x, x in event.n && 2 in event.n)",
    "event.s.all(x, x in event.s && 'b' in event.s || true)",
    "event.n.map(x, event.n == event.n)",
    "event.n.map(x, event.deep == event.deep)",
    "event.n.map(x, event.m == event.m)",
    "event.n.map(x, event.t == event.t + '')",
    "event.n.map(x, event.n + event.n)",
    "event.n.map(x, event.t + event.t)",
    "event.n.map(x, bytes(event.t))",
    "event.n.map(x, event.t.matches('a'))",
    "event.n.map(x, event.t.contains('b'))",
    "event.n.map(x, event.t < event.t)",
    "event.n.map(x, event.m.map(k, k))",
    "[event.n]" + ".map(x, x + x)" * 20,
    "[event.t]" + ".map(x, x + x)" * 20,
    "event.n.exists(x, event.n.all(y, x == y) && false) || true",
    "event.n.all(x, event.n.exists(y, x != y) || true)",
]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that is as tight for these lists as the real one is for the largest event's."""
    monkeypatch.setattr(meter, "MAX_STEPS", 20_000)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(("source", "value"), LINEAR)
def test_a_macro_over_a_long_list_takes_steps_for_its_items(source: str, value: Any) -> None:
    assert compile_expression(source).evaluate(LONG) == value


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("source", MULTIPLYING)
def test_what_multiplies_comes_to_an_end(source: str) -> None:
    with pytest.raises(ExpressionError, match=r"it takes more than 20,000 steps: a list is too|is too long"):
        compile_expression(source).evaluate(LONG)


@pytest.mark.parametrize("source", ["event.t + event.t", "event.l + event.l"])
def test_a_sum_has_a_bound_without_a_macro_too(source: str) -> None:
    scope = {"event": {"t": "a" * (LONGEST // 2 + 1), "l": [1] * (LONGEST // 2 + 1)}}
    with pytest.raises(
        ExpressionError, match=r"the result of \+ is too long: the most is 4,194,304 characters or item"
    ):
        compile_expression(source).evaluate(scope)


@pytest.mark.usefixtures("few_steps")
def test_each_evaluation_has_steps_of_its_own() -> None:
    once = compile_expression("size(event.n.map(x, x + 1))")
    for _ in range(20):
        assert once.evaluate(LONG) == 1_000


def test_the_bound_lets_a_list_of_the_largest_event_through() -> None:
    fits = MAX_STEPS // 4
    compiled = compile_expression("event.n.all(x, x == 1)")
    assert compiled.evaluate({"event": {"n": [1] * fits}}) is True
    with pytest.raises(ExpressionError, match=r"it takes more than 1,000,000 steps.* \(in: event\.n\.all"):
        compiled.evaluate({"event": {"n": [1] * (fits + 1)}})

"""An expression's value depends on its scope alone.

It does not depend on the process, or on the order in which equal values were made.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mesh.core.json_values import text_of
from mesh.core.route import ExpressionError
from mesh.routes.expressions.compiler import compile_expression, compile_template

MAPS: dict[str, Any] = {
    "m": {"alpha": 1, "beta": 2, "gamma": 3, "delta": 4, "é": [1.0, {"z": 0.0, "a": -0.0}]},
    "n": {str(number): {"x": number, "a": number % 3} for number in range(40)},
    "l": [{"b": 1, "a": 2}, {"a": 2, "b": 1}],
    "at": "2026-03-01T23:30:00+09:00",
}
EXPRESSIONS = (
    "event.m.map(k, k)",
    "event.m.map(k, k)[0]",
    "event.m.filter(k, size(k) > 4)",
    "event.m.exists(k, k == 'é' || event.m[k] / 0 == 1)",
    "event.m.all(k, event.m[k] < 2)",
    "event.n.map(k, event.n[k])",
    "event.n.map(k, event.n[k].a == 1, {k: event.n[k], 'z': k})",
    "event.n.map(k, event.n[k].map(j, event.n[k][j]))",
    "{'b': event.m, 'a': 1, event.at: 2}",
    "{'b': event.m, 'a': 1}.map(k, k)",
    "{2: 'b', 1: 'a', true: 'c', 'x': 'd'}.map(k, string(k))",
    "event.l[0] == event.l[1] && event.l[0] in event.l",
    "string(timestamp(event.at)) + string(timestamp(event.at).getHours('America/New_York'))",
    "event.m.nope",
    "event.m.map(k, event.m[k].nope)",
    "event.n.map(k, k / 0)",
)
TEMPLATES = ("${{ event.m }}-${{ event.n }}", "${{ {'b': event.l, 'a': event.m} }}!", "${{ event.m.map(k, k) }}.")


def came_to(data: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for source in EXPRESSIONS:
        try:
            found.append(compile_expression(source).evaluate({"event": data}))
        except ExpressionError as error:
            found.append(str(error))
    return found + [compile_template(source).render({"event": data}) for source in TEMPLATES]


def turned(value: Any) -> Any:
    """The same value with every map made the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.deep
def test_processes_with_other_hash_seeds_give_the_same() -> None:
    found = set()
    for seed in ("0", "1", "4711"):
        ran = subprocess.run(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            check=True,
            text=True,
        )
        found.add(ran.stdout)
    assert found == {json.dumps(came_to(MAPS)) + "\n"}


def test_evaluating_again_gives_the_same() -> None:
    assert json.dumps(came_to(MAPS)) == json.dumps(came_to(MAPS))


@pytest.mark.parametrize("source", [*EXPRESSIONS[:8], *EXPRESSIONS[9:]])
def test_equal_maps_give_the_same_whatever_the_order_they_were_made_in(source: str) -> None:
    expression = compile_expression(source)

    def told(data: Any) -> str:
        try:
            return text_of(expression.evaluate({"event": data}))
        except ExpressionError as error:
            return str(error)

    assert told(MAPS) == told(turned(MAPS))


@pytest.mark.parametrize("template", TEMPLATES)
def test_equal_maps_are_written_alike(template: str) -> None:
    compiled = compile_template(template)
    assert compiled.render({"event": MAPS}) == compiled.render({"event": turned(MAPS)})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 1.0], "1"),
        ([0, 0.0, -0.0], "0"),
        ([1e3, 1000], "1000"),
        ([2.0**63, 2**63], "9223372036854775808"),
        ([[1, {"b": 2, "a": 1.0}], [1.0, {"a": 1, "b": 2.0}]], '[1,{"a":1,"b":2}]'),
        ([2.0**70], "1.1805916207174113e+21"),
        ([0.1], "0.1"),
        ([True], "true"),
        ([None], "null"),
        (["1.0"], "1.0"),
        ([2**70], "1180591620717411303424"),
        ([{"b": "\ud800", "a": 1.0}], '{"a":1,"b":"\\ud800"}'),
    ],
)
def test_equal_values_have_equal_texts(values: list[Any], text: str) -> None:
    assert {text_of(value) for value in values} == {text}


if __name__ == "__main__":
    print(json.dumps(came_to(MAPS)))  # noqa: T201 - asked by the test above

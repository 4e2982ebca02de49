"""Templates: JSON values whose strings may hold `${{ expression }}`."""

from typing import Any

import pytest

from mesh.core.route import ExpressionError
from mesh.routes.expressions.compiler import compile_template
from mesh.routes.expressions.tokens import ExpressionSyntaxError

SCOPE: dict[str, Any] = {
    "event": {
        "subject": "12",
        "data": {
            "n": 3,
            "f": 1.0,
            "yes": True,
            "none": None,
            "list": [1, "a"],
            "map": {"é": [1.5]},
            "big": 10**30,
            "half": "\ud800",
        },
    },
    "steps": {"a": {"b": [1, {"c": "d"}]}},
}

RENDERED: list[tuple[Any, Any]] = [
    ("${{ event.data.n }}", 3),
    ("${{event.data.list}}", [1, "a"]),
    ("${{ event.data.none }}", None),
    ("#${{ event.subject }}", "#12"),
    ("${{ event.subject }}\n", "12\n"),
    (" ${{ event.data.n }}${{ event.data.f }}-${{ event.data.yes }}/${{ event.data.none }}", " 31-true/null"),
    ("${{ event.data.list }} and ${{ event.data.map }}", '[1,"a"] and {"é":[1.5]}'),
    ("n=${{ event.data.big }}", f"n={10**30}"),
    ("half: ${{ event.data.half }}", "half: \ud800"),
    ("halves: ${{ [event.data.half] }}", 'halves: ["\\ud800"]'),
    ("$${{ event.subject }}", "${{ event.subject }}"),
    ("a $${{ b }} ${{ event.subject }}", "a ${{ b }} 12"),
    ("$${{", "${{"),
    ("costs $5 {{ x }} }}", "costs $5 {{ x }} }}"),
    ("${{ {'a': {'b': '}}'}} }}", {"a": {"b": "}}"}}),
    ("${{ {'a': {'b': event.subject}}.a.b }}!", "12!"),
    (
        {"a": "${{ event.subject }}", "b": 1, "c": ["${{ event.data.n }}", {"d": None}], "e": {}},
        {"a": "12", "b": 1, "c": [3, {"d": None}], "e": {}},
    ),
    ([], []),
    (None, None),
    (True, True),
]

UNREADABLE: list[tuple[Any, str, int, tuple[str | int, ...], str]] = [
    ("${{ event. }}", "expected a name after '.', found the end", 11, (), "${{ event. }}"),
    ("ab ${{ a b }}", "unexpected 'b' after the expression", 10, (), "ab ${{ a b }}"),
    ("${{ }}", "the expression is empty", 5, (), "${{ }}"),
    ("x ${{ event.a", "${{ is not closed by }} (write $${{ for the text itself)", 3, (), "x ${{ event.a"),
    ("${{ event.a }", "${{ is not closed by }} (write $${{ for the text itself)", 1, (), "${{ event.a }"),
    ("${{ 'a }}", "the string that opens here is not closed by '", 5, (), "${{ 'a }}"),
    ("${{ a # }}", "unexpected '#'", 7, (), "${{ a # }}"),
    ({"a": [1, "${{ b = 1 }}"]}, "unexpected '=' (to compare write ==)", 7, ("a", 1), "${{ b = 1 }}"),
    ({"a": {"x ${{ b }}": 1}}, "a key can't hold ${{ }}, only a value can", 3, ("a",), "x ${{ b }}"),
]


@pytest.mark.parametrize(("source", "value"), RENDERED)
def test_it_renders(source: Any, value: Any) -> None:
    found = compile_template(source).render(SCOPE)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("source", "message", "column", "path", "text"), UNREADABLE)
def test_it_says_what_is_wrong_and_where(
    source: Any, message: str, column: int, path: tuple[str | int, ...], text: str
) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_template(source)
    error = caught.value
    assert (str(error), error.column, error.path, error.text) == (message, column, path, text)


def test_a_constant_is_rendered_without_a_copy() -> None:
    template = compile_template({"a": [1, {"b": "c"}]})
    assert template.render(SCOPE) is template.render({})
    assert template.paths == frozenset()


def test_the_constant_parts_of_a_template_are_not_copied() -> None:
    template = compile_template({"a": {"b": [1, 2]}, "c": "${{ event.subject }}"})
    one, two = template.render(SCOPE), template.render(SCOPE)
    assert one is not two
    assert one["a"] is two["a"]


def test_rendering_keeps_the_order_of_keys() -> None:
    assert list(compile_template({"b": "${{ event.subject }}", "a": 1}).render(SCOPE)) == ["b", "a"]


def test_it_knows_what_it_reads_and_where() -> None:
    template = compile_template({"a": ["x ${{ event.data.n }} ${{ steps.a.b[1].c }}"], "b": "${{ has(event.data.q) }}"})
    assert template.paths == {"event.data.n", "steps.a.b[1].c", "event.data.q"}
    assert [(place.path, place.read.column) for place in template.reads] == [(("a", 0), 7), (("a", 0), 27), (("b",), 9)]


def test_a_missing_path_is_an_error_that_names_it() -> None:
    with pytest.raises(ExpressionError, match=r"^steps\.a\.x is not there; steps\.a has: b \(in: steps\.a\.x\)$"):
        compile_template({"a": "-${{ steps.a.x }}-"}).render(SCOPE)


def test_it_knows_whether_it_is_one_expression_whole() -> None:
    whole = compile_template("${{ steps.a }}").whole
    assert whole is not None
    assert whole.source == "steps.a"
    assert compile_template("x${{ steps.a }}").whole is None
    assert compile_template({"a": "${{ steps.a }}"}).whole is None


def test_templates_of_one_source_are_equal() -> None:
    one, same, other = (compile_template({"a": source}) for source in ("${{ event.a }}", "${{ event.a }}", "x"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != {"a": "x"}
    assert repr(other) == "compile_template({'a': 'x'})"

"""Holding values against schemas: right, and in bounded time."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mesh.core import schemas
from mesh.core.schemas import SchemaTooCostly, SchemaUnusable, misfit, unusable_patterns

NESTED: Any = []
for _ in range(3_000):
    NESTED = [NESTED]
DOUBLING = {
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {"type": "string"}},
    "$ref": "#/$defs/d0",
}
STRINGS = {
    "additionalProperties": {"type": "string"},
    "properties": {"n": True},
    "patternProperties": {"^x": {"minimum": 1}},
}

CASES: list[tuple[dict[str, Any], Any]] = [
    ({"pattern": "^(a+)+$"}, "a" * 30),
    ({"pattern": "^(a+)+$"}, "a" * 30 + "!"),
    ({"pattern": "^a$"}, "a"),
    ({"pattern": "^a$"}, 1),
    ({"patternProperties": {"^x-": {"type": "integer"}}}, {"x-a": 1, "y": "z"}),
    ({"patternProperties": {"^x-": {"type": "integer"}}}, {"x-a": "1"}),
    ({"patternProperties": {"^x-": {"type": "integer"}}}, []),
    ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, {"x-a": 1}),
    ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, {"x-a": 1, "b": 1, "a": 1}),
    ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "b": 1}),
    ({"additionalProperties": False}, "text"),
    ({"additionalProperties": True}, {"a": 1}),
    (STRINGS, {"n": 1, "x": 2, "s": "a"}),
    (STRINGS, {"n": 1, "x": 0}),
    (STRINGS, {"s": 1}),
    ({"uniqueItems": True}, [1, "1", True, [1], {"a": 1, "b": 2}]),
    ({"uniqueItems": True}, [1, 1.0]),
    ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
    ({"uniqueItems": False}, [1, 1]),
    ({"uniqueItems": True}, "aa"),
    ({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "string"}}}, ["a"]),
    ({"$defs": {"a": {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^a"}}, "$ref": "#/$defs/a"}, "b"),
    ({"const": {"$schema": "x"}}, {"$schema": "x"}),
    ({"properties": {"$schema": {"type": "string"}}}, {"$schema": 1}),
    ({"allOf": [{"type": "object"}], "unevaluatedProperties": False}, {"a": 1}),
    ({"type": ["string", "null"], "enum": ["a", None]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), CASES)
def test_it_says_what_the_library_says(schema: dict[str, Any], value: Any) -> None:
    theirs = None
    if schema.get("pattern") != "^(a+)+$" or value == "a" * 30:
        theirs = next(Draft202012Validator(schema).iter_errors(value), None)
        assert (misfit(schema, value) is None) == (theirs is None)
    found = misfit(schema, value)
    if theirs is not None:
        assert found is not None
        assert (found.json_path, found.validator) == (theirs.json_path, theirs.validator)


def test_a_pattern_takes_linear_time() -> None:
    schema = {"properties": {"a": {"pattern": "^(a|aa)+$"}}, "patternProperties": {"^(b+)+$": {}}}
    found = misfit(schema, {"a": "a" * 50_000 + "!", "b" * 50_000 + "!": 1})
    assert found is not None
    assert found.json_path == "$.a"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (DOUBLING, "a"),
        (
            {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"anyOf": [{"const": n} for n in range(200)]}}},
            [199] * 1_000,
        ),
        ({"items": {"type": "integer", "minimum": 0}}, [1] * 100_000),
        ({"items": {"enum": list(range(800))}}, [799] * 5_000),
    ],
)
def test_what_multiplies_is_given_up(schema: dict[str, Any], value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MAX_STEPS", 2_000)
    with pytest.raises(SchemaTooCostly, match=r"the check takes more than 2,000 steps"):
        misfit(schema, value)


def test_many_unique_items_take_no_square() -> None:
    assert misfit({"uniqueItems": True}, [{"a": n} for n in range(50_000)]) is None


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nothing"}, "'nothing' is not valid under any of the given schemas"),
        ({"pattern": "(?=a)"}, "the pattern '(?=a)' can't be used: invalid perl operator"),
        ({"pattern": "("}, "the pattern '(' can't be used: missing ): ("),
        ({"pattern": "a" * 1_001}, "the pattern has 1001 characters; the most is 1000"),
        ({"pattern": "\ud800"}, "the pattern is not text: it holds half of a surrogate pair"),
        ({"$ref": "#/nowhere"}, "PointerToNowhere"),
        ({"$ref": "https://example.com/x"}, "Unresolvable: https://example.com/x"),
        ({"$ref": "#"}, "it leads into itself without end, or nests too deep"),
        (
            {"allOf": [{"patternProperties": {"a": {}}}], "unevaluatedProperties": False},
            "it has both patternProperties",
        ),
    ],
)
def test_a_schema_that_can_not_be_used_says_why(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaUnusable) as caught:
        misfit(schema, "a")
    assert message in str(caught.value)


def nested_schema(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def nested_list(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def in_a_deep_call(calls: int, schema: Any, value: Any) -> Any:
    return misfit(schema, value) if calls == 0 else in_a_deep_call(calls - 1, schema, value)


@pytest.mark.parametrize("calls", range(0, 60, 3))
def test_no_schema_comes_near_the_depth_at_which_the_library_dies(calls: int) -> None:
    for schema, value in (({"$ref": "#"}, 1), (nested_schema(101), 1), ({"items": {"$ref": "#"}}, nested_list(300))):
        with pytest.raises(SchemaUnusable, match="nests"):
            in_a_deep_call(calls, schema, value)


def test_what_nests_as_deep_as_people_write_it_is_checked() -> None:
    assert misfit(nested_schema(50), nested_list(50)) is None
    assert misfit({"items": {"$ref": "#"}}, nested_list(99)) is None
    assert misfit(nested_schema(50), nested_list(51)) is not None


def test_values_nested_too_deep_are_no_crash() -> None:
    with pytest.raises(SchemaUnusable, match="nests too deep"):
        misfit({"uniqueItems": True, "items": {"$ref": "#"}}, [NESTED])


def test_unusable_patterns_are_found_with_their_paths() -> None:
    schema = {
        "properties": {"a": {"pattern": "(?!a)"}, "pattern": {"type": "string"}},
        "anyOf": [True, {"patternProperties": {r"(a)\1": {"pattern": "fine"}}}],
        "const": {"pattern": "(?=a)"},
        "patternProperties": 1,
    }
    assert [path for path, _ in unusable_patterns(schema)] == [
        ("properties", "a", "pattern"),
        ("anyOf", 1, "patternProperties"),
    ]

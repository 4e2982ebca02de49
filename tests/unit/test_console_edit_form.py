"""A payload as a form, and back: what nobody touched comes back as it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.codec import exact_json
from mesh.console.changes import changes
from mesh.console.edit_form import Field, fields_of, is_changed, read

SCHEMA = {
    "type": "object",
    "properties": {
        "body": {"type": "string", "title": "The reply", "minLength": 1, "maxLength": 60_000},
        "labels": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "severity": {"enum": ["high", "low", 3, None]},
        "amount": {"type": "number", "minimum": 0, "maximum": 5_000, "description": "in euro"},
        "urgent": {"type": "boolean"},
        "note": {"type": "string"},
        "deep": {"type": "object"},
    },
    "required": ["body"],
}
PAYLOAD = {"body": "Thanks.\n\nMore.", "labels": ["bug"], "severity": "low", "amount": 0.5, "urgent": False}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def typed(fields: list[Field], **changed: str) -> dict[str, str]:
    """The form as a browser sends it."""
    found = {f"f.{field.name}": field.text for field in fields if field.kind != "check" or field.text}
    return {name: one.replace("\r\n", "\n") for name, one in found.items()} | {f"f.{n}": v for n, v in changed.items()}


@given(value=JSON | st.dictionaries(st.text(max_size=8), JSON, min_size=1, max_size=6))
def test_what_nobody_has_touched_comes_back_as_it_was(value: Any) -> None:
    try:
        exact_json.encode(value)
    except exact_json.JsonRefused:
        return
    for as_one in (False, True):
        found = read(typed(fields_of(value, as_one=as_one)), value, as_one=as_one)
        assert not found.is_refused, found
        assert not is_changed(value, found.value)


def test_each_member_has_the_field_that_its_schema_says() -> None:
    found = {field.name: field for field in fields_of(PAYLOAD, SCHEMA)}
    assert {name: field.kind for name, field in found.items()} == {
        "body": "text",
        "labels": "lines",
        "severity": "choice",
        "amount": "number",
        "urgent": "check",
        "note": "line",
        "deep": "json",
    }
    assert found["body"].title == "The reply"
    assert found["amount"].hint == "in euro, at least 0, at most 5,000"
    assert [choice.title for choice in found["severity"].choices] == ["high", "low", "3", "null"]
    assert next(iter(fields_of(PAYLOAD, SCHEMA))).name == "body"


def test_what_a_person_writes_becomes_a_value_of_its_kind() -> None:
    fields = fields_of(PAYLOAD, SCHEMA)
    found = read(
        typed(
            fields,
            body="Other",
            labels="bug\n\n data-loss \n",
            severity="3",
            amount="12",
            urgent="true",
            deep='{"a": [1]}',
        ),
        PAYLOAD,
        SCHEMA,
    )
    assert not found.is_refused
    assert found.value == {
        "body": "Other",
        "labels": ["bug", "data-loss"],
        "severity": 3,
        "amount": 12,
        "urgent": True,
        "deep": {"a": [1]},
    }
    assert list(found.value) == ["body", "labels", "severity", "amount", "urgent", "deep"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("amount", "many", "write a number"),
        ("amount", "6000", "greater than the maximum"),
        ("labels", "bug\nbug", "non-unique"),
        ("deep", "{", "not JSON"),
        ("deep", '{"a": 1e400}', "1e400"),
        ("severity", '"odd"', "choose one"),
        ("body", "", "should be non-empty"),
    ],
)
def test_a_fault_is_said_at_its_field_and_nothing_typed_is_lost(name: str, text: str, said: str) -> None:
    given = typed(fields_of(PAYLOAD, SCHEMA), note="kept", **{name: text})
    found = read(given, PAYLOAD, SCHEMA)
    assert found.is_refused
    at = {field.name: field for field in found.fields}
    assert said in at[name].problem
    assert {f"f.{field.name}": field.text for field in found.fields if field.kind != "check"} == given


def test_a_form_without_a_value_says_what_is_needed() -> None:
    schema = {"properties": {"amount": {"type": "integer"}, "why": {"type": "string"}}, "required": ["amount", "why"]}
    found = read({"v.amount": "", "v.why": ""}, {}, schema, prefix="v.")
    assert [field.problem for field in found.fields] == ["this is needed", "this is needed"]
    found = read({"v.amount": "7", "v.why": "because"}, {}, schema, prefix="v.")
    assert found.value == {"amount": 7, "why": "because"}


def test_hidden_characters_are_edited_as_escapes() -> None:
    [field] = fields_of({"name": "a\u202eb\U000e0001"})
    assert (field.kind, field.text) == ("json", '"a\\u202eb\\udb40\\udc01"')
    assert read({"f.name": '"a\\u202ec"'}, {"name": "a\u202eb"}).value == {"name": "a\u202ec"}


def test_changes_are_told_word_by_word() -> None:
    before = {"body": "We look at it today.", "labels": ["a"], "same": 1, "truth": "true"}
    after = {"body": "We look at it tomorrow.", "labels": ["a", "b"], "same": 1, "truth": True}
    found = {one.name: one.pieces for one in changes(before, after)}
    assert [(piece.kind, piece.text) for piece in found["body"]] == [
        ("same", "We look at it "),
        ("removed", "today."),
        ("added", "tomorrow."),
    ]
    assert set(found) == {"body", "labels", "truth"}
    assert changes(before, before) == []
    assert [one.name for one in changes("a", "b")] == [""]

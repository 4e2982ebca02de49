"""Times, ids and payloads as people read them."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cli.text.format import ago, clock_time, counted, duration, one_line, printable, readable, until
from mesh.inspection.wording.phrases import blamed


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999.9, "999 ms"),
        (1_000, "1.0 s"),
        (9_990, "9.9 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (3_599_999, "59 min"),
        (3_600_000, "1 h"),
        (11_100_000, "3 h 5 min"),
        (86_400_000, "1 d"),
        (187_200_000, "2 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_the_most(ms: float, text: str) -> None:
    assert duration(ms) == text


def test_times_are_told_from_now() -> None:
    assert (ago(1_000, 1_500), ago(1_000, 61_000)) == ("now", "1 min ago")
    assert (until(None, 0), until(60_000, 0), until(0, 60_000)) == ("none", "in 1 min", "1 min over")


def test_a_time_of_another_day_has_its_date() -> None:
    assert "-" not in clock_time(1_763_900_000_000, 1_763_900_000_000)
    assert clock_time(0, 1_763_900_000_000).startswith(("1970-01-01 ", "1969-12-31 "))


def test_nothing_that_a_terminal_obeys_reaches_it() -> None:
    assert printable("\x1b[2Jerased\u202e") == "\\x1b[2Jerased\\u202e"
    assert printable("kept\n\tas is: ä 漢") == "kept\n\tas is: ä 漢"


def test_a_text_on_one_line_is_cut_off_with_an_ellipsis() -> None:
    assert one_line("a\n  b") == "a b"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


def test_counts_have_their_noun() -> None:
    assert (counted(1, "event"), counted(12_000, "event")) == ("1 event", "12,000 events")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain\ntext", "plain\ntext"),
        ({"a": 1, "b": {"c": [1, 2]}}, "a: 1\nb:\n  c: [1, 2]"),
        ({"body": "two\nlines", "ok": True, "none": None}, "body: |\n  two\n  lines\nok: true\nnone: null"),
        ([{"a": 1, "b": 2}, "x"], "- a: 1\n  b: 2\n- x"),
        ({"labels": [], "more": {}, "text": ""}, 'labels: []\nmore: {}\ntext: ""'),
        ({"labels": ["bug", "a, b", "1", None]}, 'labels: [bug, "a, b", "1", null]'),
        (3.5, "3.5"),
        ({"x\x1b": "\x1b[31m"}, "x\\x1b: \\x1b[31m"),
        ({"title": "Re: what? 1 of 2"}, "title: Re: what? 1 of 2"),
        ({"a": " 1", "b": "1 ", "c": '"'}, 'a: " 1"\nb: "1 "\nc: "\\""'),
        ("approved: true\namount: 1", "|\n  approved: true\n  amount: 1"),
        ({"a\nb: 1": 2}, '"a\\nb: 1": 2'),
    ],
)
def test_a_payload_reads_with_as_few_quotes_and_braces_as_can_be(value: Any, text: str) -> None:
    assert readable(value) == text


ALIKE: list[Any] = [
    *(None, True, False, 1, 1.0, -1, 1e300, "", "null", "true", "True", "false", "1", "1.0", "-1", "1e300", "[]", "{}"),
    *(" ", "a", '"a"', " a", "a ", "- a", "a: 1", "a:", "[1]", "1, 2", "|", "a\nb", "a: 1\nb: 2", "- a\n- b", "|\n  a"),
    *(
        [],
        {},
        ["a"],
        [1],
        ["1"],
        [1, 2],
        ["1, 2"],
        ["1", "2"],
        [None],
        [[]],
        [{}],
        [["a"]],
        [[1, 2]],
        ["- a"],
        ["a: 1"],
    ),
    *([{"a": 1}], [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}], {"a": 1}, {"a": 1, "b": 2}, {"a: 1\nb": 2}, {"a: b": 1}),
    *({"a": "b: 1"}, {"a": {"b": 1}}, {"a": "b"}, {"a": ["b"]}, {"a": "[b]"}, {"a": ["b", "c"]}, {"a": "b, c"}),
    *({"a": "b: 1\nc: 2"}, {"a": {"b": 1, "c": 2}}, {"": 1}, {'""': 1}, {"- a": 1}, {"1": 1}, ["a\nb"], [["a"], "b"]),
]


@pytest.mark.parametrize(
    "inside", [lambda one: one, lambda one: {"x": one}, lambda one: [one], lambda one: [{"x": one}]]
)
def test_values_that_differ_never_look_alike(inside: Callable[[Any], Any]) -> None:
    shown = [readable(inside(value)) for value in ALIKE]
    assert [one for one, count in Counter(shown).items() if count > 1] == []


_TEXTS = st.lists(
    st.sampled_from(["a", "1", "true", ":", " ", "-", '"', "[", "]", ",", "\n", "|", "\\"]), max_size=5
).map(
    lambda parts: re.sub(" +(?=\n|$)", "", "".join(parts))  # what is blank at a line's end is not seen
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=4,
)


@given(_VALUES, _VALUES)
def test_drawn_values_that_differ_never_look_alike(one: Any, other: Any) -> None:
    same = json.dumps(one) == json.dumps(other)
    assert (readable(one) == readable(other)) == same


def test_no_character_that_is_not_seen_reaches_a_terminal() -> None:
    unseen = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    # signs of Arabic, Syriac, Kaithi and Egyptian, which are seen though they are of this category
    seen = {*"\n\t", *map(chr, range(0x600, 0x606)), *"\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"}
    seen |= set(map(chr, range(0x13430, 0x13456)))
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in unseen and character not in seen:
            assert printable(character).isascii(), hex(code)


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u2060", "\ufeff", "\u061c", "\u3164", "\u034f", "\U000e0041", "\U000e0101"]
)
def test_what_hides_in_a_name_is_shown(hidden: str) -> None:
    assert printable(f"a{hidden}b") == f"a{hidden.encode('unicode_escape').decode()}b"


def test_what_is_seen_stays_as_it_is() -> None:
    for text in ("ä 漢字 שלום سلام", "❤\ufe0f", "नमस्ते", "e\u0301"):
        assert printable(text) == text


def test_a_kind_is_said_once() -> None:
    assert blamed("non_retryable", "non_retryable: nobody to greet") == "non_retryable: nobody to greet"
    assert blamed("exhausted", "Boom: it broke") == "exhausted: Boom: it broke"

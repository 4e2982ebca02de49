"""What `mesh routes replay` says of what differs: pinned, for people read it, and scripts may."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_transcripts import SCENARIOS
from test_what_if import runs_of

from mesh.cli.routes.replay import difference_words
from mesh.inspection.what_if import Difference, Fact
from mesh.inspection.what_if.comparison import events_of, facts_of

EVENT = {"id": "e7", "source": "/s", "type": "paid"}
WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "dispatched": ({"agent": "bob", "input": 1, "attempt": 1}, "dispatched to bob"),
    "called": ({"route": "notes", "input": 1, "attempt": 2}, "called route notes, attempt 2"),
    "succeeded": ({}, "succeeded"),
    "failed": ({"kind": "Boom"}, "failed (Boom)"),
    "handed over": ({"to": "bob"}, "handed over to bob"),
    "held": ({"input": 1}, "held"),
    "asked": ({"role": "editor", "question": "Good?", "payload": 1}, "asked editor"),
    "approved": ({"by": "ana", "payload": 1}, "approved by ana"),
    "rejected": ({"by": "its deadline", "payload": 1}, "rejected by its deadline"),
    "skipped": ({"output": None}, "skipped"),
    "blocked": ({}, "blocked"),
    "cancelled": ({}, "cancelled"),
    "given up": ({}, "given up"),
    "computed": ({"output": 1}, "computed"),
    "emitted": ({"type": "priced", "subject": None, "data": 1}, "emitted priced"),
    "for each": ({"items": [1]}, "for each"),
    "all items done": ({"failed": 2}, "all items done, 2 failed"),
    "round": ({"round": 3}, "round 3"),
    "incident": ({"kind": "expression"}, "incident (expression)"),
    "waits": ({"for": "paid"}, "waits for paid"),
    "asks for its alias": ({"alias": "mesh.alias:r.charge/p1"}, "asked for alias mesh.alias:r.charge/p1"),
    "goes without its alias": ({}, "went on without its alias"),
    "time has come": ({}, "time has come"),
    "received": ({"event": EVENT}, "received event e7"),
    "budget's time over": ({}, "budget's time over"),
    "budget raised": ({"granted": {"tokens": 5}}, "budget raised"),
    "undoing": ({"status": "failed", "steps": ["a"]}, "undone, then failed"),
    "completed": ({"output": 1}, "completed"),
    "started": ({"workflow": "r:k"}, "workflow r:k"),
    "not started": ({"reason": "guard is false"}, "not started: guard is false"),
}
"""`what` of a fact to a detail, and how it reads."""


@pytest.mark.parametrize("what", WORDS)
def test_a_fact_reads_so(what: str) -> None:
    detail, words = WORDS[what]
    fact = Fact(step="work", what=what, detail=detail)
    assert difference_words(Difference(step="work", before=None, after=fact)) == f"work: nothing -> {words}"
    whole = Difference(step="", before=Fact(step="", what=what, detail=detail), after=None)
    assert difference_words(whole) == f"{words} -> nothing"


def test_every_fact_that_there_is_has_its_words_here() -> None:
    """Every fact that the transcripts of the core come to.

    `started` and `not started` are facts of a replay alone.
    """
    facts = [
        fact
        for make in SCENARIOS.values()
        for run, _ in runs_of(make())
        for event in events_of(run)
        for fact in facts_of(event)
    ]
    assert {fact.what for fact in facts} <= set(WORDS) - {"started", "not started"}
    assert all(difference_words(Difference(step=one.step, before=one, after=None)) for one in facts)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (1, 2, "work: dispatched, input 1 -> 2"),
        ({"a": 1}, {"a": 1, "b": "x"}, "work: dispatched, input.b added: x"),
        ({"a": 1}, {}, "work: dispatched, input.a left out: 1"),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2}, "work: dispatched, input.a 1 -> 2 and 1 more change"),
        ("1", 1, 'work: dispatched, input "1" -> 1'),
        (None, "null", 'work: dispatched, input null -> "null"'),
        ([1, {"a": [2, 3]}], [1, {"a": [2, 4]}], "work: dispatched, input[1].a[1] 3 -> 4"),
        ([1], [1, "x"], "work: dispatched, input[1] added: x"),
        ([1, 2, 3], [1], "work: dispatched, input[1] left out: 2"),
        ([1], [True], "work: dispatched, input[0] 1 -> true"),
        ([[1]], [{"a": 1}], 'work: dispatched, input[0] [1] -> {"a":1}'),
        (
            "a" * 5_000 + "b" + "c" * 500,
            "a" * 5_000 + "d",
            f"work: dispatched, input from character 5,001: …{'a' * 20}b{'c' * 38}… -> …{'a' * 20}d",
        ),
        ("a" * 50, "a" * 51, f"work: dispatched, input {'a' * 50} -> {'a' * 51}"),
        ("a" * 60, "a" * 61, f"work: dispatched, input from character 61: …{'a' * 20} -> …{'a' * 21}"),
        ("a b", "a  b", "work: dispatched, input a b -> a  b"),
        ("a\nb", "a b", "work: dispatched, input a\\nb -> a b"),
        ("a\n\nb", "a\nb", "work: dispatched, input a\\n\\nb -> a\\nb"),
        (
            "x" * 90 + "\u200b" * 300,
            "x" * 90,
            f"work: dispatched, input from character 91: …{'x' * 20}{(chr(92) + 'u200b') * 6}\\u2… -> …{'x' * 20}",
        ),
    ],
)
def test_another_input_reads_so(before: Any, after: Any, words: str) -> None:
    facts = [Fact(step="work", what="dispatched", detail={"agent": "a", "input": one}) for one in (before, after)]
    assert difference_words(Difference(step="work", before=facts[0], after=facts[1], fields=("input",))) == words


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_where_two_texts_begin_to_differ_is_seen_however_long_they_are(same: str, one: str, other: str) -> None:
    facts = [Fact(step="", what="computed", detail={"output": same * 40 + tail}) for tail in (one, other)]
    words = difference_words(Difference(step="", before=facts[0], after=facts[1], fields=("output",)))
    assert len(words) < 200
    if one != other:
        before, _, after = words.removeprefix("computed, output ").rpartition(" -> ")
        assert before.rpartition("…")[2] != after or "…" in before
        assert before != after

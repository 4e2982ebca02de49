"""The transcripts' voice for everybody.

Everything that the core can decide has words, without a time in them.
"""

import re

import pytest
from one_partition import agent, route
from test_transcripts import SCENARIOS
from transcript import Transcript

from mesh.cli.text.events import describe
from mesh.core.events import BudgetRaised, Cause, CompensationStarted, Decision, Event
from mesh.inspection.wording.phrases import lasting
from mesh.testing.transcript.words import Told, Words


def told(name: str) -> list[tuple[Decision, Told]]:
    words = Words()
    return [(decision, words.tell(decision)) for decision in SCENARIOS[name]().decisions]


def plain_name(event: Event) -> str:
    """What an event is called where it has no words of its own."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).lower()


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_event_has_words_and_none_is_told_by_its_fields(name: str) -> None:
    for decision, (heading, body) in told(name):
        assert heading
        names = tuple(plain_name(event) for event in decision.events)
        assert not [line for line in body if line.startswith(names)], (
            "give the event its words in `mesh/inspection/wording`"
        )


def test_how_long_something_was_waited_for_is_not_told() -> None:
    def words_after(waited_s: float) -> Told:
        t = Transcript("", route({"a": agent(timeout="30s")}))
        t.start()
        t.now_ms += int(waited_s * 1000)
        t.wait("a")
        return Words().tell(t.decisions[-1])

    assert words_after(30.2) == words_after(31.7)


@pytest.mark.parametrize(
    ("steps", "words", "line"),
    [
        (("b", "a"), "before it ends as failed, this is undone: b, a (why)", "failed; undoes b, a first"),
        ((), "nothing more is undone, it ends as failed (why)", "failed; nothing more is undone"),
    ],
)
def test_what_is_still_to_be_undone_is_said_also_where_it_is_nothing(
    steps: tuple[str, ...], words: str, line: str
) -> None:
    event = CompensationStarted(status="failed", reason="why", steps=steps)
    cause = Cause(kind="command", id="c1")
    decision = Decision(epoch="e", workflow_id="r:k", at_ms=1, cause=cause, positions={}, mark=0, events=(event,))
    assert Words().tell(decision).body == [words]
    said = describe(event, decision)
    assert (said.what, said.why) == (line, "why")


@pytest.mark.parametrize(
    ("granted", "time_ms", "words", "line"),
    [
        ({"tokens": 1_234_567.0}, None, "ana grants 1234567 tokens more", "more: 1234567 tokens"),
        ({}, 5_400_000, "ana grants 1h 30m of time more", "more: 1 h 30 min of time"),
        ({"usd": 0.5}, 3_600_000, "ana grants 0.5 usd, 1h of time more", "more: 0.5 usd, 1 h of time"),
        ({}, None, "ana grants nothing more", "more: nothing"),
    ],
)
def test_what_is_granted_is_said_in_full_and_time_too(
    granted: dict[str, float], time_ms: int | None, words: str, line: str
) -> None:
    event = BudgetRaised(granted=granted, by="ana", expires_at_ms=None if time_ms is None else 1_000 + time_ms)
    cause = Cause(kind="answer", id="a1")
    decision = Decision(epoch="e", workflow_id="r:k", at_ms=1_000, cause=cause, positions={}, mark=0, events=(event,))
    assert Words().tell(decision).body == [words]
    assert describe(event, decision).why == line


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (873, "0.9s"),
        (2_000, "2s"),
        (30_400, "30s"),
        (90_000, "1m 30s"),
        (86_400_000, "24h"),
        (129_600_000, "36h"),
        (172_800_000, "2d"),
        (30 * 86_400_000, "30d"),
    ],
)
def test_durations_read_as_a_route_says_them(ms: int, text: str) -> None:
    assert lasting(ms) == text

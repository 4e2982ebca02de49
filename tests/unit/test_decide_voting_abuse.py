"""Decide: votes that must not count, and answers that must not cost more than they are worth."""

from typing import Any

import pytest
from one_partition import Partition, approval, names, only, route
from voting_kit import CROWD, asked, code, excluding

from mesh.core.approvals import LONGEST_NAME, MOST_NAMES, MOST_SEATS, MOST_TEXT, Group
from mesh.core.decide.settle import voting
from mesh.core.events import AnswerRefused2, IncidentRaised
from mesh.core.voting import Body, seated
from mesh.routes.problems import RouteRefused


def test_an_older_word_does_not_count_by_being_sent_again() -> None:
    p = asked(reject=2, edit=False)
    sent_ms = p.now_ms
    p.now_ms += 10_000
    assert code(p, "ana", "reject") == "counted"
    assert code(p, "ana", "approve", at_ms=sent_ms, answer_id="older") == "superseded"
    p.now_ms += 10_000
    assert code(p, "ana", "approve", answer_id="older") == "repeated"


def test_a_late_answer_does_not_count_when_the_question_is_asked_again() -> None:
    p = asked(deadline="1h", on_expiry="incident")
    assert names(p.vote("ana", answer_id="late", at_ms=p.now_ms + 3_600_001)) == ["AnswerHeld"]
    p.wait("review")
    assert p.step("review").incident is not None
    p.command("retry", step="review")
    assert code(p, "ana", answer_id="late") == "repeated"
    assert code(p, "ana") == "accepted"


def test_who_edited_an_approval_that_was_skipped_has_taken_part_in_it() -> None:
    first: dict[str, Any] = approval(role="manager", quorum=2, deadline="1h", on_expiry="incident")["approval"]
    second: dict[str, Any] = {**approval(role="manager")["approval"], "not": {"voters_of": "review"}}
    keys = {"ask", "payload", "role", "quorum", "deadline", "on_expiry", "not"}
    steps = {
        "review": {"approval": {name: value for name, value in first.items() if name in keys}},
        "second": {"needs": "review", "approval": {name: second[name] for name in ("ask", "payload", "role", "not")}},
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={"by": "ben"})
    assert code(p, "ana", "approve", payload={"n": 1_000}) == "counted"
    p.wait("review")
    p.command("skip", step="review")
    output = p.step("review").output
    assert (output["edited"], output["edition"], output["editors"]) == (True, 2, ["ana"])
    assert [vote["by"] for vote in output["votes"]] == ["ana"]
    assert code(p, "ana", step="second") == "excluded"
    assert code(p, "ben", step="second") == "accepted"


def test_strangers_fill_no_state() -> None:
    p = asked()
    for number in range(5):
        assert code(p, f"stranger-{number}", "withdraw") == "role"
    assert len(p.step("review").asking.seen) == 5  # type: ignore[union-attr]
    assert code(p, "x" * (LONGEST_NAME + 1)) == "role"
    assert only(p.decisions[-1].events, AnswerRefused2).is_remembered is False


def test_what_is_remembered_of_refusals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voting, "MOST_REMEMBERED", 2)
    p = asked()
    remembered = []
    for number in range(3):
        p.vote(f"stranger-{number}")
        remembered.append(only(p.decisions[-1].events, AnswerRefused2).is_remembered)
    assert remembered == [True, True, False]
    assert code(p, "ana") == "accepted"


def test_a_refusal_does_not_repeat_a_long_rule() -> None:
    people = [f"person-{number}" for number in range(100)]
    p = asked(role=None, people=people)
    p.vote("stranger")
    assert len(only(p.decisions[-1].events, AnswerRefused2).message) < 2 * LONGEST_NAME


@pytest.mark.parametrize("said", [{"reason": "ä" * MOST_TEXT}, {"form": ["x" * MOST_TEXT]}])
def test_a_vote_is_small(said: dict[str, Any]) -> None:
    assert code(asked(), "ana", **said) == "too_large"


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"quorum": "all"}, f"the quorum would be {MOST_SEATS + 1} people; the most is {MOST_SEATS}"),
        ({"quorum": 1, "not": {"people": "${{ event.data.more }}"}}, "1,001 names; the most is 1,000"),
    ],
)
def test_a_rule_of_an_event_is_bounded(terms: dict[str, Any], message: str) -> None:
    data = {
        "people": [f"p{number}" for number in range(MOST_SEATS + 1)],
        "more": [f"p{number}" for number in range(MOST_NAMES + 1)],
    }
    p = asked(role=None, people="${{ event.data.people }}", data=data, **terms)
    found = [event for one in p.decisions for event in one.events if isinstance(event, IncidentRaised)]
    assert [message in one.message for one in found] == [True]


def test_many_seats_are_filled_at_once() -> None:
    bodies = [Body(f"p{number}", frozenset({"r"})) for number in range(300)]
    assert seated([Group(need=100, role="r"), Group(need=1, people=("P7",))], bodies) == 101


@pytest.mark.parametrize("name", [["pre"], {}, None, 1])
def test_a_step_that_is_no_name_is_a_finding(name: Any) -> None:
    with pytest.raises(RouteRefused, match="there is no step"):
        asked(**excluding({"not": {"voters_of": name}}))


def test_a_choice_is_not_called_incident() -> None:
    with pytest.raises(RouteRefused, match="take another word"):
        asked(choices=["go", "incident"])

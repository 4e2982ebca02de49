"""Decide: deadlines that are moved, answers that are held for it, claims, and operators' orders."""

from typing import Any

import pytest
from one_partition import Partition, names, only
from voting_kit import asked, closed, code, excluding, receipt

from mesh.core.approvals import MOST_HELD, MOST_HELD_BYTES, MOST_HELD_OF_ONE
from mesh.core.decide import get_stuck
from mesh.core.decide.settle import voting as settle_voting
from mesh.core.events import AnswerRefused2, ApprovalWithdrawn, DeadlineMoved, Event, IncidentRaised, VoteTakenBack
from mesh.core.inputs import NOWHERE, AnswerGiven2
from mesh.core.receipts import SendCommandReceipt, SendReceipt

HOUR_MS = 3_600_000


def order(p: Partition, command: Any, **more: Any) -> str:
    """An operator's order; the code of its one receipt. Then the log folds to the same."""
    p.order(command, **more)
    p.check_replay()
    return only(p.effects(), SendCommandReceipt).code


def receipts(p: Partition) -> list[tuple[str, str]]:
    """Who heard what, of the last decision."""
    return [(effect.by, effect.code) for effect in p.effects() if isinstance(effect, SendReceipt)]


def held(
    p: Partition, by: str = "ben", decision: Any = "approve", *, after_ms: int = 1, **more: Any
) -> tuple[Event, ...]:
    """A late answer, so many milliseconds after the deadline. It has no receipt yet."""
    due = p.step("review").due_at_ms
    assert due is not None
    return p.vote(by, decision, at_ms=due + after_ms, **more)


def due_of(p: Partition) -> int:
    due = p.step("review").due_at_ms
    assert due is not None
    return due


# Held ---------------------------------------------------------------------------------------------


def test_a_late_answer_is_held_while_it_is_open_and_refused_at_the_close() -> None:
    p = asked(quorum=2, deadline="1h")
    assert names(held(p)) == ["AnswerHeld"]
    assert receipts(p) == []
    p.wait("review")
    assert receipts(p) == [("", "expired"), ("ben", "late")]
    told = [effect for effect in p.effects() if isinstance(effect, SendReceipt)][1]
    assert (told.source is not None, told.closed, told.verdict) == (True, True, "rejected")
    p.check_replay()


def test_held_answers_are_judged_by_their_broker_times_when_the_deadline_is_moved() -> None:
    p = asked(quorum=2, deadline="1h")
    held(p, "ben", after_ms=20)
    held(p, "ana", after_ms=10)
    held(p, "Cy", after_ms=2 * HOUR_MS)
    assert order(p, "extend", by_ms=HOUR_MS) == "accepted"
    assert names(p.decisions[-1].events)[:5] == [
        "CommandAccepted",
        "DeadlineMoved",
        "VoteCast",
        "VoteCast",
        "ApprovalClosed2",
    ]
    assert receipts(p) == [("ana", "counted"), ("ben", "accepted"), ("Cy", "late")]
    places = [effect.source for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert [place and place.offset for place in places] == [1, 0, 2]


def test_an_answer_that_is_still_late_is_held_on() -> None:
    p = asked(quorum=2, deadline="1h")
    held(p, after_ms=2 * HOUR_MS)
    assert order(p, "extend", by_ms=HOUR_MS) == "accepted"
    assert receipts(p) == []
    asking = p.step("review").asking
    assert asking is not None
    assert [one.by for one in asking.held] == ["ben"]


@pytest.mark.parametrize("decision", ["withdraw", "comment", "edit", "claim", "release", "reject", "approve"])
def test_whatever_is_held_gets_exactly_one_receipt(decision: Any) -> None:
    p = asked(quorum=2, deadline="1h")
    held(p, "ben", decision, text="hm", payload={"n": 2} if decision in ("edit", "approve") else None)
    order(p, "extend", by_ms=HOUR_MS)
    assert [by for by, _ in receipts(p)] == ["ben"]
    asking = p.step("review").asking
    assert asking is None or asking.held == ()


def test_the_roles_of_a_held_answer_are_those_of_its_time() -> None:
    p = asked(quorum=2, deadline="1h")
    held(p, "ben")
    held(p, "dan")
    p.directory = type(p.directory)(roles={"dan": frozenset({"manager"})})
    order(p, "extend", by_ms=HOUR_MS)
    assert receipts(p) == [("ben", "counted"), ("dan", "role")]
    assert p.directory.roles == {"dan": frozenset({"manager"})}


def test_of_two_held_answers_with_one_id_the_first_counts() -> None:
    p = asked(quorum=2, deadline="1h")
    held(p, answer_id="same")
    held(p, answer_id="same")
    order(p, "extend", by_ms=HOUR_MS)
    assert receipts(p) == [("ben", "counted"), ("ben", "repeated")]


def test_what_is_held_is_bounded() -> None:
    p = asked(quorum=2, deadline="1h")
    found = [held(p) for _ in range(MOST_HELD_OF_ONE + 1)]
    assert [names(events) for events in found] == [["AnswerHeld"]] * MOST_HELD_OF_ONE + [["AnswerRefused2"]]
    for n in range(MOST_HELD - MOST_HELD_OF_ONE):
        assert names(held(p, f"who{n}")) == ["AnswerHeld"]
    assert names(held(p, "ana")) == ["AnswerRefused2"]
    assert receipt(p).code == "late"
    large = asked(quorum=2, deadline="1h")
    assert names(held(large, payload="x" * MOST_HELD_BYTES)) == ["AnswerRefused2"]
    assert names(held(large, "x" * 500)) == ["AnswerRefused2"]


@pytest.mark.parametrize("command", ["cancel", "expire"])
def test_held_answers_are_refused_however_it_ends(command: Any) -> None:
    p = asked(quorum=2, deadline="1h", on_expiry="incident")
    held(p)
    if command == "cancel":
        p.command("cancel", reason="no")
        assert only(p.decisions[-1].events, ApprovalWithdrawn)
    else:
        p.wait("review")
        assert only(p.decisions[-1].events, IncidentRaised).kind == "expired"
    assert only(p.decisions[-1].events, AnswerRefused2).code == "late"
    assert ("ben", "late") in receipts(p)
    p.check_replay()


def test_held_answers_are_refused_where_a_timer_could_not_be_decided() -> None:
    p = asked(quorum=2, deadline="1h")
    held(p)
    decided = get_stuck(p.workflow(), "review", "broken", workflow_id="r:k", now_ms=p.now_ms)
    assert names(decided.events) == ["IncidentRaised", "AnswerRefused2"]
    assert only(decided.events, IncidentRaised).approval_id == only(decided.events, AnswerRefused2).approval_id


def test_a_verdict_refuses_what_is_held() -> None:
    p = asked(quorum=1, deadline="1h")
    held(p)
    p.vote("ana")
    assert receipts(p) == [("ana", "accepted"), ("ben", "late")]
    p.check_replay()


def test_an_incident_elsewhere_leaves_what_is_held() -> None:
    p = asked(quorum=2, deadline="1h")
    held(p)
    p.command("cancel", reason="no")
    assert receipts(p)[-1] == ("ben", "late")


# Moving the deadline ------------------------------------------------------------------------------


def test_an_operator_moves_the_deadline() -> None:
    p = asked(quorum=2, deadline="1h")
    before = due_of(p)
    assert order(p, "extend", until_ms=before + 5) == "accepted"
    assert order(p, "extend", by_ms=5) == "accepted"
    assert due_of(p) == before + 10
    assert code(p, "ben", at_ms=before + 10) == "counted"
    assert only(p.decisions[-2].events, DeadlineMoved).by == "op"


@pytest.mark.parametrize(
    ("terms", "given", "wanted"),
    [
        ({"deadline": "1h"}, {"by_ms": 5, "at_ms": 10**13}, "late"),
        ({"deadline": "1h"}, {"until_ms": 5}, "deadline"),
        ({}, {"by_ms": 5}, "deadline"),
        ({"deadline": "1h"}, {"by_ms": 5, "approval_id": "r:k/x/review"}, "unknown"),
        ({"deadline": "1h"}, {"by_ms": 5, "approval_id": "nothing"}, "unknown"),
        ({"deadline": "1h", "quorum": None}, {"by_ms": 5}, "version"),
    ],
)
def test_an_extension_that_makes_no_sense_is_refused(terms: dict[str, Any], given: dict[str, Any], wanted: str) -> None:
    p = asked(**{"quorum": 2, **terms})
    assert order(p, "extend", **given) == wanted


def test_an_order_about_what_is_closed_is_refused() -> None:
    p = asked(quorum=1)
    code(p, "ben")
    assert order(p, "extend", by_ms=5) == "closed"


def test_people_who_may_answer_may_move_it_where_the_route_says_so() -> None:
    p = asked(quorum=2, deadline="1h", extend={"by": "2h", "times": 1})
    before = due_of(p)
    assert code(p, "dan", "extend") == "role"
    assert code(p, "ben", "extend") == "extended"
    assert due_of(p) == before + 2 * HOUR_MS
    assert code(p, "ana", "extend") == "limit"
    assert code(asked(quorum=2, deadline="1h"), "ben", "extend") == "limit"


def test_an_extension_of_a_person_has_what_is_held_judged() -> None:
    p = asked(quorum=2, deadline="1h", extend={"by": "2h", "times": 1})
    held(p, "ana")
    p.vote("ben", "extend")
    assert receipts(p) == [("ben", "extended"), ("ana", "counted")]
    p.check_replay()


def test_a_held_extension_may_move_it_again() -> None:
    p = asked(quorum=2, deadline="1h", extend={"by": "2h", "times": 2})
    held(p, "ana", "extend", after_ms=10)
    held(p, "Cy", after_ms=3 * HOUR_MS)
    p.vote("ben", "extend")
    assert receipts(p) == [("ben", "extended"), ("ana", "extended"), ("Cy", "counted")]
    p.check_replay()


def test_a_held_answer_that_comes_after_the_verdict_of_another_is_closed() -> None:
    p = asked(quorum=1, deadline="1h", edit=False)
    held(p, "ana", after_ms=10)
    held(p, "ben", after_ms=20)
    order(p, "extend", by_ms=HOUR_MS)
    assert receipts(p) == [("ana", "accepted"), ("ben", "closed")]


def test_an_extension_without_a_deadline_is_a_fault_of_the_code() -> None:
    p = asked(quorum=2)
    word = AnswerGiven2(
        workflow_id="r:k", approval_id="x", answer_id="a", decision="extend", by="ben", **NOWHERE, source_at_ms=1
    )
    with pytest.raises(AssertionError, match="no deadline that people may move"):
        settle_voting._extension(word, "review", p.step("review"))


# Claims -------------------------------------------------------------------------------------------


def test_an_exclusive_claim_keeps_others_out_until_its_lease_ends() -> None:
    p = asked(claim="exclusive", lease="10m")
    assert code(p, "ben", "claim") == "claimed"
    assert code(p, "ana") == "claimed"
    assert "ben" in receipt(p).message
    assert code(p, "ana", "claim") == "claimed"
    assert code(p, "ana", "comment", text="hm") == "noted"
    assert code(p, "ana", at_ms=p.now_ms + 600_000) == "accepted"


def test_a_release_gives_it_back() -> None:
    p = asked(claim="exclusive")
    code(p, "ben", "claim")
    assert code(p, "ana", "release") == "released"
    assert code(p, "ana") == "claimed"
    assert code(p, "ben", "release") == "released"
    assert code(p, "ana") == "accepted"


def test_an_advisory_claim_says_who_is_looking_and_no_more() -> None:
    p = asked(quorum=2)
    assert code(p, "dan", "claim") == "role"
    code(p, "ben", "claim")
    asking = p.step("review").asking
    assert asking is not None
    assert asking.claim is not None
    assert (asking.claim.by, asking.claim.until_ms - p.now_ms) == ("ben", 30 * 60_000)
    assert code(p, "ana") == "counted"
    assert code(p, "ben") == "accepted"


def test_the_vote_of_who_has_claimed_it_ends_the_claim() -> None:
    p = asked(quorum=2)
    code(p, "ben", "claim")
    code(p, "ben")
    asking = p.step("review").asking
    assert asking is not None
    assert asking.claim is None


def test_a_claim_makes_no_older_vote_count_for_nothing() -> None:
    p = asked(quorum=2)
    code(p, "ben", "claim", at_ms=p.now_ms + 10)
    assert code(p, "ben") == "counted"


def test_who_may_edit_may_claim() -> None:
    p = asked(edit={"role": "clerk"})
    assert code(p, "dan", "claim") == "claimed"
    assert code(p, "dan", "release") == "released"


# Reassign and void --------------------------------------------------------------------------------


def test_reassigned_people_may_fill_any_seat_beside_the_others() -> None:
    p = asked(quorum=2)
    p.now_ms += 10
    assert order(p, "reassign", people=("dan",)) == "accepted"
    assert code(p, "dan", at_ms=p.now_ms - 1) == "role"
    assert code(p, "dan") == "counted"
    assert code(p, "ben") == "accepted"


def test_a_reassignment_that_replaces_counts_from_its_time_on() -> None:
    p = asked(quorum=2)
    p.now_ms += 10
    code(p, "ana", "claim")
    assert order(p, "reassign", roles=("clerk",), replace=True) == "accepted"
    asking = p.step("review").asking
    assert asking is not None
    assert asking.claim is None
    assert code(p, "ben") == "role"
    assert code(p, "ben", at_ms=p.now_ms - 1) == "counted"
    assert code(p, "dan") == "accepted"


def test_reassignments_and_stages_count_in_the_order_of_their_times() -> None:
    """The stage was due before the reassignment, and is decided after it."""
    p = asked(quorum=2, escalate=[{"after": "1h", "to": "clerk"}])
    at_ms = p.now_ms + 2 * HOUR_MS
    order(p, "reassign", people=("eve",), replace=True, at_ms=at_ms)
    assert names(p.decisions[-1].events)[0] == "ApprovalEscalated"
    assert code(p, "dan", at_ms=at_ms) == "role"
    assert code(p, "dan", at_ms=at_ms - 1) == "counted"


def test_a_reassignment_may_be_enough_for_the_votes_that_are_there() -> None:
    p = asked(role=None, quorum=[{"role": "manager"}, {"role": "clerk"}])
    code(p, "ben")
    code(p, "ana")
    assert order(p, "reassign", people=("ana",)) == "accepted"
    assert (closed(p).verdict, closed(p).by) == ("approved", "")


@pytest.mark.parametrize("terms", [{"not": {"people": "dan"}}, {"not": "editors", "edit": {"role": "clerk"}}])
def test_what_the_route_excludes_no_order_lifts(terms: dict[str, Any]) -> None:
    p = asked(quorum=2, **excluding(terms))
    if terms["not"] == "editors":
        code(p, "dan", "edit", payload={"n": 2})
    assert order(p, "reassign", people=("DAN",)) == "excluded"
    assert code(p, "dan") in ("excluded", "role")


def test_a_voided_vote_counts_no_longer() -> None:
    p = asked(quorum=2)
    code(p, "ben", at_ms=p.now_ms)
    p.now_ms += 10
    assert order(p, "void", voter="BEN") == "accepted"
    assert receipts(p) == []
    assert only(p.decisions[-1].events, VoteTakenBack).have == 0
    assert order(p, "void", voter="ben") == "no_vote"
    assert code(p, "ben", at_ms=p.now_ms - 1) == "superseded"
    assert code(p, "ben") == "counted"


def test_an_order_that_comes_after_a_stage_has_closed_it_is_refused() -> None:
    p = asked(quorum=2, deadline="9h", escalate=[{"after": "1h", "to": "legal", "quorum": 1}])
    code(p, "ana")
    assert order(p, "extend", by_ms=5, at_ms=p.now_ms + 2 * HOUR_MS) == "closed"
    assert ("", "reached") in receipts(p)

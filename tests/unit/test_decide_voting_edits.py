"""Decide: approvals of several people. Edits, choices, deadlines, and what operators do."""

import pytest
from one_partition import Partition, agent, approval, names, only, route
from voting_kit import BY, CROWD, SCHEMA, asked, closed, code, excluding, receipt

from mesh.core.decide.settle.voting import why_expired
from mesh.core.events import (
    AnswerRefused,
    AnswerRefused2,
    ApprovalClosed2,
    ApprovalRequested2,
    IncidentRaised,
    PayloadEdited,
    StepSkipped,
    TaskDispatched,
    VoteCast,
)
from mesh.core.evolve import evolve
from mesh.core.json_values import digest
from mesh.core.receipts import SendReceipt
from mesh.core.state import StepState
from mesh.core.voting import is_split

# Edits --------------------------------------------------------------------------------------------


def test_an_edit_resets_all_votes() -> None:
    p = asked(quorum=2, payload_schema=SCHEMA)
    code(p, "ana")
    assert code(p, "ben", "edit", payload={"n": "x"}) == "schema"
    assert code(p, "ben", "edit", payload={"n": 1}) == "edits"
    assert code(p, "ben", "edit") == "edits"
    assert code(p, "ben", "edit", payload={"n": 2}, reason="more") == "edited"
    assert (receipt(p).have, receipt(p).need, receipt(p).edition) == (0, 2, 2)
    assert code(p, "Cy", digest=digest({"n": 1})) == "digest"
    assert [code(p, "ben"), code(p, "Cy")] == ["counted", "accepted"]


def test_a_reset_vote_never_comes_back() -> None:
    """After A, B, A a new vote for A counts, and one that was reset does not."""
    p = asked(quorum=2)
    code(p, "ana")
    code(p, "ben", "edit", payload={"n": 2})
    code(p, "ben", "edit", payload={"n": 1})
    assert code(p, "ben") == "counted"
    assert receipt(p).have == 1


def test_an_approval_with_another_payload_is_the_edit_and_a_vote() -> None:
    p = asked(quorum=2)
    assert code(p, "ana", payload={"n": 2}) == "counted"
    assert names(p.decisions[-1].events) == ["PayloadEdited", "VoteCast"]
    one = asked()
    assert code(one, "ana", payload={"n": 2}) == "accepted"
    assert names(one.decisions[-1].events)[:3] == ["PayloadEdited", "VoteCast", "ApprovalClosed2"]


def test_with_four_eyes_it_is_the_edit_alone() -> None:
    p = asked(**excluding({"not": "editors"}))
    assert code(p, "ana", payload={"n": 2}) == "edited"
    assert names(p.decisions[-1].events) == ["PayloadEdited"]


def test_a_rejection_edits_nothing() -> None:
    p = asked()
    assert code(p, "ana", "reject", payload={"n": 2}) == "accepted"
    assert (closed(p).payload, closed(p).edited) == ({"n": 1}, False)


def test_who_may_edit_and_how_often() -> None:
    assert code(asked(edit=False), "ana", "edit", payload=2) == "edits"
    p = asked(edit={"people": ["fay"], "limit": 1})
    assert code(p, "ana", "edit", payload=2) == "role"
    assert code(p, "ana", payload=2) == "edits"
    assert [code(p, "fay", "edit", payload=2), code(p, "fay", "edit", payload=3)] == ["edited", "edits"]
    assert code(asked(edit={"role": "clerk"}), "ana", "edit", payload=2) == "role"
    p = asked(requester=BY, **excluding({"not": "requester"}))
    assert [code(p, "ben", "edit", payload=2), code(p, "dan", "edit", payload=2)] == ["excluded", "role"]


# Choices, reasons, forms --------------------------------------------------------------------------


def test_a_verdict_is_for_one_choice() -> None:
    p = asked(quorum=2, reject=2, choices=["refund", "voucher", "reject", "report"], rejects=["reject", "report"])
    assert [code(p, "ana", "choose", choice="refund"), code(p, "ben", "choose", choice="voucher")] == ["counted"] * 2
    asking = p.step("review").asking
    assert asking is not None
    assert is_split(asking.terms, asking.votes)
    assert not is_split(asking.terms, asking.votes[:1])
    assert [code(p, "Cy", "approve"), code(p, "Cy", "reject"), code(p, "Cy", "choose", choice="x")] == ["choice"] * 3
    assert code(p, "Cy", "reject", choice="report") == "counted"
    assert code(p, "Cy", "choose", choice="voucher") == "accepted"
    assert (closed(p).choice, receipt(p).choice) == ("voucher", "voucher")


def test_a_choice_may_reject() -> None:
    p = asked(choices=["pay", "report"], rejects=["report"])
    assert code(p, "ana", "reject") == "accepted"
    assert (closed(p).verdict, closed(p).choice) == ("rejected", "report")
    p = asked(choices=["pay", "report"], rejects=["report"])
    assert code(p, "ana") == "accepted"
    assert closed(p).choice == "pay"


@pytest.mark.parametrize(
    ("reason", "approve", "reject"),
    [("optional", "accepted", "accepted"), ("required", "reason", "reason"), ("reject", "accepted", "reason")],
)
def test_reasons(reason: str, approve: str, reject: str) -> None:
    assert code(asked(reason=reason), "ana", "approve") == approve
    assert code(asked(reason=reason), "ana", "reject") == reject
    assert code(asked(reason=reason), "ana", "reject", reason="so") == "accepted"
    assert code(asked(reason=reason), "ana", "edit", payload=2) == "edited"


def test_a_vote_brings_the_form_that_is_asked_for() -> None:
    p = asked(form=SCHEMA)
    assert [code(p, "ana"), code(p, "ana", form={"n": "x"}), code(p, "ana", form={"n": 7})] == [
        "form",
        "form",
        "accepted",
    ]
    assert only(p.decisions[-1].events, TaskDispatched).input["form"] == {"n": 7}


# Deadlines, and what an operator does -------------------------------------------------------------


def test_at_its_deadline_it_comes_to_what_the_route_says() -> None:
    for on_expiry, verdict in (("reject", "rejected"), ("approve", "approved")):
        p = asked(quorum=2, deadline="1h", on_expiry=on_expiry)
        code(p, "ana")
        p.wait("review")
        found = closed(p)
        assert (found.verdict, found.choice, found.expired, found.have) == (verdict, on_expiry, True, 1)
        assert receipt(p).code == "expired"
        assert code(p, "ben") == "late"


def test_an_answer_after_the_deadline_is_late() -> None:
    p = asked(deadline="1h", requester="${{ 'x' }}")
    due = p.step("review").due_at_ms
    assert due is not None
    assert names(p.vote("ana", at_ms=due + 1)) == ["AnswerHeld"]
    assert names(p.vote("ana", at_ms=due))[0] == "VoteCast"
    receipts = [(effect.code, effect.by) for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert receipts == [("accepted", "ana"), ("late", "ana")]


def test_after_an_incident_it_is_asked_again_and_knows_the_answers() -> None:
    p = asked(quorum=2, deadline="1h", on_expiry="incident")
    code(p, "ana", answer_id="one")
    p.wait("review")
    assert (
        only(p.decisions[-1].events, IncidentRaised).message
        == "no verdict by the deadline: 1 of 2 votes of 2 of manager"
    )
    assert code(p, "ben") == "late"
    assert only(p.command("retry"), ApprovalRequested2).approval_id == p.task_id("review")
    assert code(p, "ana", answer_id="one") == "repeated"
    assert [code(p, "ana"), code(p, "Cy")] == ["counted", "accepted"]


def test_asked_again_after_its_verdict_it_begins_afresh() -> None:
    steps = {
        "review": approval(role="manager", quorum=2),
        "gate": {"needs": "review", "value": "${{ steps.review.by }}"},
        "pay": agent("p", needs="gate", retry={"attempts": 1}),
    }
    p = Partition(route(steps), directory=CROWD)
    p.start()
    code(p, "ana", answer_id="one")
    code(p, "ben")
    p.fail("pay", retryable=False)
    p.command("retry", step="review")
    assert code(p, "ana", answer_id="one") == "counted"


def test_skipped_it_can_be_read_like_one_that_was_voted_on() -> None:
    p = asked(quorum=4)
    output = only(p.command("skip"), StepSkipped).output
    voted = asked()
    voted.vote("ana")
    assert output.keys() == only(voted.decisions[-1].events, TaskDispatched).input.keys()


def test_a_workflow_that_ends_withdraws_it() -> None:
    p = asked(quorum=2)
    code(p, "ana", answer_id="one")
    p.command("cancel")
    assert receipt(p).code == "withdrawn"
    assert [code(p, "ana", answer_id="one"), code(p, "ben")] == ["repeated", "closed"]


# The fold -----------------------------------------------------------------------------------------


def test_votes_for_a_step_that_asks_for_none_are_refused_by_the_fold() -> None:
    p = Partition(route({"review": approval()}))
    p.start()
    other = asked()
    other.vote("ana", payload={"n": 2})
    for event in other.decisions[-1].events[:3]:
        assert isinstance(event, PayloadEdited | VoteCast | ApprovalClosed2)
        with pytest.raises(ValueError, match="asks for no votes"):
            evolve(p.workflow(), event, workflow_id="r:k", at_ms=0)


def test_an_event_of_version_2_says_all_that_version_1_says() -> None:
    """So that a reader of one reads the other."""
    p = asked(quorum=2)
    refused = only(p.vote("dan"), AnswerRefused2)
    assert isinstance(refused, AnswerRefused)
    assert (refused.step, refused.edition, refused.have, refused.need) == ("review", 1, 0, 2)


def test_the_rules_of_votes_are_for_a_step_that_asks_for_them() -> None:
    with pytest.raises(AssertionError, match="asks for no votes"):
        why_expired(StepState(status="asking", task_id="r:k/1/review"))

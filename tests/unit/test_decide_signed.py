"""What an answer must bring: the check of its signature comes first, and uses up no id.

The log keeps each signature as it came. What was asked on terms stays so under later settings.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, approval, only, route
from voting_kit import CROWD, asked, closed, code

from mesh.core import inputs as inp
from mesh.core.approvals import Terms, Vote
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused,
    AnswerRefused2,
    AnswerSigned,
    ApprovalClosed,
    ApprovalRequested2,
    Event,
    VoteCast,
)
from mesh.core.receipts import SendReceipt
from mesh.core.signing import Proof, stricter
from mesh.core.state import Directory

OWN = Proof(kid="k1", signer="ana", how="own")
GATE = Proof(kid="k2", signer="console", how="gateway")
SIGNED = replace(CROWD, answers="gateway")


def signed(p: Partition, by: str, decision: inp.AnswerKind = "approve", **more: Any) -> tuple[Event, ...]:
    """An answer whose signature was checked, as its owner decides it."""
    return p.vote(by, decision, **{"proof": OWN, "jws": "a.b.c", **more})


def refusal(p: Partition, by: str = "ana", **more: Any) -> str:
    """The code of a signed answer that is refused, with one receipt. Replay gives the same."""
    events = signed(p, by, **more)
    assert len([one for one in p.effects() if isinstance(one, SendReceipt)]) == 1
    p.check_replay()
    return next(one for one in events if isinstance(one, AnswerRefused)).code


def wrong(code_: str) -> dict[str, Any]:
    return {"proof": None, "code": code_, "why": "it does not hold"}


def first_version(directory: Directory = CROWD) -> Partition:
    steps = {"review": approval(role="manager"), "pay": agent("p", "${{ steps.review }}", needs="review")}
    p = Partition(route(steps), directory=directory)
    p.start()
    return p


# Proofs in the log --------------------------------------------------------------------------------


def test_a_signed_vote_has_its_proof_and_the_log_the_whole_signature() -> None:
    p = asked(quorum=2)
    events = signed(p, "ana")
    kept = only(events, AnswerSigned)
    assert (kept.jws, kept.proof, kept.by, kept.answer_id) == (
        "a.b.c",
        OWN,
        "ana",
        only(events, VoteCast).vote.answer_id,
    )
    assert only(events, VoteCast).vote.proof == OWN
    tally = only(events, VoteCast).tally
    assert tally is not None
    assert [ballot.signed for ballot in tally.votes] == ["own"]
    assert code(p, "ben") == "accepted"
    votes = closed(p).votes
    assert [vote.proof for vote in votes] == [OWN, None], "where nobody asks for signatures, both count"


def test_an_answer_without_a_signature_logs_none() -> None:
    p = asked(quorum=2)
    assert not any(isinstance(one, AnswerSigned) for one in p.vote("ana"))


@pytest.mark.parametrize("found", ["signature", "key"])
def test_what_does_not_hold_is_refused_and_uses_up_no_id(found: str) -> None:
    p = asked(quorum=2)
    assert refusal(p, answer_id="a1", **wrong(found)) == found
    assert only(p.decisions[-1].events, AnswerSigned).proof is None
    assert not only(p.decisions[-1].events, AnswerRefused2).is_remembered
    only(signed(p, "ana", answer_id="a1"), VoteCast)


def test_a_stale_answer_is_its_person_s_and_never_counts_later() -> None:
    p = asked(quorum=2)
    assert refusal(p, answer_id="a1", **wrong("stale")) == "stale"
    assert refusal(p, answer_id="a1") == "repeated"


def test_a_signed_answer_that_was_refused_for_its_role_never_counts_later() -> None:
    p = asked(quorum=2)
    assert refusal(p, "dan", answer_id="d1") == "role"
    p.directory = replace(CROWD, roles={**CROWD.roles, "dan": frozenset({"manager"})})
    assert refusal(p, "dan", answer_id="d1") == "repeated"


def test_the_signature_is_judged_before_all_else_but_that_it_is_unknown() -> None:
    p = asked(quorum=1)
    signed(p, "ana")
    assert refusal(p, "ben", **wrong("signature")) == "signature", "before closed"
    last = only(p.decisions[-1].events, AnswerRefused2)
    assert (last.closed, last.verdict) == (True, "approved")
    assert refusal(p, "ben") == "closed"
    assert refusal(p, "ben", approval_id="t:k/00000000/review", **wrong("signature")) == "unknown"
    assert not any(isinstance(one, AnswerSigned) for one in p.decisions[-1].events)


# How much is asked for ----------------------------------------------------------------------------


def test_a_route_may_ask_for_a_person_s_own_key() -> None:
    p = asked(quorum=2, signed="own")
    assert code(p, "ben", answer_id="b1") == "unsigned"
    assert refusal(p, answer_id="a1", proof=GATE) == "unsigned"
    only(signed(p, "ana", answer_id="a1"), VoteCast)
    only(signed(p, "ben", answer_id="b1", proof=replace(OWN, signer="ben")), VoteCast)


def test_a_route_may_ask_for_any_signature() -> None:
    p = asked(quorum=2, signed="gateway")
    assert code(p, "ben") == "unsigned"
    only(signed(p, "ana", proof=GATE), VoteCast)


def test_a_mesh_that_asks_for_signatures_takes_no_other_answer() -> None:
    p = asked(quorum=2, directory=SIGNED, signed="none")
    assert code(p, "ben") == "unsigned"
    only(signed(p, "ana", proof=GATE), VoteCast)


def test_the_stricter_of_route_and_mesh_holds() -> None:
    assert [stricter("none", "gateway"), stricter("own", "gateway"), stricter("none", "none")] == [
        "gateway",
        "own",
        "none",
    ]


def test_what_was_asked_for_signatures_keeps_asking_for_them() -> None:
    p = asked(quorum=2, directory=SIGNED)
    p.directory = CROWD
    assert code(p, "ben") == "unsigned"


def test_a_signature_that_nobody_has_checked_is_never_taken_for_none() -> None:
    p = asked(quorum=2)
    assert code(p, "ana", jws="a.b.c") == "signature"


# Version 1 ----------------------------------------------------------------------------------------


def test_where_answers_must_be_signed_each_approval_knows_which_it_has_judged() -> None:
    p = first_version(SIGNED)
    request = only(p.decisions[-1].events, ApprovalRequested2)
    assert (request.role, request.terms.signed, request.terms.rule) == ("manager", "gateway", "1 of manager")
    assert refusal(p, "dan", answer_id="d1") == "role"
    assert refusal(p, "dan", answer_id="d1") == "repeated"
    only(signed(p, "ana"), VoteCast)
    assert closed(p).verdict == "approved"


def test_an_approval_of_before_takes_signed_answers_too() -> None:
    p = first_version()
    p.directory = SIGNED
    p.answer(by="ana")
    assert only(p.decisions[-1].events, AnswerRefused).code == "unsigned"
    assert refusal(p, **wrong("key")) == "key"
    assert refusal(p, decision="comment", text="hm") == "malformed"
    events = signed(p, "ana", reason="fine")
    assert only(events, AnswerSigned).proof == OWN
    assert (only(events, ApprovalClosed).by, only(events, ApprovalClosed).reason) == ("ana", "fine")
    p.check_replay()


# Held answers -------------------------------------------------------------------------------------


def test_a_late_answer_keeps_its_proof_and_is_not_asked_for_it_again() -> None:
    p = asked(quorum=2, signed="own", deadline="1h")
    due = p.workflow("k").steps["review"].due_at_ms or 0
    held = only(signed(p, "ana", at_ms=due + 1), AnswerHeld).answer
    assert held.proof == OWN
    assert refusal(p, "ben", at_ms=due + 2, **wrong("signature")) == "signature", "what does not hold is not held"
    events = p.order("extend", by_ms=60_000, at_ms=due - 1)
    assert only(events, VoteCast).vote.proof == OWN
    assert not any(isinstance(one, AnswerSigned) for one in events), "the log has it since it came"
    p.check_replay()


def test_old_votes_have_no_proof() -> None:
    assert Vote(by="ana", choice="approve", digest="", at_ms=1).proof is None
    assert Terms(groups=()).signed == "none"

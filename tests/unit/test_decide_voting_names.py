"""Decide: one person under several names, in votes, exclusions, edits and orders."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, approval, only, route
from voting_kit import BY, asked, closed, excluding, receipt

from mesh.core.approvals import Asking
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused2,
    ApprovalClosed,
    ApprovalReassigned,
    ApprovalRequested2,
    IncidentRaised,
    PayloadEdited,
    VoteCast,
)
from mesh.core.people import Person, people_of
from mesh.core.receipts import SendCommandReceipt
from mesh.core.state import Directory

MANAGER = frozenset({"manager"})
VERSION = "sha256:1"


def directory(*persons: Person, digest: str = VERSION) -> Directory:
    people = people_of(persons, digest=digest)
    return replace(PEOPLE, people=people, roles=people.roles, roles_from="mesh.approvals.people")


ANA = Person(id="Ana@example.org", names=("slack:U1", "ana"), roles=MANAGER | {"maintainer"})
BEN = Person(id="ben", names=("slack:U2",), roles=MANAGER)
DAN = Person(id="dan", roles=frozenset({"clerk"}))
KNOWN = directory(ANA, BEN, DAN)


def said(p: Partition, by: str, decision: Any = "approve", **more: Any) -> tuple[str, str]:
    """The receipt's code, and whom it names. Then the log folds to the same."""
    p.vote(by, decision, **more)
    found = receipt(p)
    p.check_replay()
    return found.code, found.by


def test_a_person_counts_once_under_all_names() -> None:
    p = asked(quorum=2, directory=KNOWN)
    assert said(p, "slack:u1") == ("counted", "Ana@example.org")
    assert said(p, "ANA") == ("counted", "Ana@example.org")
    assert said(p, "Slack:U2") == ("accepted", "ben")
    assert [vote.by for vote in closed(p).votes] == ["Ana@example.org", "ben"]


def test_an_answer_id_counts_once_under_all_names() -> None:
    p = asked(quorum=2, directory=KNOWN)
    assert said(p, "slack:U1", answer_id="one")[0] == "counted"
    assert said(p, "ana", answer_id="one")[0] == "repeated"


def test_who_is_excluded_under_one_name_is_excluded_under_all() -> None:
    p = asked(
        quorum=1, directory=KNOWN, data={"by": "slack:U1"}, more={"requester": BY}, **excluding({"not": "requester"})
    )
    terms = only(p.decisions[-1].events, ApprovalRequested2).terms
    assert set(terms.excluded) == {"slack:u1", "ana@example.org"}
    for name in ("ana", "Ana@example.org", "SLACK:U1"):
        assert said(p, name)[0] == "excluded"
    assert said(p, "ana", "comment", text="mine")[0] == "noted"
    assert said(p, "ben")[0] == "accepted"


def test_a_name_that_is_taken_from_a_person_lifts_no_exclusion() -> None:
    p = asked(
        quorum=1, directory=KNOWN, data={"by": "slack:U1"}, more={"requester": BY}, **excluding({"not": "requester"})
    )
    p.directory = directory(replace(ANA, names=()), BEN)
    assert said(p, "Ana@example.org")[0] == "excluded"


def test_a_requester_who_becomes_known_later_is_excluded_too() -> None:
    p = asked(
        quorum=1,
        directory=directory(BEN),
        data={"by": "slack:U1"},
        more={"requester": BY},
        **excluding({"not": "requester"}),
    )
    p.directory = KNOWN
    assert said(p, "ana")[0] == "excluded"


def test_an_editor_can_not_vote_under_another_name() -> None:
    p = asked(quorum=1, directory=KNOWN, **excluding({"not": "editors"}))
    assert said(p, "slack:U1", "edit", payload={"n": 2}) == ("edited", "Ana@example.org")
    assert only(p.decisions[-1].events, PayloadEdited).by == "Ana@example.org"
    assert said(p, "ana")[0] == "excluded"
    assert said(p, "ben")[0] == "accepted"


def test_an_excluded_person_who_could_vote_may_not_edit_under_another_name() -> None:
    p = asked(quorum=1, directory=KNOWN, **excluding({"not": {"people": "ana"}}))
    assert said(p, "slack:U1", "edit", payload={"n": 2})[0] == "excluded"


def test_a_seat_by_name_is_filled_under_any_name_and_the_vote_keeps_which() -> None:
    p = asked(role=None, quorum=None, people=["slack:U1"], directory=KNOWN)
    p.vote("Ana@example.org", "approve")
    vote = only(p.decisions[-1].events, VoteCast).vote
    assert (vote.by, vote.names, vote.people) == ("Ana@example.org", ("slack:u1",), VERSION)
    assert receipt(p).code == "accepted"
    p.check_replay()


def test_two_names_of_one_person_are_one_voter() -> None:
    p = asked(role=None, quorum="all", people=["slack:U1", "ana", "ben"], directory=KNOWN)
    assert said(p, "slack:U1") == ("counted", "Ana@example.org")
    assert said(p, "ben")[0] == "accepted"


def test_a_vote_by_an_unknown_name_gives_way_once_it_is_known_whose_it_is() -> None:
    p = asked(role=None, quorum=2, people=["slack:U1", "Ana@example.org", "ben"], directory=directory(BEN))
    assert said(p, "slack:U1") == ("counted", "slack:U1")
    p.directory = KNOWN
    p.vote("ana", "approve")
    assert (receipt(p).code, receipt(p).have) == ("counted", 1)
    p.check_replay()
    assert said(p, "ben")[0] == "accepted"


def test_a_vote_that_was_counted_stays_counted_and_a_role_that_is_granted_counts() -> None:
    p = asked(quorum=2, directory=KNOWN)
    assert said(p, "ana")[0] == "counted"
    p.directory = directory(replace(ANA, roles=frozenset()), BEN, replace(DAN, roles=MANAGER), digest="sha256:2")
    assert said(p, "ana", "comment", text="still here?")[0] == "role"
    assert said(p, "dan")[0] == "accepted"
    assert [vote.people for vote in closed(p).votes] == [VERSION, "sha256:2"]


def test_a_question_names_the_version_that_its_numbers_are_from() -> None:
    assert only(asked(directory=KNOWN).decisions[-1].events, ApprovalRequested2).people == VERSION
    assert only(asked().decisions[-1].events, ApprovalRequested2).people == ""


def test_who_has_two_names_does_not_make_two_who_could_answer() -> None:
    p = asked(role=None, quorum=2, people=["slack:U1", "ana"], directory=KNOWN)
    assert only(p.decisions[-1].events, IncidentRaised).kind == "nobody"


@pytest.mark.parametrize("name", ["slack:U1", "ANA@example.org"])
def test_an_approval_of_one_role_knows_people_by_all_names_too(name: str) -> None:
    p = Partition(route({"ok": approval(), "z": agent("worker", 1, needs="ok")}), directory=KNOWN)
    p.start()
    p.answer("ok", by=name)
    assert only(p.decisions[-1].events, ApprovalClosed).by == "Ana@example.org"


# Stages, claims and orders ------------------------------------------------------------------------


def ordered(p: Partition, command: Any, **about: Any) -> str:
    """The code of an order's one receipt. Then the log folds to the same."""
    p.order(command, **about)
    p.check_replay()
    return only(p.effects(), SendCommandReceipt).code


def held(p: Partition, by: str, decision: Any = "approve", **more: Any) -> None:
    """A late answer."""
    due = p.step("review").due_at_ms
    assert due is not None
    p.vote(by, decision, at_ms=due + 1, **more)
    assert only(p.decisions[-1].events, AnswerHeld).answer.by == "Ana@example.org"


def asking_in(p: Partition) -> Asking:
    asking = p.step("review").asking
    assert asking is not None
    return asking


def test_a_held_answer_is_judged_by_the_people_of_its_own_time() -> None:
    p = asked(role=None, quorum=2, people=["slack:U1", "ben"], deadline="1h", directory=KNOWN)
    held(p, "ana")
    p.directory = directory(replace(ANA, names=(), roles=frozenset()), BEN, digest="sha256:2")
    assert ordered(p, "extend", by_ms=3_600_000) == "accepted"
    vote = only(p.decisions[-1].events, VoteCast).vote
    assert (vote.by, vote.names, vote.people) == ("Ana@example.org", ("slack:u1",), VERSION)
    p.directory = KNOWN
    assert said(p, "ben")[0] == "accepted"


def test_a_held_answer_of_somebody_who_had_no_role_then_is_refused() -> None:
    p = asked(quorum=1, deadline="1h", directory=directory(replace(ANA, roles=frozenset()), BEN))
    held(p, "slack:U1")
    p.directory = KNOWN
    ordered(p, "extend", by_ms=3_600_000)
    refused = only(p.decisions[-1].events, AnswerRefused2)
    assert (refused.code, "mesh.approvals.people" in refused.message) == ("role", False)


def test_a_stage_by_name_is_for_the_person_under_all_names() -> None:
    stage = {"after": "1h", "to": {"people": "slack:U1"}, "quorum": 1}
    p = asked(role="clerk", quorum=1, escalate=[stage], directory=KNOWN)
    assert said(p, "ana")[0] == "role"
    p.now_ms += 3_600_001
    assert said(p, "Ana@example.org")[0] == "accepted"
    assert closed(p).votes[0].names == ("slack:u1",)


def test_who_has_claimed_it_is_not_kept_out_under_another_name() -> None:
    p = asked(claim="exclusive", directory=directory(BEN, Person(id="slack:U1", roles=MANAGER)))
    assert said(p, "slack:U1", "claim")[0] == "claimed"
    p.directory = KNOWN
    assert said(p, "ben")[0] == "claimed"
    assert only(p.decisions[-1].events, AnswerRefused2).code == "claimed"
    assert said(p, "ana", "release")[0] == "released"
    assert asking_in(p).claim is None
    assert said(p, "ben")[0] == "accepted"


def test_a_vote_ends_the_claim_of_the_person_under_another_name() -> None:
    p = asked(quorum=2, directory=directory(BEN, Person(id="slack:U1", roles=MANAGER)))
    said(p, "slack:U1", "claim")
    p.directory = KNOWN
    assert said(p, "ana")[0] == "counted"
    assert asking_in(p).claim is None


def test_a_vote_by_a_role_gives_way_once_it_is_known_whose_it_is() -> None:
    p = asked(quorum=2, directory=directory(BEN, Person(id="slack:U1", roles=MANAGER)))
    said(p, "slack:U1")
    p.directory = KNOWN
    assert said(p, "ana") == ("counted", "Ana@example.org")
    assert [vote.by for vote in asking_in(p).votes] == ["Ana@example.org"]


@pytest.mark.parametrize("name", ["ana", "SLACK:U1", "Ana@example.org"])
def test_an_order_means_a_person_by_any_name(name: str) -> None:
    p = asked(role="clerk", quorum=2, directory=directory(ANA, DAN, Person(id="eve", roles=DAN.roles)))
    assert ordered(p, "reassign", people=(name, "ana")) == "accepted"
    assert only(p.decisions[-1].events, ApprovalReassigned).change.people == ("Ana@example.org",)
    assert said(p, "slack:U1")[0] == "counted"
    assert ordered(p, "void", voter=name) == "accepted"
    assert asking_in(p).votes == ()
    assert ordered(p, "void", voter=name) == "no_vote"


def test_an_order_voids_a_vote_that_was_given_under_another_name() -> None:
    p = asked(quorum=2, directory=directory(BEN, Person(id="slack:U1", roles=MANAGER)))
    said(p, "slack:U1")
    p.directory = KNOWN
    assert ordered(p, "void", voter="ana") == "accepted"
    assert asking_in(p).votes == ()


@pytest.mark.parametrize("terms", [{"not": {"people": "slack:U1"}}, {"not": "editors"}])
def test_no_order_lifts_an_exclusion_under_another_name(terms: dict[str, Any]) -> None:
    p = asked(quorum=1, directory=KNOWN, **excluding(terms))
    if terms["not"] == "editors":
        assert said(p, "slack:U1", "edit", payload={"n": 2})[0] == "edited"
    assert ordered(p, "reassign", people=("ana",)) == "excluded"

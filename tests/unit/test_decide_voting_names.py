"""Decide: one person under several names, in votes, exclusions and edits; what the log keeps."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, approval, only, route
from voting_kit import BY, asked, closed, excluding, receipt

from mesh.core.events import ApprovalClosed, ApprovalRequested2, IncidentRaised, PayloadEdited, VoteCast
from mesh.core.people import Person, people_of
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

"""`mesh status`: quorums that nobody can reach any more. It warns only of what is sure."""

from typing import Any

import pytest
from one_partition import route

from mesh.core.approvals import Group, Stage, Terms
from mesh.core.delegations import Absence, Delegation, KnownDelegation
from mesh.core.people import People, Person, people_of
from mesh.inspection.mesh_status.stuck_terms import Away, _roles, why_unreachable


def people(**roles: str) -> People:
    return people_of([Person(id=name, roles=frozenset(held.split())) for name, held in roles.items()])


def terms(need: int = 2, **more: Any) -> Terms:
    return Terms(groups=(Group(need=need, role="lead"),), **more)


@pytest.mark.parametrize(
    ("asked", "there", "voted", "said"),
    [
        (terms(), people(ana="lead", ben="lead"), [], ""),
        (terms(), people(ana="lead", ben=""), [], "quorum of 2 can't be reached: 1 person left"),
        (terms(), people(ana="lead"), ["ana"], "quorum of 2 can't be reached: 1 person left"),
        (terms(3), people(ana="lead", ben="lead"), [], "quorum of 3 can't be reached: 2 people left"),
        # who has voted and lost the role since still counts
        (terms(), people(ana="lead", ben=""), ["Ben"], ""),
        (terms(excluded={"ana": "x"}), people(ana="lead", ben="lead"), [], "quorum of 2 can't be reached: 1 person left"),
        # a stage may still add people, or suffices by itself
        (terms(stages=(Stage(at_ms=1, role="boss"),)), people(ana="lead", ben="boss"), [], ""),
        (terms(stages=(Stage(at_ms=1, role="boss", quorum=1),)), people(ben="boss"), [], ""),
        (terms(stages=(Stage(at_ms=1, role="boss", quorum=2),)), people(ben="boss"), [], "quorum of 2 can't be reached: 1 person left"),
    ],
)  # fmt: skip
def test_whether_a_quorum_can_still_be_reached(asked: Terms, there: People, voted: list[str], said: str) -> None:
    assert why_unreachable(asked, there, voted) == said


NEW_YEAR_MS = 1_767_225_600_000


def away(*absent: str, **delegates: Any) -> Away:
    """`delegates`: who answers for whom, and in which routes."""
    there = people(ana="lead", ben="lead", cy="clerk")
    absences = {name: Absence(person=name, start_ms=0, until_ms=NEW_YEAR_MS, said_ms=0) for name in absent}
    known = [
        KnownDelegation(
            delegation=Delegation(id=giver, giver=giver.upper(), to=to, start_ms=0, until_ms=1, routes=tuple(routes)),
            from_ms=0,
        )
        for giver, (to, *routes) in delegates.items()
    ]
    return Away(there, absences, known)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (away(), ""),
        (away("ben"), "quorum of 2 can't be reached: 1 person left; ben is away until 2026-01-01 00:00 UTC"),
        (away("cy"), ""),
        (away("ben", ben=["cy"]), ""),
        (away("ben", ben=["cy", "pay"]), ""),
        (
            away("ben", ben=["cy", "other"]),
            "quorum of 2 can't be reached: 1 person left; ben is away until 2026-01-01 00:00 UTC",
        ),
        # nobody passes on what others have delegated to them
        (
            away("ben", "cy", ben=["cy"]),
            "quorum of 2 can't be reached: 1 person left; ben is away until 2026-01-01 00:00 UTC",
        ),
    ],
)
def test_who_is_away_counts_only_if_somebody_answers_for_them(known: Away, said: str) -> None:
    assert why_unreachable(terms(), people(ana="lead", ben="lead", cy="clerk"), [], known.of("pay")) == said


def test_who_has_voted_counts_even_if_they_are_away() -> None:
    assert why_unreachable(terms(), people(ana="lead", ben="lead"), ["ben"], away("ben").of("pay")) == ""


def test_a_role_whose_people_are_all_away_is_named_with_until_when() -> None:
    asked = route({"review": {"approval": {"ask": "Good?", "payload": 1, "role": "lead"}}})
    there = people(ana="lead", ben="clerk")
    [found] = _roles([asked], there, away("ana"))
    assert found.what == (
        "nobody with the role lead is there, which review of route r asks: ana is away until 2026-01-01 00:00 UTC"
    )
    assert list(_roles([asked], there, away("ana", ana=["ben"]))) == []
    assert list(_roles([asked], there, away("ben"))) == []

"""`mesh status`: quorums that nobody can reach any more. It warns only of what is sure."""

from typing import Any

import pytest

from mesh.core.approvals import Group, Stage, Terms
from mesh.core.people import People, Person, people_of
from mesh.inspection.mesh_status.stuck_terms import why_unreachable


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

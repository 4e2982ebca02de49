"""Who may vote for whom: scope, time, exclusion, and that a person takes part once."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import START_MS, Partition, agent, approval, only, route
from voting_kit import CROWD, asked, closed, code, receipt

from mesh.core.delegations import Delegation, DelegationTimeline, KnownDelegation
from mesh.core.events import AnswerRefused, ApprovalClosed, IncidentRaised, TaskDispatched, VoteCast
from mesh.core.inputs import TimerDue
from mesh.core.people import Person, people_of
from mesh.core.receipts import SendReceipt
from mesh.core.signing import Proof
from mesh.core.state import Directory

HOUR_MS = 3_600_000
NAMED = people_of(
    [
        Person(id="ana", roles=frozenset({"manager", "legal"})),
        Person(id="ben", names=("chat:ben",), roles=frozenset({"manager"})),
        Person(id="dan", roles=frozenset({"clerk"})),
        Person(id="eve", roles=frozenset({"legal"})),
        Person(id="fay"),
    ]
)
NAMES = replace(CROWD, people=NAMED, roles=NAMED.roles)


def given(giver: str, to: str, **more: Any) -> Delegation:
    said = {"id": f"{giver}-{to}", "start_ms": START_MS, "until_ms": START_MS + HOUR_MS, "by": giver, **more}
    return Delegation(giver=giver, to=to, **said)


def with_delegations(*delegations: Delegation, directory: Directory = NAMES) -> Directory:
    known = tuple(KnownDelegation(delegation=one, from_ms=0) for one in delegations)
    return replace(directory, delegations=known)


def test_a_delegate_fills_the_seat_of_the_person_and_needs_no_role() -> None:
    p = asked(directory=with_delegations(given("ben", "fay")))
    assert code(p, "fay", on_behalf="ben") == "accepted"
    assert (receipt(p).by, receipt(p).on_behalf) == ("fay", "ben")
    (vote,) = closed(p).votes
    assert (vote.by, vote.on_behalf, vote.delegation, vote.roles) == ("fay", "ben", "ben-fay", ("manager",))
    assert (closed(p).by, closed(p).on_behalf) == ("fay", "ben")
    task = only(p.decisions[-1].events, TaskDispatched)
    assert [(one["by"], one["for"]) for one in task.input["votes"]] == [("fay", "ben")]


def test_a_person_may_be_named_by_any_name() -> None:
    p = asked(directory=with_delegations(given("chat:ben", "fay")))
    p.vote("fay", on_behalf="CHAT:BEN")
    assert closed(p).votes[0].on_behalf == "ben"


def test_a_vote_for_oneself_is_ones_own() -> None:
    p = asked(directory=with_delegations())
    p.vote("ben", on_behalf="chat:ben")
    assert closed(p).votes[0].on_behalf == ""


REFUSED: tuple[tuple[str, tuple[Delegation, ...], dict[str, Any], str], ...] = (
    ("nobody has delegated", (), {}, "delegation"),
    ("somebody else has", (given("eve", "fay"),), {}, "delegation"),
    ("to somebody else", (given("ben", "dan"),), {}, "delegation"),
    ("it is not transitive", (given("ben", "dan"), given("dan", "fay")), {}, "delegation"),
    ("in another route", (given("ben", "fay", routes=("other",)),), {}, "delegation"),
    ("another role", (given("ben", "fay", roles=("legal",)),), {}, "delegation"),
    ("the person has no role", (given("dan", "fay"),), {"on_behalf": "dan"}, "role"),
    (
        "of the people of a seat, by roles alone",
        (given("ben", "fay", roles=("clerk",)),),
        {"people": "ben"},
        "delegation",
    ),
)


@pytest.mark.parametrize(
    ("delegations", "more", "expected"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_what_no_delegation_allows_is_refused(
    delegations: tuple[Delegation, ...], more: dict[str, Any], expected: str
) -> None:
    people = more.get("people")
    terms = {"role": None, "people": people} if people else {}
    p = asked(directory=with_delegations(*delegations), quorum=1, reason="reject", **terms)
    assert code(p, "fay", on_behalf=more.get("on_behalf", "ben")) == expected
    assert receipt(p).on_behalf == more.get("on_behalf", "ben")


def test_the_scope_is_one_of_roles_and_routes() -> None:
    covered = given("ben", "fay", roles=("manager", "legal"), routes=("r", "other"))
    p = asked(directory=with_delegations(given("ben", "fay", id="small", roles=("clerk",)), covered), quorum=2)
    assert code(p, "fay", on_behalf="ben") == "counted"
    vote = only(p.decisions[-1].events, VoteCast).vote
    # of what it covers, what the person has
    assert (vote.delegation, vote.roles, vote.by_roles) == ("ben-fay", ("manager",), True)


def test_a_delegation_of_a_role_fills_no_seat_that_names_the_person() -> None:
    groups = [{"role": "manager"}, {"people": ["ben"]}]
    p = asked(role=None, quorum=groups, directory=with_delegations(given("ben", "fay", roles=("manager",))))
    assert code(p, "fay", on_behalf="ben") == "counted"
    # the seat for Ben is Ben's alone
    assert code(p, "ana") == "counted"
    assert (receipt(p).have, receipt(p).need) == (1, 2)
    p.directory = with_delegations(given("ben", "fay"))
    assert code(p, "fay", on_behalf="ben") == "accepted"


EXCLUDED = ({"not": {"people": "ben"}}, {"not": {"people": "fay"}}, {"not": "requester", "requester": "ben"}, {"not": "requester", "requester": "FAY"})  # fmt: skip


@pytest.mark.parametrize("terms", EXCLUDED, ids=str)
def test_who_is_excluded_neither_votes_for_somebody_nor_is_voted_for(terms: dict[str, Any]) -> None:
    p = asked(directory=with_delegations(given("ben", "fay")), **terms)
    assert code(p, "fay", on_behalf="ben") == "excluded"


@pytest.mark.parametrize("editor", ["ben", "fay"])
def test_who_has_edited_neither_votes_for_somebody_nor_is_voted_for(editor: str) -> None:
    more = {"not": "editors", "edit": {"people": ["ben", "fay"]}}
    p = asked(directory=with_delegations(given("ben", "fay")), **more)
    assert code(p, editor, "edit", payload={"n": 2}) == "edited"
    assert code(p, "fay", on_behalf="ben") == "excluded"


def test_who_was_voted_for_has_taken_part_in_an_earlier_approval() -> None:
    steps = {
        "precheck": approval(role="manager", quorum=1, reason="reject"),
        "review": approval(role="manager", **{"not": {"voters_of": "precheck"}}) | {"needs": "precheck"},
    }
    p = Partition(route(steps), directory=with_delegations(given("ben", "fay"), given("ana", "fay")))
    p.start()
    assert code(p, "fay", on_behalf="ben", step="precheck") == "accepted"
    assert code(p, "ben") == "excluded"
    assert code(p, "fay", on_behalf="ana") == "excluded"
    assert code(p, "ana") == "accepted"


TWICE: tuple[tuple[str, list[tuple[str, str]], list[str], list[tuple[str, str]]], ...] = (
    # who votes for whom, the codes, and who is counted in the end
    ("the person has voted", [("ben", ""), ("fay", "ben")], ["counted", "represented"], [("ben", "")]),
    ("another delegate has", [("fay", "ben"), ("dan", "ben")], ["counted", "represented"], [("fay", "ben")]),
    ("the delegate is voted for", [("dan", "ana"), ("ana", "ben")], ["counted", "represented"], [("dan", "ana")]),
    ("the person has voted for another", [("ben", "ana"), ("fay", "ben")], ["counted", "represented"], [("ben", "ana")]),
    ("one's own goes first", [("fay", "ben"), ("ben", "")], ["counted", "counted"], [("ben", "")]),
    ("the newest of a delegate", [("ana", "ben"), ("ana", "")], ["counted", "counted"], [("ana", "")]),
    ("the newest of a delegate, for another", [("ana", ""), ("ana", "ben")], ["counted", "counted"], [("ana", "ben")]),
    ("two distinct", [("fay", "ben"), ("ana", "")], ["counted", "accepted"], [("fay", "ben"), ("ana", "")]),
)  # fmt: skip


@pytest.mark.parametrize(("votes", "codes", "counted"), [one[1:] for one in TWICE], ids=[one[0] for one in TWICE])
def test_a_person_takes_part_once(
    votes: list[tuple[str, str]], codes: list[str], counted: list[tuple[str, str]]
) -> None:
    all_of_them = [given("ben", to) for to in ("fay", "dan", "ana")] + [given("ana", "dan"), given("ana", "ben")]
    p = asked(directory=with_delegations(*all_of_them), quorum=2)
    assert [code(p, by, on_behalf=giver) for by, giver in votes] == codes
    asking = p.step("review").asking
    assert asking is not None
    found = closed(p).votes if codes[-1] == "accepted" else asking.votes
    assert [(vote.by, vote.on_behalf) for vote in found] == counted


def test_a_person_takes_back_what_a_delegate_has_voted_for_them() -> None:
    p = asked(directory=with_delegations(given("ben", "fay")), quorum=2)
    p.vote("fay", on_behalf="ben")
    assert code(p, "ben", "withdraw") == "taken_back"
    assert receipt(p).have == 0
    # ... so the delegate's older word, if it is read later, does not count again
    assert code(p, "fay", on_behalf="ben", at_ms=p.now_ms - 5) == "superseded"


def test_the_delegate_takes_back_what_they_have_voted() -> None:
    p = asked(directory=with_delegations(given("ben", "fay")), quorum=2)
    p.vote("fay", on_behalf="ben")
    assert code(p, "fay", "withdraw") == "taken_back"
    assert receipt(p).have == 0


def test_an_operator_voids_the_vote_of_either() -> None:
    for voter in ("ben", "fay"):
        p = asked(directory=with_delegations(given("ben", "fay")), quorum=2)
        p.vote("fay", on_behalf="ben")
        p.order("void", voter=voter)
        asking = p.step("review").asking
        assert asking is not None
        assert asking.votes == ()


def test_a_late_answer_is_judged_by_what_was_in_force_at_its_time() -> None:
    p = asked(directory=with_delegations(given("ben", "fay")), deadline="1h")
    p.now_ms += 2 * HOUR_MS
    p.vote("fay", on_behalf="ben")
    asking = p.step("review").asking
    assert asking is not None
    assert [one.mandates[0].delegation for one in asking.held] == ["ben-fay"]
    # the delegation is gone since, and so is the role
    p.directory = replace(CROWD, roles={})
    p.order("extend", by_ms=3 * HOUR_MS, at_ms=p.now_ms - 2 * HOUR_MS)
    assert [(vote.by, vote.on_behalf, vote.delegation) for vote in closed(p).votes] == [("fay", "ben", "ben-fay")]
    p.check_replay()


def test_a_stage_that_is_too_small_counts_a_delegate_once() -> None:
    stage = {"escalate": [{"after": "1m", "to": "legal", "replace": True}]}
    p = asked(
        directory=with_delegations(given("ben", "eve")),
        quorum=[{"role": "manager"}, {"role": "legal"}],
        role=None,
        **stage,
    )
    p.vote("eve", on_behalf="ben")
    p.now_ms += 2 * 60_000
    p.directory = replace(p.directory, people=None, roles={"eve": frozenset({"legal"})})
    p.give(
        TimerDue(
            due_at_ms=p.now_ms - 60_000,
            workflow_id="r:k",
            kind="approval_stage",
            step="review",
            run_id=p.workflow().run_id,
        )
    )
    assert only(p.decisions[-1].events, IncidentRaised).kind == "nobody"


def test_a_claim_is_the_delegates() -> None:
    p = asked(directory=with_delegations(given("ben", "ana")), quorum=1, claim="exclusive")
    p.vote("ana", "claim")
    assert code(p, "ana", on_behalf="ben") == "accepted"
    p = asked(directory=with_delegations(given("ben", "fay")), quorum=1, claim="exclusive")
    p.vote("ana", "claim")
    assert code(p, "fay", on_behalf="ben") == "claimed"


def test_a_delegation_must_be_signed_as_the_answer_must() -> None:
    own = Proof(kid="k", signer="fay", how="own")
    for signed, expected in (("none", "delegation"), ("gateway", "delegation"), ("own", "accepted")):
        p = asked(directory=with_delegations(given("ben", "fay", signed=signed)), signed="own")
        p.vote("fay", on_behalf="ben", proof=own)
        found = only(p.effects(), SendReceipt)
        assert found.code == expected
    assert "must be signed" in refusal_of(asked(directory=with_delegations(given("ben", "fay")), signed="own"), own)


def refusal_of(p: Partition, proof: Proof) -> str:
    p.vote("fay", on_behalf="ben", proof=proof)
    return only(p.decisions[-1].events, AnswerRefused).message


# An approval of a role alone ----------------------------------------------------------------------


def first(*delegations: Delegation) -> Partition:
    steps = {
        "review": {"approval": {"ask": "Good?", "payload": 1, "role": "manager"}},
        "pay": agent("p", "${{ steps.review }}", needs="review"),
    }
    p = Partition(route(steps), directory=with_delegations(*delegations))
    p.start()
    return p


def test_an_approval_of_one_answer_takes_a_delegate_too() -> None:
    p = first(given("ben", "fay", roles=("manager",)))
    assert code(p, "fay", on_behalf="chat:ben") == "accepted"
    found = only(p.decisions[-1].events, ApprovalClosed)
    assert (found.by, found.on_behalf, found.delegation) == ("fay", "ben", "ben-fay")
    assert only(p.decisions[-1].events, TaskDispatched).input["for"] == "ben"


@pytest.mark.parametrize(
    ("delegations", "expected"),
    [((), "delegation"), ((given("ben", "fay", roles=("legal",)),), "delegation"), ((given("dan", "fay"),), "role")],
)
def test_of_one_answer_what_no_delegation_allows_is_refused(delegations: tuple[Delegation, ...], expected: str) -> None:
    p = first(*delegations)
    assert code(p, "fay", on_behalf="dan" if expected == "role" else "ben") == expected
    assert p.step("review").status == "asking"


def test_of_one_answer_a_delegate_is_late_as_all_are() -> None:
    p = first(given("ben", "fay"))
    approval_id = p.task_id("review")
    p.answer("review", by="ana")
    p.vote("fay", on_behalf="ben", approval_id=approval_id)
    refused = only(p.decisions[-1].events, AnswerRefused)
    assert (refused.code, refused.on_behalf) == ("closed", "ben")


# What is in force when ----------------------------------------------------------------------------


def test_a_delegation_is_in_force_from_its_start_until_its_end_and_two_seconds_after_its_record() -> None:
    timeline = DelegationTimeline()
    timeline.add(given("ben", "fay", start_ms=1_000, until_ms=10_000), 5_000)
    timeline.add(given("ben", "fay", start_ms=8_000, until_ms=10_000, id="late"), 5_000)
    in_force = {at_ms: [one.delegation.id for one in timeline.in_force(at_ms)] for at_ms in (6_999, 7_000, 7_999, 8_000, 9_999, 10_000)}  # fmt: skip
    assert in_force == {
        6_999: [],
        7_000: ["ben-fay"],
        7_999: ["ben-fay"],
        8_000: ["ben-fay", "late"],
        9_999: ["ben-fay", "late"],
        10_000: [],
    }

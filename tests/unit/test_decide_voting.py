"""Decide: approvals of several people. Who is asked, who may vote, and what counts."""

import re
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, approval, names, only, route
from voting_kit import BY, CROWD, asked, closed, code, excluding, receipt

from mesh.core.approvals import MOST_ANSWERS, MOST_NOTES, MOST_TEXT
from mesh.core.effects import AskApproval
from mesh.core.events import (
    AnswerRefused,
    IncidentRaised,
    TaskDispatched,
    VoteTakenBack,
    WorkflowEnded,
)
from mesh.core.json_values import digest

# Asking -------------------------------------------------------------------------------------------


def test_a_question_carries_its_terms() -> None:
    p = asked(quorum=2, deadline="1h", choices=["pay", "refuse"], rejects=["refuse"], on_expiry="refuse")
    question = only(p.effects(), AskApproval)
    assert question.terms is not None
    assert (question.role, question.terms.rule, question.on_expiry) == ("manager", "2 of manager", "reject")
    assert (question.terms.choices, question.terms.rejects, question.terms.need) == (("pay", "refuse"), ("refuse",), 2)


@pytest.mark.parametrize(
    ("terms", "rule", "against"),
    [
        ({"quorum": "majority"}, "2 of manager", 1),
        ({"quorum": "majority", "not": {"people": ["CY", "dan"]}}, "2 of manager", 1),
        ({"reject": "majority"}, "1 of manager", 2),
        ({"reject": 3}, "1 of manager", 3),
        ({"role": None, "people": ["x", "y", "z"], "quorum": "all", "not": {"people": "Y"}}, "2 of x, y, z", 1),
        ({"role": None, "people": "${{ event.data.by }}"}, "1 of ben", 1),
        ({"role": None, "quorum": [{"role": "manager", "need": 2}, {"people": ["x"]}]}, "2 of manager, 1 of x", 1),
        ({"role": "${{ 'man' + 'ager' }}"}, "1 of manager", 1),
    ],
)
def test_numbers_and_names_are_settled_when_it_is_asked(terms: dict[str, Any], rule: str, against: int) -> None:
    p = asked(**terms)
    asking = p.step("review").asking
    assert asking is not None
    assert (asking.terms.rule, asking.terms.reject_need) == (rule, against)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"quorum": 4}, "4 of manager must answer, and 3 could"),
        ({"quorum": 3, "not": "requester", "requester": BY}, "3 of manager must answer, and 2 could, without ben"),
        (
            {"role": None, "people": ["x"], "quorum": "all", "not": {"people": "x"}},
            "1 of x must answer, and 0 could, without x",
        ),
        (
            {"role": None, "quorum": [{"role": "legal"}, {"role": "legal"}, {"role": "legal"}]},
            "1 of legal, 1 of legal, 1 of legal: 2 people could answer, and no way to seat them fills all seats",
        ),
    ],
)
def test_what_nobody_could_answer_is_an_incident(terms: dict[str, Any], message: str) -> None:
    p = asked(**terms)
    assert only(p.decisions[-1].events, IncidentRaised).message == message
    p.directory = replace(p.directory, roles={name: frozenset({"manager", "legal"}) for name in "abcdefg"})
    is_asked = "ApprovalRequested2" in names(p.command("retry"))
    assert is_asked == (terms["quorum"] != "all")


def test_what_nobody_could_answer_waits_where_the_route_says_so() -> None:
    assert asked(quorum=4, on_nobody="wait").step("review").status == "asking"


def test_where_nobody_knows_all_roles_it_is_asked() -> None:
    assert asked(directory=replace(CROWD, knows_all_roles=False), quorum=4).step("review").status == "asking"


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"not": "requester", "requester": "${{ event.data.none }}"}, "requester must be a name, and .* gives null"),
        ({"role": "${{ event.data.empty }}"}, "role must be a name, and .* gives an empty text"),
        ({"role": None, "people": "${{ event.data.list }}"}, "people must be a name or a list of names"),
        ({"role": None, "people": "${{ event.data.number }}"}, "gives 7"),
        ({"not": {"people": "${{ event.data.none }}"}}, "the people in not must be .* gives null"),
        ({"edit": {"role": "${{ event.data.none }}"}}, "the role that may edit"),
        ({"edit": {"people": "${{ event.data.none }}"}}, "the people who may edit"),
    ],
)
def test_a_name_that_is_missing_excludes_nobody_silently(terms: dict[str, Any], message: str) -> None:
    p = asked(data={"none": None, "empty": "", "list": [], "number": 7}, **terms)
    incident = only(p.decisions[-1].events, IncidentRaised)
    assert incident.kind == "expression"
    assert re.search(message, incident.message)


def test_an_empty_list_of_the_excluded_excludes_nobody() -> None:
    p = asked(data={"list": []}, **excluding({"not": {"people": "${{ event.data.list }}"}}))
    assert code(p, "ana") == "accepted"


# Voting -------------------------------------------------------------------------------------------


def test_a_quorum_is_of_distinct_people() -> None:
    p = asked(quorum=2)
    assert code(p, "ana") == "counted"
    assert (receipt(p).have, receipt(p).need, receipt(p).closed, receipt(p).choice) == (1, 2, False, "approve")
    assert code(p, "ANA") == "counted"
    assert (receipt(p).have, receipt(p).edition) == (1, 1)
    assert code(p, "ben", reason="fine") == "accepted"
    found = closed(p)
    assert (found.verdict, found.choice, found.by, found.rule) == ("approved", "approve", "ben", "2 of manager")
    assert [vote.by for vote in found.votes] == ["ANA", "ben"]
    task = only(p.decisions[-1].events, TaskDispatched)
    assert task.input["votes"][0] == {
        "by": "ANA", "for": "", "choice": "approve", "reason": "", "form": None, "at": "2025-11-23T12:13:20Z",
    }  # fmt: skip
    assert (task.input["reason"], task.input["edition"], task.input["expired"]) == ("fine", 1, False)


@pytest.mark.parametrize("first", ["ana", "eve"])
def test_votes_are_seated_whatever_their_order(first: str) -> None:
    """Ana fits both seats. Whoever votes first, the other one can complete the quorum."""
    p = asked(role=None, quorum=[{"role": "legal"}, {"role": "manager"}])
    other = "eve" if first == "ana" else "ana"
    assert [code(p, first), code(p, other)] == ["counted", "accepted"]


def test_one_who_fits_both_seats_takes_one() -> None:
    p = asked(role=None, quorum=[{"role": "legal"}, {"role": "manager"}])
    assert [code(p, "ana"), code(p, "ana")] == ["counted", "counted"]


def test_a_person_of_two_spellings_has_the_roles_of_both() -> None:
    p = asked(role=None, quorum=[{"role": "finance"}])
    assert code(p, "ＣＹ") == "accepted"  # noqa: RUF001 - the point of it


def test_rejections_are_counted_first_and_over_distinct_people() -> None:
    p = asked(reject=2)
    assert [code(p, "ben", "reject"), code(p, "ben", "reject")] == ["counted", "counted"]
    assert code(p, "Cy", "reject", reason="no") == "accepted"
    assert (closed(p).verdict, closed(p).rule, closed(p).have) == ("rejected", "2 against", 0)
    assert only(p.decisions[-1].events, WorkflowEnded).status == "rejected"


def test_a_vote_is_taken_back_even_before_it_is_read() -> None:
    p = asked(quorum=2)
    sent_ms = p.now_ms
    assert code(p, "ana", "withdraw", at_ms=sent_ms + 10) == "taken_back"
    assert code(p, "ana", at_ms=sent_ms) == "superseded"
    assert code(p, "ana", at_ms=sent_ms + 10) == "counted"
    p.vote("ana", "withdraw", at_ms=sent_ms + 20)
    assert only(p.decisions[-1].events, VoteTakenBack).have == 0
    assert code(p, "ben") == "counted"


def test_a_comment_is_no_word_that_an_older_vote_yields_to() -> None:
    p = asked(quorum=2)
    assert code(p, "ana", "comment", text="wait", at_ms=p.now_ms + 10) == "noted"
    assert code(p, "ana", at_ms=p.now_ms - 1) == "counted"


def test_an_answer_counts_once() -> None:
    p = asked(quorum=2)
    assert code(p, "ana", answer_id="one") == "counted"
    assert code(p, "ana", "withdraw") == "taken_back"
    assert code(p, "ana", answer_id="one") == "repeated"
    assert code(p, "ben", answer_id="one") == "counted"
    assert code(p, "Cy") == "accepted"
    assert code(p, "ana", answer_id="one") == "repeated"
    assert (receipt(p).verdict, receipt(p).closed) == ("approved", True)
    p.succeed("pay")
    assert code(p, "ana", answer_id="one") == "repeated"
    assert code(p, "ana", answer_id="two") == "closed"


def test_a_refused_answer_counts_for_nothing_later() -> None:
    p = asked()
    assert code(p, "new", answer_id="early") == "role"
    p.directory = replace(p.directory, roles={**CROWD.roles, "new": frozenset({"manager"})})
    assert code(p, "new", answer_id="early") == "repeated"
    assert code(p, "new", answer_id="fresh") == "accepted"


def test_a_vote_that_was_counted_stays_when_the_role_goes() -> None:
    p = asked(quorum=2)
    code(p, "ana")
    p.directory = replace(p.directory, roles={"ben": frozenset({"manager"})})
    assert code(p, "ben") == "accepted"


def test_an_answer_says_what_it_has_seen() -> None:
    p = asked()
    assert code(p, "ana", digest=None) == "digest"
    assert code(p, "ana", digest=digest(2)) == "digest"
    assert code(p, "ana", digest=digest({"n": 1})) == "accepted"


def test_a_short_answer_of_version_1_is_a_vote() -> None:
    p = asked()
    p.answer(by="ana", digest=digest({"n": 1}))
    assert closed(p).by == "ana"


def test_an_answer_of_version_2_is_refused_by_an_approval_of_version_1() -> None:
    p = Partition(route({"review": approval()}))
    p.start()
    refused = only(p.vote("ana", "withdraw"), AnswerRefused)
    assert (type(refused), refused.code) == (AnswerRefused, "malformed")
    p.answer(by="ana")
    assert only(p.vote("ana", "withdraw"), AnswerRefused).code == "closed"


# Who may, and who may not -------------------------------------------------------------------------


def test_four_eyes() -> None:
    terms: dict[str, Any] = {
        "not": ["requester", "editors", {"people": ["Cy"]}],
        "requester": BY,
        "edit": {"role": "clerk"},
    }
    p = asked(data={"by": "Ben"}, **terms)
    assert [code(p, "ben"), code(p, "CY"), code(p, "dan")] == ["excluded", "excluded", "role"]
    assert code(p, "dan", "edit", payload={"n": 2}) == "edited"
    p.directory = replace(p.directory, roles={**CROWD.roles, "dan": frozenset({"clerk", "manager"})})
    assert code(p, "dan") == "excluded"
    assert code(p, "dan", "edit", payload={"n": 3}) == "edited"
    assert code(p, "ana") == "accepted"
    assert (closed(p).payload, closed(p).edited, closed(p).edition, closed(p).editors) == ({"n": 3}, True, 3, ("dan",))


def test_the_routes_requester_holds_for_its_approvals() -> None:
    p = asked(more={"requester": BY}, **excluding({"not": "requester"}))
    assert code(p, "ben") == "excluded"


def test_those_who_took_part_in_an_earlier_approval_are_excluded() -> None:
    steps = {
        "one": approval(role="manager", quorum=2),
        "old": approval(role="maintainer"),
        "skipped": {**approval(role="manager", quorum=2), "if": "false"},
        "review": {
            **approval(
                role="manager", **excluding({"not": [{"voters_of": name} for name in ("one", "old", "skipped")]})
            ),
            "needs": ["one", "old", "skipped"],
        },
    }
    p = Partition(
        route(steps), directory=replace(CROWD, roles={**CROWD.roles, "Z": frozenset({"maintainer", "manager"})})
    )
    p.start()
    p.vote("ana", step="one")
    p.vote("ben", step="one", payload={"n": 2})
    p.vote("Cy", step="one")
    p.answer("old", by="Z")
    assert [code(p, who) for who in ("ben", "CY", "z", "ana")] == ["excluded", "excluded", "excluded", "accepted"]


def test_an_approval_whose_output_is_not_there_had_no_voters() -> None:
    steps = {
        "one": {"needs": "gone", **approval(role="manager", quorum=2)},
        "gone": agent("p", on_exhausted="continue", retry={"attempts": 1}),
        "fast": agent("q"),
        "review": {
            "needs": {"any": ["one", "fast"]},
            **approval(role="manager", **excluding({"not": {"voters_of": "one"}})),
        },
    }
    p = Partition(route(steps), directory=CROWD)
    p.start()
    p.succeed("fast")
    assert code(p, "ana") == "accepted"


def test_who_may_comment() -> None:
    p = asked(
        requester="${{ 'zoe' }}", edit={"people": ["fay"]}, **excluding({"not": ["requester", {"people": ["gus"]}]})
    )
    said = {who: code(p, who, "comment", text="well") for who in ("ana", "fay", "gus", "zoe", "nobody")}
    assert said == {"ana": "noted", "fay": "noted", "gus": "noted", "zoe": "noted", "nobody": "role"}
    assert asked(edit=False).step("review").asking is not None


def test_a_comment_has_a_text_of_some_length() -> None:
    p = asked()
    assert code(p, "ana", "comment") == "malformed"
    assert code(p, "ana", "comment", text="é" * MOST_TEXT) == "too_large"
    p.directory = replace(p.directory, roles={f"m{n}": frozenset({"manager"}) for n in range(2)})
    for n in range(MOST_NOTES):
        assert code(p, f"m{n % 2}", "comment", text="again") == "noted"
    assert code(p, "m0", "comment", text="again") == "limit"


def test_one_person_may_send_so_many_answers() -> None:
    p = asked(quorum=2)
    for _ in range(MOST_ANSWERS):
        p.vote("ana", "withdraw")
    assert code(p, "ana") == "limit"
    assert code(p, "ana", digest=None) == "digest"
    asking = p.step("review").asking
    assert asking is not None
    assert len(asking.seen["ana"]) == MOST_ANSWERS

"""Compile: approvals of several people. What a route may say of them, and what it may not."""

from typing import Any

import pytest
from one_partition import agent

from mesh.core.approvals import MOST_EDITS, Claiming, Extending
from mesh.core.route import ApprovalWork, VotingTerms, agents_asked, agents_of, asks, roles_of
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused
from mesh.routes.schema.tables import tables_by_name

ASK: dict[str, Any] = {"ask": "Good?", "payload": 1}


def document(approval: dict[str, Any], steps: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    review = {"approval": {**ASK, **approval}, **({"needs": [*steps]} if steps else {})}
    return {"route": "r", "on": {"type": "t"}, "steps": {**(steps or {}), "review": review}, **more}


def work(approval: dict[str, Any], **more: Any) -> ApprovalWork:
    found = compile_route(document(approval, **more)).steps["review"].work
    assert isinstance(found, ApprovalWork)
    return found


def terms(approval: dict[str, Any], **more: Any) -> VotingTerms:
    found = work(approval, **more).voting
    assert found is not None
    return found


def problems(approval: dict[str, Any], steps: dict[str, Any] | None = None, **more: Any) -> list[str]:
    with pytest.raises(RouteRefused) as refused:
        compile_route(document(approval, steps, **more))
    return [str(problem).removeprefix("steps.review.approval.") for problem in refused.value.problems]


# The two versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [{}, {"deadline": "1h"}, {"on_expiry": "incident"}, {"payload_schema": {}}])
def test_todays_keys_alone_make_an_approval_of_version_1(key: dict[str, Any]) -> None:
    assert work({"role": "boss", **key}).voting is None


@pytest.mark.parametrize(
    "key",
    [
        {"quorum": 1},
        {"not": "editors"},
        {"requester": "${{ event.data }}"},
        {"reject": "any"},
        {"choices": ["reject", "pay"]},
        {"form": {}},
        {"reason": "optional"},
        {"edit": True},
        {"on_nobody": "incident"},
        {"role": "${{ event.data }}"},
    ],
)
def test_any_other_key_makes_one_of_version_2(key: dict[str, Any]) -> None:
    assert work({"role": "boss", **key}).voting is not None


def test_what_an_absent_key_means() -> None:
    found = terms({"role": "boss", "quorum": 1})
    [group] = found.groups
    assert (group.need, group.people, found.reject, found.choices, found.rejects) == (
        1, None, 1, ("approve", "reject"), ("reject",),
    )  # fmt: skip
    assert (found.edit.limit, found.reason, found.form, found.on_nobody) == (MOST_EDITS, "optional", None, "incident")
    assert (found.not_requester, found.not_editors, found.voters_of, found.not_people) == (False, False, (), ())


def test_all_that_it_may_say() -> None:
    found = terms(
        {
            "quorum": [{"role": "a", "need": 2}, {"people": ["x", "${{ event.data.y }}"]}],
            "not": ["requester", "editors", {"voters_of": "first"}, {"people": "z"}],
            "choices": ["pay", "stop", "report"],
            "rejects": ["stop", "report"],
            "reject": "majority",
            "form": {"type": "object"},
            "reason": "reject",
            "edit": {"role": "clerk", "limit": 3},
            "deadline": "1h",
            "on_expiry": "report",
            "on_nobody": "wait",
        },
        steps={"first": {"approval": {**ASK, "role": "boss"}}},
        requester="${{ event.data.by }}",
    )
    assert [group.need for group in found.groups] == [2, 1]
    assert (found.not_requester, found.not_editors, found.voters_of, len(found.not_people)) == (
        True,
        True,
        ("first",),
        1,
    )
    assert (found.choices, found.rejects, found.reject) == (("pay", "stop", "report"), ("stop", "report"), "majority")
    assert (found.reason, found.edit.limit, found.expiry_choice, found.on_nobody) == ("reject", 3, "report", "wait")


@pytest.mark.parametrize(
    ("approval", "on_expiry", "choice"),
    [
        ({"deadline": "1h"}, "reject", "reject"),
        ({"deadline": "1h", "on_expiry": "approve"}, "approve", "approve"),
        ({"deadline": "1h", "on_expiry": "incident"}, "incident", "incident"),
        ({"choices": ["a", "b"], "rejects": ["b"]}, "reject", "b"),
        ({"choices": ["a", "b"]}, "approve", "reject"),
        ({"choices": ["a", "b"], "on_expiry": "a"}, "approve", "a"),
        ({"reject": 3, "edit": {"people": ["x"]}}, "reject", "reject"),
        ({"edit": False}, "reject", "reject"),
    ],
)
def test_what_the_deadline_means(approval: dict[str, Any], on_expiry: str, choice: str) -> None:
    found = work({"role": "boss", "quorum": 2, **approval})
    assert found.voting is not None
    assert (found.on_expiry, found.voting.expiry_choice) == (on_expiry, choice)


def test_who_is_asked_in_words_and_as_roles() -> None:
    groups = work({"quorum": [{"role": "a", "need": 2}, {"role": "${{ event.data }}"}, {"people": ["x", "y"]}]})
    assert asks(groups) == "2 of a, 1 of ${{ event.data }}, 1 of x, y"
    assert (roles_of(groups), groups.role) == (("a",), "")
    assert (roles_of(work({"role": "a", "quorum": 2})), work({"role": "a", "quorum": 2}).role) == (("a",), "a")
    first = work({"role": "a"})
    assert (asks(first), roles_of(first)) == ("a", ("a",))


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("approval", "message"),
    [
        ({}, "steps.review.approval: role is missing (name the role that may answer, such as maintainer)"),
        ({"quorum": 2}, "steps.review.approval: role is missing (name the role that may answer, such as maintainer)"),
        ({"role": "a", "people": ["b"]}, (
"people: the approval has both role and people (make two "
"groups of it: quorum: [...])"
)),
        ({"people": []}, "people: people can't be a list (write a name, a list of names, or ${{ }})"),
        ({"people": 7}, "people: people can't be 7 (write a name, a list of names, or ${{ }})"),
        ({"role": "a", "quorum": "all"}, (
"quorum: quorum: all goes with people (name them: people: "
"[...], or write majority)"
)),
        ({"role": "a", "quorum": 0}, (
"quorum: quorum can't be 0 (write a whole number from 1 to 100, majority, all, or a list "
"of groups)"
)),
        ({"role": "a", "quorum": [{"role": "b"}]}, (
"role: role goes with a quorum that is a number (write role "
"in the groups of quorum)"
)),
        ({"quorum": []}, (
"quorum: quorum names no group (quorum: 2, or quorum: [{role: finance, need: 2}, {role: "
"legal}])"
)),
        ({"quorum": ["a"]}, (
"quorum.0: quorum takes a mapping here, not a string (quorum: 2, or quorum: [{role: "
"finance, need: 2}, {role: legal}])"
)),
        ({"quorum": [{"role": "a", "need": 60}, {"role": "b", "need": 60}]}, (
"quorum: 120 people must answer (let at "
"most 100 answer)"
)),
        ({"quorum": [{"role": "a", "nede": 2}]}, "quorum.0.nede: unknown key nede (did you mean need?)"),
        ({"role": "a", "not": "requester"}, (
"not: not: requester needs a requester (say who it is: "
"requester: ${{ event.data.NAME }})"
)),
        ({"role": "a", "not": "me"}, (
"not: not can't be me (write requester, editors, {voters_of: "
"STEP} or {people: ...})"
)),
        ({"role": "a", "not": [7]}, (
"not.0: not takes a mapping here, not a number (write requester, editors, {voters_of: "
"STEP} or {people: ...})"
)),
        ({"role": "a", "not": {}}, (
"not: not needs voters_of or people here (write requester, editors, {voters_of: STEP} or "
"{people: ...})"
)),
        ({"role": "a", "not": {"people": None}}, (
"not.people: people can't be null (write a name, a list of "
"names, or ${{ }})"
)),
        ({"role": "a", "not": {"voters_of": "reveiw"}}, (
"not.voters_of: there is no step reveiw (did you mean "
"review?)"
)),
        ({"role": "a", "rejects": ["b"]}, "rejects: rejects goes with choices (write choices, or remove it)"),
        ({"role": "a", "choices": ["b", "c"], "rejects": ["d"]}, (
"rejects: d is not among the choices "
"(there are: b, c)"
)),
        ({"role": "a", "choices": ["b"]}, (
"choices: there must be two choices at least (choices: "
"[refund, voucher, reject])"
)),
        ({"role": "a", "choices": ["b", "b"]}, "choices: choices names the same twice (write it once)"),
        ({"role": "a", "choices": "b"}, (
"choices: choices must be a list of words (choices: [refund, "
"voucher, reject])"
)),
        (
            {"role": "a", "choices": ["b", "reject"], "rejects": ["b", "reject"]},
            "rejects: every choice rejects, so nobody can approve (leave one of the choices out)",
        ),
        ({"role": "a", "choices": ["b", "c"], "deadline": "1h"}, (
"on_expiry: on_expiry can't be reject (write b, c or "
"incident)"
)),
        ({"role": "a", "quorum": 2, "on_expiry": "b"}, (
"on_expiry: on_expiry can't be b (write reject, approve or "
"incident)"
)),
        ({"role": "a", "reject": 0}, "reject: reject can't be 0 (write any, majority, or a number from 1 to 100)"),
        ({"role": "a", "edit": 3}, (
"edit: edit takes a mapping here, not a number (edit: false, or edit: {role: clerk, "
"limit: 5})"
)),
        ({"role": "a", "edit": {"role": "b", "people": "c"}}, (
"edit.people: edit has both role and people (name one of "
"them)"
)),
        ({"role": "a", "form": 7}, "form: form must be a JSON Schema, not a number"),
        ({"role": "a", "form": {"type": "nothing"}}, (
"form.type: form is not a JSON Schema: 'nothing' is not valid under any of the given "
"schemas"
)),
        ({"role": "a", "reason": "maybe"}, "reason: reason can't be maybe (write optional, required or reject)"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused(approval: dict[str, Any], message: str) -> None:
    assert message in problems(approval)


def test_voters_of_must_be_of_an_approval_that_comes_before() -> None:
    other = {"other": {"approval": {**ASK, "role": "a"}}}
    apart = {
        **document({"role": "a", "not": {"voters_of": "other"}}),
        "steps": {**other, "review": {"approval": {**ASK, "role": "a", "not": {"voters_of": "other"}}}},
    }
    with pytest.raises(RouteRefused, match="excludes the voters of other but does not need it"):
        compile_route(apart)
    task = problems({"role": "a", "not": {"voters_of": "task"}}, {"task": agent()})
    assert task == ["not.voters_of: the step task is not an approval, so nobody votes there (name an approval)"]


def test_a_cycle_is_the_only_problem_of_steps_in_it() -> None:
    steps = {
        "one": {"needs": "two", "approval": {**ASK, "role": "a", "not": {"voters_of": "two"}}},
        "two": {"needs": "one", "approval": {**ASK, "role": "a"}},
    }
    with pytest.raises(RouteRefused) as refused:
        compile_route({"route": "r", "on": {"type": "t"}, "steps": steps})
    assert len(refused.value.problems) == 1


def test_what_later_steps_may_read() -> None:
    def reading(field: str, **approval: Any) -> dict[str, Any]:
        steps = {
            "review": {"approval": {**ASK, "role": "a", **approval}},
            "pay": {"needs": "review", "value": f"${{{{ {field} }}}}"},
        }
        return {"route": "r", "on": {"type": "t"}, "steps": steps}

    compile_route(reading("steps.review.choice", quorum=2))
    compile_route(reading("steps.review.form", reason="required"))
    with pytest.raises(RouteRefused, match=r"steps\.review has no choice"):
        compile_route(reading("steps.review.choice"))
    for several in ({"quorum": 2}, {"quorum": "majority"}):
        with pytest.raises(RouteRefused, match="each has a form of their own"):
            compile_route(reading("steps.review.form", **several))
    groups = reading("steps.review.form")
    groups["steps"]["review"]["approval"] = {**ASK, "quorum": [{"role": "a"}, 7, {"role": "b", "need": "x"}]}
    with pytest.raises(RouteRefused) as refused:
        compile_route(groups)
    assert not any("form" in str(problem) for problem in refused.value.problems[:1])


def test_a_routes_requester_reads_the_event_alone() -> None:
    assert terms({"role": "a", "not": "requester"}, requester="${{ event.data.by }}").requester is not None
    with pytest.raises(RouteRefused, match="steps can't be read here"):
        compile_route(document({"role": "a"}, {"x": agent()}, requester="${{ steps.x }}"))


def test_each_mapping_below_an_approval_has_a_table_in_the_reference() -> None:
    assert {"approval", "quorum", "not", "edit"} <= tables_by_name().keys()


# Time ---------------------------------------------------------------------------------------------

STAGE: dict[str, Any] = {"after": "1h", "to": "lead"}


def test_stages_and_a_deadline_that_is_a_time_are_read() -> None:
    found = work({"role": "boss", "deadline": {"at": "${{ event.data.due }}"}})
    assert found.voting is not None
    assert (found.deadline_s, found.deadline_at is not None) == (None, True)
    asked = {**STAGE, "to": {"people": ["x"]}, "quorum": 2, "replace": True}
    stages = terms({"role": "boss", "deadline": "3h", "escalate": [STAGE, asked]}).stages
    assert [(one.after_s, one.quorum, one.replace, one.people is not None) for one in stages] == [
        (3600, 0, False, False),
        (3600, 2, True, True),
    ]


def test_the_roles_of_stages_are_among_those_that_are_asked() -> None:
    assert roles_of(work({"role": "boss", "escalate": [STAGE]})) == ("boss", "lead")


@pytest.mark.parametrize(
    ("approval", "problem"),
    [
        ({"escalate": []}, "escalate must be a list of stages"),
        ({"escalate": STAGE}, "escalate must be a list of stages"),
        ({"escalate": ["lead"]}, "escalate takes a mapping here, not a string"),
        ({"escalate": [{"after": "1h"}]}, "to is missing"),
        ({"escalate": [{"to": "lead"}]}, "after is missing"),
        ({"escalate": [{**STAGE, "to": {}}]}, "role is missing"),
        ({"escalate": [{**STAGE, "to": {"boss": "x"}}]}, "unknown key boss"),
        ({"escalate": [{**STAGE, "to": 7}]}, "to must be a string"),
        ({"escalate": [{**STAGE, "to": {"role": "a", "people": "b"}}]}, "has both role and people"),
        ({"escalate": [{**STAGE, "replace": "yes"}]}, "replace can't be yes"),
        ({"escalate": [{**STAGE, "quorum": 0}]}, "quorum can't be 0"),
        ({"escalate": [STAGE, STAGE], "deadline": "2h"}, "this stage comes 2h after the question"),
        ({"deadline": {}}, "at is missing"),
        ({"deadline": {"at": 7}}, "at must be a string"),
        ({"deadline": ["1h"]}, "deadline can't be"),
        ({"extend": {"by": "1h"}}, "there is no deadline to move"),
        ({"extend": {}, "deadline": "1h"}, "by is missing"),
        ({"extend": "1h", "deadline": "1h"}, "extend takes a mapping here"),
        ({"extend": {"by": "1h", "times": 0}, "deadline": "1h"}, "times can't be 0"),
        ({"claim": "mine"}, "claim can't be mine"),
        ({"claim": "exclusive", "quorum": 2}, "an exclusive claim keeps out the others"),
        ({"lease": "0s"}, "lease can't be 0s"),
    ],
)
def test_what_is_wrong_with_a_time_or_a_stage_is_said(approval: dict[str, Any], problem: str) -> None:
    found = problems({"role": "boss", **approval})
    assert any(problem in one for one in found), found


def test_extensions_and_claims_are_read() -> None:
    found = terms({"role": "boss", "deadline": "1h", "extend": {"by": "8h", "times": 2}, "claim": "exclusive"})
    assert found.extending == Extending(by_ms=8 * 3_600_000, times=2)
    assert found.claiming == Claiming(exclusive=True)
    assert terms({"role": "boss", "lease": "10m"}).claiming == Claiming(lease_ms=600_000)


# Questions ----------------------------------------------------------------------------------------


def test_who_can_be_asked_back_is_read() -> None:
    to = ["requester", {"agent": "researcher"}, {"role": "${{ event.data.role }}"}, {"people": ["x", "y"]}]
    back = {"to": to, "limit": 5, "extends": "8h"}
    found = terms({"role": "boss", "deadline": "1h", "ask_back": back, "requester": "${{ event.data.by }}"})
    assert found.ask_back is not None
    assert (found.ask_back.limit, found.ask_back.extends_ms) == (5, 8 * 3_600_000)
    assert [(one.is_requester, one.agent, one.role is None, one.people is None) for one in found.ask_back.to] == [
        (True, "", True, True),
        (False, "researcher", True, True),
        (False, "", False, True),
        (False, "", True, False),
    ]
    assert found.requester is not None
    assert not found.not_requester
    alone = terms({"role": "boss", "ask_back": {"to": {"role": "clerk"}}}).ask_back
    assert alone is not None
    assert (len(alone.to), alone.limit, alone.extends_ms) == (1, 3, 0)


def test_an_agent_that_can_be_asked_back_is_one_of_the_routes_agents() -> None:
    found = compile_route(document({"role": "boss", "ask_back": {"to": {"agent": "researcher"}}}))
    assert agents_of(found) == {"researcher"}
    assert agents_asked(found) == {"researcher"}


@pytest.mark.parametrize(
    ("back", "problem"),
    [
        ("requester", "ask_back takes a mapping here"),
        ({}, "to is missing"),
        ({"to": []}, "to names nobody"),
        ({"to": "clerk"}, "to can't be clerk"),
        ({"to": ["requester"]}, "to: requester needs a requester"),
        ({"to": 7}, "to takes a mapping here, not a number"),
        ({"to": {}}, "one of agent, role and people is needed here"),
        ({"to": {"agent": "a", "role": "b"}}, "one of agent, role and people is needed here"),
        ({"to": {"clerk": "a"}}, "unknown key clerk"),
        ({"to": {"agent": "A!"}}, "agent"),
        ({"to": {"people": []}}, "people can't be"),
        ({"to": {"role": 7}}, "role must be a string"),
        ({"to": [{"agent": "x"}, {"role": "x"}]}, "two of those who can be asked are called x"),
        ({"to": {"agent": "x"}, "limit": 21}, "limit can't be 21"),
        ({"to": {"agent": "x"}, "extends": "1h"}, "there is no deadline to move"),
    ],
)
def test_what_is_wrong_with_asking_back_is_said(back: Any, problem: str) -> None:
    found = problems({"role": "boss", "ask_back": back})
    assert any(problem in one for one in found), found

"""Decide: what an operator's retry sends.

The input as it was, as the corrected route makes it, or as the operator gives it. Or a loop's
condition is asked again, or an approval.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, approval, called_route, calling, names, only, route

from mesh.core.events import (
    ApprovalReopened,
    ApprovalRequested,
    CallMade,
    CommandRefused,
    IncidentRaised,
    IncidentResolved,
    LoopLeft,
    TaskDispatched,
    WorkflowMigrated,
)
from mesh.core.state import AgentCard

ONCE: dict[str, Any] = {"retry": {"attempts": 1}}


def started(*versions: dict[str, Any], data: Any = None, **cards: Any) -> Partition:
    """A workflow of the first version; the others are there to migrate to."""
    directory = replace(PEOPLE, agents={**PEOPLE.agents, **cards})
    p = Partition(*(route(steps) for steps in versions), called_route({"s": agent()}), directory=directory)
    p.start(data=data)
    return p


def stuck(p: Partition, place: str = "a", kind: str = "input_invalid") -> Partition:
    p.fail(place, kind=kind, retryable=False)
    assert p.step(place).status == "incident"
    return p


def newest(p: Partition) -> Any:
    return [*p.routes.values()][-2]


def refused(p: Partition, **command: Any) -> CommandRefused:
    return only(p.command("retry", **command), CommandRefused)


def resolved(p: Partition) -> str:
    return only(p.decisions[-1].events, IncidentResolved).input


# The input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["input_invalid", "other"])
def test_a_retry_after_a_migration_makes_the_input_anew(kind: str) -> None:
    p = stuck(started({"a": agent("x", 1, **ONCE)}, {"a": agent("x", {"lang": "de"}, **ONCE)}), kind=kind)
    p.migrate(newest(p))
    assert only(p.decisions[-1].events, WorkflowMigrated).new_inputs == ("a",)
    p.command("retry")
    assert (resolved(p), p.step("a").input, p.step("a").stale) == ("made", {"lang": "de"}, False)
    p.check_replay()


def test_a_retry_without_a_change_of_the_route_sends_the_input_that_it_had() -> None:
    p = stuck(started({"a": agent("x", "${{ event.data }}", **ONCE)}, data=1), kind="other")
    p.command("retry")
    assert (resolved(p), p.step("a").input) == ("", 1)


def test_another_version_with_the_same_input_changes_nothing_of_it() -> None:
    p = stuck(started({"a": agent("x", 1, **ONCE)}, {"a": agent("x", 1), "b": agent()}), kind="other")
    p.migrate(newest(p))
    assert only(p.decisions[-1].events, WorkflowMigrated).new_inputs == ()
    p.command("retry", step="a")
    assert resolved(p) == ""


def test_an_attempt_that_is_out_at_the_migration_keeps_its_input_until_an_operators_retry() -> None:
    p = started({"a": agent("x", 1, retry={"attempts": 2})}, {"a": agent("x", 2, retry={"attempts": 2})})
    p.migrate(newest(p))
    p.fail("a", kind="other")
    p.wait("a")
    assert (p.step("a").input, p.step("a").stale) == (1, True)
    p.fail("a", kind="other")
    p.command("retry")
    assert (resolved(p), p.step("a").input) == ("made", 2)
    p.check_replay()


def test_an_input_that_still_cant_be_made_is_an_incident_and_is_made_by_the_next_version() -> None:
    versions: list[dict[str, Any]] = [{"a": agent("x", value, **ONCE)} for value in (1, "${{ event.data.gone }}", 2)]
    p = stuck(started(*versions))
    routes = [*p.routes.values()]
    p.migrate(routes[1])
    p.command("retry")
    assert (resolved(p), only(p.decisions[-1].events, IncidentRaised).kind) == ("", "expression")
    p.migrate(routes[2])
    p.command("retry")
    assert (resolved(p), p.step("a").input) == ("made", 2)


def test_an_item_gets_its_input_anew() -> None:
    old = {"a": {"for_each": [1, 2], **agent("x", "${{ item }}", **ONCE)}}
    p = stuck(started(old, {"a": {"for_each": [1, 2], **agent("x", ["${{ item }}"], **ONCE)}}), "a[1]")
    p.migrate(newest(p))
    p.command("retry", step="a[1]")
    assert (resolved(p), p.step("a[1]").input) == ("made", [2])


def test_a_call_gets_its_input_anew() -> None:
    p = started({"a": calling(value=1, timeout="1s")}, {"a": calling(value=2, timeout="1s")})
    p.wait("a")
    p.migrate(newest(p))
    p.command("retry")
    assert (resolved(p), only(p.decisions[-1].events, CallMade).input) == ("made", 2)


@pytest.mark.parametrize("given", [{"n": 1}, None])
def test_an_operator_gives_the_input(given: Any) -> None:
    p = stuck(started({"a": agent("x", 1, **ONCE)}))
    p.command("retry", step="a", task_input=given, reason="a typo")
    assert (resolved(p), p.step("a").input) == ("given", given)
    stuck(p, kind="other")
    p.command("retry")
    assert (resolved(p), p.step("a").input) == ("", given)
    p.check_replay()


def test_an_operator_gives_the_input_of_what_never_began() -> None:
    steps = {"a": agent("x", "${{ event.data.gone }}"), "b": calling(value="${{ event.data.gone }}")}
    p = started(steps)
    p.command("retry", step="a", task_input=1)
    assert only(p.decisions[-1].events, TaskDispatched).input == 1
    p.command("retry", step="b", task_input=2)
    assert only(p.decisions[-1].events, CallMade).input == 2
    p.check_replay()


def test_an_operator_gives_the_input_of_a_compensation() -> None:
    p = started({"a": agent(undo=agent("u", **ONCE)), "b": agent(needs="a")})
    p.succeed("a")
    p.command("cancel")
    stuck(p, "a.undo")
    p.command("retry", task_input=5)
    assert p.step("a.undo").input == 5


def test_an_input_is_for_one_step() -> None:
    p = stuck(stuck(started({"a": agent(**ONCE), "b": agent(**ONCE)})), "b")
    found = refused(p, task_input=1)
    assert (found.code, found.message) == (
        "input",
        "an input is for one step: name it with --step; these have an incident: a, b",
    )


@pytest.mark.parametrize(
    ("steps", "do"),
    [
        ({"a": {"wait": {"until": "soon"}}}, None),
        ({"a": {"for_each": "${{ event.data.gone }}", **agent()}}, None),
        ({"a": agent(repeat={"until": "steps.a.gone", "limit": 2})}, "succeed"),
    ],
)
def test_what_has_no_input_of_its_own_takes_none(steps: dict[str, Any], do: str | None) -> None:
    p = started(steps)
    if do:
        p.succeed("a")
    assert refused(p, task_input=1).message == "a takes no input: that is for a task or a call"


def test_an_input_must_fit_what_the_agent_says_it_takes() -> None:
    card = AgentCard(name="x", version="1", topic="mesh.tasks.x", input_schema={"type": "object"})
    p = stuck(started({"a": agent("x", 1, **ONCE)}, x=card))
    assert refused(p, task_input=1).message.startswith("x does not take this input: ")
    p.command("retry", task_input={})
    assert p.step("a").input == {}


# Loops --------------------------------------------------------------------------------------------


def judged(until: str, **more: Any) -> dict[str, Any]:
    loop = {"from": "a", "until": until, "limit": 5, **more}
    return {"a": agent(), "b": agent("y", needs="a", repeat=loop), "c": agent("z", "${{ steps.b }}", needs="b")}


def test_a_corrected_condition_is_asked_of_the_result_that_is_there() -> None:
    p = started(judged("steps.b.score > 8"), judged("steps.b.rating > 8 && status.b == 'succeeded'"))
    p.succeed("a")
    p.succeed("b", {"rating": 9})
    p.migrate(newest(p))
    p.command("retry")
    assert only(p.decisions[-1].events, LoopLeft).reason == "steps.b.rating > 8 && status.b == 'succeeded' is true"
    assert (p.step("b").status, p.step("c").input) == ("succeeded", {"rating": 9})
    p.check_replay()


def test_a_condition_that_says_nothing_of_the_last_round_gets_one_more() -> None:
    p = started(judged("steps.b.score > 8"))
    p.succeed("a")
    p.succeed("b", {"rating": 9})
    p.command("retry")
    assert (p.step("a").status, p.step("a").round) == ("running", 2)


def test_a_loop_that_goes_by_a_rejection_is_left_with_it() -> None:
    def steps(until: str) -> dict[str, Any]:
        ask = approval(repeat={"until": until, "limit": 5})
        return {"ask": ask, "no": agent(needs="ask", **{"if": "steps.ask.verdict == 'rejected'"})}

    p = started(steps("steps.ask.payload.gone == 1"), steps("steps.ask.verdict == 'rejected'"))
    p.answer("ask", "reject")
    p.migrate(newest(p))
    p.command("retry")
    assert only(p.decisions[-1].events, LoopLeft).rejected
    assert (p.step("ask").status, p.step("no").status) == ("rejected", "running")


# Approvals ----------------------------------------------------------------------------------------

REVIEW: dict[str, Any] = {
    "ask": approval(),
    "v": {"needs": "ask", "value": "${{ steps.ask.payload }}"},
    "send": agent("x", "${{ steps.v }}", needs="v", **ONCE),
    "note": agent("y", needs="ask", **{"if": "steps.ask.edited == false"}),
    "last": agent("z", needs="send"),
}


def badly_edited(steps: dict[str, Any] | None = None) -> Partition:
    p = started(REVIEW if steps is None else steps)
    p.answer("ask", "approve", payload={"n": "bad"})
    return stuck(p, "send")


def test_an_approval_with_a_bad_edit_is_asked_again() -> None:
    p = badly_edited()
    first = p.decisions[0].events[-1]
    assert isinstance(first, ApprovalRequested)
    p.command("retry", step="ask", reason="a bad edit")
    reopened = only(p.decisions[-1].events, ApprovalReopened)
    assert (reopened.approval_id, reopened.begins_again) == (first.approval_id, ("note", "v", "send"))
    again = only(p.decisions[-1].events, ApprovalRequested)
    assert (again.asked, again.approval_id) == (2, f"{first.approval_id}~2")
    assert (again.payload, p.step("send").status) == ({"n": 1}, "again")
    p.answer("ask", "approve", payload={"n": 2})
    assert (p.step("send").input, p.step("send").attempt) == ({"n": 2}, 2)
    p.succeed("send")
    p.succeed("last")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_an_approval_may_be_asked_again_more_than_once() -> None:
    p = badly_edited()
    for asked in (2, 3):
        p.command("retry", step="ask")
        assert only(p.decisions[-1].events, ApprovalRequested).asked == asked
        p.answer("ask", "approve", payload={"n": "worse"})
        stuck(p, "send")


def test_a_call_begins_again_after_an_approval_that_is_asked_again() -> None:
    p = started({"ask": approval(), "send": calling(value="${{ steps.ask.payload }}", needs="ask")})
    p.answer("ask", "approve")
    p.pass_on()
    p.command("cancel", key=p.step("send").called)
    p.pass_on()
    p.command("retry", step="ask")
    p.answer("ask", "approve", payload={"n": 2})
    assert only(p.decisions[-1].events, CallMade).attempt == 2


@pytest.mark.parametrize("done", ["succeeded", "running"])
def test_an_approval_whose_verdict_somebody_acted_on_is_not_asked_again(done: str) -> None:
    p = started({"ask": approval(), "send": agent(needs="ask"), "last": approval(needs="send")})
    p.answer("ask", "approve")
    if done == "succeeded":
        p.succeed("send")
    found = refused(p, step="ask")
    assert (found.code, found.message) == (
        "acted",
        f"ask can't be asked again: send is {done}, and came after its verdict",
    )


def test_an_approval_of_a_workflow_that_is_being_undone_is_not_asked_again() -> None:
    p = started({"a": agent(undo=agent("u")), "ask": approval(), "b": agent(needs="ask")})
    p.succeed("a")
    p.answer("ask", "approve")
    p.command("cancel")
    assert refused(p, step="ask").message == "ask can't be asked again: the workflow is being undone"


def test_an_approval_takes_no_input() -> None:
    p = badly_edited()
    found = refused(p, step="ask", task_input=1)
    assert (found.code, found.message) == (
        "input",
        "ask is an approval, and takes no input: it is asked as the route says",
    )


def test_an_approval_that_is_open_has_no_incident_to_retry() -> None:
    p = started({"ask": approval()})
    assert refused(p, step="ask").code == "no_incident"


def test_an_approval_that_is_not_wanted_any_more_when_it_is_asked_again_is_skipped() -> None:
    p = badly_edited({**REVIEW, "ask": {**approval(), "if": "true"}})
    changed = route({**REVIEW, "ask": {**approval(), "if": "false"}})
    p.routes[changed.digest] = changed
    p.migrate(changed)
    p.command("retry", step="ask")
    assert "StepSkipped" in names(p.decisions[-1].events)
    assert p.step("send").status == "running"

"""Migration: what a workflow may go over to, what it may not, and what happens then."""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, names, only, route

from mesh.core.events import CallMade, CommandRefused, IncidentResolved, TaskDispatched, WorkflowEnded, WorkflowMigrated
from mesh.core.migration import misfits
from mesh.core.route import Route

DRAFT = agent("drafter")
REVIEW = approval(needs="draft", payload="${{ steps.draft }}")
PUBLISH = agent("publisher", needs="review")
BEFORE = {"draft": DRAFT, "review": REVIEW, "publish": PUBLISH}
RETRY: dict[str, Any] = {"attempts": 1}


def at_review(after: Route) -> Partition:
    """A workflow that waits for a person, and a version that it may go over to."""
    p = Partition(route(BEFORE), after)
    p.start()
    p.succeed("draft")
    return p


def refused(p: Partition, to: Route | str) -> CommandRefused:
    before = p.workflow()
    [event] = p.migrate(to)
    assert isinstance(event, CommandRefused)
    assert p.workflow() == before
    return event


def why_not(steps: dict[str, Any], **more: Any) -> str:
    """Why the workflow that waits for a person can't go over to these steps."""
    after = route(steps, **more)
    said = refused(at_review(after), after)
    assert said.code == "misfit"
    return said.message


# What may differ ----------------------------------------------------------------------------------


def test_what_has_not_begun_may_differ_freely() -> None:
    after = route({"draft": DRAFT, "review": REVIEW, "post": agent("poster", needs="review"), "log": agent("logger")})
    p = at_review(after)
    events = p.migrate(after)
    assert names(events) == ["CommandAccepted", "WorkflowMigrated", "TaskDispatched"]
    moved = only(events, WorkflowMigrated)
    assert (moved.before, moved.digest, moved.by, moved.begins_anew) == (
        route(BEFORE).digest,
        after.digest,
        "op",
        (),
    )
    assert (only(events, TaskDispatched).step, p.workflow().digest) == ("log", after.digest)
    assert only(p.answer(), TaskDispatched).agent == "poster"
    p.check_replay()


def test_what_is_read_anew_at_the_next_attempt_may_differ_while_a_step_is_under_way() -> None:
    before = route({"a": agent(retry={"attempts": 2, "backoff": "1s"}, timeout="1m")})
    after = route({"a": agent(retry=RETRY, timeout="2m", on_exhausted="fail"), "b": agent(needs="a")})
    p = Partition(before, after)
    p.start()
    p.migrate(after)
    assert only(p.fail("a"), WorkflowEnded).status == "failed"


def test_an_ended_step_may_lose_what_it_needed() -> None:
    after = route({**BEFORE, "review": approval(payload={"x": 1})})
    assert names(at_review(after).migrate(after)) == ["CommandAccepted", "WorkflowMigrated"]


def test_a_workflow_with_nothing_left_to_do_ends() -> None:
    before, after = route({"a": agent(), "b": agent(needs="a")}), route({"a": agent()}, closed_retention="1d")
    p = Partition(before, after, route({"a": agent(), "c": agent(needs="a", **{"if": "false"})}))
    p.start("k")
    p.succeed("a")
    assert "step b (running) is not in the new version" in refused(p, after).message
    broken = route({"a": agent(), "b": agent("y", "${{ steps.a.none }}", needs="a")})
    p = Partition(broken, after)
    p.start()
    p.succeed("a", {"n": 1})
    events = p.migrate(after)
    assert names(events) == ["CommandAccepted", "IncidentResolved", "WorkflowMigrated", "WorkflowEnded"]
    assert only(events, WorkflowEnded).forget_at_ms == p.now_ms + 86_400_000
    p.check_replay()


def test_a_step_stuck_on_its_own_expression_begins_anew_whatever_it_does_then() -> None:
    broken = route({"a": agent(), "b": agent("y", "${{ steps.a.none }}", needs="a")})
    after = route({"a": agent(), "b": approval(needs="a", payload=1)})
    p = Partition(broken, after)
    p.start()
    p.succeed("a", {"n": 1})
    events = p.migrate(after)
    assert only(events, IncidentResolved).action == "migrate"
    assert only(events, WorkflowMigrated).begins_anew == ("b",)
    assert p.step("b").status == "asking"
    p.check_replay()


def test_a_skipped_steps_agent_may_differ() -> None:
    steps = {"a": agent(**{"if": "false"}), "b": agent()}
    p = Partition(route(steps), after := route({**steps, "a": agent("other")}))
    p.start()
    assert p.step("a").status == "skipped"
    assert names(p.migrate(after)) == ["CommandAccepted", "WorkflowMigrated"]


def test_an_incident_is_retried_by_the_new_version() -> None:
    before = route({"a": agent(retry=RETRY)})
    after = route({"a": agent(retry=RETRY, timeout="9m"), "b": agent()})
    p = Partition(before, after)
    p.start()
    p.fail("a")
    assert names(p.migrate(after)) == ["CommandAccepted", "WorkflowMigrated", "TaskDispatched"]
    assert p.step("a").status == "incident"
    assert only(p.command("retry"), TaskDispatched).due_at_ms == p.now_ms + 9 * 60_000


# What may not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"draft": DRAFT, "publish": agent("publisher", needs="draft")},
            "step review (asking) is not in the new version: keep it there, or let this workflow end under its own",
        ),
        (
            {"draft": DRAFT, "review": agent(needs="draft"), "publish": PUBLISH},
            "step review (asking) does something of another kind in the new version: keep it, and put what is new in a step of another name",
        ),
        (
            {**BEFORE, "draft": agent("writer")},
            "step draft (succeeded) is done by agent drafter, and by agent writer in the new version: keep it, and put what is new in a step of another name",
        ),
        (
            {**BEFORE, "draft": {"capability": "drafting", "input": 1}},
            "step draft (succeeded) is done by agent drafter, and by capability drafting in the new version: keep it, and put what is new in a step of another name",
        ),
        (
            {**BEFORE, "check": agent(), "draft": {**DRAFT, "needs": "check"}},
            "step draft (succeeded) newly needs check (not begun): migrate when that is done, or take it out of the needs",
        ),
    ],
)
def test_what_has_begun_must_make_sense_under_the_new_version(steps: dict[str, Any], message: str) -> None:
    assert why_not(steps) == message


def test_every_reason_is_told_at_once() -> None:
    said = why_not({"draft": agent("writer"), "publish": agent("publisher", needs="draft")})
    assert said.startswith("step draft (succeeded) is done by agent drafter")
    assert "; step review (asking) is not in the new version" in said


def test_a_step_can_t_newly_need_one_that_is_under_way() -> None:
    steps = {"a": agent(), "b": agent("y")}
    p = Partition(route(steps), after := route({**steps, "b": agent("y", needs="a")}))
    p.start()
    assert "step b (running) newly needs a (running)" in refused(p, after).message
    p.succeed("a")
    assert names(p.migrate(after)) == ["CommandAccepted", "WorkflowMigrated"]


def test_what_a_step_under_way_waits_with_must_be_as_it_was() -> None:
    wait = {"wait": {"event": "paid", "timeout": "1h"}}
    p = Partition(route({"a": wait}), after := route({"a": {"wait": "2d"}}))
    p.start()
    assert refused(p, after).message == "step a (waiting) has another wait in the new version: migrate when it is done"
    p.offer("paid")
    assert p.workflow().status == "completed"


def test_a_for_each_under_way_keeps_its_list_and_its_items_go_on() -> None:
    each = {"for_each": "${{ event.data.l }}", "agent": "x", "input": "${{ item }}"}
    more = route({"a": each, "b": agent(needs="a")})
    other = route({"a": {**each, "for_each": "${{ event.data.m }}"}})
    p = Partition(route({"a": each}), more, other)
    p.start(data={"l": [1, 2]})
    assert "step a (iterating) has another for_each" in refused(p, other).message
    assert names(p.migrate(more)) == ["CommandAccepted", "WorkflowMigrated"]
    p.succeed("a[0]")
    assert only(p.succeed("a[1]"), TaskDispatched).step == "b"
    p.check_replay()


def test_a_call_goes_on_by_its_route_and_one_that_found_none_begins_anew() -> None:
    before = route({"a": {"workflow": "called", "input": 1}})
    after = route({"a": {"workflow": "other", "input": 1}})
    called, other = route({"a": agent()}, route="called"), route({"a": agent()}, route="other")
    p = Partition(before, after, called, other)
    p.start()
    assert "step a (calling) is done by route called, and by route other" in refused(p, after).message
    p = Partition(before, after, other)
    p.start()
    assert p.step("a").incident is not None
    events = p.migrate(after)
    assert only(events, WorkflowMigrated).begins_anew == ("a",)
    assert only(events, CallMade).route == "other"


def loop(**repeat: Any) -> dict[str, Any]:
    made = {"from": "a", "until": "steps.b.ok", "limit": 3, **repeat}
    return {"a": agent(), "b": {**agent("judge", needs="a"), "repeat": made}}


def test_a_loop_under_way_stays_and_its_bound_may_differ() -> None:
    without, longer = route({"a": agent(), "b": agent("judge", needs="a")}), route(loop(limit=9))
    p = Partition(route(loop()), without, longer)
    p.start()
    assert (
        refused(p, without).message
        == "the loop from a to b is under way, and another in the new version: migrate when it is done"
    )
    p.succeed("a")
    p.succeed("b", {"ok": False})
    assert "the loop from a to b is under way" in refused(p, without).message
    assert names(p.migrate(longer)) == ["CommandAccepted", "WorkflowMigrated"]
    assert "newly needs" not in "".join(misfits(p.workflow(), longer, route(loop(limit=2))))


def test_a_loop_that_is_over_or_has_not_begun_may_be_another() -> None:
    first = {"z": agent("z")}
    begun = {**first, **loop(), "c": agent("c", needs="b")}
    begun["a"] = agent(needs="z")
    plain = {**first, "a": agent(needs="z"), "b": agent("judge", needs="a"), "c": agent("c", needs="b")}
    p = Partition(route(begun), after := route(plain))
    p.start()
    assert misfits(p.workflow(), route(begun), after) == []
    p.succeed("z")
    assert misfits(p.workflow(), route(begun), after) != []
    assert "the loop" in misfits(p.workflow(), route(begun), route({"z": agent("z")}))[-1]
    p.succeed("a")
    p.succeed("b", {"ok": True})
    assert names(p.migrate(after)) == ["CommandAccepted", "WorkflowMigrated"]


def test_one_that_is_being_undone_stays() -> None:
    steps = {
        "a": {**agent(), "undo": {"agent": "undoer", "input": 1}},
        "b": agent(needs="a", retry=RETRY, on_exhausted="fail"),
    }
    p = Partition(route(steps), after := route({**steps, "c": agent(needs="b")}))
    p.start()
    p.succeed("a")
    p.fail("b")
    assert refused(p, after).message == "it is being undone, and will end as failed: nothing new begins in it"


def test_a_budget_stays_as_it_was_granted_and_must_be_of_the_same_things() -> None:
    before, none = route(BEFORE, budget={"tokens": 100, "time": "1h"}), route(BEFORE)
    p = Partition(before, none, more := route(BEFORE, budget={"tokens": 900, "time": "9h"}))
    p.start()
    account = p.workflow().account
    assert refused(p, none).message == (
        "it has a budget of tokens, time, and the new version one of nothing: name the same things there"
    )
    assert names(p.migrate(more)) == ["CommandAccepted", "WorkflowMigrated"]
    assert p.workflow().account == account


# What no version can help -------------------------------------------------------------------------


def test_a_version_must_be_there_be_of_the_route_and_be_another() -> None:
    other = route(BEFORE, route="other")
    p = at_review(other)
    assert refused(p, "sha256:none").code == "no_version"
    assert refused(p, other).code == "other_route"
    assert refused(p, route(BEFORE)).code == "already"
    p.answer(decision="reject")
    assert refused(p, other).code == "ended"
    [unknown] = p.migrate(other, key="nobody")
    assert only([unknown], CommandRefused).code == "unknown"

"""Pause and resume: what a paused workflow holds, what goes on, and what resuming lets act."""

from typing import Any

import pytest
from one_partition import PEOPLE, Partition, agent, approval, called_route, calling, names, only, route

from mesh.core import ids
from mesh.core.decide.begin import portion
from mesh.core.effects import SendTask
from mesh.core.events import (
    CommandRefused,
    TaskDispatched,
    TaskHeld,
    WorkflowEnded,
    WorkflowPaused,
)
from mesh.core.state import Pause

ONCE: dict[str, Any] = {"retry": {"attempts": 1}}
TWO = {"a": agent(), "b": agent(needs="a")}


def paused(steps: dict[str, Any], **more: Any) -> Partition:
    p = Partition(route(steps, **more))
    p.start(data={"items": [1, 2, 3]})
    p.command("pause", reason="look first")
    return p


def resume(p: Partition) -> list[str]:
    found = names(p.command("resume"))
    assert found[:2] == ["CommandAccepted", "WorkflowResumed"]
    p.check_replay()
    return found[2:]


def code(p: Partition, command: Any, **more: Any) -> str:
    return only(p.command(command, **more), CommandRefused).code


def test_a_pause_says_who_and_why_and_a_second_one_is_refused() -> None:
    p = paused(TWO)
    assert only(p.decisions[-1].events, WorkflowPaused).reason == "look first"
    assert p.workflow().pause == Pause(by="op", reason="look first", at_ms=p.now_ms)
    assert code(p, "pause") == "already"
    assert resume(p) == []
    assert p.workflow().pause is None
    assert code(p, "resume") == "already"


def test_a_result_counts_and_the_next_step_waits_until_it_resumes() -> None:
    p = paused(TWO)
    assert names(p.succeed("a")) == ["TaskSucceeded"]
    assert resume(p) == ["TaskDispatched"]


def test_the_last_result_ends_it_when_it_resumes() -> None:
    p = paused({"a": agent()})
    assert names(p.succeed("a")) == ["TaskSucceeded"]
    assert p.workflow().status == "running"
    assert resume(p) == ["WorkflowEnded"]


def test_a_retry_is_held_when_its_time_has_come() -> None:
    p = paused(TWO)
    assert names(p.fail("a")) == ["TaskFailed", "RetryScheduled"]
    held = only(p.wait("a"), TaskHeld)
    assert (held.is_paused, held.reason) == (True, "the workflow is paused")
    assert not [effect for effect in p.effects() if isinstance(effect, SendTask)]
    assert resume(p) == ["TaskDispatched"]
    assert (p.step("a").attempt, p.step("a").retry_budget_from) == (2, 1)


def test_a_late_result_of_what_is_held_counts() -> None:
    p = paused(TWO)
    p.fail("a")
    p.wait("a")
    assert names(p.succeed("a", attempt=1)) == ["TaskSucceeded"]
    assert resume(p) == ["TaskDispatched"]
    assert only(p.decisions[-1].events, TaskDispatched).step == "b"


def test_an_approval_may_be_answered_and_its_deadline_runs_on() -> None:
    steps = {"review": approval(deadline="1h", on_expiry="approve"), "b": agent(needs="review")}
    p = paused(steps)
    assert names(p.answer()) == ["ApprovalClosed"]
    assert resume(p) == ["TaskDispatched"]
    late = paused(steps)
    assert names(late.wait("review")) == ["ApprovalClosed"]
    assert resume(late) == ["TaskDispatched"]


def test_a_step_that_asks_or_emits_waits_too() -> None:
    steps = {
        "a": agent(),
        "review": approval(needs="a"),
        "told": {"needs": "a", "emit": {"type": "told", "data": 1}},
        "later": {"needs": "a", "wait": {"event": "e"}},
    }
    p = paused(steps)
    assert names(p.succeed("a")) == ["TaskSucceeded"]
    assert sorted(resume(p)) == ["ApprovalRequested", "EventEmitted", "WaitStarted"]


def test_a_call_is_held_and_the_called_workflow_goes_on() -> None:
    p = Partition(route({"a": calling(), "b": agent(needs="a")}), called_route({"s": agent(**ONCE)}))
    p.start()
    p.pass_on()
    called = p.step("a").called
    p.command("pause")
    p.fail("s", key=called)
    p.command("fail", key=called)
    p.pass_on()
    assert p.step("a").status == "incident"
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "TaskHeld"]
    assert resume(p) == ["CallMade"]


def test_an_operators_retry_is_held() -> None:
    p = paused({"a": agent(**ONCE)})
    p.fail("a")
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "TaskHeld"]
    assert resume(p) == ["TaskDispatched"]


def test_an_operators_retry_of_what_never_began_begins_when_it_resumes() -> None:
    p = paused({"a": {"value": "${{ event.data.items[9] }}"}, "b": {"value": "${{ event.data.items[8] }}"}})
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "IncidentResolved"]
    assert p.step("a").status == "retrying"
    # neither can be made, as before
    assert resume(p) == ["IncidentRaised", "IncidentRaised"]


def test_a_skip_and_an_output_by_hand_settle_the_step_at_once() -> None:
    p = paused({"a": agent(**ONCE), "b": agent(**ONCE), "c": agent(needs=["a", "b"])})
    p.fail("a")
    p.fail("b")
    assert names(p.command("skip", step="a"))[-1] == "StepSkipped"
    assert names(p.command("complete", step="b", output=7))[-1] == "StepCompleted"
    assert resume(p) == ["TaskDispatched"]


def test_items_of_a_list_wait_and_their_results_count() -> None:
    each = agent(for_each={"items": "${{ event.data.items }}", "concurrency": 2}, value="${{ item }}")
    p = paused({"a": each})
    assert names(p.succeed("a[0]")) == ["TaskSucceeded"]
    assert names(p.succeed("a[1]")) == ["TaskSucceeded"]
    assert resume(p) == ["TaskDispatched"]
    p.command("pause")
    assert names(p.succeed("a[2]")) == ["TaskSucceeded", "ForEachEnded"]
    assert resume(p) == ["WorkflowEnded"]


def test_a_list_that_ends_by_itself_when_it_resumes_goes_on() -> None:
    p = Partition(route({"a": agent(for_each="${{ event.data.items }}"), "b": agent(needs="a")}))
    p.start(data={"items": [1]})
    p.command("pause")
    p.succeed("a[0]")
    assert resume(p) == ["TaskDispatched"]


def test_held_items_go_out_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portion, "PORTION", 2)
    p = Partition(route({"a": agent(for_each={"items": "${{ event.data.items }}", "concurrency": 9})}))
    p.start(data={"items": [1, 2, 3, 4, 5]})
    while p.step("a").due_at_ms is not None:
        p.wait("a")
    p.command("pause")
    for index in range(5):
        p.fail(f"a[{index}]")
        p.wait(f"a[{index}]")
    assert resume(p) == ["TaskDispatched", "TaskDispatched", "PortionScheduled"]
    assert names(p.wait("a")) == ["TaskDispatched", "TaskDispatched", "PortionScheduled"]
    p.command("pause")
    # a portion that comes while it is paused begins nothing
    assert p.wait("a") == ()
    assert resume(p) == ["TaskDispatched"]
    assert not [place for place, step in p.workflow().steps.items() if step.status == "held"]


def test_an_end_is_an_end_and_its_undo_waits() -> None:
    p = Partition(route({"a": agent(undo=agent("y")), "b": agent(needs="a", on_exhausted="fail", **ONCE)}))
    p.start()
    p.succeed("a")
    p.command("pause")
    assert names(p.fail("b")) == ["TaskFailed", "CompensationStarted", "TaskHeld"]
    assert resume(p) == ["TaskDispatched"]
    p.command("pause")
    assert names(p.succeed(ids.undo_place("a"))) == ["TaskSucceeded", "WorkflowEnded"]
    assert p.workflow().pause is None
    p.check_replay()


def test_a_cancel_of_a_paused_workflow_undoes_when_it_resumes_and_a_second_one_ends_it() -> None:
    p = Partition(route({"a": agent(undo=agent("y")), "b": agent(needs="a")}, budget={"hops": 5}))
    p.start()
    p.succeed("a")
    p.command("pause")
    assert names(p.command("cancel"))[-1] == "TaskHeld"
    assert resume(p) == ["TaskDispatched"]
    p.command("pause")
    assert only(p.command("cancel"), WorkflowEnded).status == "cancelled"
    assert code(p, "resume") == "ended"


def test_a_loop_goes_round_when_it_resumes() -> None:
    p = paused({"a": agent(repeat={"until": "steps.a.ok", "limit": 3})})
    assert names(p.succeed("a", output={"ok": False})) == ["TaskSucceeded", "RoundStarted"]
    assert resume(p) == ["TaskDispatched"]
    assert p.step("a").round == 2


def test_a_stuck_loop_that_is_retried_goes_round_when_it_resumes() -> None:
    p = paused({"a": agent(repeat={"until": "steps.a.ok", "limit": 1})})
    p.succeed("a", output={"ok": False})
    assert names(p.command("retry"))[-1] == "RoundStarted"
    assert resume(p) == ["TaskDispatched"]


def test_a_closed_approval_is_asked_again_when_it_resumes() -> None:
    p = paused({"review": approval(), "b": agent(needs="review")})
    p.answer()
    assert names(p.command("retry", step="review")) == ["CommandAccepted", "ApprovalReopened"]
    assert resume(p) == ["ApprovalRequested"]


def test_what_waits_for_budget_is_asked_for_when_it_resumes() -> None:
    steps = {"a": agent(reserve={"tokens": 10}), "b": agent(needs="a", reserve={"tokens": 10})}
    p = paused(steps, budget={"tokens": 10, "on_exhausted": "ask", "role": "maintainer"})
    p.succeed("a", usage={"tokens": 10})
    assert resume(p) == ["TaskHeld", "ApprovalRequested"]
    held = [event for event in p.decisions[-1].events if isinstance(event, TaskHeld)]
    assert not held[0].is_paused


def test_a_migrated_workflow_stays_paused() -> None:
    p = paused(TWO)
    after = route({"a": agent(), "b": agent(needs="a"), "c": agent("y")})
    p.routes[after.digest] = after
    assert names(p.migrate(after)) == ["CommandAccepted", "WorkflowMigrated"]
    assert resume(p) == ["TaskDispatched"]


def test_nothing_but_a_running_workflow_can_be_paused() -> None:
    p = Partition(route({"a": agent()}))
    assert code(p, "pause") == "unknown"
    p.start()
    p.succeed("a")
    assert code(p, "pause") == "ended"


def test_a_paused_workflow_is_the_same_after_a_take_over() -> None:
    p = paused(TWO)
    p.succeed("a")
    p.take_over("another")
    p.check_replay()
    assert resume(p) == ["TaskDispatched"]
    assert PEOPLE.agents.keys() == {"drafter"}

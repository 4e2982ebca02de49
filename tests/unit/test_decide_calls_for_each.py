"""Calls for each item of a list, and calls that are undone."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, called_route, calling, names, only, route

from mesh.core.decide.begin import portion as begin_portion
from mesh.core.events import (
    CallFailed,
    CallMade,
    CallSucceeded,
    CallWithdrawn,
    CompensationStarted,
    Event,
    ForEachEnded,
    IncidentRaised,
    InputDismissed,
    PortionScheduled,
    StepGivenUp,
    TaskDispatched,
    TaskHeld,
    UsageReported,
    WorkflowEnded,
)
from mesh.core.inputs import CallEnded, WorkflowCalled
from mesh.core.state import Account
from mesh.settings import Settings

SUB = called_route(
    {"work": agent("x", "${{ event.data }}", on_exhausted="fail", retry={"attempts": 1})}, output="${{ steps.work }}"
)
UNDO: dict[str, Any] = {"undo": agent("u", "${{ steps.a }}")}


def each(items: Any = "${{ event.data }}", **more: Any) -> dict[str, Any]:
    """A call for each item; what is not for the list is the step's."""
    about = {key: more.pop(key) for key in ("concurrency", "tolerate") if key in more}
    return calling("sub", "${{ item }}", for_each={"items": items, **about}, **more)


def started(step: dict[str, Any], data: Any = ("x", "y", "z"), *, budget: Any = None, **others: Any) -> Partition:
    more = {} if budget is None else {"budget": budget}
    p = Partition(route({"a": step, **others}, **more), SUB)
    p.start(data=list(data))
    p.deliver()
    return p


def child(p: Partition, index: int, attempt: int = 1) -> str:
    name = f"sub:r:k/{p.workflow().run_id}/a[{index}]"
    return name if attempt == 1 else f"{name}/{attempt}"


def finish(p: Partition, index: int, output: Any = "done", **more: Any) -> tuple[Event, ...]:
    """The item's workflow completes, and its caller hears of it."""
    p.succeed("work", output, key=child(p, index), **more)
    p.deliver()
    return p.decisions[-1].events


def fail(p: Partition, index: int) -> tuple[Event, ...]:
    p.fail("work", key=child(p, index))
    p.deliver()
    return p.decisions[-1].events


def calls(events: tuple[Event, ...]) -> list[str]:
    return [event.step for event in events if isinstance(event, CallMade)]


def late(p: Partition, index: int, **more: Any) -> CallEnded:
    task = f"r:k/{p.workflow().run_id}/a[{index}]"
    where: dict[str, Any] = {"source_topic": "mesh.log", "source_partition": 0, "source_offset": 99}
    about: dict[str, Any] = {"workflow_id": "r:k", "task_id": task, "attempt": 1, "called": child(p, index)}
    return CallEnded(**{"status": "completed", **about, **where, "source_at_ms": p.now_ms, **more})


# For each -----------------------------------------------------------------------------------------


def test_each_item_calls_a_workflow_of_its_own_and_the_output_is_the_list_of_what_they_give() -> None:
    p = started(each())
    made = [event for event in p.decisions[0].events if isinstance(event, CallMade)]
    assert [(event.called, event.input) for event in made] == [(child(p, n), "xyz"[n]) for n in range(3)]
    assert p.step("work", child(p, 1)).input == "y"
    for index in (2, 0):
        assert "ForEachEnded" not in names(finish(p, index, index))
    assert "ForEachEnded" in names(finish(p, 1, 1))
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [0, 1, 2]}
    p.check_replay()


def test_so_many_calls_are_under_way_at_once() -> None:
    p = started(each(concurrency=2))
    assert calls(p.decisions[0].events) == ["a[0]", "a[1]"]
    finish(p, 1)
    assert p.step("a[2]").status == "calling"


def test_more_calls_than_one_decision_holds_are_made_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin_portion, "PORTION", 2)
    p = started(each())
    assert only(p.decisions[0].events, PortionScheduled).step == "a"
    assert calls(p.wait("a")) == ["a[2]"]


def test_a_call_that_fails_is_tolerated_an_incident_or_the_end_of_the_for_each() -> None:
    p = started(each(tolerate=1))
    assert only(fail(p, 0), StepGivenUp).step == "a[0]"
    assert only(fail(p, 1), IncidentRaised).kind == "call"
    p.command("retry", step="a[1]")
    p.deliver()
    assert p.step("a[1]").called == child(p, 1, attempt=2)
    p.succeed("work", "again", key=child(p, 1, attempt=2))
    p.deliver()
    finish(p, 2)
    assert only(p.decisions[-1].events, ForEachEnded).failed == 1
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [None, "again", "done"]}


def test_a_for_each_that_fails_takes_its_other_calls_back() -> None:
    p = started(each(on_exhausted="continue"), b=agent("y"))
    finish(p, 2, "C")
    p.fail("work", key=child(p, 0))
    [told] = p.crossing()
    p.give(told)
    assert names(p.decisions[-1].events) == ["CallFailed", "CallWithdrawn", "StepGivenUp"]
    assert only(p.decisions[-1].events, CallWithdrawn).called == child(p, 1)
    p.deliver()
    assert p.workflow(child(p, 1)).status == "cancelled"
    assert p.step("a").output == [None, None, "C"]


def test_on_exhausted_fail_ends_the_workflow_and_takes_the_other_calls_back() -> None:
    p = started(each(on_exhausted="fail"))
    fail(p, 0)
    assert p.workflow().status == "failed"
    assert {p.workflow(child(p, n)).status for n in (1, 2)} == {"cancelled"}


def test_a_for_each_that_loses_a_race_takes_its_calls_back_and_their_ends_count_no_more() -> None:
    p = started(each(), b=agent("y"), c=agent("z", needs={"first_of": ["a", "b"]}))
    taken_back = [event.called for event in p.succeed("b") if isinstance(event, CallWithdrawn)]
    assert taken_back == [child(p, n) for n in range(3)]
    assert "a[0]" not in p.workflow().steps
    dismissed = only(p.give(late(p, 0)), InputDismissed)
    assert (dismissed.code, dismissed.message.split(" counts")[1]) == ("late", " no more: its for-each is settled")
    p.deliver()


def test_the_end_of_an_item_of_a_step_that_was_never_begun_is_unknown() -> None:
    p = started(each(), b=agent("y"))
    stray = replace(late(p, 0), task_id=f"r:k/{p.workflow().run_id}/nosuch[0]")
    assert only(p.give(stray), InputDismissed).code == "unknown"


def test_an_item_that_an_operator_skips_counts_as_failed() -> None:
    p = started(each())
    fail(p, 1)
    p.command("skip", step="a[1]")
    finish(p, 0)
    finish(p, 2)
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": ["done", None, "done"]}


def test_a_for_each_is_over_without_an_item_whose_input_can_not_be_made() -> None:
    step = calling("sub", "${{ item.id }}", for_each="${{ event.data }}")
    p = started(step, [{"id": 1}, {}])
    assert only(p.decisions[0].events, IncidentRaised).step == "a[1]"
    p.command("skip")
    finish(p, 0)
    assert p.workflow().status == "completed"


def test_each_call_has_a_slice_and_what_does_not_fit_is_held() -> None:
    p = started(each(reserve={"tokens": 40}), budget={"tokens": 100})
    assert only(p.decisions[0].events, TaskHeld).step == "a[2]"
    finish(p, 0, usage={"tokens": 10})
    assert p.step("a[2]").status == "calling"
    account = p.workflow().account
    assert account == Account(limits={"tokens": 100}, spent={"tokens": 10}, reserved={"tokens": 80})


def test_the_calls_of_a_for_each_that_is_closed_are_accounted_for_when_they_have_ended() -> None:
    step = each(reserve={"tokens": 30}, on_exhausted="continue")
    p = started(step, budget={"tokens": 100}, b=agent("y"))
    p.fail("work", key=child(p, 0))
    p.deliver()
    reports = [e for d in p.decisions for e in d.events if isinstance(e, UsageReported)]
    assert [report.step for report in reports] == ["a[1]", "a[2]"]
    account = p.workflow().account
    assert account is not None
    assert (account.reserved, account.unheard) == ({"tokens": 0}, {})


@pytest.mark.parametrize("step", [calling("z" * 63, "${{ item }}"), agent("a" * 63, "${{ item }}")])
def test_a_whole_portion_fits_the_smallest_record_that_may_be_set(step: dict[str, Any]) -> None:
    """Of tasks as of calls, with the longest names and as much input as a portion may have."""
    least = Settings.model_fields["max_record_bytes"].ge
    assert least is not None
    name, key = "s" * 63, "k" * 512
    items = ["x" * (begin_portion.PORTION_BYTES // begin_portion.PORTION - 2)] * begin_portion.PORTION
    each_item = {**step, "for_each": "${{ event.data }}", "reserve": {"tokens": 1, "usd": 0.1}}
    rules = route({name: each_item}, route="r" * 63, budget={"tokens": 1000, "usd": 100})
    p = Partition(rules, called_route({"v": {"value": 1}}, "z" * 63))
    p.start(key, data=items)
    p.wait(name, key)
    begun = [event for event in p.decisions[-1].events if isinstance(event, CallMade | TaskDispatched)]
    assert len(begun) == begin_portion.PORTION
    assert len(p.log[-1].value or b"") < least * 0.9


# Undone -------------------------------------------------------------------------------------------


def ends(**more: Any) -> Partition:
    """A call that is to be undone, and a step that will fail."""
    step = calling(**UNDO, **more)
    p = Partition(route({"a": step, "b": agent("y", needs="c", on_exhausted="fail"), "c": agent("z")}), SUB)
    p.start(data=1)
    p.deliver()
    p.succeed("c")
    return p


def of(p: Partition) -> str:
    return f"sub:{p.task_id('a')}"


def undone(p: Partition) -> list[tuple[str, Any]]:
    return [(e.step, e.input) for e in p.decisions[-1].events if isinstance(e, TaskDispatched)]


def test_a_call_that_succeeded_is_undone_by_what_it_gave() -> None:
    p = ends()
    p.succeed("work", {"id": 7}, key=of(p))
    p.deliver()
    p.fail("b", retryable=False)
    assert only(p.decisions[-1].events, CompensationStarted).steps == ("a",)
    assert undone(p) == [("a.undo", {"id": 7})]
    p.succeed("a.undo")
    assert p.workflow().status == "failed"
    p.check_replay()


def test_an_undo_of_a_call_may_be_tried_again_by_an_operator() -> None:
    p = ends()
    p.succeed("work", 7, key=of(p))
    p.deliver()
    p.fail("b", retryable=False)
    p.fail("a.undo", retryable=False)
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "TaskDispatched"]
    assert p.step("a.undo").attempt == 2


def test_a_call_that_is_out_is_taken_back_and_undone_too_for_it_may_have_completed() -> None:
    p = ends()
    events = p.fail("b", retryable=False)
    assert names(events)[-3:] == ["CompensationStarted", "CallWithdrawn", "TaskDispatched"]
    assert undone(p) == [("a.undo", None)]


@pytest.mark.parametrize(("status", "is_undone"), [("failed", False), ("cancelled", False), ("refused", False)])
def test_a_called_workflow_that_failed_has_undone_its_own(status: Any, is_undone: bool) -> None:
    p = ends()
    task = p.task_id("a")
    p.give(replace(late(p, 0), task_id=task, status=status))
    assert p.step("a").status == "incident"
    events = p.fail("b", retryable=False)
    assert ("CompensationStarted" in names(events)) == is_undone


def test_a_call_that_had_not_ended_in_time_is_undone_too() -> None:
    p = ends(timeout="1h")
    p.wait("a")
    assert only(p.decisions[-1].events, CallFailed).kind == "timeout"
    p.fail("b", retryable=False)
    assert undone(p) == [("a.undo", None)]


def test_a_call_that_lost_a_race_is_undone_too() -> None:
    steps = {
        "a": calling(**UNDO),
        "b": agent("y"),
        "c": agent("z", needs={"first_of": ["a", "b"]}, on_exhausted="fail"),
    }
    p = Partition(route(steps), SUB)
    p.start()
    p.succeed("b")
    assert p.step("a").status == "cancelled"
    p.fail("c", retryable=False)
    assert undone(p) == [("a.undo", None)]


def test_a_call_after_one_that_may_have_completed_is_undone_however_it_ends() -> None:
    p = ends(timeout="1h")
    p.wait("a")
    p.command("retry")
    p.deliver()
    p.give(replace(late(p, 0), task_id=p.task_id("a"), attempt=2, status="failed"))
    p.fail("b", retryable=False)
    assert undone(p) == [("a.undo", None)]


def test_a_for_each_of_calls_is_undone_as_a_whole_by_the_list_of_what_it_gave() -> None:
    p = started(each(**UNDO), b=agent("y", on_exhausted="fail"))
    finish(p, 1, "B")
    p.fail("b", retryable=False)
    assert names(p.decisions[-1].events).count("CallWithdrawn") == 2
    assert undone(p) == [("a.undo", [None, "B", None])]


def test_a_call_is_made_with_its_item_as_the_data_of_its_event() -> None:
    p = Partition(route({"a": each()}), SUB)
    p.start(data=["x"])
    called = only(p.crossing(), WorkflowCalled)
    assert called.cloud_event["data"] == "x"
    assert called.key == f"r:k/{p.workflow().run_id}/a[0]"


def test_a_late_success_of_an_item_settles_it() -> None:
    p = started(each(timeout="1h"))
    p.wait("a[0]")
    assert p.step("a[0]").status == "incident"
    assert "CallSucceeded" in names(p.give(late(p, 0, output=5)))
    assert only(p.decisions[-1].events, CallSucceeded).output == 5


@pytest.mark.parametrize("kind", ["agent", "call"])
def test_items_that_were_held_go_out_in_portions_once_there_is_budget(kind: str) -> None:
    count, value = 2 * begin_portion.PORTION + 50, "y" * 1_000
    work = {
        "for_each": {"items": "${{ event.data }}", "concurrency": count},
        "reserve": {"tokens": 10},
        "needs": "first",
    }
    step = agent("x", "${{ item }}", **work) if kind == "agent" else calling("sub", "${{ item }}", **work)
    steps = {"first": agent("x", 1, reserve={"tokens": 10}), "a": step}
    budget = {"tokens": 10, "on_exhausted": "ask", "role": "maintainer"}
    p = Partition(route(steps, budget=budget), called_route({"work": agent("y", 1)}))
    p.start(data=[value] * count)
    p.succeed("first", usage={"tokens": 10})
    while p.step("a").due_at_ms is not None:
        p.wait("a")
    assert sum(state.status == "held" for state in p.workflow().steps.values()) == count
    p.answer("a.budget", payload={"tokens": 10 * count})
    sent = [_begun(p)]
    while sum(sent) < count:
        p.wait("a")  # at once
        sent.append(_begun(p))
    assert sent == [begin_portion.PORTION, begin_portion.PORTION, 50]
    assert not any(state.status == "held" for state in p.workflow().steps.values())
    p.check_replay()


def _begun(p: Partition) -> int:
    """How many items the last decision has begun."""
    return sum(isinstance(event, TaskDispatched | CallMade) for event in p.decisions[-1].events)

"""Decide: a step's work for each item of a list.

A bounded number at once, in portions, and what becomes of failures.
"""

from typing import Any

import pytest
from one_partition import Partition, agent, names, only, route

from mesh.core.decide.begin.portion import PORTION, PORTION_BYTES
from mesh.core.effects import SendTask
from mesh.core.events import (
    CommandRefused,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    IncidentResolved,
    InputDismissed,
    PortionScheduled,
    StepGivenUp,
    StepSkipped,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import ResultReceived, TaskUndeliverable, TimerDue
from mesh.core.route import ForEach
from mesh.core.state import Workflow

ONCE: dict[str, Any] = {"retry": {"attempts": 1}}


def each(items: Any = "${{ event.data }}", value: Any = "${{ item }}", **more: Any) -> dict[str, Any]:
    """A step for each item; what is not for the list is the step's."""
    about = {key: more.pop(key) for key in ("concurrency", "tolerate") if key in more}
    return agent("x", value, for_each={"items": items, **about}, **more)


def started(data: Any, step: dict[str, Any] | None = None, **others: Any) -> Partition:
    p = Partition(route({"a": step or each(), **others}))
    p.start(data=data)
    return p


def tasks(p: Partition) -> list[str]:
    """The places of the tasks that the last decision sends."""
    return [effect.step for effect in p.effects() if isinstance(effect, SendTask)]


def under_way(p: Partition) -> list[str]:
    return [name for name, step in p.workflow().steps.items() if step.status == "running"]


# Items --------------------------------------------------------------------------------------------


def test_each_item_has_a_task_and_the_output_is_the_list_of_theirs_in_order() -> None:
    p = started(["x", "y", "z"], each(value={"item": "${{ item }}", "n": "${{ index }}"}))
    assert [event.input for event in p.decisions[-1].events if isinstance(event, TaskDispatched)] == [
        {"item": "x", "n": 0},
        {"item": "y", "n": 1},
        {"item": "z", "n": 2},
    ]
    assert p.task_id("a[1]") == f"r:k/{p.workflow().run_id}/a[1]"
    for index in (2, 0, 1):
        p.succeed(f"a[{index}]", index)
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [0, 1, 2]}
    p.check_replay()


def test_an_empty_list_is_done_at_once() -> None:
    p = started([], b=agent("y", "${{ steps.a }}", needs="a"))
    assert names(p.decisions[-1].events) == ["WorkflowStarted", "ForEachStarted", "ForEachEnded", "TaskDispatched"]
    assert p.step("b").input == []


@pytest.mark.parametrize("value", [None, "text", {"a": 1}, 3])
def test_what_is_no_list_is_an_incident(value: Any) -> None:
    p = started(value)
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.step, raised.kind) == ("a", "expression")
    assert raised.message.startswith("for_each needs a list, and ${{ event.data }} is ")


def test_no_more_than_the_concurrency_are_under_way() -> None:
    p = started([1, 2, 3, 4, 5], each(concurrency=2))
    done = []
    while p.workflow().status == "running":
        assert len(under_way(p)) <= 2
        done.append(under_way(p)[-1])
        p.succeed(done[-1], done[-1])
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [f"a[{n}]" for n in range(5)]}


def test_a_retry_of_an_item_is_of_that_item_alone() -> None:
    p = started([1, 2], each(concurrency=1, retry={"attempts": 2, "backoff": "1s", "jitter": 0}))
    p.fail("a[0]")
    assert p.step("a[0]").status == "retrying"
    p.wait("a[0]")
    assert (p.step("a[0]").attempt, p.step("a[0]").input) == (2, 1)
    p.wait("a[0]")
    assert p.step("a[0]").status == "incident"


def test_an_item_may_be_handed_over() -> None:
    p = started([1], each(handover={"to": "y"}))
    p.hand_over("a[0]", "y", 7)
    assert p.task_id("a[0]").endswith("/a[0]~2")
    p.succeed("a[0]", 8)
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [8]}


def test_an_item_whose_input_cant_be_made_is_an_incident_of_its_own() -> None:
    p = started([{"p": 1}, {}], each(value="${{ item.p }}"))
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.step, raised.kind) == ("a[1]", "expression")
    p.succeed("a[0]")
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "IncidentRaised"]
    p.command("skip", step="a[1]")
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": ["done", None]}


def test_a_result_that_comes_twice_counts_once() -> None:
    p = started([1, 2])
    p.succeed("a[0]", "first")
    assert names(p.succeed("a[0]", "second")) == ["InputDismissed"]
    p.succeed("a[1]", "x")
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": ["first", "x"]}


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerate", "total", "may_fail"),
    [(0, 10, 0), (3, 10, 3), ("10%", 30, 3), ("10%", 9, 0), ("29%", 100, 29), ("100%", 7, 7), ("all", 7, 7)],
)
def test_how_many_items_may_fail(tolerate: Any, total: int, may_fail: int) -> None:
    for_each = Partition(route({"a": each(tolerate=tolerate)}))
    [one] = for_each.routes.values()
    found = one.steps["a"].for_each
    assert isinstance(found, ForEach)
    assert found.tolerated(total) == may_fail


def test_a_tolerated_failure_is_null_in_the_output() -> None:
    p = started([1, 2, 3], each(tolerate="34%", **ONCE))
    p.fail("a[1]")
    assert only(p.decisions[-1].events, StepGivenUp).step == "a[1]"
    p.succeed("a[0]")
    p.succeed("a[2]")
    ended = p.decisions[-1].events
    assert only(ended, ForEachEnded).failed == 1
    assert only(ended, WorkflowEnded).output == {"a": ["done", None, "done"]}


def test_one_failure_too_many_is_an_incident_of_its_item() -> None:
    p = started([1, 2], each(tolerate=1, **ONCE))
    p.fail("a[0]")
    p.fail("a[1]")
    assert p.step("a[1]").status == "incident"
    p.command("retry", step="a")
    assert (p.step("a[1]").status, p.step("a[1]").attempt) == ("running", 2)
    p.succeed("a[1]")
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [None, "done"]}


def test_one_failure_too_many_ends_the_workflow_where_the_route_says_so() -> None:
    p = started([1, 2], each(on_exhausted="fail", **ONCE))
    p.fail("a[1]")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("failed", "a[1]: Boom: it broke (attempt 1 of 1)")
    assert list(p.workflow().steps) == ["a"]


def test_one_failure_too_many_gives_the_step_up_and_the_others_results_count_no_more() -> None:
    step = each(on_exhausted="continue", concurrency=2, **ONCE)
    p = started(
        [1, 2, 3], step, b=agent("y", "${{ steps.a }}", needs="a", **{"if": "status.a == 'failed'"}), c=agent(needs="a")
    )
    late = p.task_id("a[1]")
    p.succeed("a[0]", "one")
    p.fail("a[2]")
    given_up = only(p.decisions[-1].events, StepGivenUp)
    assert (given_up.step, given_up.reason) == ("a", "a[2]: Boom: it broke (attempt 1 of 1)")
    assert p.step("b").input == ["one", None, None]
    assert p.step("c").status == "blocked"
    result = ResultReceived(task_id=late, attempt=1, workflow_id="r:k", status="succeeded", output="late")
    dismissed = only(p.give(result), InputDismissed)
    assert (dismissed.code, dismissed.message) == (
        "late",
        f"task {late}, attempt 1, counts no more: its for-each is failed",
    )
    p.check_replay()


def test_a_result_for_an_item_that_never_was_is_dismissed() -> None:
    p = started([1])
    result = ResultReceived(task_id=p.task_id("a[7]"), attempt=1, workflow_id="r:k", status="succeeded")
    assert only(p.give(result), InputDismissed).code == "late"
    other = ResultReceived(task_id=p.task_id("zz[7]"), attempt=1, workflow_id="r:k", status="succeeded")
    assert only(p.give(other), InputDismissed).code == "unknown"


def test_an_items_task_that_cant_be_sent_is_an_incident_of_the_item() -> None:
    p = started([1, 2])
    p.give(TaskUndeliverable(workflow_id="r:k", task_id=p.task_id("a[1]"), attempt=1, code="gone", message="no topic"))
    assert (p.step("a[1]").status, p.step("a").status) == ("incident", "iterating")


# Operators ----------------------------------------------------------------------------------------


def stuck() -> Partition:
    p = started([1, 2, 3], each(concurrency=2, **ONCE), b=agent("y", "${{ steps.a }}", needs="a"))
    p.fail("a[0]")
    return p


def test_cancel_with_an_incident_inside_ends_the_workflow() -> None:
    p = stuck()
    p.command("cancel")
    assert (p.workflow().status, list(p.workflow().steps)) == ("cancelled", ["a"])
    p.check_replay()


def test_skip_of_an_item_counts_it_as_failed_and_the_for_each_goes_on() -> None:
    p = stuck()
    p.command("skip")
    assert only(p.decisions[-1].events, StepGivenUp).reason == "skipped by op"
    assert tasks(p) == ["a[2]"]
    p.succeed("a[1]")
    p.succeed("a[2]")
    assert p.step("b").input == [None, "done", "done"]


def test_fail_of_an_item_fails_the_workflow() -> None:
    p = stuck()
    p.command("fail", step="a[0]", reason="no use")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("failed", "a[0] was failed by op: no use")


def test_the_last_item_skipped_ends_the_for_each() -> None:
    p = started([1], each(**ONCE))
    p.fail("a[0]")
    p.command("skip")
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": [None]}


def parked(p: Partition) -> None:
    """The owner could not decide on a timer of the for-each, and gives it to an operator."""
    event = IncidentRaised(step="a", kind="parked", message="too large")
    workflow = evolve(p.workflow(), event, workflow_id="r:k", at_ms=p.now_ms)
    assert isinstance(workflow, Workflow)
    p.state.workflows["r:k"] = workflow
    p.follower.state.workflows["r:k"] = workflow


def test_a_for_each_that_an_operator_has_begins_no_items_and_goes_on_by_a_retry() -> None:
    p = started([1, 2, 3], each(concurrency=1))
    parked(p)
    p.succeed("a[0]", "one")
    assert (tasks(p), p.step("a").status) == ([], "incident")
    p.command("retry")
    assert (tasks(p), p.step("a").status) == (["a[1]"], "iterating")
    p.succeed("a[1]", "two")
    p.succeed("a[2]", "three")
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": ["one", "two", "three"]}


def test_a_for_each_that_an_operator_has_is_done_when_its_items_are() -> None:
    p = started([1])
    parked(p)
    p.succeed("a[0]", "one")
    assert only(p.decisions[-1].events, IncidentResolved).action == "result"
    assert p.workflow().status == "completed"


def test_a_retry_of_a_for_each_whose_items_are_all_settled_ends_it() -> None:
    p = started([1], each(**ONCE))
    p.fail("a[0]")
    parked(p)
    assert names(p.command("retry", step="a[0]")) == ["CommandAccepted", "IncidentResolved", "TaskDispatched"]
    p.succeed("a[0]")
    assert p.workflow().status == "completed"


def test_a_for_each_that_an_operator_has_may_be_skipped_as_a_whole() -> None:
    p = started([1, 2], b=agent("y", "${{ steps.a }}", needs="a"))
    parked(p)
    p.command("skip")
    assert only(p.decisions[-1].events, StepSkipped).step == "a"
    assert (list(p.workflow().steps), p.step("b").input) == (["a", "b"], None)


def test_a_command_for_an_item_without_an_incident_is_refused() -> None:
    p = started([1])
    assert only(p.command("retry", step="a[0]"), CommandRefused).code == "no_incident"
    assert only(p.command("retry", step="zz[0]"), CommandRefused).code == "unknown_step"


# Portions -----------------------------------------------------------------------------------------


def sizes(p: Partition) -> list[int]:
    """How many tasks each decision holds."""
    return [sum(isinstance(e, TaskDispatched) for e in decision.events) for decision in p.decisions]


def test_many_items_begin_in_portions() -> None:
    p = started(list(range(2 * PORTION + 5)), each(concurrency=2 * PORTION + 1))
    assert only(p.decisions[-1].events, PortionScheduled).due_at_ms == p.now_ms
    p.wait("a")
    p.wait("a")
    assert sizes(p) == [PORTION, PORTION, 1]
    assert p.step("a").due_at_ms is None
    p.succeed("a[0]")
    assert tasks(p) == [f"a[{2 * PORTION + 1}]"]


def test_a_portion_begins_no_more_than_there_is_still_room_for() -> None:
    p = started(list(range(PORTION + 1)), each(concurrency=PORTION + 1))
    p.succeed("a[0]")
    assert tasks(p) == [f"a[{PORTION}]"]
    assert p.step("a").due_at_ms is None
    for index in range(1, PORTION):
        p.succeed(f"a[{index}]")
    p.succeed(f"a[{PORTION}]")
    assert p.workflow().status == "completed"


def test_large_inputs_make_small_portions() -> None:
    p = started([1, 2, 3], each(value="x" * (PORTION_BYTES // 2 - 100)))
    assert sizes(p) == [2]
    p.wait("a")
    assert sizes(p) == [2, 1]


def test_what_is_larger_than_a_portion_begins_in_a_decision_of_its_own() -> None:
    """So that what it makes too large is the for-each's own timer, and no agent's result."""
    p = Partition(route({"a": each(value="${{ item == 'l' ? event.long : item }}", concurrency=1)}))
    p.start(data=["s", "l", "s"], long="x" * (PORTION_BYTES + 1))
    p.succeed("a[0]")
    assert names(p.decisions[-1].events) == ["TaskSucceeded", "PortionScheduled"]
    p.wait("a")
    assert tasks(p) == ["a[1]"]
    p.succeed("a[1]")
    assert tasks(p) == ["a[2]"]


def test_a_list_larger_than_a_portion_begins_with_a_decision_of_its_own() -> None:
    p = started(["x" * PORTION_BYTES, "y"])
    assert [type(e) for e in p.decisions[-1].events[1:]] == [ForEachStarted, PortionScheduled]
    p.wait("a")
    assert tasks(p) == ["a[0]"]
    p.wait("a")
    assert tasks(p) == ["a[1]"]


def test_a_portions_timer_that_no_longer_fits_does_nothing() -> None:
    p = started(list(range(PORTION + 1)), each(concurrency=PORTION + 1))
    due = p.step("a").due_at_ms
    assert due is not None
    p.succeed("a[0]")
    run = p.workflow().run_id
    assert p.give(TimerDue(due_at_ms=due, workflow_id="r:k", kind="portion", step="a", run_id=run)) == ()


def test_held_items_of_a_for_each_that_an_operator_has_go_on_with_a_retry() -> None:
    count = 2 * PORTION + 50
    work = each(concurrency=count, reserve={"tokens": 10}, needs="first")
    budget = {"tokens": 10, "on_exhausted": "ask", "role": "maintainer"}
    p = Partition(route({"first": agent("x", 1, reserve={"tokens": 10}), "a": work}, budget=budget))
    p.start(data=list(range(count)))
    p.succeed("first", usage={"tokens": 10})
    while p.step("a").due_at_ms is not None:
        p.wait("a")
    parked(p)
    p.answer("a.budget", payload={"tokens": 10 * count})
    assert (len(tasks(p)), p.step("a").status) == (PORTION, "incident")
    p.command("retry")
    assert (len(tasks(p)), p.step("a").status) == (PORTION, "iterating")
    p.wait("a")
    assert len(tasks(p)) == 50

"""Decide: what starts, goes on and ends a workflow.

`test_decide_attempts` and `test_decide_people` have the rest. After each decision, `Partition`
checks that the log's bytes give the very state that was decided on.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import SOURCE, Partition, agent, approval, names, only, route

from mesh.core import ids
from mesh.core.decide import decide
from mesh.core.decide.begin.for_each import advance
from mesh.core.decide.begin.undo import begin_undo, undo_next
from mesh.core.decide.draft import Draft
from mesh.core.effects import PublishOutcome, SendTask
from mesh.core.events import (
    IncidentRaised,
    InputDismissed,
    StartRepeated,
    StepBlocked,
    StepSkipped,
    TaskDispatched,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowStarted,
)
from mesh.core.inputs import EventOffered, ResultReceived
from mesh.core.state import Directory

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# Starts and their repeats -------------------------------------------------------------------------


def test_a_start_dispatches_every_step_without_needs() -> None:
    p = Partition(route({"a": agent(timeout="30s"), "b": agent("y"), "c": agent(needs=["a", "b"])}))
    events = p.start(data={"n": 1})
    assert names(events) == ["WorkflowStarted", "TaskDispatched", "TaskDispatched"]
    started, a = events[0], events[1]
    assert isinstance(started, WorkflowStarted)
    assert (started.run_id, started.key, started.parent_span_id) == (ids.run_id("/orders", "e1"), "k", None)
    assert started.trace_id == ids.trace_id("r:k", started.run_id)
    assert isinstance(a, TaskDispatched)
    assert (a.task_id, a.attempt, a.due_at_ms) == (f"r:k/{started.run_id}/a", 1, p.now_ms + 30_000)
    assert a.reason == "the workflow started"
    assert a.traceparent.split("-")[1] == started.trace_id
    assert [task.agent for task in p.effects() if isinstance(task, SendTask)] == ["x", "y"]
    assert only(p.effects()[:1], SendTask).run_id == started.run_id
    assert p.workflow().status == "running"


@pytest.mark.parametrize(
    ("given", "trace", "parent"),
    [
        (TRACEPARENT, TRACEPARENT[3:35], TRACEPARENT[36:52]),
        (TRACEPARENT.replace("00-", "cc-", 1) + "-what-comes", TRACEPARENT[3:35], TRACEPARENT[36:52]),
        (TRACEPARENT.replace("00-", "ff-", 1), None, None),
        (TRACEPARENT.upper(), None, None),
        ("00-" + "0" * 32 + TRACEPARENT[35:], None, None),
        (TRACEPARENT[:36] + "0" * 16 + "-01", None, None),
        ("00-" + "z" * 32 + TRACEPARENT[35:], None, None),
        ("nonsense", None, None),
    ],
)
def test_the_upstreams_trace_is_taken_over_if_it_holds(given: str, trace: str | None, parent: str | None) -> None:
    p = Partition(route({"a": agent()}))
    started = only(p.start(traceparent=given), WorkflowStarted)
    assert started.trace_id == (trace or ids.trace_id("r:k", started.run_id))
    assert started.parent_span_id == parent


@pytest.mark.parametrize("on_repeat", ["ignore", "new_run_after_end"])
def test_the_same_event_starts_nothing_again(on_repeat: str) -> None:
    p = Partition(route({"a": agent()}, on_repeat=on_repeat))
    p.start()
    assert only(p.start(), StartRepeated).reason == "the same event started this run"
    p.succeed("a")
    assert only(p.start(), StartRepeated).reason == "the same event started this run"
    assert p.effects() == []


def test_another_event_for_a_live_workflow_starts_nothing() -> None:
    p = Partition(route({"a": agent()}, on_repeat="new_run_after_end"))
    p.start()
    repeated = only(p.start(event_id="e2"), StartRepeated)
    assert repeated.reason == f"run {p.workflow().run_id} is still going"
    assert (repeated.event_source, repeated.event_id) == ("/orders", "e2")


def test_on_repeat_says_what_another_event_means_after_the_end() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    p.succeed("a")
    assert (
        "ended as completed, and the route says on_repeat: ignore" in only(p.start(event_id="e2"), StartRepeated).reason
    )
    q = Partition(route({"a": agent()}, on_repeat="new_run_after_end"))
    q.start()
    q.succeed("a")
    first = q.workflow().run_id
    assert names(q.start(event_id="e2")) == ["WorkflowStarted", "TaskDispatched"]
    assert q.workflow().run_id != first
    assert q.workflow().earlier_runs == (first,)


def test_the_event_of_an_earlier_run_does_not_run_it_again() -> None:
    p = Partition(route({"a": agent()}, on_repeat="new_run_after_end"))
    for event in ("e1", "e2"):
        p.start(event_id=event)
        p.succeed("a")
    assert "started the earlier run" in only(p.start(event_id="e1"), StartRepeated).reason


def test_a_forgotten_id_starts_afresh() -> None:
    p = Partition(route({"a": agent()}, closed_retention="1d"))
    p.start()
    p.succeed("a")
    assert p.workflow().forget_at_ms == p.now_ms + 86_400_000
    assert names(p.wait()) == ["WorkflowForgotten"]
    assert p.state.workflows == {}
    assert names(p.start(event_id="e2")) == ["WorkflowStarted", "TaskDispatched"]


# Needs and conditions -----------------------------------------------------------------------------


def test_a_step_waits_for_all_that_it_needs() -> None:
    p = Partition(route({"a": agent(), "b": agent(), "c": agent("z", "${{ steps.a + steps.b }}", needs=["a", "b"])}))
    p.start()
    assert names(p.succeed("a", "1")) == ["TaskSucceeded"]
    events = p.succeed("b", "2")
    assert names(events) == ["TaskSucceeded", "TaskDispatched"]
    task = only(events, TaskDispatched)
    assert (task.input, task.reason) == ("12", "a, b done")


def test_expressions_see_the_event_the_steps_and_the_workflow() -> None:
    value = {
        "n": "${{ event.data.n }}",
        "a": "${{ steps.a }}",
        "id": "${{ workflow.id }}",
        "run": "${{ workflow.run_id }}",
        "route": "${{ workflow.route }}",
        "key": "${{ workflow.key }}",
    }
    p = Partition(route({"a": agent(), "b": agent("y", value, needs="a")}))
    p.start(data={"n": 7})
    task = only(p.succeed("a", [1]), TaskDispatched)
    assert task.input == {"n": 7, "a": [1], "id": "r:k", "run": p.workflow().run_id, "route": "r", "key": "k"}


def test_a_true_condition_lets_the_step_run_and_is_its_reason() -> None:
    p = Partition(route({"a": agent(), "b": agent(needs="a", **{"if": "steps.a > 1"})}))
    p.start()
    assert only(p.succeed("a", 2), TaskDispatched).reason == "a done, and steps.a > 1"


def test_a_false_condition_skips_the_step_and_satisfies_those_who_need_it() -> None:
    steps = {"a": agent(), "b": agent(needs="a", **{"if": "steps.a > 1"}), "c": agent("z", "${{ steps.b }}", needs="b")}
    p = Partition(route(steps))
    p.start()
    events = p.succeed("a", 1)
    assert names(events) == ["TaskSucceeded", "StepSkipped", "TaskDispatched"]
    assert only(events, StepSkipped).reason == "steps.a > 1 is false"
    assert only(events, TaskDispatched).input is None


def test_a_skipped_approval_passes_its_payload_through() -> None:
    steps = {
        "a": agent(),
        "review": approval(payload="${{ steps.a }}", needs="a", **{"if": "steps.a.risky"}),
        "c": agent("z", "${{ steps.review }}", needs="review"),
    }
    p = Partition(route(steps))
    p.start()
    events = p.succeed("a", {"risky": False})
    output = {"verdict": "skipped", "payload": {"risky": False}, "by": "", "reason": "", "edited": False}
    assert only(events, StepSkipped).output == output
    assert only(events, TaskDispatched).input == output


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (agent(needs="a", **{"if": "steps.a.missing"}), "missing"),
        (agent(needs="a", **{"if": "steps.a.n"}), "true or false"),
        (agent("x", "${{ steps.a.missing }}", needs="a"), "missing"),
        (approval(payload="${{ steps.a.missing }}", needs="a"), "missing"),
        (approval(ask="${{ steps.a.missing }}", needs="a"), "missing"),
        (approval(payload="${{ steps.a.missing }}", needs="a", **{"if": "false"}), "missing"),
    ],
)
def test_an_expression_that_fails_is_an_incident_that_names_the_path(step: dict[str, Any], words: str) -> None:
    p = Partition(route({"a": agent(), "b": step}))
    p.start()
    events = p.succeed("a", {"n": 1})
    assert names(events) == ["TaskSucceeded", "IncidentRaised"]
    incident = only(events, IncidentRaised)
    assert (incident.step, incident.kind) == ("b", "expression")
    assert words in incident.message
    assert p.step("b").status == "incident"
    assert p.workflow().status == "running"


# Ends ---------------------------------------------------------------------------------------------


def test_the_outcome_is_what_the_last_steps_gave() -> None:
    p = Partition(route({"a": agent(), "b": agent(), "c": agent(needs="a")}))
    p.start()
    p.succeed("a", 1)
    p.succeed("b", 2)
    ended = only(p.succeed("c", 3), WorkflowEnded)
    assert (ended.status, ended.reason, ended.output) == ("completed", "all steps are done", {"b": 2, "c": 3})
    outcome = only(p.effects(), PublishOutcome)
    assert (outcome.status, outcome.output, outcome.route) == ("completed", {"b": 2, "c": 3}, "r")


def test_a_route_may_make_its_own_output() -> None:
    p = Partition(route({"a": agent()}, output={"sum": "${{ steps.a + event.data.n }}"}))
    p.start(data={"n": 1})
    assert only(p.succeed("a", 2), WorkflowEnded).output == {"sum": 3}


def test_an_output_that_fails_ends_the_workflow_as_failed() -> None:
    p = Partition(route({"a": agent()}, output="${{ steps.a.missing }}"))
    p.start()
    ended = only(p.succeed("a", {}), WorkflowEnded)
    assert (ended.status, ended.output) == ("failed", None)
    assert ended.reason.startswith("all steps are done, but the route's output could not be made: ")
    assert "missing" in ended.reason


def test_a_workflow_may_end_as_it_starts() -> None:
    p = Partition(route({"a": agent(**{"if": "false"})}))
    assert names(p.start()) == ["WorkflowStarted", "StepSkipped", "WorkflowEnded"]


def test_payloads_are_dropped_after_the_end() -> None:
    p = Partition(route({"a": agent("x", {"big": 1})}))
    p.start(data={"big": 2})
    p.succeed("a", {"big": 3})
    assert "data" not in p.workflow().cloud_event
    assert p.step("a").output is None
    assert p.workflow().ended_at_ms == p.now_ms


def test_a_rejection_blocks_all_that_need_it_unless_a_condition_takes_it() -> None:
    steps = {
        "review": approval(),
        "post": agent(needs="review"),
        "after": agent(needs="post"),
        "sorry": agent(needs="review", **{"if": "steps.review.verdict == 'rejected'"}),
    }
    p = Partition(route(steps))
    p.start()
    events = p.answer(decision="reject", reason="no")
    assert names(events) == ["ApprovalClosed", "StepBlocked", "TaskDispatched", "StepBlocked"]
    blocked = [event.reason for event in events if isinstance(event, StepBlocked)]
    assert blocked == ["needs review, which was rejected", "needs post, which was blocked"]
    ended = only(p.succeed("sorry", "told"), WorkflowEnded)
    assert (ended.status, ended.output) == ("completed", {"after": None, "sorry": "told"})


def test_a_rejection_that_nobody_takes_ends_the_workflow() -> None:
    steps = {"review": approval(), "post": agent(needs="review", **{"if": "event.data.n == 1"}), "other": agent()}
    p = Partition(route(steps))
    p.start(data={"n": 1})
    ended = only(p.answer(decision="reject", reason="no"), WorkflowEnded)
    assert (ended.status, ended.reason) == ("rejected", "review was rejected by ana: no")
    assert p.step("other").status == "cancelled"


@pytest.mark.parametrize(
    "condition", ["steps.review.verdict == 'approved'", "steps.review == 1", "steps['review'].edited"]
)
def test_a_condition_that_takes_a_rejection_and_is_false_leaves_it_rejected(condition: str) -> None:
    p = Partition(route({"review": approval(), "post": agent(needs="review", **{"if": condition})}))
    p.start()
    events = p.answer(decision="reject")
    assert names(events) == ["ApprovalClosed", "StepSkipped", "WorkflowEnded"]
    ended = only(events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("rejected", "review was rejected by ana")


def test_a_condition_on_another_step_of_a_similar_name_takes_nothing() -> None:
    steps = {
        "review": approval(),
        "review_more": approval(),
        "post": agent(needs=["review", "review_more"], **{"if": "steps.review_more.edited"}),
    }
    p = Partition(route(steps))
    p.start()
    assert only(p.answer("review", "reject"), WorkflowEnded).status == "rejected"


# What the router must not do ----------------------------------------------------------------------


def test_a_start_without_its_route_is_a_fault() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    given = ResultReceived(task_id=p.task_id("a"), attempt=1, workflow_id="r:k", status="succeeded", output=1)
    with pytest.raises(AssertionError, match="needs its route"):
        decide(p.workflow(), given, route=None, directory=Directory(), now_ms=p.now_ms)


def test_going_on_with_no_workflow_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="r:k is not live"):
        _ = Draft(None, "r:k", None, Directory(), 1).live


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (undo_next, "r:k is not being undone"),
        (lambda draft: begin_undo(draft, "a"), "a of r:k has nothing to undo"),
        (lambda draft: advance(draft, "a"), "a of r:k is not a for-each under way"),
    ],
)
def test_what_the_state_does_not_ask_for_is_a_fault(do: Callable[[Draft], object], message: str) -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    [one] = p.routes.values()
    with pytest.raises(AssertionError, match=message):
        do(Draft(p.workflow(), "r:k", one, Directory(), 1))


def test_a_wait_whose_route_does_not_say_for_what_is_a_fault() -> None:
    p = Partition(route({"a": {"wait": {"event": "t2", "timeout": "1s"}}}))
    p.start()
    p.routes[p.workflow().digest] = route({"a": agent()})
    with pytest.raises(TypeError, match="step a of r:k waits, but its route does not say for what"):
        p.wait("a")


def test_a_decision_is_a_function_of_its_arguments() -> None:
    p = Partition(route({"a": agent(), "b": agent("y", "${{ steps.a }}", needs="a")}))
    p.start()
    before = p.workflow()
    given = ResultReceived(task_id=p.task_id("a"), attempt=1, workflow_id="r:k", status="succeeded", output={"n": [1]})
    one, other = (
        decide(before, given, route=next(iter(p.routes.values())), directory=p.directory, now_ms=5) for _ in range(2)
    )
    assert one == other
    assert before == p.workflow()
    assert only(one.events, TaskSucceeded).output == {"n": [1]}


def test_an_event_that_only_an_earlier_version_waits_for_is_kept_for_no_start_to_come() -> None:
    p = Partition(route({"a": {"wait": {"event": "paid"}}}))
    first = next(iter(p.routes.values()))
    offered = EventOffered(
        workflow_id="r:k",
        route="r",
        digest=first.digest,
        key="k",
        cloud_event={"specversion": "1.0", "id": "o1", "source": SOURCE, "type": "paid"},
        only_live=True,
        **p._inbox("mesh.events", None),
    )
    assert only(p.give(offered), InputDismissed).code == "unclaimed"
    assert p.state.workflows == {}
    p.start()
    again = replace(offered, source_offset=9)
    assert names(p.give(again))[0] == "EventReceived"

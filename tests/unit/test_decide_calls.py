"""Decide: steps that are workflows of other routes, from the call to what becomes of it.

Also what one workflow tells another.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, approval, called_route, calling, names, only, route

from mesh.core.calls import MAX_CALLED_ID, Caller
from mesh.core.crossings import crossing_id, crossings, inputs_between, parse_crossing_id
from mesh.core.decide import Decided, park
from mesh.core.effects import PublishOutcome, SendTask
from mesh.core.events import (
    CallFailed,
    CallMade,
    CallRefused,
    CallWithdrawn,
    IncidentRaised,
    InputDismissed,
    InputParked,
    StartRepeated,
    TaskDispatched,
    WorkflowEnded,
    WorkflowStarted,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import (
    CallCancelled,
    CallEnded,
    EventMatched,
    TimerDue,
    Undeliverable,
    WorkflowCalled,
)
from mesh.inspection.explanation import explain_event

SUB = called_route(
    {"work": agent("x", "${{ event.data }}", on_exhausted="fail", retry={"attempts": 1})}, output="${{ steps.work }}"
)
CHILD = "sub:r:k/{run}/a"
AGAIN = "sub:r:k/{run}/a/2"


def partition(**more: Any) -> Partition:
    """A workflow that has called another, which has begun."""
    p = Partition(route({"a": calling(**more), "b": agent("y", "${{ steps.a }}", needs="a")}), SUB)
    p.start(data={"n": 1})
    return p


def child(p: Partition, form: str = CHILD) -> str:
    return form.format(run=p.workflow().run_id)


def ended(p: Partition, **more: Any) -> CallEnded:
    """An end of the call that nobody has sent."""
    fields: dict[str, Any] = {
        "workflow_id": p.id_of(),
        "task_id": p.task_id("a"),
        "attempt": 1,
        "called": child(p),
        "status": "completed",
        "output": 7,
        "source_topic": "mesh.log",
        "source_partition": 0,
        "source_offset": 99,
        "source_at_ms": p.now_ms,
    }
    return CallEnded(**{**fields, **more})


def test_a_call_names_the_newest_version_of_its_route_and_starts_a_workflow_of_it() -> None:
    p = partition()
    made = only(p.decisions[-1].events, CallMade)
    assert (made.route, made.digest, made.called, made.input) == ("sub", SUB.digest, child(p), {"n": 1})
    assert (made.due_at_ms, p.step("a").status, p.step("a").called) == (None, "calling", child(p))
    [told] = p.crossing()
    assert isinstance(told, WorkflowCalled)
    assert (told.workflow_id, told.digest, told.key) == (child(p), SUB.digest, p.task_id("a"))
    assert told.caller == Caller(workflow_id="r:k", task_id=p.task_id("a"))
    assert told.cloud_event == {
        "specversion": "1.0",
        "id": p.task_id("a"),
        "source": "/mesh/workflows/r:k",
        "type": "mesh.workflow.called",
        "traceparent": made.traceparent,
        "data": {"n": 1},
    }
    p.pass_on()
    started = only(p.decisions[-1].events, WorkflowStarted)
    assert (started.caller, started.trace_id) == (told.caller, p.workflow().trace_id)
    assert started.parent_span_id == made.traceparent.split("-")[2]
    assert only(p.effects(), SendTask).input == {"n": 1}
    p.check_replay()


def test_what_the_called_workflow_gives_is_the_steps_output() -> None:
    p = partition()
    p.pass_on()
    p.succeed("work", "done", key=child(p))
    assert only(p.effects(), PublishOutcome).output == "done"
    p.pass_on()
    assert names(p.decisions[-1].events) == ["CallSucceeded", "TaskDispatched"]
    assert only(p.effects(), SendTask).input == "done"
    assert (p.step("a").status, p.step("a").output) == ("succeeded", "done")
    p.check_replay()


def test_a_called_workflow_that_fails_makes_its_caller_an_incident_and_a_retry_calls_another() -> None:
    p = partition()
    p.pass_on()
    p.fail("work", key=child(p))
    p.pass_on()
    failed = only(p.decisions[-1].events, CallFailed)
    assert failed.kind == "failed"
    assert failed.message.startswith(f"{child(p)} failed: work: Boom")
    assert only(p.decisions[-1].events, IncidentRaised).kind == "call"
    assert not p.crossing()
    p.command("retry")
    made = only(p.decisions[-1].events, CallMade)
    assert (made.attempt, made.called, made.input) == (2, child(p, AGAIN), {"n": 1})
    p.pass_on()
    p.succeed("work", 2, key=child(p, AGAIN))
    p.pass_on()
    assert p.step("a").output == 2
    p.check_replay()


def test_on_exhausted_fail_ends_the_caller() -> None:
    p = partition(on_exhausted="fail")
    p.pass_on()
    p.command("cancel", key=child(p))
    p.pass_on()
    end = only(p.decisions[-1].events, WorkflowEnded)
    assert end.status == "failed"
    assert end.reason == f"a: {child(p)} was cancelled: cancelled by op"


def test_a_call_that_has_not_ended_in_time_has_failed_and_the_called_is_cancelled() -> None:
    p = partition(timeout="10s")
    p.pass_on()
    p.wait("a")
    failed = only(p.decisions[-1].events, CallFailed)
    assert (failed.kind, failed.called) == ("timeout", child(p))
    assert failed.message == f"{child(p)} had not ended after 10.0 s"
    p.give(p.crossing()[0])
    end = only(p.decisions[-1].events, WorkflowEnded)
    assert (end.status, end.reason) == (
        "cancelled",
        "its caller r:k does not want it any more: the call has failed: timeout",
    )
    p.pass_on()
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"
    p.check_replay()


def test_a_time_out_of_an_earlier_call_or_of_another_kind_changes_nothing() -> None:
    p = partition(timeout="10s")
    run, due = p.workflow().run_id, p.step("a").due_at_ms or 0
    p.now_ms = due
    for kind, at in (("task_timeout", due), ("call_timeout", due - 1)):
        assert p.give(TimerDue(due_at_ms=at, workflow_id="r:k", kind=kind, step="a", run_id=run)) == ()  # type: ignore[arg-type] # of the loop


@pytest.mark.parametrize("late", ["incident", "called again"])
def test_a_success_of_any_call_counts_while_the_step_is_not_settled(late: str) -> None:
    p = partition(timeout="10s")
    p.wait("a")
    if late == "called again":
        p.command("retry")
        p.give(replace(ended(p), status="failed"))
        assert only(p.decisions[-1].events, InputDismissed).code == "repeated"
    p.give(ended(p))
    head = {"incident": "IncidentResolved", "called again": "CallWithdrawn"}[late]
    assert names(p.decisions[-1].events) == [head, "CallSucceeded", "TaskDispatched"]
    assert [type(one) for one in p.crossing()] == ([CallCancelled] if late == "called again" else [])
    assert p.step("a").output == 7
    p.check_replay()


def test_the_end_of_a_workflow_takes_its_calls_back() -> None:
    p = partition()
    p.pass_on()
    p.command("cancel", reason="a mistake")
    withdrawn = only(p.decisions[-1].events, CallWithdrawn)
    assert (withdrawn.called, withdrawn.reason) == (
        child(p),
        "the workflow cancelled: cancelled by op: a mistake",
    )
    assert p.step("a").status == "cancelled"
    p.pass_on()
    assert p.state.workflows[child(p)].status == "cancelled"
    assert only(p.decisions[-1].events, InputDismissed).message == "the workflow had ended: cancelled"
    p.check_replay()


def test_a_call_taken_back_finds_no_workflow_one_that_has_ended_or_one_that_is_not_its_own() -> None:
    p = partition()
    caller = Caller(workflow_id="r:k", task_id=p.task_id("a"))
    taken_back = CallCancelled(
        workflow_id=child(p),
        caller=caller,
        reason="",
        source_topic="mesh.log",
        source_partition=0,
        source_offset=9,
        source_at_ms=0,
    )
    p.give(taken_back)
    assert only(p.decisions[-1].events, InputDismissed).message == f"no workflow {child(p)} to cancel"
    p.state.workflows.pop(child(p), None)
    p = partition()
    p.pass_on()
    p.give(replace(taken_back, caller=replace(caller, attempt=2)))
    assert only(p.decisions[-1].events, InputDismissed).code == "unknown"
    p.succeed("work", key=child(p))
    p.give(taken_back)
    assert only(p.decisions[-1].events, InputDismissed).code == "closed"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"workflow_id": "r:nobody"}, "unknown"),
        ({"task_id": "nonsense"}, "unknown"),
        ({"task_id": "r:k/00000000/a"}, "late"),
        ({"attempt": 2}, "unknown"),
        ({"attempt": 0}, "unknown"),
        ({"task_id": "r:k/{run}/b"}, "unknown"),
    ],
)
def test_an_end_that_fits_no_call_is_dismissed(more: dict[str, Any], code: str) -> None:
    p = partition()
    more = {
        key: value.format(run=p.workflow().run_id) if isinstance(value, str) else value for key, value in more.items()
    }
    p.give(ended(p, **more))
    assert only(p.decisions[-1].events, InputDismissed).code == code


def test_an_agents_result_is_no_end_of_a_call() -> None:
    p = partition()
    p.succeed("a", "forged")
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"
    p.give(ended(p, status="failed"))
    assert p.step("a").status == "incident"
    p.succeed("a", "forged")
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"


def test_a_route_that_nobody_knows_is_an_incident_and_can_be_retried_once_it_is_there() -> None:
    p = Partition(route({"a": calling()}), SUB)
    known, p.directory = p.directory, replace(p.directory, routes={})
    p.start()
    incident = only(p.decisions[-1].events, IncidentRaised)
    assert incident.kind == "unknown_route"
    assert incident.message.startswith("no version of route sub is active")
    p.directory = known
    p.command("retry")
    assert only(p.decisions[-1].events, CallMade).attempt == 1


def test_routes_that_call_themselves_come_to_an_end() -> None:
    p = Partition(route({"a": calling("r")}))
    p.start()
    for _ in range(200):
        told = p.crossing()
        if not told:
            break
        p.give(told[0])
    incident = only(p.decisions[-1].events, IncidentRaised)
    assert incident.kind == "too_deep"
    assert all(len(name) <= MAX_CALLED_ID for name in p.state.workflows)


def matched(p: Partition, called: WorkflowCalled) -> EventMatched:
    """Somebody's event for the id that belongs to a call."""
    return EventMatched(
        workflow_id=called.workflow_id,
        route="sub",
        digest=SUB.digest,
        key=called.key,
        cloud_event={"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data": {}},
        **p._inbox("mesh.events", None),
    )


def test_an_id_that_is_taken_refuses_the_call_and_its_caller_hears_of_it() -> None:
    p = partition()
    [told] = p.crossing()
    assert isinstance(told, WorkflowCalled)
    p.give(matched(p, told))
    p.give(told)
    assert names(p.decisions[-1].events) == ["StartRepeated", "CallRefused"]
    assert only(p.decisions[-1].events, CallRefused).caller == told.caller
    p.pass_on()
    failed = only(p.decisions[-1].events, CallFailed)
    assert (failed.kind, failed.called) == ("refused", "")
    assert failed.message.startswith(f"{child(p)} was refused: {child(p)} can't begin: run ")
    p.check_replay()


def test_a_call_that_comes_again_is_refused_only_where_its_workflow_is_over() -> None:
    p = partition()
    [told] = p.crossing()
    p.give(told)
    p.give(told)
    assert names(p.decisions[-1].events) == ["StartRepeated"]
    assert only(p.decisions[-1].events, StartRepeated).reason == "the same event started this run"
    p.succeed("work", key=child(p))
    p.give(told)
    assert names(p.decisions[-1].events) == ["StartRepeated", "CallRefused"]


@pytest.mark.parametrize(
    ("effect", "is_call"), [("{task}/1/call", True), ("{task}/2/call", False), ("{task}/1/cancel", False)]
)
def test_a_call_that_can_not_be_sent_is_an_incident(effect: str, is_call: bool) -> None:
    p = partition()
    lost = Undeliverable(
        workflow_id="r:k",
        effect_id=effect.format(task=p.task_id("a")),
        topic="mesh.inbox",
        code="too_large",
        message="too large",
    )
    p.give(lost)
    found = names(p.decisions[-1].events)
    assert found == ["EffectUndeliverable", *(["CallFailed", "IncidentRaised"] if is_call else [])]
    assert (p.step("a").status == "incident") == is_call


def test_an_input_that_can_not_be_made_is_an_incident_and_a_false_condition_skips_the_call() -> None:
    p = Partition(route({"a": calling(value="${{ event.data.no }}"), "b": calling(**{"if": "false"})}), SUB)
    p.start(data={})
    assert names(p.decisions[-1].events) == ["WorkflowStarted", "IncidentRaised", "StepSkipped"]


def test_an_approval_of_a_called_workflow_is_answered_like_any_other() -> None:
    sub = called_route({"review": approval(payload="${{ event.data }}")})
    p = Partition(route({"a": calling()}), sub)
    p.start(data=1)
    p.pass_on()
    p.answer(decision="reject", key=child(p))
    p.pass_on()
    assert only(p.decisions[-1].events, CallFailed).kind == "rejected"


def test_the_end_of_a_call_that_was_never_made_is_no_state() -> None:
    p = partition()
    withdrawn = CallWithdrawn(step="b", task_id="", attempt=1, called="", reason="")
    with pytest.raises(ValueError, match="CallWithdrawn for step b, which has called nothing"):
        evolve(p.workflow(), withdrawn, workflow_id="r:k", at_ms=1)


def test_on_exhausted_continue_goes_on_without_the_call() -> None:
    p = Partition(
        route(
            {
                "a": calling(on_exhausted="continue"),
                "b": agent("y", "${{ status.a }}", needs="a", **{"if": "status.a != ''"}),
            }
        ),
        SUB,
    )
    p.start(data=1)
    p.give(ended(p, status="failed", reason="no"))
    assert names(p.decisions[-1].events) == ["CallFailed", "StepGivenUp", "TaskDispatched"]
    assert only(p.effects(), SendTask).input == "failed"


def test_each_round_of_a_loop_calls_a_workflow_of_its_own() -> None:
    steps = {"a": calling(), "check": agent(needs="a", repeat={"from": "a", "until": "steps.check", "limit": 3})}
    p = Partition(route(steps), SUB)
    p.start(data=1)
    p.give(ended(p))
    p.succeed("check", output=False)
    made = only(p.decisions[-1].events, CallMade)
    assert (made.task_id, made.attempt, made.round) == (f"r:k/{p.workflow().run_id}/a.2", 1, 2)
    assert p.step("a").output == 7, "the last round's output can be read until there is another"
    p.give(ended(p, task_id=p.step("a").task_id.removesuffix(".2")))
    assert only(p.decisions[-1].events, InputDismissed).code == "late"
    p.give(ended(p, task_id=made.task_id))
    assert only(p.decisions[-1].events, TaskDispatched).step == "check"
    p.check_replay()


def test_what_a_loop_leaves_behind_when_it_goes_round_is_taken_back() -> None:
    steps = {
        "start": agent(),
        "a": calling(needs="start"),
        "ask": approval(needs="start"),
        "quick": agent(needs="start"),
        "check": agent(
            needs={"any": ["a", "ask", "quick"]}, repeat={"from": "start", "until": "steps.check", "limit": 3}
        ),
    }
    p = Partition(route(steps), SUB)
    p.start(data=1)
    p.succeed("start")
    p.succeed("quick")
    p.succeed("check", output=False)
    found = names(p.decisions[-1].events)
    assert found == ["TaskSucceeded", "CallWithdrawn", "ApprovalWithdrawn", "RoundStarted", "TaskDispatched"]
    assert [type(one) for one in p.crossing()] == [CallCancelled]
    p.check_replay()


def test_an_operator_who_has_a_step_for_its_loop_gets_no_late_end_of_its_call() -> None:
    steps = {"a": calling(repeat={"from": "a", "until": "steps.a > 9", "limit": 1})}
    p = Partition(route(steps), SUB)
    p.start(data=1)
    p.give(ended(p))
    assert only(p.decisions[-1].events, IncidentRaised).kind == "loop"
    p.give(ended(p, output=8))
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"
    p.command("skip")
    assert p.workflow().status == "completed"


def test_the_first_of_several_takes_the_other_calls_back() -> None:
    steps = {"a": calling(), "b": agent(), "first": agent(needs={"first_of": ["a", "b"]})}
    p = Partition(route(steps), SUB)
    p.start(data=1)
    p.succeed("b")
    assert only(p.decisions[-1].events, CallWithdrawn).step == "a"
    assert p.step("a").status == "cancelled"


def test_a_caller_that_undoes_what_it_did_first_takes_its_calls_back() -> None:
    steps = {"a": calling(), "b": agent("x", undo=agent("y"))}
    p = Partition(route(steps), SUB)
    p.start(data=1)
    p.succeed("b")
    p.command("cancel")
    assert names(p.decisions[-1].events) == [
        "CommandAccepted",
        "CompensationStarted",
        "CallWithdrawn",
        "TaskDispatched",
    ]
    p.give(ended(p))
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"


def test_a_called_workflow_that_undoes_what_it_did_goes_on_with_that() -> None:
    sub = called_route(
        {"work": agent("x", undo=agent("y")), "more": agent(needs="work", on_exhausted="fail", retry={"attempts": 1})}
    )
    p = Partition(route({"a": calling(timeout="10s")}), sub)
    p.start(data=1)
    p.pass_on()
    p.succeed("work", key=child(p))
    p.fail("more", key=child(p))
    p.wait("a")
    p.give(p.crossing()[0])
    dismissed = only(p.decisions[-1].events, InputDismissed)
    assert dismissed.message == "the workflow ends as failed once what it did is undone"
    p.succeed("work.undo", key=child(p))
    assert only(p.decisions[-1].events, WorkflowEnded).status == "failed"
    p.pass_on()
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"


def test_what_an_event_would_call_is_told() -> None:
    one = route({"a": calling()})
    event = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "subject": "k", "data": {"n": 1}}
    called, caller = explain_event([SUB, one], event, now_ms=1)[::-1]
    assert [(first.what, first.to, first.value) for first in caller.first] == [("call", "sub", {"n": 1})]
    assert called.reason == "no event starts it: steps of other routes call it"


# --- the sequence ---------------------------------------------------------------------------------


def test_each_record_to_another_workflow_has_the_next_place_in_the_sequence() -> None:
    p = Partition(route({"a": calling(), "b": calling(), "c": agent()}), SUB)
    p.start(data=1)
    assert [one.source_offset for one in p.crossing()] == [0, 1]
    assert (p.decisions[-1].sequence, p.state.sequence) == (0, 2)
    p.succeed("c")
    assert (p.decisions[-1].sequence, p.state.sequence, p.crossing()) == (0, 2, [])
    p.take_over("two")
    p.command("cancel")
    assert [(type(one), one.source_offset) for one in p.crossing()] == [(CallCancelled, 2), (CallCancelled, 3)]
    assert (p.decisions[-1].sequence, p.state.sequence) == (2, 4)
    p.check_replay()


def test_what_is_counted_is_what_is_sent() -> None:
    p = partition(timeout="1s")
    p.pass_on()
    p.fail("work", key=child(p))
    p.pass_on()
    p.command("retry")
    p.wait("a")
    p.pass_on()
    p.command("cancel")
    assert any(len(inputs_between(one)) for one in p.decisions)
    for decision in p.decisions:
        assert crossings(decision.events) == len(inputs_between(decision))


def test_every_record_to_another_workflow_has_a_name() -> None:
    p = partition(timeout="10s")
    task = p.task_id("a")
    [told] = p.crossing()
    p.wait("a")
    [taken_back] = p.crossing()
    assert [crossing_id(one) for one in (told, taken_back, ended(p))] == [
        f"{task}/1/call",
        f"{task}/1/cancel",
        f"{task}/1/end",
    ]


# --- what is set aside ----------------------------------------------------------------------------

PARKED = InputParked(
    code="poison",
    message="unread",
    topic="mesh.inbox",
    partition=0,
    offset=7,
    timestamp_ms=1,
    key=None,
    value=None,
    headers=[],
)


def parked(p: Partition, name: str) -> Decided:
    about = parse_crossing_id(name.format(task=p.task_id("a")))
    return park(p.workflow(), PARKED, about, workflow_id="r:k", now_ms=p.now_ms)


def test_a_call_that_is_set_aside_is_refused() -> None:
    p = partition()
    events = parked(p, "{task}/3/call").events
    assert names(events) == ["InputParked", "CallRefused"]
    refused = only(events, CallRefused)
    assert refused.caller == Caller(workflow_id="r:k", task_id=p.task_id("a"), attempt=3)
    assert (refused.code, refused.message) == ("poison", "mesh.inbox/0/7 was parked: unread")


def test_the_end_of_a_call_that_is_set_aside_is_an_incident_of_the_step_that_waits_for_it() -> None:
    p = partition()
    decided = parked(p, "{task}/1/end")
    assert names(decided.events) == ["InputParked", "CallFailed", "IncidentRaised"]
    assert decided.workflow is not None
    assert decided.workflow.steps["a"].status == "incident"


@pytest.mark.parametrize(
    "name",
    [
        "{task}/2/end",
        "r:k/00000000/a/1/end",
        "r:k/00000000/b/1/end",
        "{task}/1/cancel",
        "{task}/1/more",
        "{task}/x/end",
        "end",
        "",
    ],
)
def test_whatever_else_is_set_aside_moves_nothing(name: str) -> None:
    p = partition()
    assert parked(p, name).events == (PARKED,)


def test_the_end_of_a_call_of_a_workflow_that_is_gone_or_of_a_settled_step_moves_nothing() -> None:
    p = partition()
    about = parse_crossing_id(f"{p.task_id('a')}/1/end")
    assert park(None, PARKED, about, workflow_id="r:k", now_ms=1).events == (PARKED,)
    p.give(ended(p))
    assert parked(p, "{task}/1/end").events == (PARKED,)

"""Decide: waits for a time and for events.

Events may come early, late, twice, and before the workflow.
"""

from base64 import b64decode
from typing import Any

import pytest
from one_partition import START_MS, Partition, agent, approval, names, only, route

from mesh.core.decide.kept_events import KEPT, KEPT_BYTES
from mesh.core.effects import SendDeadLetter
from mesh.core.events import (
    AnswerRefused,
    CommandRefused,
    EventKept,
    EventReceived,
    EventUnclaimed,
    IncidentRaised,
    InputDismissed,
    StepComputed,
    StepSkipped,
    WaitEnded,
    WaitStarted,
    WorkflowEnded,
)
from mesh.core.inputs import ResultReceived, TimerDue, TimerKind

PAID: dict[str, Any] = {"event": "paid"}


def started(steps: dict[str, Any], data: Any = None, **more: Any) -> Partition:
    p = Partition(route(steps, **more))
    p.start(data=data)
    return p


def waiting(**more: Any) -> Partition:
    """One that waits for a payment."""
    return started({"w": {"wait": {**PAID, **more}}, "b": agent("b", "${{ steps.w }}", needs="w")})


def dismissed(events: Any) -> str:
    return only(events, InputDismissed).code


# For a time ---------------------------------------------------------------------------------------


def test_a_wait_lasts_as_long_as_it_says() -> None:
    p = started({"w": {"wait": "90s"}, "b": agent(needs="w")})
    assert only(p.decisions[-1].events, WaitStarted).due_at_ms == p.now_ms + 90_000
    assert names(p.wait("w")) == ["WaitEnded", "TaskDispatched"]


@pytest.mark.parametrize(
    ("until", "due_ms"),
    [
        ("2025-11-23T12:53:30Z", 1_763_902_410_000),
        ("2025-11-23T13:53:30+01:00", 1_763_902_410_000),
        ("2025-11-23T12:53:30.250Z", 1_763_902_410_250),
    ],
)
def test_a_wait_until_a_time_ends_then(until: str, due_ms: int) -> None:
    p = started({"w": {"wait": {"until": "${{ event.data }}"}}}, data=until)
    assert p.step("w").due_at_ms == due_ms
    p.wait("w")
    assert p.workflow().status == "completed"


@pytest.mark.parametrize("until", ["2001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_has_passed_is_no_wait(until: str) -> None:
    p = started({"w": {"wait": {"until": until}}})
    assert only(p.decisions[-1].events, StepComputed).reason == "the workflow started; the time has come"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "until needs a time as a string, such as 2026-11-24T09:00:00Z, not a number"),
        ("tomorrow", "until needs a time such as 2026-11-24T09:00:00Z, and got tomorrow"),
        ("2026-11-24T09:00:00", "the time 2026-11-24T09:00:00 has no offset: write Z or +01:00 after it"),
    ],
)
def test_what_is_no_time_is_an_incident(value: Any, message: str) -> None:
    p = started({"w": {"wait": {"until": "${{ event.data }}"}}}, data=value)
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.kind, raised.message) == ("expression", message)
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "IncidentRaised"]
    p.command("skip")
    assert p.workflow().status == "completed"


@pytest.mark.parametrize("kind", ["event_timeout", "task_timeout", "retry", "portion", "approval_deadline"])
def test_a_timer_of_another_kind_does_not_end_a_wait(kind: TimerKind) -> None:
    p = started({"w": {"wait": "1s"}})
    due = p.step("w").due_at_ms or 0
    timer = TimerDue(due_at_ms=due, workflow_id="r:k", kind=kind, step="w", run_id=p.workflow().run_id)
    assert p.give(timer) == ()
    event = waiting(timeout="1s")
    due = event.step("w").due_at_ms or 0
    other = TimerDue(due_at_ms=due, workflow_id="r:k", kind="wait", step="w", run_id=event.workflow().run_id)
    assert event.give(other) == ()


# For an event -------------------------------------------------------------------------------------


def test_an_event_in_time_is_the_output() -> None:
    p = waiting()
    assert only(p.decisions[-1].events, WaitStarted).awaits == "paid"
    p.offer("paid", data={"n": 1})
    assert p.step("b").input["data"] == {"n": 1}
    p.succeed("b")
    p.check_replay()


def test_an_event_counts_once() -> None:
    p = waiting()
    p.offer("paid")
    assert dismissed(p.offer("paid")) == "repeated"
    p.succeed("b")
    assert dismissed(p.offer("paid", event_id="o2")) == "closed"


def test_an_event_that_a_run_took_is_not_taken_by_the_next() -> None:
    p = started({"w": {"wait": PAID}}, on_repeat="new_run_after_end")
    p.offer("paid", event_id="o1")
    assert p.workflow().status == "completed"
    p.start(event_id="e2")
    assert dismissed(p.offer("paid", event_id="o1")) == "repeated"
    p.offer("paid", event_id="o2")
    assert p.workflow().status == "completed"


def test_the_start_event_is_not_what_a_wait_of_its_type_waits_for() -> None:
    p = started({"w": {"wait": {"event": "t"}}}, on_repeat="new_run_after_end")
    assert dismissed(p.offer("t", event_id="e1")) == "repeated"
    assert p.step("w").status == "waiting"
    p.offer("t", event_id="e2")
    assert p.workflow().status == "completed"
    p.start(event_id="e3")
    assert dismissed(p.offer("t", event_id="e1")) == "repeated"


def test_an_event_like_an_agents_output_is_not_taken_for_a_repeat() -> None:
    p = started({"a": agent(), "w": {"needs": "a", "wait": PAID}})
    p.succeed("a", {"source": "/orders", "id": "o1"})
    p.offer("paid", event_id="o1")
    assert p.workflow().status == "completed"


def test_of_every_step_that_waits_each_takes_it() -> None:
    p = started({"v": {"wait": PAID}, "w": {"wait": PAID}, "x": {"needs": ["v", "w"], "value": 1}})
    p.offer("paid")
    assert [e.step for e in p.decisions[-1].events if isinstance(e, EventReceived)] == ["v", "w"]
    assert p.workflow().status == "completed"


def test_one_that_took_it_may_have_ended_the_wait_of_another() -> None:
    p = started({"v": {"wait": PAID}, "w": {"wait": PAID}, "x": agent(needs={"first_of": ["v", "w"]})})
    p.offer("paid")
    assert only(p.decisions[-1].events, EventReceived).step == "v"
    assert (p.step("w").status, p.step("x").status) == ("cancelled", "running")


def test_the_end_that_one_brings_leaves_nothing_to_another() -> None:
    p = started({"v": {"wait": PAID}, "w": {"wait": PAID}, "x": {"needs": "v", "end": "completed"}})
    p.offer("paid")
    assert only(p.decisions[-1].events, EventReceived).step == "v"
    assert p.workflow().status == "completed"


@pytest.mark.parametrize(("amount", "taken"), [(4, False), (5, True), (None, False)])
def test_an_if_says_which_event_it_must_be(amount: int | None, taken: bool) -> None:
    """One that can't be evaluated lets it pass."""
    p = started({"w": {"wait": {**PAID, "if": "event.data.amount >= start.data.price"}}}, data={"price": 5})
    p.offer("paid", data={} if amount is None else {"amount": amount})
    assert p.step("w").status == ("succeeded" if taken else "waiting")
    assert len(p.workflow().kept) == (0 if taken else 1)


def test_an_event_of_another_type_is_dismissed() -> None:
    p = waiting()
    assert dismissed(p.offer("other")) == "unclaimed"


def test_an_event_that_no_step_waits_for_any_more_is_dismissed() -> None:
    p = waiting(timeout="1s", on_timeout="skip")
    p.wait("w")
    assert dismissed(p.offer("paid")) == "unclaimed"


def test_an_event_for_a_workflow_that_is_being_undone_is_dismissed() -> None:
    p = started({"a": agent(undo=agent("u")), "w": {"needs": "a", "wait": PAID}})
    p.command("cancel")
    assert dismissed(p.offer("paid")) == "unclaimed"


@pytest.mark.parametrize("on_timeout", ["incident", "fail", "skip"])
def test_what_it_means_that_no_event_came(on_timeout: str) -> None:
    p = waiting(timeout="90s", on_timeout=on_timeout)
    p.wait("w")
    message = "no event paid came in 90 s"
    match on_timeout:
        case "incident":
            raised = only(p.decisions[-1].events, IncidentRaised)
            assert (raised.kind, raised.message) == ("timeout", message)
        case "fail":
            ended = only(p.decisions[-1].events, WorkflowEnded)
            assert (ended.status, ended.reason) == ("failed", f"w: {message}")
        case "skip":
            assert only(p.decisions[-1].events, StepSkipped).reason == message
            assert p.step("b").input is None


def test_an_event_that_comes_while_an_operator_has_the_wait_is_there_for_the_retry() -> None:
    p = waiting(timeout="1s")
    p.wait("w")
    assert names(p.offer("paid")) == ["EventKept"]
    p.command("retry")
    assert only(p.decisions[-1].events, EventReceived).kept
    assert p.workflow().kept == ()


def test_a_retry_of_a_wait_waits_anew() -> None:
    p = waiting(timeout="1s")
    p.wait("w")
    p.command("retry")
    assert (p.step("w").status, p.step("w").due_at_ms) == ("waiting", p.now_ms + 1_000)


# Before the wait ----------------------------------------------------------------------------------


def test_an_event_before_its_wait_is_kept_and_taken() -> None:
    p = started({"a": agent(), "w": {"needs": "a", "wait": PAID}})
    p.offer("paid", event_id="o1", data=1)
    assert dismissed(p.offer("paid", event_id="o1")) == "repeated"
    p.offer("paid", event_id="o2", data=2)
    p.succeed("a")
    assert names(p.decisions[-1].events) == [
        "TaskSucceeded",
        "WaitStarted",
        "EventReceived",
        "EventUnclaimed",
        "WorkflowEnded",
    ]
    assert p.step("w").status == "succeeded"
    p.check_replay()


def test_kept_events_that_an_if_does_not_take_stay_kept() -> None:
    p = started({"a": agent(), "w": {"needs": "a", "wait": {**PAID, "if": "event.data == 2"}}})
    p.offer("other", event_id="o0")
    p.offer("paid", event_id="o1", data=1)
    p.succeed("a")
    assert (p.step("w").status, len(p.workflow().kept)) == ("waiting", 1)
    p.offer("paid", event_id="o2", data=2)
    assert p.workflow().status == "completed"


def test_of_kept_events_a_wait_takes_one_of_its_type() -> None:
    steps = {
        "a": agent(),
        "b": agent(needs="a"),
        "v": {"needs": ["a", "b"], "wait": {"event": "shipped"}},
        "w": {"needs": ["a", "b"], "wait": PAID},
    }
    p = started(steps)
    p.offer("shipped", event_id="o1")
    p.offer("paid", event_id="o2")
    p.succeed("a")
    p.succeed("b")
    taken = {e.step: e.cloud_event["id"] for e in p.decisions[-1].events if isinstance(e, EventReceived)}
    assert taken == {"v": "o1", "w": "o2"}


def test_a_kept_event_is_for_all_that_begin_to_wait_together() -> None:
    """As it would be, had it come a moment later."""
    steps = {
        "a": agent(),
        "v": {"needs": "a", "wait": PAID},
        "w": {"needs": "a", "wait": PAID},
    }
    p = started(steps)
    p.offer("paid")
    p.succeed("a")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_a_kept_event_is_not_for_a_wait_that_comes_after_another() -> None:
    p = started({"a": agent(), "v": {"needs": "a", "wait": PAID}, "w": {"needs": "v", "wait": PAID}})
    p.offer("paid")
    p.succeed("a")
    assert (p.step("v").status, p.step("w").status) == ("succeeded", "waiting")


def test_a_kept_event_is_not_for_the_next_round_of_a_loop() -> None:
    steps = {
        "a": agent(),
        "w": {"needs": "a", "wait": PAID, "repeat": {"until": "round == 2", "limit": 2}},
    }
    p = started(steps)
    p.offer("paid")
    p.succeed("a")
    assert (p.step("w").status, p.step("w").round) == ("waiting", 2)


# Before the start ---------------------------------------------------------------------------------


def expected(**more: Any) -> Partition:
    p = Partition(route({"w": {"wait": PAID}, "b": agent("b", needs="w")}, keep_events="1h", **more))
    p.offer("paid", data=1)
    return p


def test_an_event_before_the_start_makes_the_workflow_expected_and_is_taken() -> None:
    p = expected()
    kept = only(p.decisions[-1].events, EventKept)
    assert (kept.key, kept.expires_at_ms, kept.kept.topic) == ("k", START_MS + 3_600_000, "mesh.events")
    assert (p.workflow().status, p.workflow().run_id) == ("expected", "")
    assert dismissed(p.offer("paid")) == "repeated"
    p.start()
    assert only(p.decisions[-1].events, EventReceived).kept
    assert (p.workflow().forget_at_ms, p.workflow().kept, p.workflow().earlier_runs) == (None, (), ())
    p.succeed("b")
    p.check_replay()


def test_what_is_kept_for_nobody_goes_to_the_dead_letters_in_the_end() -> None:
    p = expected()
    p.wait()
    assert names(p.decisions[-1].events) == ["EventUnclaimed", "WorkflowForgotten"]
    letter = only(p.effects(), SendDeadLetter).parked
    assert (letter.code, letter.message) == (
        "unclaimed",
        "no workflow of this id started in time; it waits for r:k",
    )
    assert b'"id":"o1"' in b64decode(letter.value or "")
    assert "r:k" not in p.state.workflows
    p.check_replay()


def test_another_event_keeps_what_is_kept_for_longer() -> None:
    p = expected()
    p.now_ms += 3_000_000
    p.offer("paid", event_id="o2")
    early = TimerDue(due_at_ms=START_MS + 3_600_000, workflow_id="r:k", kind="forget", run_id="")
    assert p.give(early) == ()
    assert len(p.workflow().kept) == 2


def test_an_expected_workflow_has_nothing_to_order_to_answer_or_to_result_from() -> None:
    p = expected()
    refused = only(p.command("cancel"), CommandRefused)
    assert (refused.code, refused.message) == (
        "unknown",
        "r:k has not started: there are only events that it will wait for",
    )
    assert only(p.answer(approval_id="r:k//w"), AnswerRefused).code == "unknown"
    assert only(p.answer(approval_id="r:k/0/w"), AnswerRefused).code == "unknown"
    result = ResultReceived(task_id="r:k/12345678/w", attempt=1, workflow_id="r:k", status="succeeded")
    assert only(p.give(result), InputDismissed).message == "no workflow knows task r:k/12345678/w"
    assert p.workflow().status == "expected"


def test_a_closed_id_is_expected_by_nobody_until_it_is_forgotten() -> None:
    p = expected()
    p.start()
    p.succeed("b")
    assert dismissed(p.offer("paid", event_id="o2")) == "closed"
    p.wait()
    p.offer("paid", event_id="o2")
    assert p.workflow().status == "expected"


# How much -----------------------------------------------------------------------------------------


def test_no_more_events_are_kept_than_the_end_can_put_aside_in_one_decision() -> None:
    p = started({"a": agent(), "w": {"needs": "a", "wait": PAID}})
    for number in range(KEPT):
        p.offer("paid", event_id=f"o{number}")
    assert names(p.offer("paid", event_id="more")) == ["EventUnclaimed"]
    assert only(p.effects(), SendDeadLetter).parked.message == (
        f"{KEPT} events are kept already, and no step has taken them; it waits for r:k"
    )
    assert len(p.workflow().kept) == KEPT
    p.check_replay()


def test_no_larger_events_are_kept_together_but_a_single_one_is() -> None:
    p = Partition(route({"w": {"wait": PAID}}))
    p.offer("paid", data="x" * KEPT_BYTES)
    assert names(p.offer("paid", event_id="o2")) == ["EventUnclaimed"]
    assert p.workflow().status == "expected"
    p.start()
    assert p.workflow().status == "completed"


def test_kept_events_go_to_the_dead_letters_when_the_workflow_ends_otherwise() -> None:
    p = started({"a": agent(), "q": approval(needs="a"), "w": {"needs": "q", "wait": PAID}})
    p.offer("paid")
    p.succeed("a")
    p.answer("q", "reject")
    unclaimed = only(p.decisions[-1].events, EventUnclaimed)
    assert unclaimed.reason == "no step took it before the workflow rejected"
    assert p.workflow().kept == ()
    p.check_replay()


def test_a_wait_that_ended_says_so() -> None:
    p = started({"w": {"wait": "1s"}})
    assert only(p.wait("w"), WaitEnded).step == "w"

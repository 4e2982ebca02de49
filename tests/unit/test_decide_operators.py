"""Decide: what operators do about incidents of every kind, and tasks that agents hand over."""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, names, only, route

from mesh.core.effects import AskApproval, SendTask
from mesh.core.events import (
    CommandRefused,
    InputDismissed,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    WorkflowEnded,
)
from mesh.core.inputs import ResultReceived, TaskUndeliverable, Undeliverable

ONCE: dict[str, Any] = {"retry": {"attempts": 1}}


def started(steps: dict[str, Any], data: Any = None) -> Partition:
    p = Partition(route(steps))
    p.start(data=data)
    return p


# Incidents ----------------------------------------------------------------------------------------


def exhausted() -> Partition:
    p = started({"a": agent(**ONCE)})
    p.fail("a")
    return p


def hopeless() -> Partition:
    p = started({"a": agent()})
    p.fail("a", retryable=False)
    return p


def unsent() -> Partition:
    p = started({"a": agent()})
    p.give(TaskUndeliverable(workflow_id="r:k", task_id=p.task_id("a"), attempt=1, code="gone", message="no topic"))
    return p


def unread() -> Partition:
    return started({"a": agent("x", "${{ event.data.x }}")})


def unasked() -> Partition:
    p = started({"a": approval()})
    p.give(Undeliverable(workflow_id="r:k", effect_id=p.task_id("a"), topic="t", code="too_large", message="big"))
    return p


def expired() -> Partition:
    p = started({"a": approval(deadline="1s", on_expiry="incident")})
    p.wait("a")
    return p


def unmet() -> Partition:
    p = started({"a": {"wait": {"event": "paid", "timeout": "1s"}}})
    p.wait("a")
    return p


def unending() -> Partition:
    p = started({"a": agent(repeat={"until": "false", "limit": 1})})
    p.succeed("a")
    return p


def unlisted() -> Partition:
    return started({"a": agent(for_each="${{ event.data }}")})


def unsayable() -> Partition:
    return started({"a": {"emit": {"type": "${{ event.data }}"}}})


INCIDENTS = [exhausted, hopeless, unsent, unread, unasked, expired, unmet, unending, unlisted, unsayable]


@pytest.mark.parametrize(
    ("make", "then"),
    [
        (exhausted, ["TaskDispatched"]),
        (hopeless, ["TaskDispatched"]),
        (unsent, ["TaskDispatched"]),
        (unread, ["IncidentRaised"]),
        (unasked, ["ApprovalRequested"]),
        (expired, ["ApprovalRequested"]),
        (unmet, ["WaitStarted"]),
        (unending, ["RoundStarted", "TaskDispatched"]),
        (unlisted, ["IncidentRaised"]),
        (unsayable, ["IncidentRaised"]),
    ],
)
def test_a_retry_begins_again_where_it_stopped(make: Any, then: list[str]) -> None:
    p = make()
    assert p.step("a").status == "incident"
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", *then]
    assert p.workflow().status == "running"
    p.check_replay()


@pytest.mark.parametrize("make", INCIDENTS)
@pytest.mark.parametrize(("command", "status"), [("skip", "completed"), ("fail", "failed"), ("cancel", "cancelled")])
def test_an_incident_of_any_kind_may_be_skipped_failed_or_cancelled(make: Any, command: Any, status: str) -> None:
    p = make()
    p.command(command)
    assert p.workflow().status == status
    p.check_replay()


def test_a_skipped_question_passes_its_payload_through() -> None:
    p = started(
        {
            "a": approval(payload={"n": 5}, deadline="1s", on_expiry="incident"),
            "b": agent("b", "${{ steps.a }}", needs="a"),
        }
    )
    p.wait("a")
    p.command("skip")
    skipped = only(p.decisions[-1].events, StepSkipped)
    assert skipped.reason == "skipped by op"
    assert p.step("b").input == {"verdict": "skipped", "payload": {"n": 5}, "by": "", "reason": "", "edited": False}


def test_a_skipped_tasks_output_is_null() -> None:
    p = started({"a": agent(**ONCE), "b": agent("b", "${{ steps.a }}", needs="a")})
    p.fail("a")
    p.command("skip")
    assert (p.step("b").status, p.step("b").input) == ("running", None)


def test_one_command_is_for_all_incidents_and_stops_where_the_first_ends_the_workflow() -> None:
    p = started({"a": agent(**ONCE), "b": agent(**ONCE)})
    p.fail("a")
    p.fail("b")
    p.command("retry")
    assert [e.step for e in p.decisions[-1].events if isinstance(e, TaskDispatched)] == ["a", "b"]
    p.fail("a")
    p.fail("b")
    p.command("fail", reason="enough")
    assert only(p.decisions[-1].events, WorkflowEnded).reason == "a was failed by op: enough"


def test_one_skip_may_make_another_incident_needless() -> None:
    p = started({"a": agent(**ONCE), "b": agent(**ONCE), "c": {"needs": "a", "end": "completed"}})
    p.fail("a")
    p.fail("b")
    p.command("skip")
    assert p.workflow().status == "completed"
    assert names(p.decisions[-1].events).count("IncidentResolved") == 1


def test_what_has_no_incident_cant_be_skipped() -> None:
    p = started({"a": agent()})
    refused = only(p.command("skip", step="a"), CommandRefused)
    assert (refused.code, refused.message) == ("no_incident", "step a has no incident to skip")


def test_an_event_must_have_a_type_and_a_subject_that_say_something() -> None:
    p = started({"a": {"emit": {"type": "t2", "subject": "${{ event.data.s }}"}}}, data={"s": ""})
    incident = p.step("a").incident
    assert incident is not None
    assert incident.message == "the event's subject must be a string that is not empty"


# Hand-overs ---------------------------------------------------------------------------------------


def handing(**more: Any) -> Partition:
    return started({"a": agent("first", 1, handover={"to": ["second", "third"], "hops": 2}, **more)})


def test_a_task_that_is_handed_over_is_another_agents_with_another_id() -> None:
    p = handing()
    events = p.hand_over("a", "second", {"q": 1})
    assert only(events, TaskHandedOver).to == "second"
    sent = only(p.effects(), SendTask)
    assert (sent.agent, sent.input, sent.attempt, sent.task_id[-3:]) == ("second", {"q": 1}, 1, "a~2")
    p.succeed("a", "done")
    assert only(p.decisions[-1].events, WorkflowEnded).output == {"a": "done"}
    p.check_replay()


def test_what_the_first_agent_still_says_counts_for_nothing() -> None:
    p = handing()
    old = p.task_id("a")
    p.hand_over("a", "second")
    for status in ("succeeded", "failed", "handed_over"):
        late = ResultReceived(task_id=old, attempt=1, workflow_id="r:k", status=status)
        assert only(p.give(late), InputDismissed).code == "late"


def test_a_retry_is_of_the_agent_that_has_the_task() -> None:
    p = handing(retry={"attempts": 2, "backoff": "1s"})
    p.hand_over("a", "second", 7)
    p.fail("a")
    p.wait("a")
    sent = only(p.effects(), SendTask)
    assert (sent.agent, sent.input, sent.attempt, sent.task_id[-3:]) == ("second", 7, 2, "a~2")


@pytest.mark.parametrize(
    ("hops", "to", "message"),
    [
        (0, "fourth", "first handed over to fourth, and its route lets it hand over to second, third"),
        (2, "second", "third handed over to second, and the task has been handed over 2 times, which is the limit"),
    ],
)
def test_a_task_goes_to_whom_the_route_names_and_so_often(hops: int, to: str, message: str) -> None:
    p = handing()
    for agent_name in ["second", "third"][:hops]:
        p.hand_over("a", agent_name)
    failed = only(p.hand_over("a", to), TaskFailed)
    assert (failed.kind, failed.message, failed.retryable) == ("handover_refused", message, False)
    assert p.step("a").status == "incident"


def test_without_a_hand_over_in_the_route_nobody_may() -> None:
    p = started({"a": agent("first")})
    failed = only(p.hand_over("a", "second"), TaskFailed)
    assert failed.message == "first handed over to second, and its route lets it hand over to nobody"


def test_a_question_after_an_operators_retry_is_the_same_question() -> None:
    p = expired()
    first = p.task_id("a")
    p.command("retry")
    assert only(p.effects(), AskApproval).approval_id == first
    p.answer("a")
    assert p.workflow().status == "completed"

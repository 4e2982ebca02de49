"""Decide: a task's attempts.

Results that count and that don't, retries, time-outs, incidents, and what operators do about them.
"""

from typing import Any, get_args

import pytest
from one_partition import PEOPLE, Partition, agent, approval, names, only, route

from mesh.core import ids
from mesh.core.decide import decide
from mesh.core.decide.settle.attempt import _backoff_ms
from mesh.core.effects import SendTask
from mesh.core.events import (
    CommandAccepted,
    CommandRefused,
    EffectUndeliverable,
    IncidentRaised,
    IncidentResolved,
    InputDismissed,
    RetryScheduled,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
)
from mesh.core.inputs import ResultReceived, TaskUndeliverable, TimerDue, TimerKind, Undeliverable
from mesh.core.route import Periods, Retry
from mesh.inspection.wording.phrases import timeless

NO_JITTER = {"attempts": 3, "backoff": "2s", "jitter": 0}


def started(steps: dict[str, Any] | None = None, **more: Any) -> Partition:
    p = Partition(route(steps or {"a": agent(retry=NO_JITTER, timeout="30s")}, **more))
    p.start()
    return p


def dismissed(p: Partition, **changes: Any) -> tuple[str, str]:
    """Code and message of what becomes of a success of step a, changed."""
    values = {"task_id": p.task_id("a"), "attempt": 1, "workflow_id": "r:k", "status": "succeeded", "output": 1}
    found = only(p.give(ResultReceived(**{**values, **changes})), InputDismissed)
    return found.code, found.message


# Results ------------------------------------------------------------------------------------------


def test_a_result_keeps_what_the_agent_said_of_itself() -> None:
    p = started()
    done = only(p.succeed("a", {"n": 1}), TaskSucceeded)
    assert (done.output, done.agent_version, done.agent_instance) == ({"n": 1}, "1.0", "host-1")
    assert (done.duration_ms, done.usage) == (12.5, {"tokens": 7.0})


def test_one_result_is_counted_for_a_task() -> None:
    p = started({"a": agent(), "b": agent()})
    p.succeed("a", 1)
    assert dismissed(p) == ("repeated", f"task {p.task_id('a')}, attempt 1, counts no more: the step is succeeded")
    assert names(p.fail("a")) == ["InputDismissed"]
    assert p.step("a").output == 1


def test_a_result_of_an_unknown_task_is_dismissed() -> None:
    p = started()
    assert dismissed(p, workflow_id="r:other")[0] == "unknown"
    assert dismissed(p, task_id="nonsense") == ("unknown", "no workflow knows task nonsense")
    assert dismissed(p, task_id=p.task_id("nosuch"))[0] == "unknown"
    assert dismissed(p, attempt=2) == ("unknown", f"task {p.task_id('a')}, attempt 2, was never dispatched")
    assert dismissed(p, attempt=0)[0] == "unknown"
    assert p.step("a").status == "running"


def test_a_result_under_another_workflows_id_is_dismissed() -> None:
    p = started()
    p.start("other")
    assert p.workflow("other").run_id == p.workflow().run_id
    assert dismissed(p, task_id=p.task_id("a", "other"))[0] == "unknown"


def test_a_result_cant_answer_an_approval() -> None:
    p = started({"review": approval(), "b": agent(needs="review")})
    for attempt in (0, 1):
        assert dismissed(p, task_id=p.task_id("review"), attempt=attempt)[0] == "unknown"
    p.give(Undeliverable(workflow_id="r:k", effect_id=p.task_id("review"), topic="t", code="too_large", message="big"))
    assert p.step("review").status == "incident"
    for attempt in (0, 1):
        assert dismissed(p, task_id=p.task_id("review"), attempt=attempt)[0] == "unknown"


def test_a_result_of_an_earlier_run_is_late() -> None:
    p = started(on_repeat="new_run_after_end")
    old = p.task_id("a")
    p.succeed("a")
    p.start(event_id="e2")
    code, message = dismissed(p, task_id=old)
    assert (code, message) == ("late", f"task {old} is of an earlier run; the run is {p.workflow().run_id}")


def test_a_result_after_the_end_is_dismissed() -> None:
    p = started()
    p.command("cancel")
    assert dismissed(p) == ("closed", "the workflow had ended: cancelled")


def test_a_failure_without_a_reason_is_retried_like_any() -> None:
    p = started()
    events = p.give(ResultReceived(task_id=p.task_id("a"), attempt=1, workflow_id="r:k", status="failed"))
    failed = only(events, TaskFailed)
    assert (failed.kind, failed.message, failed.retryable) == ("unknown", "the agent gave no reason", True)
    assert names(events) == ["TaskFailed", "RetryScheduled"]


# Retries ------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_made_again_after_its_backoff_with_the_same_input_and_task() -> None:
    p = started()
    first = only(p.effects(), SendTask)
    scheduled = only(p.fail("a"), RetryScheduled)
    assert (scheduled.attempt, scheduled.due_at_ms) == (2, p.now_ms + 2_000)
    assert p.step("a").status == "retrying"
    again = only(p.wait("a"), TaskDispatched)
    assert (again.attempt, again.input, again.task_id) == (2, first.input, first.task_id)
    assert again.reason == "attempt 2 of 3, after Boom: it broke"
    assert again.traceparent != first.traceparent
    assert only(p.fail("a"), RetryScheduled).due_at_ms == p.now_ms + 4_000


def test_attempts_used_up_are_an_incident() -> None:
    p = started()
    for _ in range(2):
        p.fail("a")
        p.wait("a")
    events = p.fail("a")
    assert names(events) == ["TaskFailed", "IncidentRaised"]
    incident = only(events, IncidentRaised)
    assert (incident.kind, incident.message) == ("exhausted", "Boom: it broke (attempt 3 of 3)")
    assert p.step("a").due_at_ms is None
    assert p.workflow().status == "running"


@pytest.mark.parametrize("how", ["by the agent", "by the route"])
def test_what_would_fail_again_is_an_incident_at_once(how: str) -> None:
    retry = {"attempts": 3, "non_retryable": ["Boom"] if how == "by the route" else []}
    p = started({"a": agent(retry=retry)})
    incident = only(p.fail("a", retryable=how == "by the route"), IncidentRaised)
    assert (incident.kind, incident.message) == (
        "non_retryable",
        "Boom: it broke (trying again would not help)",
    )


def test_on_exhausted_fail_ends_the_workflow() -> None:
    p = started({"a": agent(on_exhausted="fail", retry={"attempts": 1}), "b": agent(), "review": approval()})
    events = p.fail("a")
    assert names(events) == ["TaskFailed", "ApprovalWithdrawn", "WorkflowEnded"]
    ended = only(events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("failed", "a: Boom: it broke (attempt 1 of 1)")
    statuses = {name: step.status for name, step in p.workflow().steps.items()}
    assert statuses == {"a": "failed", "b": "cancelled", "review": "cancelled"}


def test_backoff_grows_to_its_limit() -> None:
    retry = Retry(backoff_s=1, factor=3, max_backoff_s=20, jitter=0)
    assert [_backoff_ms(retry, made, "t/1") for made in (1, 2, 3, 4, 1_000)] == [1_000, 3_000, 9_000, 20_000, 20_000]


def test_jitter_is_a_function_of_the_attempt_and_never_more_than_the_route_says() -> None:
    retry = Retry(backoff_s=10, jitter=0.2)
    waits = [_backoff_ms(retry, 1, f"t/{n}") for n in range(200)]
    assert waits == [_backoff_ms(retry, 1, f"t/{n}") for n in range(200)]
    assert all(8_000 <= wait <= 10_000 for wait in waits)
    assert len(set(waits)) > 150


def test_a_failure_of_an_earlier_attempt_changes_nothing() -> None:
    p = started()
    p.wait("a")
    p.wait("a")
    assert p.step("a").attempt == 2
    assert names(p.fail("a", attempt=1)) == ["InputDismissed"]


@pytest.mark.parametrize("status", ["retrying", "running", "incident"])
def test_a_late_success_of_an_earlier_attempt_counts_while_the_step_is_not_settled(status: str) -> None:
    p = started({"a": agent(retry={"attempts": 1 if status == "incident" else 2}), "b": agent(needs="a")})
    p.wait("a")
    if status == "running":
        p.wait("a")
    assert p.step("a").status == status
    events = p.succeed("a", "late", attempt=1)
    assert names(events)[-2:] == ["TaskSucceeded", "TaskDispatched"]
    assert p.step("a").output == "late"
    assert p.step("a").incident is None
    if status == "incident":
        resolved = only(events, IncidentResolved)
        assert (resolved.action, resolved.by) == ("result", "the late result of attempt 1")


# Time-outs ----------------------------------------------------------------------------------------


def test_a_time_out_is_a_failed_attempt() -> None:
    p = started()
    events = p.wait("a")
    assert names(events) == ["TaskFailed", "RetryScheduled"]
    failed = only(events, TaskFailed)
    assert (failed.kind, failed.message, failed.attempt) == ("timeout", "no result of agent x after 30.0 s", 1)


AUDIBLE: dict[str, Any] = {"start_timeout": "10s", "run_timeout": "20s", "heartbeat": "5s"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("start_timeout", "no instance of agent x has begun it after 10.0 s"),
        ("run_timeout", "no result of agent x 20.0 s after it had begun"),
        ("heartbeat_timeout", "no sign of life of agent x for 5.0 s"),
    ],
)
def test_silence_is_a_failed_attempt_that_is_made_again(kind: TimerKind, message: str) -> None:
    p = started({"a": agent(**AUDIBLE, retry=NO_JITTER)})
    events = p.fall_silent("a", kind)
    assert names(events) == ["TaskFailed", "RetryScheduled"]
    failed = only(events, TaskFailed)
    assert (failed.kind, failed.message, failed.attempt) == (kind, message, 1)
    p.wait("a")
    assert p.step("a").attempt == 2
    p.check_replay()


def test_silence_says_how_long_it_lasted_where_it_is_decided_late() -> None:
    p = started({"a": agent(**AUDIBLE)})
    p.now_ms += 60_000
    failed = only(p.fall_silent("a", "heartbeat_timeout", 40_000), TaskFailed)
    assert failed.message == "no sign of life of agent x for 25.0 s"


@pytest.mark.parametrize("kind", ["start_timeout", "run_timeout", "heartbeat_timeout", "task_timeout"])
def test_a_transcript_does_not_say_how_late_a_time_out_was(kind: TimerKind) -> None:
    told = set()
    for passed_ms in (0, 60_040, 612_345):
        p = started({"a": agent(**AUDIBLE)})
        p.now_ms += passed_ms
        events = p.wait("a") if kind == "task_timeout" else p.fall_silent("a", kind)
        told.add(timeless(only(events, TaskFailed).message))
    assert len(told) == 1, told


def test_a_route_may_say_that_silence_is_not_to_be_tried_again() -> None:
    p = started({"a": agent(**AUDIBLE, retry={"non_retryable": ["heartbeat_timeout"]})})
    assert names(p.fall_silent("a", "heartbeat_timeout")) == ["TaskFailed", "IncidentRaised"]


@pytest.mark.parametrize("kind", ["start_timeout", "run_timeout", "heartbeat_timeout"])
def test_silence_of_which_the_attempt_can_say_nothing_changes_nothing(kind: TimerKind) -> None:
    p = started({"a": agent(**AUDIBLE), "b": agent()})
    assert p.fall_silent("b", kind, 10**9) == ()  # nobody asked it for signs
    fresh = started({"a": agent(**AUDIBLE), "b": agent()})
    assert fresh.fall_silent("a", kind, 4_999) == ()  # of an attempt before
    fresh.succeed("a")
    assert fresh.fall_silent("a", kind, 10**9) == ()
    over = started({"a": agent(**AUDIBLE)})
    over.command("cancel")
    assert over.fall_silent("a", kind, 10**9) == ()


def test_the_task_names_the_periods_of_signs_of_life() -> None:
    p = started({"a": agent(heartbeat="5s")})
    (task,) = [effect for effect in p.effects() if isinstance(effect, SendTask)]
    assert task.periods == Periods(heartbeat_s=5.0)
    assert [e.periods for e in started().effects() if isinstance(e, SendTask)] == [None]


def test_a_result_counts_after_its_agent_was_given_up_as_silent() -> None:
    p = started({"a": agent(**AUDIBLE)})
    p.fall_silent("a", "heartbeat_timeout")
    assert names(p.succeed("a", attempt=1)) == ["TaskSucceeded", "WorkflowEnded"]


KINDS: tuple[TimerKind, ...] = get_args(TimerKind)


@pytest.mark.parametrize("status", ["running", "retrying", "asking", "incident", "succeeded"])
def test_a_timer_that_does_not_fit_changes_nothing(status: str) -> None:
    step = approval(deadline="1h") if status == "asking" else agent(retry=NO_JITTER)
    p = started({"a": step, "b": agent()})
    match status:
        case "retrying":
            p.fail("a")
        case "incident":
            p.fail("a", retryable=False)
        case "succeeded":
            p.succeed("a")
    run, due = p.workflow().run_id, p.step("a").due_at_ms
    fits = {"running": "task_timeout", "retrying": "retry", "asking": "approval_deadline"}.get(status)
    far = p.now_ms + 10**10
    for kind in KINDS:
        if kind != fits:
            assert p.give(TimerDue(due_at_ms=far, workflow_id="r:k", kind=kind, step="a", run_id=run)) == ()
    early = TimerDue(due_at_ms=(due or far) - 1, workflow_id="r:k", kind=KINDS[0], step="a", run_id=run)
    assert p.give(early) == ()
    for changed in ({"workflow_id": "r:no"}, {"run_id": "old"}, {"step": "nosuch"}):
        values: dict[str, Any] = {
            "due_at_ms": far,
            "workflow_id": "r:k",
            "kind": fits or KINDS[0],
            "step": "a",
            "run_id": run,
        }
        assert p.give(TimerDue(**{**values, **changed})) == ()


def test_a_timer_after_the_end_changes_nothing_unless_it_ends_the_memory() -> None:
    p = started()
    run = p.workflow().run_id
    p.command("cancel")
    forget = p.workflow().forget_at_ms or 0
    timer = TimerDue(due_at_ms=forget, workflow_id="r:k", kind="task_timeout", step="a", run_id=run)
    assert p.give(timer) == ()
    assert p.give(TimerDue(due_at_ms=forget - 1, workflow_id="r:k", kind="forget", run_id=run)) == ()
    assert names(p.wait()) == ["WorkflowForgotten"]


# What can't be sent -------------------------------------------------------------------------------


def test_a_task_that_cant_be_sent_is_an_incident_without_another_try() -> None:
    p = started()
    given = TaskUndeliverable(
        workflow_id="r:k", task_id=p.task_id("a"), attempt=1, code="topic_missing", message="no such topic"
    )
    events = p.give(given)
    assert names(events) == ["TaskFailed", "IncidentRaised"]
    incident = only(events, IncidentRaised)
    assert (incident.kind, incident.message) == (
        "undeliverable",
        "the task for agent x could not be sent: no such topic",
    )
    assert only(p.give(given), InputDismissed).code == "repeated"


def test_a_question_that_cant_be_sent_is_an_incident() -> None:
    p = started({"review": approval(), "a": agent()})
    given = Undeliverable(
        workflow_id="r:k",
        effect_id=p.task_id("review"),
        topic="mesh.approvals.requests",
        code="too_large",
        message="big",
    )
    events = p.give(given)
    assert names(events) == ["EffectUndeliverable", "IncidentRaised"]
    incident = only(events, IncidentRaised)
    assert (incident.kind, incident.message) == ("undeliverable", "the approval request could not be sent: big")
    assert names(p.give(given)) == ["EffectUndeliverable"]


@pytest.mark.parametrize(
    "effect", ["nonsense", "r:k/other/review", "r:k/{run}/outcome", "r:k/{run}/a", "r:k/{run}/review/{run}/review"]
)
def test_another_record_that_cant_be_sent_is_only_noted(effect: str) -> None:
    p = started({"review": approval(), "a": agent()})
    name = effect.format(run=p.workflow().run_id)
    given = Undeliverable(workflow_id="r:k", effect_id=name, topic="t", code="topic_missing", message="gone")
    noted = only(p.give(given), EffectUndeliverable)
    assert (noted.effect_id, noted.topic, noted.code, noted.message) == (name, "t", "topic_missing", "gone")
    assert len(p.decisions[-1].events) == 1


def test_a_record_of_a_forgotten_workflow_that_cant_be_sent_is_only_noted() -> None:
    p = Partition(route({"a": agent()}))
    given = Undeliverable(workflow_id="r:k", effect_id="r:k/1/outcome", topic="t", code="topic_missing", message="gone")
    assert names(p.give(given)) == ["EffectUndeliverable"]


# Operators ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "a mistake"])
def test_cancel_ends_the_workflow_and_withdraws_its_questions(reason: str) -> None:
    p = started({"a": agent(), "review": approval()})
    events = p.command("cancel", reason=reason)
    assert names(events) == ["CommandAccepted", "ApprovalWithdrawn", "WorkflowEnded"]
    assert only(events, CommandAccepted).reason == reason
    ended = only(events, WorkflowEnded)
    assert ended.status == "cancelled"
    assert ended.reason == ("cancelled by op: a mistake" if reason else "cancelled by op")


def refused(p: Partition, **command: Any) -> tuple[str, str]:
    found = only(p.command(**command), CommandRefused)
    return found.code, found.message


def test_commands_that_cant_be_followed_say_why() -> None:
    p = Partition(route({"a": agent(), "b": agent()}))
    assert refused(p, command="cancel") == ("unknown", "no workflow r:k: `mesh workflows` lists them")
    p.start()
    assert refused(p, command="retry") == ("no_incident", "the workflow has no incident to retry")
    assert refused(p, command="retry", step="a") == ("no_incident", "step a has no incident to retry")
    assert refused(p, command="retry", step="z") == ("unknown_step", "the route has no step z: a, b")
    p.command("cancel")
    assert refused(p, command="retry") == ("ended", "the workflow has ended: cancelled")


def test_retry_begins_the_attempts_anew_and_goes_on_counting_them() -> None:
    p = started()
    for _ in range(2):
        p.fail("a")
        p.wait("a")
    p.fail("a")
    events = p.command("retry", step="a")
    assert names(events) == ["CommandAccepted", "IncidentResolved", "TaskDispatched"]
    task = only(events, TaskDispatched)
    assert (task.attempt, task.retry_budget_from, task.input) == (4, 4, 1)
    assert task.reason == "attempt 1 of 3, after Boom: it broke"
    assert only(p.fail("a"), RetryScheduled).due_at_ms == p.now_ms + 2_000
    assert only(p.wait("a"), TaskDispatched).retry_budget_from == 4
    assert only(p.succeed("a"), WorkflowEnded).status == "completed"


def test_retry_takes_one_step_or_all_that_have_incidents() -> None:
    p = started({name: agent(retry={"attempts": 1}) for name in ("a", "b", "c")})
    for name in ("a", "b"):
        p.fail(name)
    assert [e.step for e in p.command("retry", step="b") if isinstance(e, TaskDispatched)] == ["b"]
    p.fail("b")
    assert [e.step for e in p.command("retry") if isinstance(e, TaskDispatched)] == ["a", "b"]
    assert p.step("c").attempt == 1


def test_retry_after_a_failed_expression_tries_the_step_afresh() -> None:
    # The expressions see the same things again; what has changed is, say, the directory or a
    # version of the router.
    p = started({"a": agent(), "b": agent("x", "${{ steps.a.n }}", needs="a")})
    p.succeed("a", {})
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "IncidentRaised"]
    assert p.step("b").status == "incident"


def test_retry_may_settle_a_step_and_those_who_need_it() -> None:
    # An incident that the router raised on a step before it was begun: its condition is looked at
    # again.
    p = started({"a": agent(), "review": approval(needs="a", **{"if": "steps.a > 1"}), "b": agent(needs="review")})
    p.succeed("a", 2)
    p.give(Undeliverable(workflow_id="r:k", effect_id=p.task_id("review"), topic="t", code="too_large", message="big"))
    other = route({"a": agent(), "review": approval(needs="a", **{"if": "steps.a > 2"}), "b": agent(needs="review")})
    p.routes[p.workflow().digest] = other
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "StepSkipped", "TaskDispatched"]


def test_a_step_whose_route_gives_it_no_agent_is_a_fault() -> None:
    p = started()
    given = ResultReceived(task_id=p.task_id("a"), attempt=1, workflow_id="r:k", status="failed")
    with pytest.raises(TypeError, match="a of r:k has attempts"):
        decide(p.workflow(), given, route=route({"a": approval()}), directory=PEOPLE, now_ms=p.now_ms)


def test_deciding_on_no_workflow_needs_none() -> None:
    given = ResultReceived(task_id=ids.task_id("r:k", "1", "a"), attempt=1, workflow_id="r:k", status="failed")
    decided = decide(None, given, route=None, directory=PEOPLE, now_ms=1)
    assert (names(decided.events), decided.workflow) == (["InputDismissed"], None)

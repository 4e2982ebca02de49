"""Decide: tasks whose agent's process died over them, and agents that say when to try again."""

from typing import Any

import pytest
from one_partition import Partition, agent, names, only, route

from mesh.core.decide.settle.attempt import _wait_ms
from mesh.core.effects import SendTask, WithdrawTask
from mesh.core.events import (
    IncidentRaised,
    RetryScheduled,
    SlotRequested,
    TaskDispatched,
    TaskFailed,
    TasksWithdrawn,
    WorkflowEnded,
)
from mesh.core.inputs import ResultReceived, TaskError
from mesh.core.route import Retry

NO_JITTER = {"attempts": 2, "backoff": "2s", "jitter": 0}


def started(steps: dict[str, Any] | None = None, **more: Any) -> Partition:
    p = Partition(route(steps or {"a": agent(retry=NO_JITTER, timeout="30s")}, **more))
    p.start()
    return p


def interrupted(p: Partition, step: str = "a", by: str = "host-1", attempt: int = 0) -> list[Any]:
    """What follows where a process died over the attempt under way."""
    return [*p.give(result(p, "interrupted", step, attempt or p.step(step).attempt, agent_instance=by))]


def result(p: Partition, status: Any, step: str = "a", attempt: int = 1, **more: Any) -> ResultReceived:
    return ResultReceived(status=status, task_id=p.task_id(step), attempt=attempt, workflow_id="r:k", **more)


def test_a_task_whose_process_died_goes_out_again_at_once_and_no_attempt_is_used_up() -> None:
    p = started()
    events = interrupted(p)
    assert names(events) == ["TaskFailed", "TaskDispatched"]
    failed, again = only(events, TaskFailed), only(events, TaskDispatched)
    assert (failed.kind, failed.deaths, failed.retryable) == ("interrupted", ("host-1",), True)
    assert failed.message == "the process host-1 of agent x died while it worked on the task"
    assert (again.attempt, again.retry_budget_from, again.deaths) == (2, 2, 1)
    assert again.reason.startswith("attempt 1 of 2, after interrupted: ")
    (sent,) = [effect for effect in p.effects() if isinstance(effect, SendTask) and effect.attempt == 2]
    assert sent.deaths == 1
    assert p.step("a").acted, "it may have done something before it died"


def test_the_third_death_is_the_end_and_names_the_processes() -> None:
    p = started()
    interrupted(p, by="host-1")
    interrupted(p, by="")
    events = interrupted(p, by="host-3")
    assert names(events) == ["TaskFailed", "IncidentRaised"]
    failed, incident = only(events, TaskFailed), only(events, IncidentRaised)
    assert (failed.kind, failed.retryable, len(failed.deaths)) == ("agent_died", False, 3)
    assert incident.kind == "non_retryable"
    assert (
        "3 processes of agent x died while they worked on the task: host-1, (name unknown), host-3" in incident.message
    )


def test_a_death_between_failures_counts_as_none_of_the_attempts() -> None:
    p = started()
    p.fail("a")
    p.wait("a")
    interrupted(p)
    assert p.step("a").status == "running"
    assert names(p.fail("a")) == ["TaskFailed", "IncidentRaised"], "the second failure is the last of two attempts"


def test_deaths_are_counted_over_failures_in_between() -> None:
    p = started({"a": agent(retry={**NO_JITTER, "attempts": 9})})
    interrupted(p)
    p.fail("a")
    p.wait("a")
    assert p.step("a").deaths == ("host-1",)
    interrupted(p)
    assert only(interrupted(p), TaskFailed).kind == "agent_died"


def test_a_route_may_take_a_death_for_the_end() -> None:
    p = started({"a": agent(retry={**NO_JITTER, "non_retryable": ["interrupted"]})})
    events = interrupted(p)
    assert names(events) == ["TaskFailed", "IncidentRaised"]
    assert only(events, TaskFailed).deaths == ("host-1",)


def test_an_operators_retry_begins_to_count_anew() -> None:
    p = started()
    for _ in range(3):
        interrupted(p)
    p.command("retry")
    assert p.step("a").deaths == ()
    again = only(interrupted(p), TaskDispatched)
    assert (again.deaths, again.attempt) == (1, 5)


@pytest.mark.parametrize("word", ["late", "twice", "of an ended workflow"])
def test_only_the_attempt_under_way_is_interrupted(word: str) -> None:
    p = started()
    if word == "of an ended workflow":
        p.command("cancel")
        assert names(interrupted(p)) == ["InputDismissed"]
        return
    interrupted(p, attempt=1)
    assert names(interrupted(p, attempt=1)) == ["InputDismissed"]
    if word == "late":
        p.succeed("a", 1)
        assert names(interrupted(p, attempt=2)) == ["InputDismissed"]


def test_a_success_of_the_process_that_was_taken_for_dead_counts() -> None:
    p = started()
    interrupted(p)
    assert names(p.give(result(p, "succeeded", output=1))) == ["TaskSucceeded", "WorkflowEnded"]


def test_a_task_under_a_limit_keeps_its_deaths_while_it_queues() -> None:
    p = started({"a": agent(retry=NO_JITTER, limit="one")}, limits={"one": {"concurrency": 1}})
    p.deliver()
    assert only(interrupted(p), SlotRequested).attempt == 2
    p.deliver()
    assert only([event for decision in p.decisions[-3:] for event in decision.events], TaskDispatched).deaths == 1


def test_an_item_that_kills_its_agent_fails_alone() -> None:
    p = started({"a": agent(retry=NO_JITTER, for_each={"items": [1, 2], "tolerate": 1})})
    for _ in range(3):
        interrupted(p, "a[0]")
    assert p.step("a[0]").status == "failed"
    assert only(p.succeed("a[1]", 2), WorkflowEnded).status == "completed"


# What nobody wants any more -----------------------------------------------------------------------


def withdrawn(p: Partition) -> list[tuple[str, int]]:
    """What the last decision withdraws: by its event, and by its effects."""
    told = [one for event in p.decisions[-1].events if isinstance(event, TasksWithdrawn) for one in event.tasks]
    sent = [effect for effect in p.effects() if isinstance(effect, WithdrawTask)]
    assert [(one.task_id, one.attempt, one.agent) for one in told] == [(e.task_id, e.attempt, e.agent) for e in sent]
    return [(one.task_id.rpartition("/")[2], one.attempt) for one in told]


def test_a_cancel_withdraws_what_is_out_and_nothing_else() -> None:
    p = started({"a": agent(retry=NO_JITTER), "b": agent(), "c": agent(), "d": agent(needs="c")})
    p.fail("a")
    p.succeed("c", 1)
    p.command("cancel")
    assert withdrawn(p) == [("b", 1), ("d", 1)]


def test_an_end_by_an_attempts_own_word_withdraws_the_others_alone() -> None:
    p = started({"a": agent(retry={"attempts": 1}, on_exhausted="fail"), "b": agent()})
    p.fail("a")
    assert withdrawn(p) == [("b", 1)]


def test_an_ordinary_end_withdraws_nothing() -> None:
    p = started({"a": agent(), "b": agent(needs="a")})
    p.succeed("a", 1)
    assert withdrawn(p) == []
    p.succeed("b", 1)
    assert withdrawn(p) == []


def test_a_for_each_that_is_given_up_withdraws_its_items_and_an_item_that_failed_none() -> None:
    items = {"items": [1, 2, 3], "tolerate": 1}
    p = started({"a": agent(retry={"attempts": 1}, on_exhausted="continue", for_each=items)})
    p.fail("a[0]")
    assert withdrawn(p) == []
    p.fail("a[1]")
    assert withdrawn(p) == [("a[2]", 1)]


# When to try again --------------------------------------------------------------------------------


def test_an_agent_says_when_to_try_again_within_what_the_route_allows() -> None:
    p = started()
    error = TaskError(kind="rate_limited", message="later", retry_after_s=20.0)
    events = p.give(result(p, "failed", error=error))
    assert only(events, TaskFailed).retry_after_s == 20.0
    assert only(events, RetryScheduled).due_at_ms == p.now_ms + 20_000


@pytest.mark.parametrize(("after_s", "wait_ms"), [(None, 2_000), (0.5, 2_000), (7.0, 7_000), (3600.0, 10_000)])
def test_the_wait_is_the_longer_of_backoff_and_wish_up_to_the_longest_backoff(
    after_s: float | None, wait_ms: int
) -> None:
    failed = TaskFailed(
        step="a", task_id="r:k/1/a", attempt=1, kind="k", message="m", retryable=True, retry_after_s=after_s
    )
    assert _wait_ms(Retry(backoff_s=2.0, max_backoff_s=10.0, jitter=0.0), 1, failed) == wait_ms

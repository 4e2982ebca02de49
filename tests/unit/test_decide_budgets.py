"""Budgets: what is reserved, what is spent, what is held, and who is asked for more."""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, names, only, route

from mesh.core.effects import SendTask
from mesh.core.events import (
    ApprovalRequested,
    ApprovalWithdrawn,
    BudgetRaised,
    BudgetTimeOver,
    IncidentRaised,
    TaskDispatched,
    TaskHeld,
    WorkflowEnded,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import TaskUndeliverable, Undeliverable
from mesh.core.state import Account, Directory

ONCE: dict[str, Any] = {"retry": {"attempts": 1}, "on_exhausted": "continue"}
ASK = {"on_exhausted": "ask", "role": "maintainer"}


def account(p: Partition, key: str = "k") -> Account:
    found = p.workflow(key).account
    assert found is not None
    return found


def started(steps: dict[str, Any], **budget: Any) -> Partition:
    p = Partition(route(steps, budget=budget))
    p.start(data={"items": [1, 2, 3]})
    return p


def test_a_route_without_a_budget_keeps_no_account() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    assert p.workflow().account is None
    assert p.workflow().expires_at_ms is None


def test_a_task_names_what_is_reserved_for_it() -> None:
    p = started({"a": agent(reserve={"tokens": 40})}, tokens=100)
    assert only(p.effects(), SendTask).budget == {"tokens": 40}
    assert account(p) == Account(limits={"tokens": 100}, reserved={"tokens": 40})


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        ({"tokens": 12, "seconds": 3}, {"tokens": 12}),
        ({"input_tokens": 5, "output_tokens": 6}, {"tokens": 11}),
        ({"seconds": 3}, {}),
        ({"tokens": -5}, {"tokens": 0}),
    ],
)
def test_a_result_settles_the_reserve_by_its_usage(usage: dict[str, float], spent: dict[str, float]) -> None:
    p = started({"a": agent(reserve={"tokens": 40}), "b": agent()}, tokens=100)
    p.succeed("a", usage=usage)
    assert account(p) == Account(limits={"tokens": 100}, spent=spent, reserved={"tokens": 0})


def test_what_a_failure_does_not_tell_counts_as_spent() -> None:
    p = started({"a": agent(reserve={"tokens": 40}, **ONCE), "b": agent()}, tokens=100)
    p.fail("a")
    assert account(p).spent == {"tokens": 40}


def test_a_late_success_corrects_what_was_charged_for_silence() -> None:
    p = started({"a": agent(reserve={"tokens": 40}, retry={"attempts": 2}), "b": agent()}, tokens=100)
    p.wait("a")
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 40}, reserved={"tokens": 0})
    p.succeed("a", usage={"tokens": 15})
    assert account(p).spent == {"tokens": 15}


def test_a_success_without_a_reserve_changes_nothing() -> None:
    p = started({"a": agent(), "b": agent()}, tokens=100)
    p.succeed("a", usage={"tokens": 15})
    assert account(p).spent == {"tokens": 15}
    p.fail("b", retryable=False)
    assert account(p).spent == {"tokens": 15}


def test_a_task_that_was_never_sent_costs_nothing() -> None:
    p = started({"a": agent(reserve={"tokens": 40})}, tokens=100)
    lost = TaskUndeliverable(workflow_id="r:k", task_id=p.task_id("a"), attempt=1, code="gone", message="no topic")
    p.give(lost)
    assert account(p) == Account(limits={"tokens": 100}, reserved={"tokens": 0})


def test_a_hand_over_settles_the_first_agents_share_and_reserves_for_the_second() -> None:
    p = started({"a": agent(reserve={"tokens": 40}, handover={"to": "y"})}, tokens=100)
    p.hand_over("a", "y")
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 40}, reserved={"tokens": 40})


def test_what_is_cancelled_while_it_is_out_counts_as_spent_items_too() -> None:
    steps = {
        "each": agent(for_each="${{ event.data.items }}", reserve={"tokens": 20}),
        "a": agent(),
        "first": agent("y", needs={"first_of": ["a", "each"]}),
    }
    p = started(steps, tokens=100)
    p.succeed("each[0]", usage={"tokens": 5})
    p.succeed("a")
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 52}, reserved={"tokens": 0})


def test_hops_are_counted_as_tasks_go_out_but_not_those_that_undo() -> None:
    p = started(
        {
            "a": agent(undo=agent("u"), retry={"attempts": 2, "backoff": "0s"}),
            "b": agent(needs="a", on_exhausted="fail", retry={"attempts": 1}),
        },
        hops=3,
    )
    p.fail("a")
    p.wait("a")
    assert account(p).spent == {"hops": 2}
    p.succeed("a")
    events = p.fail("b")
    assert "CompensationStarted" in names(events)
    assert only(events, TaskDispatched).step == "a.undo"
    assert account(p).spent == {"hops": 3}


def test_the_hop_that_is_too_many_ends_the_workflow() -> None:
    p = started({"a": agent(), "b": agent(needs="a")}, hops=1)
    events = p.succeed("a")
    assert only(events, TaskHeld).reason == "needs 1 hops, and 0 of 1 are left"
    assert only(events, WorkflowEnded).reason == (
        "the budget is exhausted: b needs 1 hops, and 0 of 1 are left; "
        "raise hops in the budget of route r, or write on_exhausted: ask there"
    )


def test_what_is_held_goes_out_when_others_have_left_enough() -> None:
    p = started({"each": agent(for_each="${{ event.data.items }}", reserve={"tokens": 40})}, tokens=100, **ASK)
    assert [p.step(f"each[{n}]").status for n in range(3)] == ["running", "running", "held"]
    events = p.succeed("each[0]", usage={"tokens": 20})
    assert only(events, TaskDispatched).step == "each[2]"
    for n in (1, 2):
        p.succeed(f"each[{n}]", usage={"tokens": 1})
    assert p.workflow().status == "completed"


def test_a_held_retry_keeps_its_attempt_and_a_late_success_still_counts() -> None:
    p = started(
        {"a": agent(reserve={"tokens": 60}, retry={"attempts": 3, "backoff": "1s"}), "b": agent(needs="a")},
        tokens=100,
        **ASK,
    )
    p.wait("a")
    events = p.wait("a")
    assert only(events, TaskHeld).attempt == 2
    assert only(events, ApprovalRequested).step == "a.budget"
    events = p.succeed("a", attempt=1, usage={"tokens": 10})
    assert "TaskSucceeded" in names(events)
    assert "ApprovalWithdrawn" in names(events), "nobody needs to be asked any more"
    assert account(p).spent == {"tokens": 10}


def asked() -> Partition:
    steps = {
        "a": agent(reserve={"tokens": 60}),
        "b": agent(needs="a", reserve={"tokens": 60}),
        "c": agent(needs="a", reserve={"tokens": 60}),
    }
    p = started(steps, tokens=100, **ASK, deadline="1h")
    p.succeed("a", usage={"tokens": 60})
    return p


def test_one_question_is_asked_however_many_tasks_are_held() -> None:
    p = asked()
    assert [p.step(name).status for name in ("b", "c")] == ["held", "held"]
    assert p.step("b.budget").status == "asking"
    assert "c.budget" not in p.workflow().steps
    assert p.step("b.budget").payload_schema is not None


def test_an_approval_grants_its_payload_and_asks_again_where_it_is_too_little() -> None:
    p = asked()
    first = p.step("b.budget").task_id
    events = p.answer("b.budget", payload={"tokens": 20})
    assert only(events, BudgetRaised).granted == {"tokens": 20}
    assert only(events, TaskDispatched).step == "b"
    p.succeed("b", usage={"tokens": 60})
    assert p.step("c.budget").status == "asking"
    assert p.step("c.budget").task_id != first
    p.answer("c.budget", payload={"tokens": 0})
    again = p.step("c.budget")
    assert (again.status, again.round, again.task_id.rpartition("/")[2]) == ("asking", 2, "c.2.budget")
    p.answer("c.budget")
    p.succeed("c")
    assert p.workflow().status == "completed"


@pytest.mark.parametrize("payload", [{"gold": 1}, {"tokens": -1}, {"tokens": "many"}])
def test_a_grant_that_is_none_is_refused(payload: dict[str, Any]) -> None:
    p = asked()
    assert names(p.answer("b.budget", payload=payload)) == ["AnswerRefused"]
    assert p.step("b.budget").status == "asking"


def test_a_rejection_or_no_answer_fails_the_workflow() -> None:
    p = asked()
    events = p.answer("b.budget", "reject", reason="too dear")
    assert only(events, WorkflowEnded).reason == "the budget is exhausted, and more was refused by ana: too dear"
    p = asked()
    events = p.wait("b.budget")
    assert only(events, WorkflowEnded).reason.endswith(
        "more was refused by its deadline: no answer by the deadline; on_expiry: reject"
    )


def test_a_cancelled_workflow_takes_its_question_back() -> None:
    p = asked()
    events = p.command("cancel")
    assert only(events, ApprovalWithdrawn).step == "b.budget"


def test_time_that_is_over_ends_the_workflow_or_holds_what_would_go_out() -> None:
    p = started({"a": agent(timeout="3h")}, time="2h")
    events = p.wait_budget()
    assert only(events, WorkflowEnded).reason == (
        "the budget is exhausted: its time is over; raise time in the budget of route r, or write on_exhausted: ask there"
    )
    p = started({"a": agent(timeout="3h"), "b": agent(needs="a")}, time="2h", **ASK)
    events = p.wait_budget()
    assert names(events) == ["BudgetTimeOver", "ApprovalRequested"]
    question = only(events, ApprovalRequested)
    assert (question.step, question.payload) == ("a.budget", {"time_s": 7200.0})
    assert only(p.succeed("a"), TaskHeld).reason == "needs more time"
    events = p.answer("a.budget", payload={"time_s": 60})
    assert only(events, BudgetRaised).expires_at_ms == p.now_ms + 60_000
    assert only(events, TaskDispatched).step == "b"
    assert p.workflow().expires_at_ms == p.now_ms + 60_000


def test_granting_no_time_asks_again() -> None:
    p = started({"a": agent(timeout="3h")}, time="2h", **ASK)
    p.wait_budget()
    assert names(p.answer("a.budget", payload={"time_s": 0})) == ["ApprovalClosed", "BudgetRaised", "ApprovalRequested"]


def test_a_budgets_time_of_another_run_or_an_ended_one_changes_nothing() -> None:
    p = started({"a": agent()}, time="2h")
    due = p.workflow().expires_at_ms
    assert due is not None
    p.succeed("a")
    assert p.workflow().expires_at_ms is None
    from mesh.core.inputs import TimerDue  # noqa: PLC0415 - used here alone

    late = TimerDue(due_at_ms=due, workflow_id="r:k", kind="budget_time", run_id=p.workflow().run_id)
    assert p.give(late) == ()


def test_a_question_beside_the_budgets_own_is_another_matter() -> None:
    p = started(
        {"a": agent(reserve={"tokens": 60}), "ok": approval(), "b": agent(needs=["a", "ok"], reserve={"tokens": 60})},
        tokens=100,
        **ASK,
    )
    p.succeed("a", usage={"tokens": 60})
    p.answer("ok")
    assert p.step("b.budget").status == "asking"
    p.answer("b.budget")
    p.succeed("b")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_budget_events_without_a_budget_are_no_history() -> None:
    p = Partition(route({"a": agent()}), directory=Directory())
    p.start()
    for event in (BudgetTimeOver(), BudgetRaised(granted={}, by="ana")):
        with pytest.raises(ValueError, match="which has no budget"):
            evolve(p.workflow(), event, workflow_id="r:k", at_ms=0)


def unsent_question() -> Partition:
    p = asked()
    [question] = [name for name, step in p.workflow().steps.items() if step.status == "asking"]
    lost = Undeliverable(
        workflow_id="r:k", effect_id=p.task_id(question), topic="t", code="gone", message="no such topic"
    )
    p.give(lost)
    assert p.step(question).status == "incident"
    return p


@pytest.mark.parametrize("command", ["retry", "skip"])
def test_a_question_that_could_not_be_sent_is_asked_anew(command: Any) -> None:
    p = unsent_question()
    p.command(command)
    assert only(p.decisions[-1].events, ApprovalRequested).round == 2
    assert names(p.decisions[-1].events).count("TaskHeld") == 0
    p.check_replay()


def test_a_question_that_could_not_be_sent_may_fail_the_workflow() -> None:
    p = unsent_question()
    p.command("fail")
    assert p.workflow().status == "failed"


def test_what_a_round_leaves_under_way_is_settled() -> None:
    steps = {
        "a": {"value": 1},
        "slow": agent(needs="a", reserve={"tokens": 7}),
        "fast": agent(needs="a", reserve={"tokens": 1}),
        "b": {
            "needs": {"any": ["slow", "fast"]},
            "value": "${{ round }}",
            "repeat": {"from": "a", "until": "round == 2", "limit": 2},
        },
    }
    p = started(steps, tokens=100)
    p.succeed("fast")
    assert (account(p).spent, account(p).reserved) == ({"tokens": 14}, {"tokens": 8})


def test_a_for_each_that_an_operator_skips_leaves_no_reserve() -> None:
    p = started(
        {"a": agent(for_each="${{ event.data['items'] }}", reserve={"tokens": 7}), "b": agent(needs="a")}, tokens=100
    )
    event = IncidentRaised(step="a", kind="parked", message="too large")
    for state in (p.state, p.follower.state):
        found = evolve(state.workflows["r:k"], event, workflow_id="r:k", at_ms=p.now_ms)
        assert found is not None
        state.workflows["r:k"] = found
    p.command("skip")
    assert (account(p).spent, account(p).reserved) == ({"tokens": 21}, {"tokens": 0})


def test_a_step_skipped_before_it_began_costs_nothing() -> None:
    p = started({"a": agent(**{"if": "false"}), "b": agent(reserve={"tokens": 1})}, tokens=100)
    assert account(p).reserved == {"tokens": 1}


def test_a_repeated_start_matched_with_another_version_leaves_what_is_held_alone() -> None:
    """The start is decided by the route that its event was matched with.

    That route need not have the step that is held.
    """
    later = route({"a": agent(reserve={"tokens": 60}), "b": agent(reserve={"tokens": 60})}, budget={"tokens": 100})
    earlier = route({"a": agent(reserve={"tokens": 60})}, budget={"tokens": 100})
    p = Partition(later, earlier)
    p.start()
    assert p.step("b").status == "held"
    assert names(p.start(event_id="e2", digest=earlier.digest)) == ["StartRepeated"]
    assert p.step("b").status == "held"

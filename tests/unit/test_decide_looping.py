"""Decide: loops: when they go round, what of a round counts for the next, and their bound."""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, names, only, route

from mesh.core.effects import SendTask
from mesh.core.events import (
    ApprovalWithdrawn,
    IncidentRaised,
    InputDismissed,
    RoundStarted,
    StepCancelled,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.inputs import ResultReceived
from mesh.core.receipts import SendReceipt

UNTIL_OK: dict[str, Any] = {"until": "steps.b == 'ok'", "limit": 2}


def loop(**more: Any) -> dict[str, Any]:
    return {"from": "a", **UNTIL_OK, **more}


def started(steps: dict[str, Any], data: Any = None) -> Partition:
    p = Partition(route(steps))
    p.start(data=data)
    return p


def two(**more: Any) -> Partition:
    """A loop of two, and one after it."""
    return started(
        {
            "a": agent("a", "${{ round }}"),
            "b": agent("b", needs="a", repeat=loop(**more)),
            "c": agent("c", ["${{ steps.a }}", "${{ steps.b }}"], needs="b"),
        }
    )


def go_round(p: Partition, *, times: int = 1, given: Any = "no") -> None:
    for _ in range(times):
        p.succeed("a", "draft")
        p.succeed("b", given)


def tasks(p: Partition) -> list[str]:
    return [effect.task_id.rpartition("/")[2] for effect in p.effects() if isinstance(effect, SendTask)]


def test_a_loop_goes_round_until_its_condition_is_true() -> None:
    p = two()
    go_round(p)
    started_anew = only(p.decisions[-1].events, RoundStarted)
    assert (started_anew.round, started_anew.steps, started_anew.reason) == (2, ("a", "b"), "steps.b == 'ok' is false")
    assert (tasks(p), p.step("a").input) == (["a.2"], 2)
    go_round(p, given="ok")
    assert p.step("c").input == ["draft", "ok"]
    p.succeed("c")
    p.check_replay()


def test_a_step_alone_may_be_repeated() -> None:
    p = started({"b": agent(repeat={**UNTIL_OK, "limit": 3})})
    p.succeed("b", "no")
    p.succeed("b", "no")
    assert tasks(p) == ["b.3"]
    p.succeed("b", "ok")
    assert p.workflow().status == "completed"


def test_a_result_of_an_earlier_round_counts_for_nothing() -> None:
    p = two()
    first = {name: p.task_id(name) for name in ("a", "b")}
    go_round(p)

    def late(name: str) -> InputDismissed:
        task = first[name]
        return only(
            p.give(ResultReceived(task_id=task, attempt=1, workflow_id="r:k", status="succeeded", output="ok")),
            InputDismissed,
        )

    assert (late("a").code, late("a").message) == (
        "late",
        f"task {first['a']} is not the step's any more: that is {p.task_id('a')}",
    )
    assert (late("b").code, late("b").message) == (
        "late",
        f"task {first['b']}, attempt 1, counts no more: b is in round 2",
    )


@pytest.mark.parametrize("on_limit", ["incident", "fail", "continue"])
def test_the_bound_holds(on_limit: str) -> None:
    p = two(on_limit=on_limit)
    go_round(p, times=2)
    message = "steps.b == 'ok' is still false after 2 of 2 rounds"
    match on_limit:
        case "incident":
            raised = only(p.decisions[-1].events, IncidentRaised)
            assert (raised.step, raised.kind, raised.message) == ("b", "loop", message)
        case "fail":
            ended = only(p.decisions[-1].events, WorkflowEnded)
            assert (ended.status, ended.reason) == ("failed", f"b: {message}")
        case "continue":
            assert p.step("c").input == ["draft", "no"]


def test_an_operator_grants_a_round_at_a_time() -> None:
    p = two()
    go_round(p, times=2)
    p.command("retry")
    assert tasks(p) == ["a.3"]
    go_round(p)
    assert p.step("b").status == "incident"
    p.command("retry", step="b")
    go_round(p, given="ok")
    assert p.step("c").status == "running"


def test_an_operator_who_skips_the_bound_leaves_what_the_last_round_gave() -> None:
    p = two()
    go_round(p, times=2)
    p.command("skip")
    assert p.step("c").input == ["draft", "no"]


def test_a_late_result_does_not_open_a_loop_that_an_operator_has() -> None:
    p = two()
    go_round(p, times=2)
    assert only(p.succeed("b", "ok"), InputDismissed).code == "repeated"


def test_a_condition_that_cant_be_evaluated_is_an_incident() -> None:
    p = started({"b": agent(repeat={"until": "steps.b.ok", "limit": 2})})
    p.succeed("b", {})
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.kind, raised.message.startswith("steps.b.ok is not there")) == ("loop", True)
    p.command("retry")
    p.succeed("b", {"ok": True})
    assert p.workflow().status == "completed"


def test_a_loop_whose_closing_step_is_skipped_is_done() -> None:
    p = started({"a": agent(), "b": agent(needs="a", repeat=loop(), **{"if": "false"}), "c": agent(needs="b")})
    p.succeed("a")
    assert p.step("c").status == "running"


def test_an_operators_retry_of_a_step_in_a_later_round_is_of_that_round() -> None:
    p = started({"a": agent(retry={"attempts": 1}), "b": agent(needs="a", repeat=loop())})
    go_round(p)
    p.fail("a")
    p.command("retry")
    assert (tasks(p), p.step("a").attempt) == (["a.2"], 2)


# What may be in a loop ----------------------------------------------------------------------------


def test_a_question_in_a_loop_is_asked_in_each_round_and_each_has_one_verdict() -> None:
    p = started({"q": approval(), "b": agent(needs="q", repeat={**UNTIL_OK, "from": "q"})})
    first = p.task_id("q")
    p.answer("q")
    p.succeed("b", "no")
    assert p.task_id("q") == first.replace("/q", "/q.2")
    assert names(p.answer("q", "reject", approval_id=first)) == ["AnswerRefused"]
    assert p.step("q").status == "asking"
    p.answer("q")
    p.succeed("b", "ok")
    assert p.workflow().status == "completed"


@pytest.mark.parametrize("until", ["steps.q.verdict == 'approved'", "status.q == 'succeeded'"])
def test_a_rejection_goes_round_where_the_loop_speaks_of_it(until: str) -> None:
    p = started({"q": approval(repeat={"until": until, "limit": 2})})
    p.answer("q", "reject")
    assert p.step("q").status == "asking"
    p.answer("q", "reject")
    assert p.step("q").status == "incident"
    p.command("skip")
    assert p.workflow().status == "completed"


def test_a_rejection_ends_the_workflow_where_the_loop_speaks_of_another() -> None:
    p = started({"q2": {"value": 1}, "q": approval(needs="q2", repeat={"until": "steps.q2 == 2", "limit": 2})})
    p.answer("q", "reject")
    assert p.workflow().status == "rejected"


def test_a_for_each_in_a_loop_does_its_items_anew() -> None:
    steps = {
        "a": agent("x", "${{ item }}", for_each="${{ event.data }}"),
        "b": agent(needs="a", repeat=loop()),
    }
    p = started(steps, data=[1, 2])
    p.succeed("a[0]", "x")
    p.succeed("a[1]", "y")
    p.succeed("b", "no")
    assert tasks(p) == ["a.2[0]", "a.2[1]"]
    assert p.step("a").output == ["x", "y"]
    p.succeed("a[1]", "z")
    p.succeed("a[0]", "w")
    assert p.step("a").output == ["w", "z"]
    p.check_replay()


def test_a_for_each_may_close_a_loop() -> None:
    p = started({"b": agent("x", 1, for_each=[1], repeat={"until": "steps.b[0] == 'ok'", "limit": 2})})
    p.succeed("b[0]", "no")
    p.succeed("b[0]", "ok")
    assert p.workflow().status == "completed"


def test_a_wait_in_a_loop_waits_anew_and_no_event_counts_twice() -> None:
    steps = {
        "a": {"wait": {"event": "paid"}},
        "b": agent(needs="a", repeat=loop(limit=3)),
    }
    p = started(steps)
    p.offer("paid", event_id="o1")
    p.succeed("b", "no")
    assert p.step("a").status == "waiting"
    assert only(p.offer("paid", event_id="o1"), InputDismissed).code == "repeated"
    p.offer("paid", event_id="o2")
    p.succeed("b", "no")
    assert only(p.offer("paid", event_id="o1"), InputDismissed).code == "repeated"
    assert p.step("a").status == "waiting"


def test_an_event_that_goes_out_has_an_id_of_its_round() -> None:
    p = started({"a": {"emit": {"type": "t2"}}, "b": agent(needs="a", repeat=loop())})
    first = p.step("a").output["id"]
    p.succeed("b", "no")
    assert p.step("a").output["id"] == first + ".2"


# What a round leaves behind -----------------------------------------------------------------------


def hasty() -> Partition:
    """A loop that does not wait for all of its body."""
    steps = {
        "a": {"value": "${{ round }}"},
        "slow": agent("slow", "${{ round }}", needs="a", for_each="${{ round == 1 ? [1, 2] : [1] }}"),
        "ask": approval(needs="a"),
        "fast": agent(needs="a"),
        "b": agent(needs={"any": ["slow", "ask", "fast"]}, repeat=loop()),
    }
    return started(steps)


def test_what_a_round_leaves_under_way_is_cancelled_by_the_next() -> None:
    p = hasty()
    question, item = p.task_id("ask"), p.task_id("slow[1]")
    p.succeed("fast")
    p.succeed("b", "no")
    events = p.decisions[-1].events
    assert only(events, StepCancelled).step == "slow"
    assert only(events, ApprovalWithdrawn).approval_id == question
    assert [effect.code for effect in p.effects() if isinstance(effect, SendReceipt)] == ["withdrawn"]
    assert tasks(p) == ["fast.2", "slow.2[0]"]
    assert "slow[1]" not in p.workflow().steps
    result = ResultReceived(task_id=item, attempt=1, workflow_id="r:k", status="succeeded")
    assert only(p.give(result), InputDismissed).code == "late"
    p.succeed("slow[0]", "s")
    p.succeed("b", "ok")
    p.answer("ask")
    p.succeed("fast")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_what_has_not_begun_in_a_round_is_left_to_the_next() -> None:
    steps = {
        "a": agent(),
        "late": agent(needs="a"),
        "later": agent(needs="late"),
        "b": agent(needs={"any": ["a", "later"]}, repeat=loop(limit=3)),
    }
    p = started(steps)
    p.succeed("a")
    p.succeed("b", "no")
    assert [e.step for e in p.decisions[-1].events if isinstance(e, StepCancelled)] == ["late"]
    p.succeed("a")
    p.succeed("b", "no")
    assert [e.step for e in p.decisions[-1].events if isinstance(e, StepCancelled)] == ["late"]
    assert p.step("later").status == "again"


def test_a_loser_of_one_round_is_sent_in_the_next_though_both_are_one_decision() -> None:
    steps = {
        "go": agent(),
        "x": agent("x", needs="go"),
        "y": agent("y", needs="go"),
        "b": {
            "needs": {"first_of": ["x", "y"]},
            "value": "${{ round }}",
            "repeat": {"from": "go", "until": "steps.b == 3", "limit": 3},
        },
    }
    p = started(steps)
    for turn in (2, 3):
        p.succeed("go")
        p.succeed("x")
        assert tasks(p) == [f"go.{turn}"]
    p.succeed("go")
    assert tasks(p) == ["x.3", "y.3"]
    p.succeed("y")
    assert p.workflow().status == "completed"


def test_only_the_last_of_a_places_tasks_is_sent_where_a_decision_goes_round_at_once() -> None:
    steps = {
        "a": {"value": 1},
        "w": agent("w", needs="a"),
        "b": {
            "needs": {"any": ["a", "w"]},
            "value": "${{ round }}",
            "repeat": {"from": "a", "until": "steps.b == 3", "limit": 3},
        },
    }
    p = started(steps)
    assert [e.task_id.rpartition("/")[2] for e in p.decisions[-1].events if isinstance(e, TaskDispatched)] == [
        "w",
        "w.2",
        "w.3",
    ]
    assert tasks(p) == ["w.3"]


def test_an_end_in_a_loop_is_the_end() -> None:
    p = started(
        {
            "a": {"value": "${{ round }}"},
            "b": {"needs": "a", "if": "round == 2", "end": "failed"},
            "c": {"needs": "b", "value": 1, "repeat": {"from": "a", "until": "false", "limit": 5}},
        }
    )
    assert (p.workflow().status, p.decisions[-1].events[-1]) == ("failed", only(p.decisions[-1].events, WorkflowEnded))


def test_an_end_that_closes_a_loop_ends_the_workflow_and_does_not_go_round() -> None:
    p = started({"b": {"end": "completed", "repeat": {"until": "false", "limit": 5}}})
    assert names(p.decisions[-1].events) == ["WorkflowStarted", "StepComputed", "WorkflowEnded"]

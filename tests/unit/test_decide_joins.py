"""Decide: which steps act on how others came out.

Any of them, a number of several, the first of several, and `status`.
"""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, names, only, route

from mesh.core.effects import SendTask
from mesh.core.events import (
    ApprovalWithdrawn,
    IncidentRaised,
    InputDismissed,
    StepBlocked,
    StepCancelled,
    StepSkipped,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.receipts import SendReceipt

GIVES_UP: dict[str, Any] = {"retry": {"attempts": 1}, "on_exhausted": "continue"}


def started(steps: dict[str, Any], data: Any = None, **more: Any) -> Partition:
    p = Partition(route(steps, **more))
    p.start(data=data)
    return p


def statuses(p: Partition) -> dict[str, str]:
    return {name: step.status for name, step in p.workflow().steps.items()}


def tasks(p: Partition) -> list[str]:
    return [effect.step for effect in p.effects() if isinstance(effect, SendTask)]


def three(needs: dict[str, Any], **more: Any) -> Partition:
    return started({**{name: agent(**GIVES_UP) for name in "abc"}, "j": agent("j", 1, needs=needs, **more)})


# Any, and a number of several ---------------------------------------------------------------------


def test_any_acts_on_the_first_success_once_and_the_others_go_on() -> None:
    p = three({"any": ["a", "b", "c"]})
    p.fail("a")
    assert "j" not in p.workflow().steps
    p.succeed("b")
    assert only(p.decisions[-1].events, TaskDispatched).reason == "1 of a, b, c done"
    p.succeed("c")
    assert tasks(p) == []
    p.succeed("j")
    assert (p.workflow().status, statuses(p)["a"]) == ("completed", "failed")


def test_a_count_acts_when_so_many_have_succeeded() -> None:
    p = three({"count": 2, "of": ["a", "b", "c"]})
    p.succeed("c")
    p.fail("b")
    assert "j" not in p.workflow().steps
    p.succeed("a")
    assert statuses(p)["j"] == "running"


def test_a_count_that_cant_be_reached_any_more_blocks_at_once() -> None:
    p = three({"count": 2, "of": ["a", "b", "c"]})
    p.fail("a")
    p.fail("b")
    blocked = only(p.decisions[-1].events, StepBlocked)
    assert blocked.reason == "needs 2 of a, b, c, and 0 succeeded: a was failed"
    p.succeed("c")
    assert p.workflow().status == "completed"


def test_where_all_the_rest_was_skipped_the_join_is_skipped() -> None:
    off = agent(**{"if": "false"})
    p = started({"a": off, "b": off, "j": agent(needs={"any": ["a", "b"]}), "k": agent(needs="j")})
    skipped = [e for e in p.decisions[-1].events if isinstance(e, StepSkipped) and e.step == "j"]
    assert [e.reason for e in skipped] == ["needs 1 of a, b, and 0 succeeded"]
    assert statuses(p)["k"] == "running"


def test_what_a_join_reads_of_others_that_are_not_done_is_null() -> None:
    steps = {
        "a": agent(),
        "b": agent(),
        "j": agent("j", ["${{ steps.a }}", "${{ steps.b }}"], needs={"any": ["a", "b"]}),
    }
    p = started(steps)
    p.succeed("b", 2)
    assert p.step("j").input == [None, 2]


def test_a_status_that_the_if_speaks_of_counts_for_a_join() -> None:
    p = three({"any": ["a", "b"]}, **{"if": "status.a == 'failed'"})
    p.fail("a")
    assert statuses(p)["j"] == "running"


# The first of several -----------------------------------------------------------------------------


def test_the_first_success_cancels_the_others_and_what_only_served_them() -> None:
    steps = {
        "a": agent(),
        "b1": agent(),
        "b2": agent(needs="b1"),
        "both": agent(),
        "c": agent(needs="both"),
        "other": agent(needs="both"),
        "j": agent(needs={"first_of": ["a", "b2", "c"]}),
    }
    p = started(steps)
    p.succeed("a")
    cancelled = [e for e in p.decisions[-1].events if isinstance(e, StepCancelled)]
    assert [(e.step, e.reason) for e in cancelled] == [
        ("b1", "j goes on with a"),
        ("b2", "j goes on with a"),
        ("c", "j goes on with a"),
    ]
    assert statuses(p)["both"] == "running"
    p.succeed("both")
    assert tasks(p) == ["other"]
    assert only(p.succeed("b1"), InputDismissed).code == "repeated"
    p.check_replay()


def test_the_winner_that_is_named_is_the_one_that_succeeded() -> None:
    off = agent(**{"if": "false"})
    p = started(
        {"a": off, "b": agent(**GIVES_UP), "c": agent(), "d": agent(), "j": agent(needs={"first_of": list("abcd")})}
    )
    p.fail("b")
    p.succeed("c")
    assert only(p.decisions[-1].events, StepCancelled).reason == "j goes on with c"


def test_there_is_one_winner_where_two_succeed_in_one_decision() -> None:
    steps = {
        "go": agent(),
        "a": {"needs": "go", "value": "A"},
        "b": {"needs": "go", "value": "B"},
        "j": agent("j", ["${{ steps.a }}", "${{ steps.b }}"], needs={"first_of": ["a", "b"]}),
    }
    p = started(steps)
    p.succeed("go")
    assert tasks(p) == ["j"]
    p.succeed("j")
    assert p.workflow().status == "completed"


def test_a_question_that_has_lost_is_withdrawn() -> None:
    p = started({"a": agent(), "q": approval(), "j": agent(needs={"first_of": ["a", "q"]})})
    p.succeed("a")
    assert only(p.decisions[-1].events, ApprovalWithdrawn).reason == "j goes on with a"
    assert only(p.effects(), SendReceipt).code == "withdrawn"
    assert names(p.answer("q")) == ["AnswerRefused"]


def test_the_race_is_decided_also_where_the_if_is_false() -> None:
    """Nobody wants what the losers would give, since the step that asked for it is skipped."""
    p = started({"a": agent(), "b": agent(), "j": agent(needs={"first_of": ["a", "b"]}, **{"if": "steps.a == 'no'"})})
    p.succeed("a", "yes")
    assert names(p.decisions[-1].events) == ["TaskSucceeded", "StepCancelled", "StepSkipped", "WorkflowEnded"]


def test_an_if_that_cant_be_evaluated_is_an_incident_and_the_race_stays_decided() -> None:
    p = started({"a": agent(), "b": agent(), "j": agent(needs={"first_of": ["a", "b"]}, **{"if": "steps.a.x"})})
    p.succeed("a", {})
    assert only(p.decisions[-1].events, IncidentRaised).step == "j"
    assert statuses(p)["b"] == "cancelled"
    p.command("skip")
    assert p.workflow().status == "completed"


def test_a_for_each_that_loses_in_the_decision_that_begins_it_sends_no_task() -> None:
    steps = {
        "go": agent(),
        "a": agent(needs="go", for_each=[1, 2]),
        "b": {"needs": "go", "value": 1},
        "j": agent(needs={"first_of": ["a", "b"]}),
    }
    p = started(steps)
    p.succeed("go")
    assert names(p.decisions[-1].events).count("TaskDispatched") == 3
    assert tasks(p) == ["j"]
    assert "a[0]" not in p.workflow().steps


# Rejections ---------------------------------------------------------------------------------------


def test_a_rejection_ends_nothing_where_a_join_can_do_without_it() -> None:
    p = started(
        {"q1": approval(), "q2": approval(), "q3": approval(), "j": agent(needs={"count": 2, "of": ["q1", "q2", "q3"]})}
    )
    p.answer("q1", "reject")
    assert p.workflow().status == "running"
    p.answer("q2")
    p.answer("q3")
    assert tasks(p) == ["j"]
    p.succeed("j")
    assert p.workflow().status == "completed"


def test_rejections_that_no_join_can_do_without_reject_the_workflow() -> None:
    p = started({"q1": approval(), "q2": approval(), "j": agent(needs={"count": 2, "of": ["q1", "q2"]})})
    p.answer("q1", "reject", reason="too dear")
    assert statuses(p)["j"] == "blocked"
    p.answer("q2")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, "too dear" in ended.reason) == ("rejected", True)


# How a step came out ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "settle"),
    [
        ("succeeded", lambda p: p.succeed("a")),
        ("failed", lambda p: p.fail("a")),
    ],
)
def test_a_step_may_act_on_how_another_came_out(status: str, settle: Any) -> None:
    p = started(
        {
            "a": agent(**GIVES_UP),
            "b": agent(needs="a", **{"if": f"status.a == '{status}'"}),
            "c": agent(needs="a"),
            "d": {"needs": "c", "if": "status.c == 'blocked'", "value": "${{ steps.c }}"},
        }
    )
    settle(p)
    assert statuses(p)["b"] == "running"
    assert statuses(p)["c"] == ("running" if status == "succeeded" else "blocked")
    if status == "failed":
        assert (statuses(p)["d"], p.step("d").output) == ("succeeded", None)


def test_a_status_is_empty_while_the_step_is_open() -> None:
    p = started(
        {
            "a": agent(),
            "b": agent(),
            "j": agent("j", "${{ status }}".replace("status", "status.b"), needs={"any": ["a", "b"]}),
        }
    )
    p.succeed("a")
    assert p.step("j").input == ""


def test_a_rejection_that_comes_first_in_a_race_ends_the_workflow_unless_it_is_taken() -> None:
    steps = {"ok": approval(), "late": {"wait": "4h"}, "go": agent(needs={"first_of": ["ok", "late"]})}
    p = Partition(route(steps))
    p.start()
    p.answer("ok", "reject", reason="no")
    assert (p.workflow().status, p.workflow().reason) == ("rejected", "ok was rejected by ana: no")
    steps["go"]["if"] = "status.ok != 'rejected'"
    p = Partition(route(steps))
    p.start()
    p.answer("ok", "reject")
    assert p.step("late").status == "cancelled"
    assert p.step("go").status == "skipped"

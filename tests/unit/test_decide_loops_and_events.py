"""Decide: events that come to a loop at any moment, in bursts.

Each is taken by one round, in order, or is kept. None is lost between two rounds, and none counts
twice.
"""

from typing import Any

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from one_partition import Partition, agent, approval, called_route, calling, names, only, route

from mesh.core.events import AnswerRefused, Event, EventKept, EventReceived, EventUnclaimed, InputDismissed, StepSkipped
from mesh.core.inputs import CallEnded
from mesh.core.loops import is_over, may_begin_again
from mesh.core.state import StepState

SAID: dict[str, Any] = {"event": "said"}
CHAT: dict[str, Any] = {
    "w": {"wait": SAID},
    "reply": agent(
        "x", "${{ steps.w.data }}", needs="w", repeat={"from": "w", "until": "steps.reply == 'end'", "limit": 50}
    ),
}


def started(steps: dict[str, Any], **more: Any) -> Partition:
    p = Partition(route(steps, **more), called_route({"s": agent()}))
    p.start()
    return p


def received(p: Partition, step: str = "w") -> list[Any]:
    """The data of the events that this step took, in order."""
    return [
        event.cloud_event["data"]
        for decision in p.decisions
        for event in decision.events
        if isinstance(event, EventReceived) and event.step == step
    ]


def end_call(p: Partition, step: str, *, task_id: str = "") -> tuple[Event, ...]:
    task = task_id or p.task_id(step)
    source = p._inbox("mesh.commands", None)  # any topic: each record has its own place
    ended = CallEnded(
        workflow_id=p.id_of(), task_id=task, attempt=1, called=f"sub:{task}", status="completed", output=1, **source
    )
    return p.give(ended)


def offer(p: Partition, *numbers: int) -> None:
    for number in numbers:
        p.offer("said", event_id=f"o{number}", data=number)


def test_each_round_takes_one_event_in_order() -> None:
    p = started(CHAT)
    offer(p, 1, 2, 3)
    p.succeed("reply")
    offer(p, 4)
    for _ in range(2):
        p.succeed("reply")
    p.succeed("reply", "end")
    assert (p.workflow().status, received(p)) == ("completed", [1, 2, 3, 4])
    p.check_replay()


_DOERS: dict[str, dict[str, Any]] = {
    "agent": agent(),
    "approval": approval(),
    "call": calling(),
    "for_each": {"for_each": [1, 2], **agent()},
    "value": {"value": 1},
}
_DO: dict[str, Any] = {
    "agent": lambda p: p.succeed("do"),
    "approval": lambda p: p.answer("do", "approve"),
    "call": lambda p: end_call(p, "do"),
    "for_each": lambda p: (p.succeed("do[0]"), p.succeed("do[1]")),
    "value": lambda p: None,
}
_WAITS: dict[str, dict[str, Any]] = {
    "one": {"w": {"wait": SAID}, "do": {"needs": "w"}},
    "any of two": {"w": {"wait": SAID}, "v": {"wait": {"event": "other"}}, "j": {"needs": {"any": ["w", "v"]}}},
    "first of two": {"w": {"wait": SAID}, "v": {"wait": SAID}, "j": {"needs": {"first_of": ["w", "v"]}}},
    "one after another": {"w": {"wait": SAID}, "v": {"wait": SAID, "needs": "w"}, "do": {"needs": "v"}},
}


def _loop_of(shape: str, doer: str) -> dict[str, Any]:
    """A loop with this way of waiting, what is done of it, and a last step that an agent does."""
    steps = {"begin": {"value": 0}, **{name: dict(step) for name, step in _WAITS[shape].items()}}
    for name in ("w", "v"):
        if name in steps and "needs" not in steps[name]:
            steps[name]["needs"] = "begin"
    if "j" in steps:
        steps["j"]["value"] = 1
        steps["do"] = {"needs": "j"}
    steps["do"] |= _DOERS[doer]
    steps["last"] = agent(needs="do", repeat={"from": "begin", "until": "steps.last == 'end'", "limit": 99})
    return steps


def _is_under_way(p: Partition, name: str) -> bool:
    state = p.workflow().steps.get(name)
    return state is not None and state.status in {"running", "asking", "calling", "iterating"}


@settings(max_examples=draws(60), deadline=None)
@given(data=st.data(), shape=st.sampled_from(sorted(_WAITS)), doer=st.sampled_from(sorted(_DOERS)))
def test_no_event_is_lost_or_counts_twice_whenever_it_comes(data: Any, shape: str, doer: str) -> None:
    p, number = started(_loop_of(shape, doer)), 0

    def burst() -> None:
        nonlocal number
        for _ in range(data.draw(st.integers(0, 3))):
            number += 1
            offer(p, number)

    for _ in range(4):
        burst()
        if _is_under_way(p, "do"):
            _DO[doer](p)
            burst()
        if _is_under_way(p, "last"):
            p.succeed("last", "end" if data.draw(st.integers(0, 5)) == 0 else 1)
        if p.workflow().steps.get("last", StepState(status="again")).status == "succeeded":
            break  # the loop is over
    events = [event for decision in p.decisions for event in decision.events]
    taken = [e.cloud_event["data"] for e in events if isinstance(e, EventReceived)]
    aside = [e.kept.cloud_event["data"] for e in events if isinstance(e, EventUnclaimed)]
    kept = [one.cloud_event["data"] for one in p.workflow().kept]
    if shape == "first of two":  # both may take a kept event at once, in one round
        taken = sorted(set(taken))
    assert sorted(taken + aside + kept) == [*range(1, number + 1)]
    assert taken == sorted(taken)
    assert not [e for e in events if isinstance(e, InputDismissed)]
    p.check_replay()


def test_an_event_for_the_round_to_come_is_kept_whatever_became_of_the_last_wait() -> None:
    steps = {
        "w": {"wait": {**SAID, "timeout": "1s", "on_timeout": "skip"}},
        "last": agent(needs="w", repeat={"from": "w", "until": "steps.last == 'end'", "limit": 3}),
    }
    p = started(steps)
    p.wait("w")
    assert only(p.decisions[-1].events, StepSkipped)
    assert names(p.offer("said")) == ["EventKept"]
    p.succeed("last")
    assert only(p.decisions[-1].events, EventReceived).kept


def test_an_event_after_the_last_round_is_dismissed() -> None:
    p = started({**CHAT, "after": agent(needs="reply")})
    offer(p, 1)
    p.succeed("reply", "end")
    assert only(p.offer("said", event_id="late"), InputDismissed).code == "unclaimed"
    workflow, here = p.workflow(), next(iter(p.routes.values()))
    assert is_over(here, workflow.steps, "w")
    assert not may_begin_again(here, workflow.steps, "after")


def test_an_event_by_an_alias_is_kept_for_the_round_to_come() -> None:
    steps = {
        "pay": {"value": 1, "alias": "p1"},
        "w": {"needs": "pay", "wait": {**SAID, "alias": "pay", "key": "${{ event.data }}"}},
        "last": agent(needs="w", repeat={"from": "w", "until": "steps.last == 'end'", "limit": 9}),
    }
    p = started(steps)
    p.pass_on()
    for number in range(3):
        p.offer_by_alias("said", "pay", "p1", event_id=f"o{number}", data=number)
        p.pass_on()
    p.succeed("last")
    p.succeed("last")
    assert received(p) == [0, 1, 2]
    p.check_replay()


def test_the_wait_of_a_new_round_does_not_take_the_event_that_ended_the_round_before() -> None:
    """Two race for an event; the winner's round is over at once, and both wait again."""
    steps = {
        "begin": {"value": 0},
        "w": {"needs": "begin", "wait": SAID},
        "v": {"needs": "begin", "wait": SAID},
        "j": {
            "needs": {"first_of": ["w", "v"]},
            "value": 1,
            "repeat": {"from": "begin", "until": "round == 3", "limit": 3},
        },
    }
    p = started(steps)
    offer(p, 1)
    assert (p.step("w").status, p.step("v").status, p.step("w").round) == ("waiting", "waiting", 2)
    assert received(p) + received(p, "v") == [1]


def test_kept_events_of_a_round_are_not_taken_again_in_the_next() -> None:
    """A whole round passes within one decision: what its second wait took is gone for the first."""
    steps = {
        "a": agent(),
        "w": {"needs": "a", "wait": SAID},
        "v": {"needs": "w", "wait": SAID, "repeat": {"from": "w", "until": "round == 2", "limit": 2}},
    }
    p = started(steps)
    offer(p, 1, 2, 3)
    p.succeed("a")
    assert (received(p), received(p, "v"), p.step("v").status) == ([1, 3], [2], "waiting")


def test_which_of_an_event_and_the_time_out_came_first_is_told_by_the_broker() -> None:
    steps = {"w": {"wait": {**SAID, "timeout": "4s", "on_timeout": "skip"}}, "b": agent(needs="w")}
    p = started(steps)
    due = p.step("w").due_at_ms or 0
    p.now_ms = due + 6_000
    p.offer("said", event_id="late")
    assert only(p.decisions[-1].events, EventKept).kept.at_ms == due + 6_000
    in_time = started(steps)
    in_time.now_ms = in_time.step("w").due_at_ms or 0
    in_time.offer("said")
    assert in_time.step("w").status == "succeeded"
    p.wait("w")
    assert (p.step("w").status, p.step("b").status) == ("skipped", "running")


def test_an_answer_to_the_question_of_an_earlier_round_is_told_that_it_is_closed() -> None:
    p = started({"ask": approval(repeat={"until": "steps.ask.verdict == 'approved'", "limit": 3})})
    first = p.step("ask").task_id
    p.answer("ask", "reject")
    refused = only(p.answer(approval_id=first), AnswerRefused)
    assert (refused.code, refused.closed) == ("closed", True)
    assert refused.message == "it is closed: ask has moved on to another question since"


def test_the_end_of_a_call_of_an_earlier_round_comes_late() -> None:
    loop = {"from": "a", "until": "false", "limit": 3}
    p = started({"a": agent(), "c": calling(needs="a"), "b": agent(needs="c", repeat=loop)})
    p.succeed("a")
    first = p.task_id("c")
    end_call(p, "c")
    p.succeed("b")
    assert (p.step("c").round, p.step("c").status) == (2, "again")
    assert only(end_call(p, "c", task_id=first), InputDismissed).code == "late"
    p.succeed("a")
    assert only(end_call(p, "c", task_id=first), InputDismissed).code == "late"


@pytest.mark.parametrize("name", ["w", "reply"])
def test_a_step_of_a_loop_under_way_is_not_over(name: str) -> None:
    p = started(CHAT)
    here = next(iter(p.routes.values()))
    assert not is_over(here, p.workflow().steps, name)
    assert may_begin_again(here, p.workflow().steps, name)

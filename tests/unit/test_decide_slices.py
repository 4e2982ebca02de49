"""Slices: what a called workflow may spend of its caller's budget, and what becomes of that."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, called_route, calling, names, only, route

from mesh.core.calls import Slice
from mesh.core.crossings import parse_crossing_id
from mesh.core.decide import park
from mesh.core.effects import SendTask
from mesh.core.events import (
    ApprovalRequested,
    CallFailed,
    CallMade,
    CallSucceeded,
    IncidentRaised,
    InputDismissed,
    InputParked,
    TaskDispatched,
    TaskHeld,
    UsageReported,
    WorkflowEnded,
)
from mesh.core.evolve.budget import unended
from mesh.core.inputs import CallEnded, ResultReceived, TaskError, Undeliverable, WorkflowCalled
from mesh.core.route import Route
from mesh.core.state import Account, Unheard

ASK = {"on_exhausted": "ask", "role": "maintainer"}
ONCE: dict[str, Any] = {"retry": {"attempts": 1}, "on_exhausted": "fail"}
SUB = called_route({"work": agent("x", reserve={"tokens": 30}, **ONCE)})


def account(p: Partition, key: str = "k") -> Account:
    found = p.workflow(key).account
    assert found is not None
    return found


def started(steps: dict[str, Any], *subs: Route, **budget: Any) -> Partition:
    """All that is called has begun."""
    p = Partition(route(steps, budget=budget), *(subs or (SUB,)))
    p.start(data={"items": [1, 2, 3]})
    p.deliver()
    return p


def child(p: Partition, step: str = "a", attempt: int = 1) -> str:
    return f"sub:{p.task_id(step)}" + (f"/{attempt}" if attempt > 1 else "")


def end_of(p: Partition, step: str = "a", attempt: int = 1, **more: Any) -> CallEnded:
    """An end of a call that nobody has sent."""
    about: dict[str, Any] = {"workflow_id": "r:k", "task_id": p.task_id(step), "attempt": attempt, "called": "sub:x"}
    where: dict[str, Any] = {"source_topic": "mesh.log", "source_partition": 0, "source_offset": 99}
    return CallEnded(**{"status": "completed", **about, **where, "source_at_ms": p.now_ms, **more})


# What goes with the call --------------------------------------------------------------------------


def test_a_slice_is_reserved_goes_with_the_call_and_is_the_called_workflows_budget() -> None:
    p = Partition(route({"a": calling(reserve={"tokens": 40})}, budget={"tokens": 100, "usd": 1}), SUB)
    made = only(p.start(), CallMade)
    assert made.slice == Slice(limits={"tokens": 40}, counted=("usd",))
    assert account(p) == Account(limits={"tokens": 100, "usd": 1}, reserved={"tokens": 40})
    assert only(p.crossing(), WorkflowCalled).slice == made.slice
    p.deliver()
    called = account(p, child(p))
    assert called == Account(limits={"tokens": 40}, counted=("usd",), reserved={"tokens": 30})
    p.check_replay()


def test_without_a_budget_nothing_is_reserved_and_the_called_workflow_has_its_own_alone() -> None:
    own = called_route({"work": agent("x", reserve={"tokens": 30})}, budget={"tokens": 50})
    p = Partition(route({"a": calling()}), own)
    assert only(p.start(), CallMade).slice is None
    p.deliver()
    assert account(p, child(p)) == Account(limits={"tokens": 50}, reserved={"tokens": 30})


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ({"tokens": 100}, {"tokens": 40}),
        ({"tokens": 35}, {"tokens": 35}),
        ({"tokens": 35, "hops": 3}, {"tokens": 35, "hops": 3}),
        ({"hops": 3, "time": "1h"}, {"tokens": 40, "hops": 3}),
    ],
)
def test_of_its_own_budget_and_the_slice_the_smaller_holds_name_by_name(
    own: dict[str, Any], limits: dict[str, float]
) -> None:
    sub = called_route({"work": agent("x")}, budget=own)
    p = started({"a": calling(reserve={"tokens": 40})}, sub, tokens=100)
    assert account(p, child(p)).limits == limits
    assert (p.workflow(child(p)).expires_at_ms is None) == ("time" not in own)


def test_what_is_not_reserved_is_counted_through_every_call() -> None:
    middle = called_route({"b": calling("low")}, "middle")
    low = called_route({"c": agent("x"), "d": agent("x", needs="c")}, "low")
    p = started({"a": calling("middle"), "b": agent("y", needs="a")}, middle, low, usd=5, hops=9)
    name = next(n for n in p.state.workflows if n.startswith("low:"))
    assert account(p, name) == Account(limits={}, counted=("usd",))
    p.succeed("c", key=name, usage={"usd": 0.5, "tokens": 9})
    p.succeed("d", key=name, usage={"usd": 0.25})
    assert only(p.decisions[-1].events, WorkflowEnded).usage == {"usd": 0.75}
    p.deliver()
    assert account(p).spent == {"usd": 0.75, "hops": 1}


def test_the_hops_of_a_called_workflow_are_its_own_and_a_call_is_none() -> None:
    p = started({"a": calling(reserve={"tokens": 30}), "b": agent("y", needs="a")}, tokens=100, hops=1)
    p.succeed("work", key=child(p), usage={"tokens": 5})
    p.deliver()
    assert p.step("b").status == "running"
    assert account(p).spent == {"tokens": 5, "hops": 1}


# What comes back ----------------------------------------------------------------------------------


def test_what_the_called_workflow_has_taken_settles_its_slice() -> None:
    p = started({"a": calling(reserve={"tokens": 40}), "b": agent("y", needs="a")}, tokens=100)
    p.succeed("work", key=child(p), usage={"tokens": 12})
    p.deliver()
    returned = next(d for d in p.decisions if any(isinstance(e, CallSucceeded) for e in d.events))
    assert only(returned.events, CallSucceeded).usage == {"tokens": 12}
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 12}, reserved={"tokens": 0})
    p.check_replay()


def test_a_called_workflow_that_fails_is_charged_what_it_has_taken_what_was_out_whole() -> None:
    sub = called_route(
        {
            "work": agent("x", reserve={"tokens": 30}, **ONCE),
            "other": agent("y", reserve={"tokens": 10}),
        }
    )
    p = started({"a": calling(reserve={"tokens": 40})}, sub, tokens=100)
    p.fail("work", key=child(p))
    assert only(p.decisions[-1].events, WorkflowEnded).usage == {"tokens": 40}
    p.deliver()
    assert only(p.decisions[-1].events, CallFailed).usage == {"tokens": 40}
    assert account(p).spent == {"tokens": 40}


def test_a_call_that_says_nothing_is_charged_whole() -> None:
    p = started({"a": calling(reserve={"tokens": 40})}, tokens=100)
    p.give(end_of(p))
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 40}, reserved={"tokens": 0})


def test_what_it_was_granted_beyond_its_slice_is_charged_too() -> None:
    sub = called_route(
        {"work": agent("x", reserve={"tokens": 30}), "more": agent("x", needs="work", reserve={"tokens": 30})},
        budget={"tokens": 500, **ASK},
    )
    p = started({"a": calling(reserve={"tokens": 40}), "b": agent("y", needs="a")}, sub, tokens=100)
    name = child(p)
    asked = only(p.succeed("work", key=name, usage={"tokens": 30}), ApprovalRequested)
    assert asked.payload == {"tokens": 40}  # what it had in all
    p.answer("more.budget", key=name, payload={"tokens": 50})
    p.succeed("more", key=name, usage={"tokens": 28})
    p.deliver()
    assert account(p).spent == {"tokens": 58}


def test_a_slice_that_runs_out_fails_a_route_without_a_budget_of_its_own() -> None:
    sub = called_route(
        {"work": agent("x", reserve={"tokens": 30}), "more": agent("x", needs="work", reserve={"tokens": 30})}
    )
    p = started({"a": calling(reserve={"tokens": 40})}, sub, tokens=100)
    p.succeed("work", key=child(p), usage={"tokens": 20})
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.usage) == ("failed", {"tokens": 20})
    assert ended.reason == (
        f"the budget is exhausted: more needs 30 tokens, and 20 of 40 are left; that is the slice which {p.task_id('a')} has reserved for this call: "
        "reserve more tokens there, or give route sub a budget with on_exhausted: ask"
    )
    p.deliver()
    incident = p.step("a").incident
    assert incident is not None
    assert ended.reason in incident.message


@pytest.mark.parametrize(("own", "is_slice"), [(39, False), (40, False), (41, True)])
def test_what_spares_the_next_run_the_end_is_said_of_whichever_is_the_smaller(own: int, is_slice: bool) -> None:
    sub = called_route(
        {"work": agent("x", reserve={"tokens": 30}), "more": agent("x", needs="work", reserve={"tokens": 30})},
        budget={"tokens": own},
    )
    p = started({"a": calling(reserve={"tokens": 40})}, sub, tokens=100)
    p.succeed("work", key=child(p), usage={"tokens": 20})
    reason = only(p.decisions[-1].events, WorkflowEnded).reason
    assert ("the slice which" in reason) == is_slice
    assert reason.endswith("; raise tokens in the budget of route sub, or write on_exhausted: ask there") != is_slice


@pytest.mark.parametrize("how", ["undeliverable", "refused"])
def test_a_call_that_began_nothing_costs_nothing(how: str) -> None:
    p = Partition(route({"a": calling(reserve={"tokens": 40})}, budget={"tokens": 100}), SUB)
    p.start()
    if how == "refused":
        p.give(end_of(p, status="refused", usage={}))
    else:
        effect = f"{p.task_id('a')}/1/call"
        p.give(Undeliverable(workflow_id="r:k", effect_id=effect, topic="t", code="gone", message="gone"))
    assert p.step("a").status == "incident"
    assert account(p) == Account(limits={"tokens": 100}, reserved={"tokens": 0})


# Held ---------------------------------------------------------------------------------------------


def two(**more: Any) -> Partition:
    """The second call has to wait for the first."""
    steps = {"a": calling(reserve={"tokens": 60}), "b": calling(reserve={"tokens": 60}, **more)}
    return started(steps, tokens=100)


def test_a_call_is_held_until_others_have_left_enough() -> None:
    p = two()
    held = only(p.decisions[0].events, TaskHeld)
    assert (held.step, held.agent, held.reason) == ("b", "", "needs 60 tokens, and 40 of 100 are left")
    p.succeed("work", key=child(p), usage={"tokens": 20})
    p.deliver()
    assert p.step("b").status == "calling"
    assert account(p).reserved == {"tokens": 60}
    assert p.step("b").called == child(p, "b")


def test_a_call_for_which_nothing_will_be_left_ends_the_workflow() -> None:
    p = two()
    p.give(end_of(p))
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert ended.reason == (
        "the budget is exhausted: b needs 60 tokens, and 40 of 100 are left; "
        "raise tokens in the budget of route r, or write on_exhausted: ask there"
    )
    assert ended.usage == {"tokens": 60}


def test_a_held_retry_of_a_call_may_still_find_that_the_first_has_completed() -> None:
    p = started({"a": calling(reserve={"tokens": 60}, timeout="1h")}, tokens=100)
    p.wait("a")
    p.command("retry")
    assert (p.step("a").status, p.step("a").attempt) == ("held", 1)
    p.give(end_of(p, usage={"tokens": 50}, output=7))
    assert p.workflow().status == "completed"
    assert account(p).spent == {"tokens": 50}


# Not waited for any more --------------------------------------------------------------------------


def race() -> Partition:
    """The agent wins against the call, and what comes next needs what that leaves."""
    steps = {
        "a": calling(reserve={"tokens": 60}),
        "b": agent("y"),
        "first": agent("z", needs={"first_of": ["a", "b"]}, reserve={"tokens": 60}),
    }
    p = started(steps, tokens=100)
    p.succeed("b", usage={"tokens": 0})
    return p


def test_what_is_reserved_for_a_call_that_is_taken_back_stays_so_until_its_end() -> None:
    p = race()
    name, kept = f"{p.task_id('a')}/1", Unheard(called=child(p), reserved={"tokens": 60})
    assert account(p) == Account(
        limits={"tokens": 100}, spent={"tokens": 0}, reserved={"tokens": 60}, unheard={name: kept}
    )
    assert p.step("first").status == "held"
    p.deliver()
    assert p.workflow(child(p)).status == "cancelled"
    reported = only(p.decisions[-1].events, UsageReported)
    assert (reported.step, reported.usage) == ("a", {"tokens": 30})  # its task was out
    assert p.step("first").status == "running"
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 30}, reserved={"tokens": 60})
    p.check_replay()


def test_a_task_that_is_held_says_which_calls_keep_what_it_needs() -> None:
    p = race()
    reason = only(p.decisions[-1].events, TaskHeld).reason
    kept = f"60 tokens are set aside until the call that is not wanted any more has ended: {child(p)}"
    assert reason == f"needs 60 tokens, and 40 of 100 are left; {kept}"
    assert unended(account(p)) == kept
    p.deliver()
    assert unended(account(p)) == ""


def test_of_many_such_calls_the_first_are_named_and_those_alone_that_keep_what_is_lacking() -> None:
    calls = {f"c{n}": Unheard(called=f"sub:{n}", reserved={"tokens": 10.0}) for n in range(5)}
    more = {"other": Unheard(called="sub:usd", reserved={"usd": 0.5}), "none": Unheard(called="sub:none")}
    kept = "calls that are not wanted any more have ended"
    told = unended(Account(limits={}, unheard={**calls, **more}), "tokens")
    assert told == f"50 tokens are set aside until the {kept}: sub:0, sub:1, sub:2 and 2 more"
    told = unended(Account(limits={}, unheard={**more, **calls}))
    assert told == f"0.5 usd, 50 tokens are set aside until the {kept}: sub:usd, sub:0, sub:1 and 3 more"
    assert unended(Account(limits={}, unheard=calls), "usd") == ""


def test_a_second_word_of_such_a_call_counts_for_nothing() -> None:
    p = race()
    p.deliver()
    before = account(p)
    assert names(p.give(end_of(p, status="cancelled", usage={"tokens": 1}))) == ["InputDismissed"]
    assert account(p) == before


def test_a_call_whose_time_is_over_is_settled_when_it_has_ended() -> None:
    p = started(
        {"a": calling(reserve={"tokens": 60}, timeout="1h", on_exhausted="continue"), "b": agent("y")}, tokens=100
    )
    p.wait("a")
    assert account(p).reserved == {"tokens": 60}
    p.deliver()
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 30}, reserved={"tokens": 0})


def test_a_late_completion_settles_the_first_call_and_leaves_the_second_to_its_end() -> None:
    p = started({"a": calling(reserve={"tokens": 30}, timeout="1h"), "b": agent("y")}, tokens=100)
    p.wait("a")
    p.command("retry")
    assert account(p).reserved == {"tokens": 60}
    p.give(end_of(p, usage={"tokens": 11}))
    assert (account(p).spent, account(p).reserved) == ({"tokens": 11}, {"tokens": 30})
    p.give(end_of(p, attempt=2, status="cancelled", usage={"tokens": 4}))
    assert (account(p).spent, account(p).reserved) == ({"tokens": 15}, {"tokens": 0})


def test_a_completion_after_a_failure_that_has_been_settled_is_not_charged_again() -> None:
    p = started({"a": calling(reserve={"tokens": 30}), "b": agent("y")}, tokens=100)
    p.give(end_of(p, status="failed", usage={"tokens": 11}))
    p.give(end_of(p, usage={"tokens": 12}))
    assert p.step("a").status == "succeeded"
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 11}, reserved={"tokens": 0})


def test_a_call_taken_back_that_could_not_be_sent_costs_nothing() -> None:
    p = race()
    effect = f"{p.task_id('a')}/1/call"
    events = p.give(Undeliverable(workflow_id="r:k", effect_id=effect, topic="t", code="gone", message="gone"))
    assert only(events, UsageReported).usage == {}
    assert p.step("first").status == "running"
    again = p.give(Undeliverable(workflow_id="r:k", effect_id=effect, topic="t", code="gone", message="gone"))
    assert names(again) == ["EffectUndeliverable"]


def test_the_end_of_such_a_call_that_is_set_aside_counts_whole_and_what_waits_for_it_is_told() -> None:
    p = race()
    parked = InputParked(
        code="malformed",
        message="not JSON",
        topic="mesh.inbox",
        partition=0,
        offset=9,
        timestamp_ms=0,
        key=None,
        value=None,
        headers=[],
    )
    about = parse_crossing_id(f"{p.task_id('a')}/1/end")
    decided = park(p.workflow(), parked, about, workflow_id="r:k", now_ms=p.now_ms)
    assert names(decided.events) == ["InputParked", "UsageReported", "IncidentRaised"]
    assert only(decided.events, IncidentRaised).step == "first"
    assert decided.workflow is not None
    assert decided.workflow.account == Account(limits={"tokens": 100}, spent={"tokens": 60}, reserved={"tokens": 0})


def test_nothing_is_accounted_for_once_the_workflow_has_ended() -> None:
    p = race()
    p.command("cancel")
    assert only(p.decisions[-1].events, WorkflowEnded).usage == {"tokens": 60}
    assert account(p).unheard == {}
    assert only(p.give(end_of(p, status="cancelled", usage={"tokens": 1})), InputDismissed).code == "closed"


def test_an_end_of_a_workflow_without_a_budget_is_dismissed_as_ever() -> None:
    p = Partition(route({"a": calling(timeout="1h", on_exhausted="continue"), "b": agent("y")}), SUB)
    p.start()
    p.wait("a")
    assert names(p.give(end_of(p, status="cancelled", usage={"tokens": 1}))) == ["InputDismissed"]


def test_what_stands_in_no_id_of_a_call_accounts_for_nothing() -> None:
    p = race()
    events = p.give(Undeliverable(workflow_id="r:k", effect_id="r:k/x/a/call", topic="t", code="c", message="m"))
    assert names(events) == ["EffectUndeliverable"]


# Time ---------------------------------------------------------------------------------------------


def test_a_call_is_taken_back_when_the_callers_time_is_over() -> None:
    p = started({"a": calling(reserve={"tokens": 40})}, tokens=100, time="1h")
    p.wait_budget()
    assert p.workflow().status == "failed"
    p.deliver()
    assert p.workflow(child(p)).status == "cancelled"


def test_no_call_is_made_once_the_time_is_over() -> None:
    steps = {"a": agent("y"), "b": calling(needs="a")}
    p = started(steps, tokens=100, time="1h", **ASK)
    p.wait_budget()
    assert only(p.succeed("a", usage={"tokens": 1}), TaskHeld).reason == "needs more time"


# An attempt counts once ---------------------------------------------------------------------------

TWICE: dict[str, Any] = {"retry": {"attempts": 3, "backoff": "0s"}, "timeout": "1m"}


def silent_then(p: Partition) -> None:
    """The first attempt is not heard of, and the second is out."""
    p.wait("a")
    p.wait("a")


def test_a_late_success_takes_its_own_charge_back_whatever_the_attempt_after_it_has_said() -> None:
    p = started({"a": agent("y", reserve={"tokens": 40}, **TWICE), "b": agent("z")}, tokens=200)
    silent_then(p)
    p.give(replace(result(p, 2), status="failed", usage={"tokens": 5}))
    assert account(p).spent == {"tokens": 45}
    p.give(replace(result(p, 1), usage={"tokens": 15}))
    assert account(p) == Account(limits={"tokens": 200}, spent={"tokens": 20}, reserved={"tokens": 0})


def test_a_late_success_while_the_next_attempt_is_out_counts_that_one_whole() -> None:
    p = started({"a": agent("y", reserve={"tokens": 40}, **TWICE), "b": agent("z")}, tokens=200)
    silent_then(p)
    p.give(replace(result(p, 1), usage={"tokens": 15}))
    assert account(p) == Account(limits={"tokens": 200}, spent={"tokens": 55}, reserved={"tokens": 0})


def test_a_second_word_of_an_attempt_counts_in_the_place_of_its_first() -> None:
    p = started({"a": agent("y", reserve={"tokens": 40}, **TWICE), "b": agent("z")}, tokens=200)
    p.give(replace(result(p, 1), status="failed", usage={"tokens": 25}))
    p.give(replace(result(p, 1), usage={"tokens": 30}))
    assert account(p).spent == {"tokens": 30}


def test_a_late_success_that_says_nothing_leaves_what_has_counted() -> None:
    p = started({"a": agent("y", reserve={"tokens": 40}, **TWICE), "b": agent("z")}, tokens=200)
    silent_then(p)
    p.give(replace(result(p, 1), usage=None))
    assert account(p).spent == {"tokens": 80}


def test_what_an_attempt_was_charged_outlasts_a_hold() -> None:
    p = started({"a": agent("y", reserve={"tokens": 40}, **TWICE), "b": agent("z", reserve={"tokens": 40})}, tokens=100)
    silent_then(p)
    assert p.step("a").status == "held"
    p.give(replace(result(p, 1), usage={"tokens": 15}))
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 15}, reserved={"tokens": 40})


def result(p: Partition, attempt: int) -> ResultReceived:
    return ResultReceived(
        task_id=p.task_id("a"),
        attempt=attempt,
        workflow_id="r:k",
        status="succeeded",
        error=TaskError(kind="Boom", message="it broke"),
    )


# Never sent ---------------------------------------------------------------------------------------


def test_a_task_that_is_cancelled_in_the_decision_that_made_it_costs_nothing() -> None:
    steps = {
        "go": agent("w"),
        "a": agent("x", needs="go", reserve={"tokens": 40}),
        "each": agent("x", needs="go", for_each=[1, 2], reserve={"tokens": 10}),
        "b": {"value": 1, "needs": "go"},
        "first": agent("y", needs={"first_of": ["a", "each", "b"]}, reserve={"tokens": 30}),
    }
    p = started(steps, tokens=100, hops=9)
    events = p.succeed("go", usage={"tokens": 0})
    sent = [effect.step for effect in p.effects() if isinstance(effect, SendTask)]
    assert sent == ["first"]
    assert [event.step for event in events if isinstance(event, TaskDispatched)] == ["a", "each[0]", "each[1]", "first"]
    spent = {"tokens": 0.0, "hops": 2.0}
    assert account(p) == Account(limits={"tokens": 100, "hops": 9}, spent=spent, reserved={"tokens": 30})


def test_nor_does_one_that_was_made_as_the_workflow_ended() -> None:
    steps = {
        "go": agent("w", reserve={"tokens": 20}),
        "a": agent("x", needs="go", reserve={"tokens": 40}),
        "b": {"end": "completed", "needs": "go"},
    }
    p = started(steps, tokens=100)
    p.succeed("go", usage={"tokens": 7})
    assert only(p.decisions[-1].events, WorkflowEnded).usage == {"tokens": 7}


def test_nor_does_one_that_was_cancelled_before_the_workflow_ended_in_the_same_decision() -> None:
    steps = {
        "go": agent("w"),
        "a": agent("x", needs="go", reserve={"tokens": 40}),
        "b": {"value": 1, "needs": "go"},
        "over": {"end": "completed", "needs": {"first_of": ["a", "b"]}},
    }
    p = started(steps, tokens=100)
    events = p.succeed("go", usage={"tokens": 7})
    assert names(events)[1:] == ["TaskDispatched", "StepComputed", "StepCancelled", "StepComputed", "WorkflowEnded"]
    assert only(events, WorkflowEnded).usage == {"tokens": 7}


def test_what_waits_for_a_slot_as_the_workflow_ends_has_taken_nothing() -> None:
    one = route(
        {"a": agent("x", reserve={"tokens": 40}, limit="l")}, budget={"tokens": 100}, limits={"l": {"concurrency": 1}}
    )
    p = Partition(one)
    p.start()
    p.command("cancel")
    assert only(p.decisions[-1].events, WorkflowEnded).usage == {"tokens": 0}


def test_a_run_without_a_budget_says_nothing_of_what_it_has_taken() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    p.succeed("a")
    assert only(p.decisions[-1].events, WorkflowEnded).usage is None

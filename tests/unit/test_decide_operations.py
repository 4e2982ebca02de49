"""Decide: the commands of bulk operations, each of which a workflow obeys once."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from one_partition import Partition, agent, approval, names, only, route

from mesh.codec.effects import effect_id
from mesh.core.effects import TellForked, effects
from mesh.core.events import (
    ApprovalClosed,
    CommandAccepted,
    CommandRefused,
    Event,
    StepCompleted,
    StepSkipped,
    TaskDispatched,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowForked,
)
from mesh.core.forks import Fork, KeptResult
from mesh.core.state import StepState

ONCE: dict[str, Any] = {"retry": {"attempts": 1}}
OPERATION = "op-1"


def stuck() -> Partition:
    p = Partition(route({"a": agent(**ONCE)}))
    p.start()
    p.fail("a")
    return p


def refusal(p: Partition, command: Any, operation: str = OPERATION) -> str:
    return only(p.command(command, operation=operation), CommandRefused).code


@pytest.mark.parametrize("command", ["retry", "skip", "fail", "cancel"])
def test_a_command_of_an_operation_that_comes_again_is_not_obeyed_again(command: Any) -> None:
    p = stuck()
    assert only(p.command(command, operation=OPERATION), CommandAccepted).operation == OPERATION
    before = p.workflow()
    assert refusal(p, command) == "repeated"
    assert p.workflow() == before
    p.check_replay()


def test_a_retry_that_comes_again_leaves_the_incident_that_it_led_to() -> None:
    p = stuck()
    p.command("retry", operation=OPERATION)
    p.fail("a")
    assert p.step("a").status == "incident"
    assert refusal(p, "retry") == "repeated"
    assert p.step("a").status == "incident"
    # another operation is another order
    assert TaskDispatched.__name__ in names(p.command("retry", operation="op-2"))
    p.check_replay()


def test_what_was_refused_is_refused_again_although_it_would_be_possible_now() -> None:
    p = Partition(route({"a": agent(**ONCE)}))
    p.start()
    assert refusal(p, "retry") == "no_incident"
    p.fail("a")
    assert refusal(p, "retry") == "repeated"
    assert p.step("a").status == "incident"
    p.check_replay()


def test_an_operation_on_what_is_not_there_is_refused_as_any_command_is() -> None:
    p = Partition(route({"a": agent(**ONCE)}))
    assert refusal(p, "retry") == "unknown"
    assert refusal(p, "retry") == "unknown"
    p.check_replay()


def test_single_commands_may_be_given_again() -> None:
    p = stuck()
    for _ in range(2):
        p.command("retry")
        p.fail("a")
    assert p.workflow().operations == ()
    p.check_replay()


@given(
    st.lists(st.sampled_from(["retry", "again", "other", "fail", "succeed", "late", "cancel", "replay"]), max_size=20)
)
def test_a_bulk_retry_met_by_anything_leaves_one_result_a_step(acts: list[str]) -> None:
    p = stuck()
    accepted = {OPERATION: 0, "op-2": 0}
    for act in acts:
        if act in ("retry", "again", "other", "cancel"):
            operation = "op-2" if act == "other" else OPERATION if act != "cancel" else ""
            events = p.command("cancel" if act == "cancel" else "retry", operation=operation)
            accepted[operation] = accepted.get(operation, 0) + sum(isinstance(e, CommandAccepted) for e in events)
        elif act == "replay":
            # as after a take-over
            p.check_replay()
        elif p.workflow().status == "running" and p.step("a").status == "running":
            p.fail("a") if act == "fail" else p.succeed("a")
    assert accepted[OPERATION] <= 1
    assert accepted["op-2"] <= 1
    settled = [e for decision in p.decisions for e in decision.events if isinstance(e, TaskSucceeded)]
    assert len(settled) <= 1
    p.check_replay()


# Every verb ---------------------------------------------------------------------------------------

WIDE = route(
    {
        "a": agent(**ONCE),
        "review": approval(),
        "b": agent(needs=["a", "review"], **ONCE),
        "c": agent(needs="b", **ONCE),
    }
)
EVENT = {"specversion": "1.0", "id": "e1", "source": "/orders", "type": "t", "subject": "k"}
ABOUT = Fork(of="r:k", run_id="aa", event=EVENT, steps={"a": KeptResult(status="succeeded", output="done")})
# a few verbs at a time: else most runs end before an operation comes again that could be obeyed
THEMES = (
    ("pause", "resume"),
    ("retry",),
    ("retry", "skip", "pause"),
    ("retry", "fail", "resume"),
    ("complete", "retry", "fork"),
    ("fork", "cancel"),
)
NOTHING: Final = StepState(status="blocked")
_SETTLES = (TaskSucceeded, StepCompleted, StepSkipped, ApprovalClosed)


def acts_of(verbs: Sequence[str]) -> st.SearchStrategy[list[tuple[str, str, str]]]:
    """Orders of these verbs, which come again at once and later, and what else may come."""
    return st.lists(
        st.one_of(
            *[st.tuples(st.just("operation"), st.sampled_from(verbs), st.sampled_from("1112"))] * 3,
            st.tuples(
                st.sampled_from(["succeed", "late", "fail"]), st.sampled_from("aabc"), st.sampled_from(["k", "k~1"])
            ),
            st.tuples(st.just("answer"), st.sampled_from(["approve", "reject"]), st.sampled_from(["k", "k~1"])),
            st.tuples(st.just("take over"), st.just(""), st.just("")),
        ),
        min_size=15,
        max_size=25,
    )


def order(p: Partition, verb: Any, name: str) -> tuple[str, tuple[Event, ...]]:
    """A command of an operation, and the workflow that it goes to."""
    if verb == "fork":
        return "k~1", p.fork("k~1", "review", ABOUT, to=WIDE, operation=name)
    if verb == "complete":
        return "k", p.command(verb, operation=name, step="a", output="by hand")
    return "k", p.command(verb, operation=name)


def act(p: Partition, what: str, which: str, key: str) -> None:
    """A result, an answer or a take-over. A result comes also for what is settled."""
    if what == "take over":
        p.check_replay()
    elif p.id_of(key) in p.state.workflows and what == "answer":
        p.answer(decision="approve" if which == "approve" else "reject", key=key)
    elif p.id_of(key) in p.state.workflows and p.workflow(key).steps.get(which, NOTHING).attempt:
        if what == "fail":
            p.fail(which, key=key)
        else:
            p.succeed(which, key=key, attempt=1 if what == "late" else 0)


@given(st.sampled_from(THEMES).flatmap(acts_of))
@settings(max_examples=draws(150))
def test_each_verb_in_bulk_met_by_anything_leaves_one_result_a_step(drawn: list[tuple[str, str, str]]) -> None:
    p = Partition(WIDE)
    p.start()
    obeyed: Counter[tuple[str, str]] = Counter()
    for what, which, rest in drawn:
        if what != "operation":
            act(p, what, which, rest)
            continue
        name = f"op-{which}-{rest}"
        for _ in range(2):
            key, events = order(p, which, name)
            obeyed[key, name] += any(isinstance(event, CommandAccepted) for event in events)
        for told in [one for one in effects(p.decisions[-2]) if isinstance(one, TellForked)]:
            p.fork("k", told.step, Fork(into=told.workflow_id), operation=effect_id(told))
            p.fork("k", told.step, Fork(into=told.workflow_id), operation=effect_id(told))
    assert max(obeyed.values(), default=0) <= 1
    happened = [(one.workflow_id, event) for one in p.decisions for event in one.events]
    results = Counter((workflow, event.step) for workflow, event in happened if isinstance(event, _SETTLES))
    assert max(results.values(), default=0) <= 1
    ends = Counter(workflow for workflow, event in happened if isinstance(event, WorkflowEnded))
    assert max(ends.values(), default=0) <= 1
    # of two operations to fork one has begun the new run, and the other workflow has noted it once
    begun = [event for _, event in happened if isinstance(event, WorkflowForked)]
    assert len([one for one in begun if one.of]) == len([one for one in begun if one.into]) <= 1
    p.check_replay()

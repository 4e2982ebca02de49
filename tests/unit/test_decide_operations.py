"""Decide: the commands of bulk operations, each of which a workflow obeys once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_partition import Partition, agent, names, only, route

from mesh.core.events import CommandAccepted, CommandRefused, TaskDispatched, TaskSucceeded

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

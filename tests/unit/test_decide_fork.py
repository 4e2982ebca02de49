"""Fork: a new run from a step of another one, which stays as it is."""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, names, only, route

from mesh.codec.commands import decode_command, encode_told_fork
from mesh.codec.effects import effect_id
from mesh.core import ids
from mesh.core.effects import PublishOutcome, TellForked
from mesh.core.events import CommandRefused, TaskDispatched, WorkflowEnded, WorkflowForked, WorkflowStarted
from mesh.core.forks import Fork, KeptResult, from_on, kept_results
from mesh.core.state import Origin
from mesh.core.topics import Topics
from mesh.ports import Record

ROUTE = route(
    {
        "price": agent("pricer", "${{ event.data }}", undo=agent("unpricer")),
        "stock": agent("stocker"),
        "charge": agent("payer", "${{ steps.price }}", needs="price"),
        "mail": agent("mailer", "${{ steps.charge }}", needs=["charge", "stock"]),
    }
)
EVENT = {"specversion": "1.0", "id": "e1", "source": "/orders", "type": "t", "subject": "k", "data": 5}
KEPT = {"price": KeptResult(status="succeeded", output=7), "stock": KeptResult(status="succeeded", output="full")}


def about(**more: Any) -> Fork:
    return Fork(of="r:k", run_id="aa", event=EVENT, steps=KEPT, **more)


def refusal(p: Partition, key: str, step: str, fork: Fork, **more: Any) -> str:
    return only(p.fork(key, step, fork, **{"to": ROUTE, **more}), CommandRefused).code


def other() -> Partition:
    """A run whose mail failed: its results so far are 7 and full."""
    p = Partition(ROUTE)
    p.start(data=5)
    p.succeed("price", 7)
    p.succeed("stock", "full")
    return p


def test_what_begins_again_is_the_step_and_all_that_need_it() -> None:
    assert from_on(ROUTE, "charge") == {"charge", "mail"}
    p = other()
    p.succeed("charge", "paid")
    assert kept_results(ROUTE, "charge", p.workflow().steps) == KEPT
    assert kept_results(ROUTE, "price", p.workflow().steps) == {"stock": KEPT["stock"]}


def test_a_new_run_goes_on_from_the_step_with_the_results_of_the_other() -> None:
    p = other()
    before = p.workflow()
    events = p.fork("k~1", "charge", about(), to=ROUTE)
    assert names(events) == ["CommandAccepted", "WorkflowStarted", "WorkflowForked", "TaskDispatched"]
    sent = only(events, TaskDispatched)
    assert (sent.step, sent.input) == ("charge", 7)
    assert only(events, WorkflowStarted).cloud_event == EVENT
    new = p.workflow("k~1")
    assert new.origin == Origin(workflow_id="r:k", run_id="aa", step="charge", kept=("price", "stock"))
    assert new.run_id != before.run_id
    assert p.workflow() == before
    p.succeed("charge", "paid", key="k~1")
    p.succeed("mail", "sent", key="k~1")
    assert only(p.effects()[-1:], PublishOutcome).output == {"mail": "sent"}
    p.check_replay()


def test_the_other_workflow_notes_it_and_stays_as_it_is() -> None:
    p = other()
    p.command("cancel")
    for _ in range(2):
        before = p.workflow()
        events = p.fork("k", "charge", Fork(into="r:k~1"))
        assert names(events) == ["CommandAccepted", "WorkflowForked"]
        assert only(events, WorkflowForked).into == "r:k~1"
        assert p.workflow() == before
        p.check_replay()
        if p.workflow().status == "running":
            p.succeed(ids.undo_place("price"))


def test_the_new_run_tells_the_other_one_which_notes_it_once() -> None:
    p = other()
    p.fork("k~1", "charge", about(), to=ROUTE)
    told = only(p.effects(), TellForked)
    assert (told.workflow_id, told.of, told.step, told.by, told.reason) == (
        "r:k~1",
        "r:k",
        "charge",
        "op",
        "another price",
    )
    sent = encode_told_fork(told, topics=Topics())
    given = decode_command(
        Record(
            topic=sent.topic,
            partition=0,
            offset=0,
            timestamp_ms=told.at_ms,
            key=sent.key,
            value=sent.value,
            headers=sent.headers,
        )
    )
    assert (given.workflow_id, given.command, given.fork) == ("r:k", "fork", Fork(into="r:k~1"))
    assert given.operation == given.command_id == effect_id(told)
    noted = p.fork("k", "charge", Fork(into="r:k~1"), operation=given.operation)
    assert names(noted) == ["CommandAccepted", "WorkflowForked"]
    # who takes the new run over may send it again
    assert only(p.fork("k", "charge", Fork(into="r:k~1"), operation=given.operation), CommandRefused).code == "repeated"
    assert not [one for one in p.effects() if isinstance(one, TellForked)]
    p.check_replay()


def test_an_input_by_hand_is_that_of_the_step() -> None:
    p = Partition(ROUTE)
    events = p.fork("k~1", "charge", about(), to=ROUTE, task_input=9)
    assert only(events, TaskDispatched).input == 9
    p.check_replay()


def test_what_the_other_run_did_is_not_undone_by_the_new_one() -> None:
    p = Partition(ROUTE)
    p.fork("k~1", "charge", about(), to=ROUTE)
    assert only(p.command("cancel", key="k~1"), WorkflowEnded).status == "cancelled"


def test_a_step_whose_needs_are_not_kept_begins_when_they_are_done() -> None:
    p = Partition(ROUTE)
    fork = Fork(of="r:k", run_id="aa", event=EVENT, steps={})
    events = p.fork("k~1", "charge", fork, to=ROUTE)
    assert [event.step for event in events if isinstance(event, TaskDispatched)] == ["price", "stock"]
    p.check_replay()


def test_a_fork_has_a_budget_of_its_own_and_is_found_as_the_other_is() -> None:
    rich = route(
        {"a": agent(), "b": agent(needs="a")}, budget={"hops": 3, "time": "1h"}, search={"n": "${{ event.data }}"}
    )
    p = Partition(rich)
    events = p.fork("k~1", "b", Fork(of="r:k", run_id="aa", event=EVENT), to=rich)
    started = only(events, WorkflowStarted)
    assert (started.budget, started.search) == ({"hops": 3.0}, {"n": 5})
    assert started.expires_at_ms == p.now_ms + 3_600_000


@pytest.mark.parametrize(
    ("key", "step", "fork", "more", "code"),
    [
        ("k", "charge", about(), {}, "already"),
        ("k~1", "nosuch", about(), {}, "unknown_step"),
        ("k~1", "price", about(), {}, "misfit"),
        ("k~1", "mail", Fork(of="r:k", run_id="aa", event=EVENT, steps={"x": KEPT["price"]}), {}, "misfit"),
        ("k~1", "charge", about(), {"to": None}, "no_version"),
        ("other:k~1", "charge", about(), {}, "other_route"),
        ("k~1", "mail", about(), {"task_input": 1}, "input"),
        ("nosuch", "charge", Fork(into="r:k~1"), {}, "unknown"),
    ],
)
def test_what_can_not_be_forked_is_refused(key: str, step: str, fork: Fork, more: dict[str, Any], code: str) -> None:
    p = other()
    assert refusal(p, key, step, fork, **more) == code


def test_only_a_task_or_a_call_takes_an_input() -> None:
    asks = route({"a": agent(), "review": approval(needs="a")})
    p = Partition(asks)
    fork = Fork(of="r:k", run_id="aa", event=EVENT, steps={"a": KEPT["price"]})
    assert refusal(p, "k~1", "review", fork, to=asks, task_input=1) == "input"


def test_a_fork_that_says_nothing_is_refused() -> None:
    p = other()
    found = p.command("fork", step="charge")
    assert only(found, CommandRefused).code == "malformed"

"""Decide: a workflow that does not complete undoes what it did, the last first.

Also what it may have done.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, approval, names, only, route

from mesh.core.effects import SendTask
from mesh.core.events import (
    ApprovalWithdrawn,
    CompensationStarted,
    IncidentRaised,
    InputDismissed,
    StepCancelled,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.inputs import TaskUndeliverable
from mesh.testing.promises.rules import broken_rules

ONCE: dict[str, Any] = {"retry": {"attempts": 1, "backoff": "1s"}}


def doing(name: str, **more: Any) -> dict[str, Any]:
    """A step that can be undone."""
    return agent(name, 1, undo=agent(f"un{name}", f"${{{{ steps.{name} }}}}", **ONCE), **more)


def started(steps: dict[str, Any], data: Any = None) -> Partition:
    p = Partition(route(steps))
    p.start(data=data)
    return p


def plan(p: Partition) -> tuple[str, ...]:
    """What the last decision begins to undo, in order."""
    return only(p.decisions[-1].events, CompensationStarted).steps


def tasks(p: Partition) -> list[tuple[str, Any]]:
    return [(effect.step, effect.input) for effect in p.effects() if isinstance(effect, SendTask)]


# In order -----------------------------------------------------------------------------------------


def test_what_was_done_is_undone_one_at_a_time_the_last_first_with_its_output() -> None:
    p = started({"a": doing("a"), "b": doing("b"), "c": agent(needs=["a", "b"], on_exhausted="fail", **ONCE)})
    p.now_ms += 1
    p.succeed("b", "B")
    p.now_ms += 1
    p.succeed("a", "A")
    p.fail("c")
    assert (plan(p), tasks(p)) == (("a", "b"), [("a.undo", "A")])
    assert p.task_id("a.undo").endswith("/a.undo")
    assert p.workflow().status == "running"
    p.succeed("a.undo")
    assert tasks(p) == [("b.undo", "B")]
    p.succeed("b.undo")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("failed", "c: Boom: it broke (attempt 1 of 1)")
    assert p.workflow().ending is None
    p.check_replay()


def test_what_was_done_at_once_is_undone_against_the_routes_order() -> None:
    p = started({"a": doing("a"), "b": doing("b", needs="a"), "c": {"needs": "b", "end": "rejected"}})
    p.succeed("a")
    p.succeed("b")
    assert plan(p) == ("b", "a")


def test_a_workflow_that_completes_undoes_nothing() -> None:
    p = started({"a": doing("a"), "b": {"needs": "a", "end": "completed"}, "c": agent(needs="b")})
    p.succeed("a")
    assert p.workflow().status == "completed"


@pytest.mark.parametrize("how", ["failed", "rejected", "cancelled"])
def test_it_is_undone_however_else_it_ends(how: str) -> None:
    p = started({"a": doing("a"), "q": approval(needs="a"), "f": agent(needs="a", on_exhausted="fail", **ONCE)})
    p.succeed("a")
    match how:
        case "failed":
            p.fail("f")
        case "rejected":
            p.answer("q", "reject")
        case _:
            p.command("cancel")
    assert plan(p) == ("a",)
    p.succeed("a.undo")
    assert p.workflow().status == how


# What may have been done --------------------------------------------------------------------------


def test_a_task_that_is_out_may_be_done() -> None:
    p = started({"a": doing("a"), "q": approval(), "w": {"wait": "1d"}, "n": agent(needs="a")})
    p.command("cancel")
    assert (plan(p), tasks(p)) == (("a",), [("a.undo", None)])
    assert {e.step for e in p.decisions[-1].events if isinstance(e, StepCancelled)} == {"a", "w"}
    assert only(p.decisions[-1].events, ApprovalWithdrawn).step == "q"
    assert only(p.succeed("a"), InputDismissed).code == "repeated"


def test_what_has_failed_was_not_done() -> None:
    p = started({"a": doing("a", **ONCE)})
    p.fail("a")
    p.command("cancel")
    assert p.workflow().status == "cancelled"


def test_what_could_not_be_sent_was_not_done() -> None:
    p = started({"a": doing("a")})
    p.give(TaskUndeliverable(workflow_id="r:k", task_id=p.task_id("a"), attempt=1, code="gone", message="no topic"))
    p.command("cancel")
    assert p.workflow().status == "cancelled"


@pytest.mark.parametrize("then", ["wait", "incident", "fails", "skipped", "handed over"])
def test_what_was_last_heard_of_by_a_time_out_may_be_done_whatever_follows(then: str) -> None:
    attempts = 1 if then in {"incident", "skipped"} else 2
    retry = {"attempts": attempts, "backoff": "1s"}
    p = started({"a": doing("a", retry=retry, handover={"to": "z"}), "b": agent(needs="a")})
    p.wait("a")
    match then:
        case "fails":
            p.wait("a")
            p.fail("a")
        case "skipped":
            p.command("skip")
        case "handed over":
            p.wait("a")
            p.hand_over("a", "z")
            p.fail("a")
        case _:
            pass
    p.command("cancel")
    assert plan(p) == ("a",)


def test_what_a_race_cancelled_may_be_done() -> None:
    p = started({"a": doing("a"), "b": agent(), "j": agent(needs={"first_of": ["a", "b"]})})
    p.succeed("b")
    p.command("cancel")
    assert plan(p) == ("a",)


def test_what_an_earlier_round_did_is_undone() -> None:
    steps = {
        "a": doing("a", **ONCE),
        "b": doing("b", needs="a", repeat={"from": "a", "until": "false", "limit": 2}),
    }
    p = started(steps)
    p.succeed("a", "A")
    p.succeed("b", "B")
    p.fail("a")
    p.command("cancel")
    assert set(plan(p)) == {"a", "b"}
    assert tasks(p)[0][1] in {"A", "B"}


def test_a_loop_at_its_bound_was_done() -> None:
    p = started({"a": doing("a", repeat={"until": "false", "limit": 1})})
    p.succeed("a", "A")
    p.command("cancel")
    assert (plan(p), tasks(p)) == (("a",), [("a.undo", "A")])


def test_a_step_that_was_skipped_or_blocked_or_never_began_was_not_done() -> None:
    steps = {
        "a": doing("a", **{"if": "false"}),
        "f": agent(on_exhausted="continue", **ONCE),
        "b": doing("b", needs="f"),
        "q": approval(),
        "c": doing("c", needs="q"),
    }
    p = started(steps)
    p.fail("f")
    assert p.step("b").status == "blocked"
    p.command("cancel")
    assert p.workflow().status == "cancelled"


# For each -----------------------------------------------------------------------------------------


def listed(**more: Any) -> dict[str, Any]:
    return doing("a", for_each="${{ event.data }}", **more)


def test_a_for_each_is_undone_once_with_the_list_of_its_outputs() -> None:
    p = started({"a": listed(), "f": agent(needs="a", on_exhausted="fail", **ONCE)}, data=[1, 2])
    p.succeed("a[0]", "x")
    p.succeed("a[1]", "y")
    p.fail("f")
    assert tasks(p) == [("a.undo", ["x", "y"])]


@pytest.mark.parametrize("how", ["cancel", "fail", "continue"])
def test_a_for_each_half_done_is_undone_with_what_its_items_gave_so_far(how: str) -> None:
    chosen = {"on_exhausted": how} if how != "cancel" else {}
    p = started(
        {"a": listed(**ONCE, **chosen), "b": agent(needs="a", **{"if": "status.a == 'failed'"})}, data=["x", "y", "z"]
    )
    p.succeed("a[1]", "Y")
    if how != "cancel":
        p.fail("a[0]")
    if how != "fail":
        p.command("cancel")
    assert tasks(p) == [("a.undo", [None, "Y", None])]
    assert [name for name in p.workflow().steps if name.startswith("a[")] == []
    p.succeed("a.undo")
    p.check_replay()


def test_a_for_each_that_began_in_the_decision_that_ends_it_sends_no_item() -> None:
    p = started({"go": agent(), "a": {**listed(), "needs": "go"}, "b": {"needs": "go", "end": "failed"}}, data=[1])
    p.succeed("go")
    assert names(p.decisions[-1].events).count("TaskDispatched") == 2
    assert [step for step, _ in tasks(p)] == ["a.undo"]


# While it is undone -------------------------------------------------------------------------------


def undoing() -> Partition:
    p = started({"a": doing("a"), "b": doing("b", needs="a"), "c": agent(needs="b")})
    p.succeed("a", "A")
    p.now_ms += 1
    p.succeed("b", "B")
    p.command("cancel")
    return p


def test_an_undo_that_fails_is_an_incident_and_a_retry_goes_on() -> None:
    p = undoing()
    p.fail("b.undo")
    assert only(p.decisions[-1].events, IncidentRaised).step == "b.undo"
    p.command("retry", step="b")
    p.succeed("b.undo")
    assert tasks(p) == [("a.undo", "A")]


def test_an_undo_has_attempts_of_its_own() -> None:
    p = started({"a": agent(undo=agent("u", retry={"attempts": 2, "backoff": "1s"}))})
    p.command("cancel")
    p.fail("a.undo")
    p.wait("a.undo")
    assert (p.step("a.undo").status, p.step("a.undo").attempt) == ("running", 2)
    p.wait("a.undo")
    assert p.step("a.undo").status == "incident"


def test_an_undo_may_be_skipped() -> None:
    p = undoing()
    p.fail("b.undo")
    p.command("skip", step="b.undo")
    assert tasks(p) == [("a.undo", "A")]
    p.fail("a.undo")
    p.command("skip")
    assert p.workflow().status == "cancelled"


def test_an_undo_that_is_failed_is_left_as_it_is_and_the_rest_is_undone() -> None:
    p = undoing()
    p.fail("b.undo")
    events = p.command("fail", reason="gone for good")
    assert names(events)[:4] == ["CommandAccepted", "IncidentResolved", "StepSkipped", "CompensationStarted"]
    assert tasks(p) == [("a.undo", "A")]
    p.succeed("a.undo")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("failed", "cancelled by op; b.undo was failed by op: gone for good")


def test_a_workflow_that_fails_anyway_says_both_reasons_where_an_undo_is_failed() -> None:
    steps = {"a": agent(undo=agent("u", "${{ steps.a.id }}")), "b": agent(needs="a", on_exhausted="fail")}
    p = started(steps)
    p.succeed("a", {})
    p.fail("b", retryable=False)
    assert p.step("a.undo").status == "incident"
    events = p.command("fail")
    reason = "b: Boom: it broke (trying again would not help); a.undo was failed by op"
    ended, again = only(events, WorkflowEnded), only(events, CompensationStarted)
    assert (ended.status, ended.reason) == (again.status, again.reason) == ("failed", reason)
    assert again.steps == ()


def test_what_is_left_when_an_undo_is_failed_is_what_was_not_yet_undone() -> None:
    p = undoing()
    p.succeed("b.undo")
    p.fail("a.undo")
    before = p.workflow()
    p.command("fail")
    decision = p.decisions[-1]
    assert only(decision.events, CompensationStarted).steps == ()
    assert list(broken_rules(before, decision, p.routes)) == []
    again = [replace(one, steps=("b",)) if isinstance(one, CompensationStarted) else one for one in decision.events]
    broken = broken_rules(before, replace(decision, events=tuple(again)), p.routes)
    assert next(broken) == "('b',) are undone before it ends as failed, and () are left"


def test_a_second_cancel_ends_the_workflow_as_it_stands() -> None:
    p = undoing()
    p.command("cancel")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("cancelled", "cancelled by op, before all was undone")
    assert p.step("b.undo").status == "cancelled"


def test_an_undo_whose_input_cant_be_made_is_an_incident() -> None:
    p = started({"a": agent(undo=agent("u", "${{ steps.a.id }}"))})
    p.command("cancel")
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.step, raised.kind) == ("a.undo", "expression")
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "IncidentRaised"]
    p.command("skip")
    assert p.workflow().status == "cancelled"


def test_an_undo_reads_the_steps_before_it() -> None:
    p = started({"a": agent(), "b": agent(needs="a", undo=agent("u", ["${{ steps.a }}", "${{ status.b }}"]))})
    p.succeed("a", "A")
    p.command("cancel")
    assert tasks(p) == [("b.undo", ["A", "cancelled"])]


def test_an_undo_of_a_later_round_has_one_task() -> None:
    p = started({"a": doing("a", repeat={"until": "false", "limit": 3})})
    p.succeed("a", "one")
    p.succeed("a", "two")
    p.command("cancel")
    assert p.task_id("a.undo").endswith("/a.undo")
    sent = [e.task_id for d in p.decisions for e in d.events if isinstance(e, TaskDispatched)]
    assert len(sent) == len(set(sent))
    assert tasks(p) == [("a.undo", "two")]

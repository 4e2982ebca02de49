"""What the promises say of operators' orders, by seeded faults: each must be noticed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from one_partition import Partition, agent, approval, route

from mesh.core.decide import progress
from mesh.core.decide.begin import task as begin_task
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle import command
from mesh.core.evolve import evolve
from mesh.core.inputs import CommandGiven
from mesh.core.state import Workflow
from mesh.testing.promises.rules import broken_rules

ROUTE = route({"a": agent(retry={"attempts": 2}), "b": agent(needs="a")})


def findings(p: Partition) -> list[str]:
    """What the promises say of the partition's decisions on its one workflow."""
    found: list[str] = []
    before: Workflow | None = None
    for decision in p.decisions:
        found += broken_rules(before, decision, p.routes)
        for event in decision.events:
            before = evolve(before, event, workflow_id=decision.workflow_id, at_ms=decision.at_ms)
    return found


def paused_while_a_retry_comes_due() -> Partition:
    p = Partition(ROUTE)
    p.start()
    p.command("pause", operation="op-1")
    p.fail("a")
    p.wait("a")
    p.command("resume", operation="op-2")
    p.command("resume", operation="op-2")
    p.succeed("a")
    p.command("pause", operation="op-3")
    p.succeed("b")
    p.command("resume")
    return p


def a_retry_of_a_paused_workflow_goes_out(patch: pytest.MonkeyPatch) -> None:
    honest = begin_task.dispatch

    def dispatch(draft: Draft, *about: Any, **more: Any) -> None:
        paused = draft.live.pause
        draft.workflow = replace(draft.live, pause=None)
        honest(draft, *about, **more)
        draft.workflow = replace(draft.live, pause=paused)

    patch.setattr("mesh.core.decide.settle.attempt.dispatch", dispatch)


def the_next_step_of_a_paused_workflow_begins(patch: pytest.MonkeyPatch) -> None:
    def is_going(draft: Draft) -> bool:
        return draft.live.status == "running" and draft.live.ending is None

    patch.setattr(progress, "is_going", is_going)
    # the task itself would be held
    honest = begin_task.dispatch
    patch.setattr(
        "mesh.core.decide.progress.dispatch",
        lambda draft, *about, **more: honest(_unpaused(draft), *about, **more),
    )


def _unpaused(draft: Draft) -> Draft:
    draft.workflow = replace(draft.live, pause=None)
    return draft


def an_operation_is_obeyed_each_time_it_comes(patch: pytest.MonkeyPatch) -> None:
    honest = command.on_command

    def on_command(draft: Draft, given: CommandGiven, target: Any) -> None:
        known = draft.live.operations
        draft.workflow = replace(draft.live, operations=())
        honest(draft, given, target)
        draft.workflow = replace(draft.live, operations=(*known, *draft.live.operations))

    patch.setattr("mesh.core.decide.on_command", on_command)


def test_what_is_decided_keeps_the_promises() -> None:
    assert findings(paused_while_a_retry_comes_due()) == []


def test_a_paused_workflow_that_dispatches_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    a_retry_of_a_paused_workflow_goes_out(monkeypatch)
    p = Partition(ROUTE)
    p.start()
    p.command("pause")
    p.fail("a")
    p.wait("a")
    assert findings(p) == ["a begins (TaskDispatched), and the workflow is paused"]


def test_a_paused_workflow_whose_next_step_begins_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    the_next_step_of_a_paused_workflow_begins(monkeypatch)
    p = Partition(route({"a": agent(), "review": approval(needs="a")}))
    p.start()
    p.command("pause")
    p.succeed("a")
    assert findings(p) == ["review begins (ApprovalRequested), and the workflow is paused"]


def test_an_operation_that_is_done_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    an_operation_is_obeyed_each_time_it_comes(monkeypatch)
    p = Partition(ROUTE)
    p.start()
    p.command("pause", operation="op-1")
    p.command("resume")
    p.command("pause", operation="op-1")
    assert findings(p) == ["operation op-1 is obeyed twice"]


ACTS = ("retry", "pause", "resume", "skip", "complete", "fail", "succeed", "due", "answer", "take over", "cancel")


@given(st.lists(st.sampled_from(ACTS), max_size=25), st.sampled_from(["op-1", "op-2", ""]))
def test_a_bulk_retry_met_by_anything_leaves_one_result_a_step(acts: list[str], operation: str) -> None:
    p = Partition(
        route({"a": agent(retry={"attempts": 1}), "review": approval(needs="a"), "b": agent(needs="review")}),
    )
    p.start()
    p.fail("a")
    for act in acts:
        if p.workflow().status != "running":
            break
        _act(p, act, operation)
    assert findings(p) == []
    for name in ("a", "b"):
        results = [e for d in p.decisions for e in d.events if type(e).__name__ in _RESULTS and e.step == name]  # type: ignore[union-attr]
        assert len(results) <= 1, f"{name} has two results"
    p.check_replay()


_RESULTS = frozenset({"TaskSucceeded", "StepCompleted", "StepSkipped"})


def _act(p: Partition, act: str, operation: str) -> None:
    out = [name for name in ("a", "b") if name in p.workflow().steps and p.step(name).status == "running"]
    match act:
        case "retry":
            p.command("retry", operation="op-1")
        case "pause" | "resume" | "skip" | "cancel":
            p.command(act, operation=operation and f"{operation}-{act}-{len(p.decisions)}")
        case "complete":
            p.command("complete", step="a", output=1)
        case "take over":
            p.take_over(f"router-{len(p.decisions)}")
            p.check_replay()
        case "answer" if "review" in p.workflow().steps and p.step("review").status == "asking":
            p.answer()
        case "fail" if out:
            p.fail(out[0])
        case "succeed" if out:
            p.succeed(out[0])
        case "due" if out and p.step(out[0]).due_at_ms is not None:
            p.wait(out[0])
        case _:
            pass

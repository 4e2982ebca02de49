"""Complete: the output of a step by hand."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, approval, called_route, calling, names, only, route

from mesh.core import ids
from mesh.core.effects import WithdrawTask
from mesh.core.events import CommandRefused, InputDismissed, StepCompleted, TaskDispatched, WorkflowEnded

ONCE: dict[str, Any] = {"retry": {"attempts": 1}}
ROUTE = route({"draft": agent("drafter", **ONCE), "b": agent("y", "${{ steps.draft.text }}", needs="draft")})
TEXT = {"text": "by hand"}


def started(*routes: Any, **data: Any) -> Partition:
    p = Partition(*(routes or (ROUTE,)))
    p.start(data=data)
    return p


def refusal(p: Partition, step: str, output: Any = 1) -> CommandRefused:
    return only(p.command("complete", step=step, output=output), CommandRefused)


def test_an_output_by_hand_counts_as_a_result_and_the_agents_own_does_not() -> None:
    p = started()
    events = p.command("complete", step="draft", output=TEXT, reason="it was late")
    assert names(events) == ["CommandAccepted", "StepCompleted", "TaskDispatched"]
    done = only(events, StepCompleted)
    assert (done.by, done.reason, done.output) == ("op", "it was late", TEXT)
    assert only(events, TaskDispatched).input == "by hand"
    # its agent hears that nobody waits for it
    assert [effect.agent for effect in p.effects() if isinstance(effect, WithdrawTask)] == ["drafter"]
    assert only(p.succeed("draft", output=TEXT, attempt=1), InputDismissed).code == "repeated"
    assert refusal(p, "draft", TEXT).code == "settled"
    p.check_replay()


def test_an_incident_is_resolved_by_it() -> None:
    p = started()
    p.fail("draft")
    events = p.command("complete", step="draft", output=TEXT)
    assert names(events) == ["CommandAccepted", "IncidentResolved", "StepCompleted", "TaskDispatched"]
    assert p.step("draft").incident is None
    p.check_replay()


@pytest.mark.parametrize(
    ("step", "output", "code", "said"),
    [
        ("draft", {"texts": 1}, "output", "it is not what agent drafter promises: the output"),
        ("b", 1, "not_begun", "b has not begun"),
        ("draft[0]", 1, "not_begun", "draft[0] has not begun"),
        ("none", 1, "unknown_step", "the route has no step none"),
    ],
)
def test_what_can_not_be_is_refused(step: str, output: Any, code: str, said: str) -> None:
    p = started()
    found = refusal(p, step, output)
    assert (found.code, said in found.message) == (code, True), found.message
    assert p.step("draft").status == "running"


def test_only_tasks_and_calls_have_an_output_by_hand() -> None:
    p = started(route({"review": approval(), "all": agent(for_each="${{ event.data.n }}")}), n=[1, 2])
    assert refusal(p, "review").code == "no_task"
    found = refusal(p, "all")
    assert (found.code, "complete its items, such as all[0]" in found.message) == ("no_task", True)
    assert names(p.command("complete", step="all[0]", output=5)) == ["CommandAccepted", "StepCompleted"]
    p.succeed("all[1]", output=6)
    assert p.step("all").output == [5, 6]
    p.check_replay()


def test_it_needs_the_step_and_the_output() -> None:
    p = started()
    assert only(p.command("complete", step="draft"), CommandRefused).code == "malformed"
    assert only(p.command("complete", output=1), CommandRefused).code == "malformed"


def test_a_call_is_taken_back() -> None:
    p = started(route({"c": calling()}), called_route({"s": agent()}))
    assert names(p.command("complete", step="c", output=1)) == [
        *("CommandAccepted", "CallWithdrawn", "StepCompleted", "WorkflowEnded")
    ]
    p.check_replay()


def test_a_compensation_may_be_done_by_hand() -> None:
    p = started(route({"a": agent(undo=agent("y", **ONCE)), "b": agent(needs="a")}))
    p.succeed("a")
    p.command("cancel")
    p.fail(ids.undo_place("a"))
    assert only(p.command("complete", step=ids.undo_place("a"), output=None), WorkflowEnded).status == "cancelled"
    p.check_replay()


def test_a_step_whose_loop_is_stuck_has_its_output() -> None:
    p = started(route({"a": agent(repeat={"until": "steps.a.ok", "limit": 1})}))
    p.succeed("a", output={"ok": False})
    assert p.step("a").status == "incident"
    assert refusal(p, "a", {"ok": True}).code == "settled"


def test_a_loops_condition_reads_what_was_given_by_hand() -> None:
    p = started(route({"a": agent(repeat={"until": "steps.a.ok", "limit": 3})}))
    assert names(p.command("complete", step="a", output={"ok": False}))[-2:] == ["RoundStarted", "TaskDispatched"]
    assert p.step("a").round == 2
    assert only(p.command("complete", step="a", output={"ok": True}), WorkflowEnded).status == "completed"
    p.check_replay()


def test_what_was_reserved_for_the_task_counts_in_full() -> None:
    p = started(route({"a": agent(reserve={"tokens": 40})}, budget={"tokens": 100}))
    p.command("complete", step="a", output=1)
    account = p.workflow().account
    assert account is not None
    assert (account.spent, account.reserved) == ({"tokens": 40}, {"tokens": 0})
    p.check_replay()


def test_any_of_what_replicas_promise_will_do() -> None:
    p = started()
    p.directory = replace(p.directory, promised={"drafter": ({"type": "string"}, {"type": "number"})})
    assert refusal(p, "draft", None).code == "output"
    assert "StepCompleted" in names(p.command("complete", step="draft", output=3))


def test_an_operation_completes_each_workflow_once() -> None:
    p = started()
    p.command("complete", step="draft", output=TEXT, operation="op-1")
    again = only(p.command("complete", step="draft", output=TEXT, operation="op-1"), CommandRefused)
    assert again.code == "repeated"

"""Pauses of agents and routes: what they hold, what goes on, and what goes on after them."""

from typing import Any

from msgspec.structs import replace
from one_partition import Partition, agent, approval, called_route, calling, names, only, route

from mesh.core import ids
from mesh.core.events import CommandRefused, InputDismissed, PauseLifted, PauseSet, TaskDispatched, TaskHeld
from mesh.core.inputs import CommandGiven, SlotGiven, TimerDue
from mesh.core.pauses import agent_target, route_target, target_of
from mesh.core.state import Pause, Pauses

X, R = agent_target("x"), route_target("r")
TWO = {"a": agent("w"), "b": agent("x", needs="a")}


def lift(p: Partition, target: str) -> list[str]:
    """What follows in the workflows once it has resumed."""
    assert names(p.pause(target, "resume")) == ["CommandAccepted", "PauseLifted"]
    found = names(p.release())
    assert found[-1] == "HeldReleased"
    holder = p.state.workflows[ids.PAUSES]
    assert holder.pauses is not None
    assert not holder.pauses.releasing
    p.check_replay()
    return found[:-1]


def paused(target: str, steps: dict[str, Any], **more: Any) -> Partition:
    p = Partition(route(steps, **more))
    p.pause(target)
    p.start(data={"items": [1, 2, 3]})
    return p


def test_a_pause_says_who_and_why_and_a_second_one_is_refused() -> None:
    p = Partition(route(TWO))
    assert only(p.pause(X), PauseSet) == PauseSet(target=X, by="op", reason="look first")
    holder = p.state.workflows[ids.PAUSES]
    assert holder.pauses == Pauses(paused={X: Pause(by="op", at_ms=p.now_ms, reason="look first")})
    assert only(p.pause(X), CommandRefused).message == "agent x is paused already, by op"
    assert lift(p, X) == []
    assert only(p.pause(X, "resume"), CommandRefused).code == "already"


def test_one_partition_answers_the_sender_and_the_others_do_the_same_in_silence() -> None:
    p = Partition(route(TWO))
    where: dict[str, Any] = {"source_topic": "mesh.commands", "source_partition": 0, "source_at_ms": 0}

    def give(command: Any, offset: int) -> tuple[object, ...]:
        copy = CommandGiven(
            workflow_id="mesh.pauses:7",
            command_id="c",
            command=command,
            by="op",
            target=X,
            source_offset=offset,
            **where,
        )
        return p.give(copy)

    assert [type(event) for event in give("pause", 1)] == [PauseSet]
    assert [type(event) for event in give("pause", 2)] == [InputDismissed]
    assert [type(event) for event in give("resume", 3)] == [PauseLifted]


def test_what_is_not_about_pauses_is_dismissed_and_a_release_that_is_over_does_nothing() -> None:
    p = Partition(route(TWO))
    p.pause(target_of("agent", "x"))
    where: dict[str, Any] = {"source_topic": "t", "source_partition": 0, "source_offset": 1, "source_at_ms": 0}
    slot = SlotGiven(workflow_id=ids.PAUSES, limit="l", task_id="k/r/a", attempt=1, asked_at_ms=0, **where)
    assert only(p.give(slot), InputDismissed).code == "unknown"
    assert p.give(TimerDue(workflow_id=ids.PAUSES, kind="resumed", due_at_ms=p.now_ms)) == ()


def test_nothing_else_is_ordered_of_pauses() -> None:
    p = Partition(route(TWO))
    found = p.give(
        CommandGiven(
            workflow_id=ids.PAUSES,
            command_id="c",
            command="cancel",
            by="op",
            source_topic="mesh.commands",
            source_partition=0,
            source_offset=1,
            source_at_ms=0,
        )
    )
    assert only(found, CommandRefused).code == "built_in"


def test_a_task_for_a_paused_agent_is_held_and_others_go_out() -> None:
    p = paused(X, TWO)
    assert only(p.decisions[-1].events, TaskDispatched).agent == "w"
    held = only(p.succeed("a"), TaskHeld)
    assert (held.agent, held.reason, held.is_paused) == ("x", "agent x is paused", True)
    assert lift(p, X) == ["TaskDispatched"]
    assert p.step("b").agent == "x"


def test_what_is_out_goes_on_and_its_retry_is_held() -> None:
    p = Partition(route({"a": agent("x"), "b": agent("x", needs="a")}))
    p.start()
    p.pause(X)
    assert names(p.fail("a")) == ["TaskFailed", "RetryScheduled"]
    assert names(p.wait("a")) == ["TaskHeld"]
    # a late result counts, as ever
    assert names(p.succeed("a", attempt=1)) == ["TaskSucceeded", "TaskHeld"]
    assert lift(p, X) == ["TaskDispatched"]


def test_a_retry_in_a_paused_route_is_held() -> None:
    p = Partition(route({"a": agent("x")}))
    p.start()
    p.pause(R)
    p.fail("a")
    assert only(p.wait("a"), TaskHeld).reason == "route r is paused"
    assert lift(p, R) == ["TaskDispatched"]


def test_a_task_that_is_handed_over_to_a_paused_agent_is_held() -> None:
    p = Partition(route({"a": agent("w", handover={"to": ["x"]})}))
    p.start()
    p.pause(X)
    held = only(p.hand_over("a", "x"), TaskHeld)
    assert (held.agent, held.hop) == ("x", 2)
    assert lift(p, X) == ["TaskDispatched"]


def test_of_the_agents_with_a_capability_one_that_is_not_paused_is_chosen() -> None:
    p = Partition(route({"a": {"capability": "draft", "input": 1}, "b": {"capability": "draft", "input": 1}}))
    p.directory = replace(p.directory, registered={"draft": ("x", "y")}, alive=frozenset({"x"}))
    p.pause(X)
    p.start()
    assert [event.agent for event in p.decisions[-1].events if isinstance(event, TaskDispatched)] == ["y", "y"]
    p.pause(agent_target("y"))
    p.start("other")
    assert {event.reason for event in p.decisions[-1].events if isinstance(event, TaskHeld)} == {
        "each agent of capability draft is paused"
    }
    # one of the two is enough
    assert lift(p, agent_target("y")) == ["TaskDispatched", "TaskDispatched"]
    assert p.step("a", "other").agent == "y"


def test_a_slot_that_is_granted_to_a_task_of_a_paused_agent_goes_back() -> None:
    p = Partition(route({"a": agent("x", limit="api")}, limits={"api": {"concurrency": 1}}))
    for key in ("k", "second"):
        p.start(key)
        p.pass_on()
    p.pause(X)
    p.succeed("a")
    p.pass_on()
    assert p.step("a", "second").status == "held"
    assert not p.workflow("second").slots
    assert lift(p, X) == ["SlotRequested"]
    assert p.step("a", "second").status == "running"


def test_a_pause_of_an_agent_asks_nobody_for_more_budget() -> None:
    steps = {"a": agent("x", reserve={"tokens": 10}), "b": agent("w")}
    p = paused(X, steps, budget={"tokens": 10, "on_exhausted": "fail"})
    assert names(p.succeed("b", usage={"tokens": 0})) == ["TaskSucceeded"]
    assert (p.step("a").status, p.workflow().status) == ("held", "running")
    assert lift(p, X) == ["TaskDispatched"]


def test_what_lacks_budget_when_its_agent_resumes_is_asked_for() -> None:
    steps = {"a": agent("w", reserve={"tokens": 10}), "b": agent("x", reserve={"tokens": 10})}
    p = paused(X, steps, budget={"tokens": 10, "on_exhausted": "ask", "role": "maintainer"})
    p.succeed("a", usage={"tokens": 10})
    assert lift(p, X) == ["ApprovalRequested"]


def test_a_paused_route_starts_its_workflows_and_holds_them() -> None:
    p = paused(R, TWO)
    assert names(p.decisions[-1].events) == ["WorkflowStarted"]
    assert lift(p, R) == ["TaskDispatched"]


def test_a_paused_route_holds_each_kind_of_step_and_another_route_goes_on() -> None:
    other = route({"c": agent("x")}, route="other")
    steps = {
        "a": agent("x"),
        "review": approval(needs="a"),
        "told": {"needs": "a", "emit": {"type": "told", "data": 1}},
        "each": agent("x", "${{ item }}", needs="a", for_each="${{ event.data.items }}"),
    }
    p = Partition(route(steps), other)
    p.start(data={"items": [1, 2]})
    p.pause(R)
    assert names(p.succeed("a")) == ["TaskSucceeded"]
    p.start("another", digest=other.digest)
    assert names(p.decisions[-1].events) == ["WorkflowStarted", "TaskDispatched"]
    assert sorted(lift(p, R)) == ["ApprovalRequested", "EventEmitted", "ForEachStarted", *2 * ["TaskDispatched"]]


def test_a_call_of_a_paused_route_is_held_and_its_own_calls_are_held_in_it() -> None:
    p = Partition(route({"a": calling()}), called_route({"s": agent("x")}))
    p.pause(R)
    p.start()
    p.pause(route_target("sub"))
    assert lift(p, R) == ["CallMade"]
    [called] = [one for one in p.state.workflows.values() if one.route == "sub"]
    assert (called.status, called.steps) == ("running", {})
    assert lift(p, route_target("sub")) == ["TaskDispatched"]


def test_a_workflow_that_is_paused_itself_stays_so_when_its_route_resumes() -> None:
    p = paused(R, TWO)
    p.command("pause")
    assert lift(p, R) == []
    assert names(p.command("resume")) == ["CommandAccepted", "WorkflowResumed", "TaskDispatched"]


def test_a_workflow_that_resumes_stays_held_by_its_route() -> None:
    p = paused(R, TWO)
    p.command("pause")
    assert names(p.command("resume")) == ["CommandAccepted", "WorkflowResumed"]
    assert lift(p, R) == ["TaskDispatched"]


def test_a_pause_that_is_set_again_holds_what_has_not_gone_on() -> None:
    p = paused(R, TWO)
    p.pause(R, "resume")
    p.pause(R)
    assert p.release() == []
    assert not p.workflow().steps
    assert lift(p, R) == ["TaskDispatched"]


def test_pauses_are_the_same_after_a_take_over() -> None:
    p = paused(X, TWO)
    p.succeed("a")
    p.take_over("another")
    p.check_replay()
    assert lift(p, X) == ["TaskDispatched"]

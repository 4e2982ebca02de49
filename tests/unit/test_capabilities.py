"""Capabilities in the core: which agent is chosen for a task, and what is recorded of it.

Also what tools make of a route that names no agent.
"""

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, approval, names, only, route

from mesh.core.capabilities import choose, stand_ins
from mesh.core.effects import SendTask
from mesh.core.events import ApprovalRequested, IncidentRaised, TaskDispatched, WorkflowStarted
from mesh.core.route import AgentWork, agents_of, capabilities_of
from mesh.core.state import AgentCard, Directory
from mesh.inspection.diagram import of_route
from mesh.inspection.explanation import explain_event
from mesh.inspection.what_if import Run, rehearse
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused

BOTH = Directory(registered={"translate": ("deepl", "google")})


def capability(name: str = "translate", value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"capability": name, "input": value, **more}


def partition(*, steps: dict[str, Any] | None = None, directory: Directory = BOTH, **more: Any) -> Partition:
    return Partition(route(steps or {"a": capability(**more)}), directory=directory)


def the_other(name: str) -> str:
    return "google" if name == "deepl" else "deepl"


# The choice ---------------------------------------------------------------------------------------


def test_load_spreads_over_the_candidates() -> None:
    chosen = [choose(BOTH, "translate", f"r:{n}/run/a") for n in range(1_000)]
    counts = Counter(one.agent for one in chosen if one)
    assert counts.keys() == {"deepl", "google"}
    assert min(counts.values()) > 400


def test_another_candidate_moves_only_its_own_share() -> None:
    more = Directory(registered={"translate": ("deepl", "google", "llm")})
    for n in range(200):
        before, after = choose(BOTH, "translate", f"t{n}"), choose(more, "translate", f"t{n}")
        assert before is not None
        assert after is not None
        assert after.agent in {before.agent, "llm"}


@pytest.mark.parametrize("alive", ["deepl", "google"])
def test_who_is_alive_goes_before_who_is_not(alive: str) -> None:
    for n in range(20):
        found = choose(replace(BOTH, alive=frozenset({alive, "other"})), "translate", f"t{n}")
        assert found == (alive, f"capability translate: {alive}, alive, of 2")


def test_an_agent_scaled_to_zero_is_still_chosen() -> None:
    p = partition(directory=Directory(registered={"translate": ("deepl",)}))
    dispatched = only(p.start(), TaskDispatched)
    assert (dispatched.agent, dispatched.capability) == ("deepl", "translate")
    assert dispatched.reason == "the workflow started; capability translate: deepl, not alive, of 1"
    assert only(p.effects(), SendTask).agent == "deepl"


def test_the_choice_is_the_same_for_every_router_with_the_same_directory() -> None:
    assert partition().start() == partition().start()


# Attempts -----------------------------------------------------------------------------------------


def test_an_automatic_retry_stays_with_its_agent_whatever_becomes_of_the_others() -> None:
    p = partition(retry={"attempts": 2, "backoff": "1s"})
    first = only(p.start(), TaskDispatched)
    p.fail("a")
    p.directory = replace(BOTH, alive=frozenset({the_other(first.agent)}))
    again = only(p.wait("a"), TaskDispatched)
    assert (again.agent, again.task_id, again.capability) == (first.agent, first.task_id, "translate")
    p.check_replay()


def test_an_operators_retry_chooses_anew_and_another_if_it_can() -> None:
    p = partition(retry={"attempts": 1})
    first = only(p.start(), TaskDispatched)
    p.fail("a")
    again = only(p.command("retry"), TaskDispatched)
    assert (again.agent, again.attempt, again.task_id) == (the_other(first.agent), 2, first.task_id)
    assert again.reason.endswith(f"of 2, instead of {first.agent}")


def test_an_operators_retry_takes_the_failed_one_rather_than_one_that_is_not_alive() -> None:
    p = partition(retry={"attempts": 1})
    first = only(p.start(), TaskDispatched)
    p.fail("a")
    p.directory = replace(BOTH, alive=frozenset({first.agent}))
    assert only(p.command("retry"), TaskDispatched).agent == first.agent


def test_a_retry_after_a_hand_over_stays_with_whom_it_was_handed_to() -> None:
    p = partition(handover={"to": "tech"}, retry={"attempts": 1})
    first = only(p.start(), TaskDispatched)
    p.hand_over("a", "tech", {})
    p.fail("a")
    again = only(p.command("retry"), TaskDispatched)
    assert (again.agent, again.hop, again.capability) == ("tech", 2, "")
    assert first.agent != "tech"


def test_a_late_result_of_the_agent_that_had_it_before_counts() -> None:
    p = partition(retry={"attempts": 1})
    p.start()
    p.fail("a")
    p.command("retry")
    p.succeed("a", "done", attempt=1)
    assert p.workflow().status == "completed"


# Nobody -------------------------------------------------------------------------------------------


def test_with_nobody_registered_it_is_an_incident_that_says_what_to_do() -> None:
    p = partition(directory=PEOPLE)
    raised = only(p.start(), IncidentRaised)
    assert raised.kind == "no_agent"
    assert raised.message.startswith("no agent is registered for the capability translate: start one that has it")
    assert p.effects() == []
    p.directory = BOTH
    assert only(p.command("retry"), TaskDispatched).attempt == 1
    p.check_replay()


def test_a_retry_when_all_have_been_forgotten_is_an_incident_that_keeps_the_input() -> None:
    p = partition(value={"text": "Hi"}, retry={"attempts": 1})
    p.start()
    p.fail("a")
    p.directory = PEOPLE
    assert names(p.command("retry")) == ["CommandAccepted", "IncidentResolved", "IncidentRaised"]
    p.directory = BOTH
    again = only(p.command("retry"), TaskDispatched)
    assert (again.input, again.attempt) == ({"text": "Hi"}, 2)
    p.check_replay()


def test_items_with_nobody_registered_are_incidents_of_their_own() -> None:
    p = partition(for_each=[1, 2], directory=PEOPLE)
    assert [e.step for e in p.start() if isinstance(e, IncidentRaised)] == ["a[0]", "a[1]"]
    p.directory = BOTH
    p.command("retry")
    p.succeed("a[0]", "one")
    p.succeed("a[1]", "two")
    assert p.workflow().status == "completed"
    p.check_replay()


# With the rest of the language --------------------------------------------------------------------


def test_items_spread_over_the_candidates() -> None:
    p = partition(for_each=list(range(40)))
    events = p.start()
    assert {e.agent for e in events if isinstance(e, TaskDispatched)} == {"deepl", "google"}


def test_who_did_a_step_undoes_it_alive_or_not() -> None:
    steps = {
        "book": capability("travel", undo=capability("cancel")),
        "pay": agent(needs="book", on_exhausted="fail", retry={"attempts": 1}),
    }
    airlines = Directory(registered={"travel": ("kl",), "cancel": ("lh", "kl", "af")}, alive=frozenset({"lh", "af"}))
    p = partition(steps=steps, directory=airlines)
    p.start()
    p.succeed("book")
    undone = only(p.fail("pay"), TaskDispatched)
    assert (undone.step, undone.agent) == ("book.undo", "kl")
    assert undone.reason == "undo book; capability cancel: kl, not alive, of 3, which did it"
    p.check_replay()


def test_an_undo_for_which_nobody_is_registered_is_an_incident_of_the_undo() -> None:
    steps = {"book": agent(undo=capability("cancel")), "pay": agent(needs="book", on_exhausted="fail")}
    p = partition(steps=steps, directory=PEOPLE)
    p.start()
    p.succeed("book")
    raised = only(p.fail("pay", retryable=False), IncidentRaised)
    assert (raised.step, raised.kind) == ("book.undo", "no_agent")
    p.directory = Directory(registered={"cancel": ("x",)})
    p.command("retry")
    p.succeed("book.undo")
    assert p.workflow().status == "failed"


def test_another_round_of_a_loop_chooses_anew() -> None:
    p = partition(repeat={"until": "steps.a == 2", "limit": 2})
    p.start()
    p.directory = Directory(registered={"translate": ("llm",)})
    assert only(p.succeed("a", 1), TaskDispatched).agent == "llm"


def test_edits_of_a_list_of_outputs_are_held_to_no_agents_schema() -> None:
    steps = {"a": capability(for_each=[1]), "ok": approval(payload="${{ steps.a }}", needs="a")}
    p = partition(
        steps=steps,
        directory=replace(BOTH, agents={"deepl": AgentCard(name="deepl", version="1", topic="t", output_schema={})}),
    )
    p.start()
    assert only(p.succeed("a[0]", {}), ApprovalRequested).payload_schema is None


@pytest.mark.parametrize("known", [True, False])
def test_edits_of_its_output_must_meet_the_schema_of_the_agent_that_was_chosen(known: bool) -> None:
    schema = {"type": "object"}
    card = AgentCard(name="deepl", version="1", topic="t", output_schema=schema)
    directory = Directory(registered={"translate": ("deepl",)}, agents={"deepl": card} if known else {})
    p = partition(steps={"a": capability(), "ok": approval(payload="${{ steps.a }}", needs="a")}, directory=directory)
    p.start()
    assert only(p.succeed("a", {}), ApprovalRequested).payload_schema == (schema if known else None)


def test_a_task_that_waits_for_budget_is_given_to_an_agent_when_it_goes_out() -> None:
    steps = {"a": agent(reserve={"tokens": 10}), "b": capability(reserve={"tokens": 10})}
    p = Partition(route(steps, budget={"tokens": 15}), directory=PEOPLE)
    assert "IncidentRaised" not in names(p.start())
    p.directory = Directory(registered={"translate": ("deepl",)})
    assert only(p.succeed("a", usage={"tokens": 1}), TaskDispatched).agent == "deepl"
    p.check_replay()


def test_a_task_that_waited_for_budget_and_finds_nobody_is_an_incident() -> None:
    steps = {"a": agent(reserve={"tokens": 10}), "b": capability(value={"n": 1}, reserve={"tokens": 10})}
    p = Partition(route(steps, budget={"tokens": 15}), directory=PEOPLE)
    p.start()
    assert only(p.succeed("a", usage={"tokens": 1}), IncidentRaised).kind == "no_agent"
    p.directory = BOTH
    assert only(p.command("retry"), TaskDispatched).input == {"n": 1}
    p.check_replay()


# The route ----------------------------------------------------------------------------------------


def test_a_step_with_a_capability_has_all_that_an_agents_step_has() -> None:
    made = route(
        {
            "a": capability(
                timeout="9s",
                retry={"attempts": 7},
                on_exhausted="fail",
                handover={"to": ["x", "y"]},
                undo=capability("undo-it", timeout="8s"),
            )
        }
    )
    work, undo = made.steps["a"].work, made.steps["a"].undo
    assert isinstance(work, AgentWork)
    assert undo is not None
    assert (work.agent, work.capability, work.timeout_s, work.retry.attempts) == ("", "translate", 9, 7)
    assert (undo.agent, undo.capability, undo.timeout_s) == ("", "undo-it", 8)
    assert agents_of(made) == {"x", "y"}
    assert capabilities_of(made) == {"translate", "undo-it"}


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"capability": "Translate", "input": 1}, "capability can't be Translate"),
        ({"capability": "translate"}, "input is missing"),
        (agent(capability="translate"), "the step a has both agent and capability"),
        (agent(undo={"input": 1}), "agent is missing"),
        (agent(undo={"agent": "x", "capability": "y", "input": 1}), "undo has both agent and capability"),
    ],
)
def test_a_capability_that_does_not_hold_is_refused(step: dict[str, Any], problem: str) -> None:
    with pytest.raises(RouteRefused) as caught:
        compile_route({"route": "r", "on": {"type": "t"}, "steps": {"a": step}})
    assert problem in caught.value.problems[0].what()


def test_explaining_names_the_capability_where_no_agent_is_known() -> None:
    event = {"id": "1", "source": "/s", "type": "t", "subject": "k"}
    [said] = explain_event([route({"a": capability()})], event, now_ms=0)
    assert [(one.what, one.to) for one in said.first] == [("dispatch", "capability translate")]


def test_a_picture_names_the_capability() -> None:
    assert "capability translate" in of_route(route({"a": capability()}))


def test_a_replay_under_new_rules_keeps_the_recorded_choices() -> None:
    p = partition(steps={"a": capability(), "b": capability(needs="a")})
    p.start()
    p.succeed("a")
    p.succeed("b")
    more = {"a": capability(), "b": capability(needs="a"), "c": capability("summarize", needs="b")}
    started = only(p.decisions[0].events, WorkflowStarted)
    run = Run(workflow_id=p.id_of("k"), started=started, decisions=p.decisions)
    assert rehearse(run, p.routes[p.workflow().digest]).verdict == "same"
    rehearsed = rehearse(run, route(more))
    assert [one.step for one in rehearsed.unknown] == ["c"]


def test_stand_ins_can_be_no_agents() -> None:
    assert stand_ins(route({"a": capability()})) == {"translate": ("capability translate",)}

"""What follows of an input and is too large for the broker: its own step has the incident.

What was done, paid for or answered counts, whatever the next step makes of it.
"""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from one_partition import Partition, agent, approval, called_route, calling, only, route

from mesh.adapters.system import SystemEntropy
from mesh.codec.log import encode_decision
from mesh.core.events import (
    AnswerRefused,
    Cause,
    Decision,
    Event,
    IncidentRaised,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
)
from mesh.core.inputs import InboxInput, Input, ResultReceived
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.errors import RecordTooLarge
from mesh.inspection.what_if.recording import Runs
from mesh.inspection.what_if.rehearsal import Rehearsal, rehearse
from mesh.ports import Broker
from mesh.services.router.batch import Batch
from mesh.services.router.config import RouterConfig
from mesh.services.router.decider import Decider
from mesh.services.router.oversize import to_withhold
from mesh.testing.promises.ledger import PartitionLedger, Step
from mesh.testing.promises.redecided import another_decision

LIMIT = 50_000
TWICE = "${{ steps.a + steps.a }}"
HALF = "x" * 30_000  # fits once


class Owned(Partition):
    """Decides as a router's owner does, whose broker takes records of `LIMIT` bytes."""

    def __init__(self, *routes: Route, limit: int = LIMIT) -> None:
        super().__init__(*routes)
        self.limit = limit
        broker = SimpleNamespace(max_record_bytes=limit, has_own_clock=True)
        self.decider = Decider(
            0,
            broker=cast(Broker, broker),
            topics=Topics(),
            config=RouterConfig(instance="r", partitions=1),
            route_of=self.routes.get,
            directory=lambda: self.directory,
            token=self.token,
            entropy=SystemEntropy(),
            is_traced=True,
        )
        self.decider.state = self.state

    def give(self, given: Input) -> tuple[Event, ...]:
        cause, batch, before = self.cause_of(given), Batch(), self.state.workflows.get(given.workflow_id)
        if cause.topic:
            self.read[cause.topic] += 1
        self.state.positions = dict(self.read)
        self.decider.decide(batch, given, cause, self.now_ms)
        for decision in batch.decisions:
            self.decisions.append(decision)
            record = encode_decision(decision, topic="mesh.log", partition=0)
            assert record.size_bytes() <= self.limit
            self._append(record)
            if not any(isinstance(event, TaskFailed | AnswerRefused) for event in decision.events):
                self.check_again(given, cause, before, decision)
        return self.decisions[-1].events

    def check_again(self, given: Input, cause: Cause, before: Workflow | None, decision: Decision) -> None:
        """The judge of a log decides the same, though it does not know what the broker took."""
        ledger = PartitionLedger(0)
        ledger.inputs[cause.topic, cause.offset] = cast(InboxInput | ResultReceived, given)
        step = Step(ledger, before, decision, 0, "here")
        assert another_decision(step, self.routes, self.directory) == ""


NEXT: dict[str, dict[str, Any]] = {
    "an agent": agent("y", TWICE),
    "a list of agents": agent("y", "${{ item }}", for_each="${{ [steps.a, steps.a] }}"),
    "an approval": approval(payload={"text": TWICE}),
    "a call": calling("sub", TWICE),
    "an event": {"emit": {"type": "done", "data": TWICE}},
    "a value": {"value": TWICE},
    "an end": {"end": {"status": "completed", "output": TWICE}},
    "an approval that is skipped": {**approval(payload={"text": TWICE}), "if": "false"},
}


@pytest.mark.parametrize("step", NEXT.values(), ids=NEXT)
def test_the_step_that_is_too_large_has_the_incident_and_the_result_counts(step: dict[str, Any]) -> None:
    first = route({"a": agent("x"), "b": {**step, "needs": "a"}})
    p = Owned(first, called_route({"s": agent("z", "${{ event.data }}")}))
    p.start()
    p.succeed("a", HALF)
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.step, raised.kind) == ("b", "too_large")
    assert " of b has 6" in raised.message or "that b emits has 6" in raised.message
    assert "50,000" in raised.message
    assert "migrate" in raised.message
    assert (p.step("a").status, p.step("a").output) == ("succeeded", HALF)
    assert (p.step("b").status, p.workflow().status) == ("incident", "running")
    assert not p.effects()
    p.check_replay()


@pytest.mark.parametrize("step", NEXT.values(), ids=NEXT)
def test_a_corrected_route_goes_on_with_what_was_paid_for(step: dict[str, Any]) -> None:
    first = route({"a": agent("x"), "b": {**step, "needs": "a"}})
    second = route({"a": agent("x"), "b": {**corrected(step), "needs": "a"}})
    p = Owned(first, second, called_route({"s": agent("z", "${{ event.data }}")}))
    p.start()
    p.succeed("a", HALF)
    p.command("retry")
    assert only(p.decisions[-1].events, IncidentRaised).kind == "too_large"  # nothing was corrected
    p.migrate(second)
    p.command("retry")
    assert not [event for event in p.decisions[-1].events if isinstance(event, IncidentRaised)]
    if p.workflow().status == "running":
        assert p.step("b").status in {"running", "iterating", "asking", "calling"}
    else:
        assert p.workflow().status == "completed"
    sent = [event for one in p.decisions for event in one.events if isinstance(event, TaskDispatched)]
    assert [event.step for event in sent].count("a") == 1
    p.check_replay()


def rehearsed(p: Partition, rules: Route) -> Rehearsal:
    """The run of `p` under these rules."""
    runs = Runs()
    for decision in p.decisions:
        runs.take(decision)
    (run,) = (one for one in runs.found if one.workflow_id == "r:k")
    return rehearse(run, rules)


@pytest.mark.parametrize("step", NEXT.values(), ids=NEXT)
def test_a_replay_under_the_same_rules_meets_the_same_incident(step: dict[str, Any]) -> None:
    first = route({"a": agent("x"), "b": {**step, "needs": "a"}})
    second = route({"a": agent("x"), "b": {**corrected(step), "needs": "a"}})
    p = Owned(first, second, called_route({"s": agent("z", "${{ event.data }}")}))
    p.start()
    p.succeed("a", HALF)
    p.command("retry")
    assert rehearsed(p, first).verdict == "same"
    p.command("cancel")
    found = rehearsed(p, first)
    assert (found.verdict, found.after) == ("same", "cancelled")


def test_what_became_too_large_in_a_later_round_is_not_so_in_the_first() -> None:
    until = {"from": "a", "until": "round == 3", "limit": 5}
    rules = route({"a": agent("x"), "b": {**agent("y", TWICE), "needs": "a", "repeat": until}})
    p = Owned(rules)
    p.start()
    p.succeed("a", "short")
    p.succeed("b", 1)
    p.succeed("a", HALF)
    assert only(p.decisions[-1].events, IncidentRaised).kind == "too_large"
    assert rehearsed(p, rules).verdict == "same"


def test_a_replay_under_other_rules_does_not_know_what_is_too_large() -> None:
    first = route({"a": agent("x"), "b": agent("y", TWICE, needs="a")})
    p = Owned(first)
    p.start()
    p.succeed("a", HALF)
    second = route({"a": agent("x"), "b": agent("y", "${{ steps.a }}", needs="a")})
    found = rehearsed(p, second)
    assert [one.step for one in found.unknown] == ["b"]
    assert "too large for the broker" in found.unknown[0].why


def corrected(value: Any) -> Any:
    """The same step, but it passes on what is short."""
    if isinstance(value, dict):
        return {key: corrected(one) for key, one in value.items()}
    return value.replace("steps.a + steps.a", "'short'").replace("steps.a", "1") if isinstance(value, str) else value


def test_an_output_too_large_for_the_log_is_its_agents_fault() -> None:
    p = Owned(route({"a": agent("x"), "b": agent("y", "${{ steps.a }}", needs="a")}))
    p.start()
    p.succeed("a", "x" * LIMIT)
    failed = only(p.decisions[-1].events, TaskFailed)
    assert (failed.step, failed.kind, failed.retryable) == ("a", "too_large", False)
    assert "let the agent return less" in failed.message


def test_an_output_that_fits_alone_counts_and_what_does_not_fit_beside_it_is_sent_by_a_retry() -> None:
    p = Owned(route({"a": agent("x"), "b": agent("y", "${{ steps.a }}", needs="a")}))
    p.start()
    p.succeed("a", HALF)
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert raised.step == "b"
    assert "finds no room beside what else is sent at once" in raised.message
    assert only(p.decisions[-1].events, TaskSucceeded).output == HALF
    p.command("retry")
    assert only(p.decisions[-1].events, TaskDispatched).input == HALF


def test_of_a_fan_out_as_much_is_sent_as_there_is_room_for() -> None:
    each = {name: agent("y", {"n": name, "text": "x" * 9_000}, needs="a") for name in "bcdefghij"}
    p = Owned(route({"a": agent("x"), **each}))
    p.start()
    p.succeed("a", 1)
    sent = [event.step for event in p.decisions[-1].events if isinstance(event, TaskDispatched)]
    stuck = [event.step for event in p.decisions[-1].events if isinstance(event, IncidentRaised)]
    assert sorted(sent + stuck) == list("bcdefghij")
    assert len(sent) == 4
    for name in stuck:
        p.command("retry", step=name)
    assert {p.step(name).status for name in each} == {"running"}
    p.check_replay()


def test_only_the_largest_of_a_fan_out_is_to_blame() -> None:
    p = Owned(
        route(
            {
                "a": agent("x"),
                "b": agent("y", "${{ steps.a }}", needs="a"),
                "c": agent("y", "${{ [steps.a, steps.a, steps.a, steps.a] }}", needs="a"),
                "d": agent("y", 1, needs="a"),
            }
        )
    )
    p.start()
    p.succeed("a", "x" * 15_000)
    assert only(p.decisions[-1].events, IncidentRaised).step == "c"
    assert {event.step for event in p.decisions[-1].events if isinstance(event, TaskDispatched)} == {"b", "d"}


def test_a_workflows_own_output_that_is_too_large_fails_it_with_the_reason() -> None:
    p = Owned(route({"a": agent("x")}, output="${{ steps.a + steps.a }}"))
    p.start()
    p.succeed("a", HALF)
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert ended.status == "failed"
    assert "the output of the workflow has 60," in ended.reason
    assert only(p.decisions[-1].events, TaskSucceeded).output == HALF


def test_a_start_whose_first_step_is_too_large_starts() -> None:
    p = Owned(route({"a": agent("x", "${{ event.data + event.data }}")}))
    p.start(data=HALF)
    assert only(p.decisions[-1].events, IncidentRaised).step == "a"
    assert p.workflow().status == "running"


def test_an_answer_counts_though_the_step_after_it_is_too_large() -> None:
    after = agent("y", "${{ steps.ok.payload.text + event.data }}", needs="ok")
    p = Owned(route({"ok": approval(payload={"text": "${{ event.data }}"}), "b": after}))
    p.start(data="x" * 20_000)
    p.answer("ok")
    assert p.step("ok").status == "succeeded"
    assert only(p.decisions[-1].events, IncidentRaised).step == "b"
    assert not [event for event in p.decisions[-1].events if isinstance(event, AnswerRefused)]


def test_an_answer_that_is_too_large_by_itself_is_refused() -> None:
    p = Owned(route({"ok": approval()}))
    p.start()
    p.answer("ok", payload={"text": "x" * LIMIT})
    assert only(p.decisions[-1].events, AnswerRefused).code == "too_large"
    assert p.step("ok").status == "asking"


def test_a_hand_over_that_is_too_large_is_not_the_routes_fault() -> None:
    p = Owned(route({"a": agent("x", handover={"to": ["y"]})}))
    p.start()
    with pytest.raises(RecordTooLarge):  # the owner parks it, with a substitute for the step
        p.hand_over("a", "y", "x" * LIMIT)


def test_an_undo_that_is_too_large_is_an_incident_of_the_undo() -> None:
    undo = {"agent": "z", "input": "${{ steps.a + steps.a }}"}
    p = Owned(route({"a": agent("x", undo=undo), "b": agent("y", needs="a")}))
    p.start()
    p.succeed("a", HALF)
    p.command("cancel")
    raised = only(p.decisions[-1].events, IncidentRaised)
    assert (raised.step, raised.kind) == ("a.undo", "too_large")


@pytest.mark.parametrize(
    ("step", "more"),
    [
        ({"limit": "l"}, {"limits": {"l": {"concurrency": 1}}}),
        ({"reserve": {"tokens": 5}}, {"budget": {"tokens": 5}}),
    ],
    ids=["for a slot", "for more budget"],
)
def test_what_waits_before_it_is_sent_is_withheld_like_any_other(step: dict[str, Any], more: dict[str, Any]) -> None:
    other = agent("z", 1, reserve={"tokens": 5}) if "budget" in more else agent("z", 1)
    p = Owned(route({"a": agent("x"), "other": other, "b": agent("y", TWICE, needs="a", **step)}, **more))
    p.start()
    p.succeed("a", HALF)
    assert only(p.decisions[-1].events, IncidentRaised).kind == "too_large"
    assert p.step("b").status == "incident"


def test_nothing_small_is_to_blame() -> None:
    p = Owned(route({"a": agent("x"), "b": agent("y", 1, needs="a")}), limit=10_000_000)
    p.start()
    p.succeed("a", HALF)
    assert to_withhold(p.decisions[-1].events, 10, {}) == {}

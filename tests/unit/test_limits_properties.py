"""Limits, whatever happens: never more is out than may be, and nothing is kept without end.

There are several partitions. Records between them come late and again, and there are take-overs,
failures, time-outs and cancels.

`SlotLedger` counts as the simulation's judge does, by what was granted and given back, never by a
limiter's own count.
"""

from collections import Counter
from typing import Any

import pytest
from draws import draws, part_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from one_partition import agent, approval
from several_partitions import Mesh

from mesh.core import ids
from mesh.core.events import (
    Decision,
    SlotFreed,
    SlotGranted,
    SlotQueued,
    SlotReleased,
    SlotRequested,
    TaskDispatched,
)
from mesh.core.inputs import CommandGiven, EventMatched, HandOver, ResultReceived, TaskError, TaskUndeliverable
from mesh.core.limits import Claim, Limit, Limiter, granted, has_room, next_grant_at_ms, queued
from mesh.core.route import Route
from mesh.core.state import AgentCard, Directory
from mesh.routes.compiler import compile_route
from mesh.testing.promises.slots import SlotLedger, kept_needlessly

SEEN: Counter[str] = Counter()
CARDS = Directory(agents={"busy": AgentCard(name="busy", version="1", topic="t", max_outstanding=2)})
picks = st.integers(0, 2**16)
NAMES = ("plain", "each", "race", "undone", "frugal", "loops")
MOVING = {"queued", "running", "retrying", "held"}
RETRY = {"attempts": 2, "backoff": "1s"}


def routes(concurrency: int, rate: int | None) -> list[Route]:
    """Every way in which a step comes to a limit, and loses its wish for it."""
    one: dict[str, Any] = {"concurrency": concurrency} | ({"rate": f"{rate}/10s"} if rate else {})
    limits = {"one": one, "two": {"concurrency": 2}}
    limited: dict[str, Any] = {"limit": "one", "timeout": "20s", "retry": RETRY}
    documents: list[dict[str, Any]] = [
        {
            "route": "plain",
            "priority": "${{ event.data.n }}",
            "steps": {
                "a": agent(**limited),
                "b": agent("busy", limit="one", timeout="20s", on_exhausted="fail", retry=RETRY),
                "c": agent("busy", needs=["a", "b"], limit={"name": "two", "key": "${{ event.data.n }}"}),
            },
        },
        {
            "route": "each",
            "steps": {
                "all": agent(
                    for_each={"items": "${{ event.data.items }}", "tolerate": 1}, on_exhausted="continue", **limited
                ),
                "then": agent(**{"if": "status.all != ''"}, needs="all"),
            },
        },
        {
            "route": "race",
            "steps": {
                "a": agent(**limited),
                "b": agent("busy"),
                "c": agent(for_each="${{ event.data.items }}", **limited),
                "won": agent(needs={"first_of": ["a", "b", "c"]}, limit="two"),
            },
        },
        {
            "route": "undone",
            "steps": {
                "a": agent("busy", undo=agent("busy", timeout="20s"), timeout="20s"),
                "b": agent(handover={"to": ["busy", "x"], "hops": 2}, needs="a", **limited, on_exhausted="fail"),
                "ok": approval(needs="b"),
            },
        },
        {
            "route": "frugal",
            "budget": {"tokens": 10, "hops": 4},
            "steps": {"a": agent(**limited, reserve={"tokens": 6}), "b": agent(**limited, reserve={"tokens": 6})},
        },
        {
            "route": "loops",
            "steps": {"a": agent(**limited, repeat={"until": "steps.a == 1", "limit": 3, "on_limit": "continue"})},
        },
    ]
    top = {"on": {"type": "t"}, "key": "${{ event.subject }}", "closed_retention": "30s", "limits": limits}
    return [compile_route({**top, **document}) for document in documents]


class Limits(RuleBasedStateMachine):
    @initialize(
        concurrency=st.integers(1, 3),
        rate=st.sampled_from([None, 2, 150]),
        partitions=st.integers(1, 4),
        first=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    )
    def begin(self, concurrency: int, rate: int | None, partitions: int, first: list[str]) -> None:
        self.mesh = Mesh(routes(concurrency, rate), partitions=partitions, directory=CARDS)
        self.names = {route.name: route for route in self.mesh.routes.values()}
        self.ledger = SlotLedger()
        self.sources = 0
        # limiter -> attempts that were dispatched under it and are not settled
        self.out: dict[str, set[str]] = {}
        # the draws leave rules out, perhaps the one that starts
        for number, name in enumerate(first):
            self.start(name, number, number)

    # Inputs ---------------------------------------------------------------------------------------

    def source(self, topic: str) -> dict[str, Any]:
        self.sources += 1
        return {
            "source_topic": topic,
            "source_partition": 0,
            "source_offset": self.sources,
            "source_at_ms": self.mesh.now_ms,
        }

    @rule(
        name=st.sampled_from(NAMES),
        key=st.integers(0, 9),
        n=st.integers(0, 2),
    )
    def start(self, name: str, key: int, n: int) -> None:
        event = {"specversion": "1.0", "id": f"e{key}", "source": "/s", "type": "t", "subject": str(key)}
        self.check(
            self.mesh.give(
                EventMatched(
                    workflow_id=f"{name}:{key}",
                    route=name,
                    digest=self.names[name].digest,
                    key=str(key),
                    cloud_event={**event, "data": {"n": n, "items": list(range(n + 2))}},
                    **self.source("mesh.events"),
                )
            )
        )

    @precondition(lambda self: self.mesh.tasks)
    @rule(pick=picks, kind=st.sampled_from(["good", "good", "good", "bad", "hand over", "lost"]))
    def result(self, pick: int, kind: str) -> None:
        """Of any task that was ever sent."""
        task = self.mesh.tasks[-1 - pick % len(self.mesh.tasks)]
        if kind == "lost":
            lost = TaskUndeliverable(
                workflow_id=task.workflow_id, task_id=task.task_id, attempt=task.attempt, code="gone", message="gone"
            )
            self.check(self.mesh.give(lost))
            return
        self.check(
            self.mesh.give(
                ResultReceived(
                    task_id=task.task_id,
                    attempt=task.attempt,
                    workflow_id=task.workflow_id,
                    status={"good": "succeeded", "bad": "failed"}.get(kind, "handed_over"),  # type: ignore[arg-type]
                    output=pick % 3,
                    error=TaskError(kind="bad", message="it broke") if kind == "bad" else None,
                    handover=HandOver(to="busy") if kind == "hand over" else None,
                )
            )
        )

    @precondition(lambda self: self.mesh.wire)
    @rule(pick=picks, most=st.sampled_from([1, 1, 5]))
    def hear(self, pick: int, most: int) -> None:
        """What one owner told another arrives, in order for each, and in no order among them."""
        lanes = sorted(self.mesh.wire)
        lane = lanes[pick % len(lanes)]
        for _ in range(most):
            if lane in self.mesh.wire:
                self.check(self.mesh.hear(lane))

    @precondition(lambda self: self.mesh.heard)
    @rule(pick=picks)
    def hear_again(self, pick: int) -> None:
        assert self.mesh.is_repeated(self.mesh.heard[pick % len(self.mesh.heard)])

    @rule(pick=picks, command=st.sampled_from(["cancel", "retry", "skip"]))
    def command(self, pick: int, command: Any) -> None:
        found = [workflow.workflow_id for workflow in self.mesh.workflows()]
        if found:
            name = found[pick % len(found)]
            self.check(
                self.mesh.give(
                    CommandGiven(
                        workflow_id=name, command_id="c", command=command, by="op", **self.source("mesh.commands")
                    )
                )
            )

    @rule(ms=st.sampled_from([1, 500, 3_000, 25_000]))
    def time_passes(self, ms: int) -> None:
        self.mesh.now_ms += ms

    @rule()
    def timers(self) -> None:
        """What is due next fires, at its time or later."""
        due = self.mesh.due()
        if due is not None:
            self.mesh.now_ms = max(self.mesh.now_ms, due[0])
            for timer in self.mesh.timers(due[1]):
                self.check(self.mesh.give(timer))

    @rule(pick=picks)
    def take_over(self, pick: int) -> None:
        self.mesh.take_over(pick % len(self.mesh.parts))

    # What must hold -------------------------------------------------------------------------------

    def check(self, decision: Decision | None) -> None:
        if decision is None:
            return
        for event in decision.events:
            SEEN[type(event).__name__] += 1
            assert list(self.ledger.take(decision, event)) == []
            self.count(event)
        workflow = self.mesh.workflow(decision.workflow_id)
        assert list(kept_needlessly(workflow)) == []
        if workflow is not None and workflow.limiter is not None:
            self.check_limiter(workflow.limiter, decision)

    def count(self, event: object) -> None:
        """Tasks that are out, by limit: what is asked for decides, and what becomes of the step."""
        match event:
            case SlotRequested() | SlotReleased():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                if isinstance(event, SlotReleased):
                    self.out.get(event.limit, set()).discard(attempt)
            case TaskDispatched():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                workflow = self.mesh.workflow(event.task_id.rsplit("/", 2)[0])
                for slot in workflow.slots.get(event.step, ()) if workflow else ():
                    self.out.setdefault(slot.limit, set()).add(attempt)
                    most = {"mesh.limit:agent/busy": 2}.get(slot.limit, 3 if ":one" in slot.limit else 2)
                    assert len(self.out[slot.limit]) <= most
            case _:
                pass

    def check_limiter(self, limiter: Limiter, decision: Decision) -> None:
        ranks = [-claim.priority for claim in limiter.queue]
        assert ranks == sorted(ranks), "somebody waits before one of a higher priority"
        for rank in set(ranks):
            asked = [
                name
                for name in self.arrivals(decision)
                if any(claim.name == name and -claim.priority == rank for claim in limiter.queue)
            ]
            queued = [claim.name for claim in limiter.queue if -claim.priority == rank]
            assert queued == asked, "somebody waits before one that was heard of earlier"
        granted = [event for event in decision.events if isinstance(event, SlotGranted)]
        assert not (
            granted
            and limiter.queue
            and decision.events
            and min(self.priority_of(decision, one) for one in granted) < max(c.priority for c in limiter.queue)
        )

    def arrivals(self, decision: Decision) -> list[str]:
        """Who has asked this limiter, in the order in which it heard of them.

        Each is listed at its last time.
        """
        found: dict[str, None] = {}
        for one in self.mesh.decisions:
            for event in one.events if one.workflow_id == decision.workflow_id else ():
                if isinstance(event, SlotQueued):
                    name = ids.attempt_id(event.task_id, event.attempt)
                    found.pop(name, None)
                    found[name] = None
        return list(found)

    def priority_of(self, decision: Decision, granted: SlotGranted) -> float:
        for one in reversed(self.mesh.decisions):
            for event in one.events if one.workflow_id == decision.workflow_id else ():
                if isinstance(event, SlotQueued) and (event.task_id, event.attempt) == (
                    granted.task_id,
                    granted.attempt,
                ):
                    return event.priority
        raise AssertionError(granted)

    def teardown(self) -> None:
        """Everything goes on and nobody starts anything.

        Then all that was asked is granted, all is given back, and every limiter is forgotten.
        """
        if not hasattr(self, "mesh"):
            return
        for _ in range(5_000):
            if self.mesh.wire:
                self.check(self.mesh.hear(min(self.mesh.wire)))
            elif (task := self.task_under_way()) is not None:
                self.check(
                    self.mesh.give(
                        ResultReceived(
                            task_id=task.task_id,
                            attempt=task.attempt,
                            workflow_id=task.workflow_id,
                            status="succeeded",
                            output=1,
                        )
                    )
                )
            elif (due := self.mesh.due()) is not None:
                self.mesh.now_ms = max(self.mesh.now_ms, due[0])
                for timer in self.mesh.timers(due[1]):
                    self.check(self.mesh.give(timer))
            else:
                break
        else:
            raise AssertionError("it does not come to rest")
        for workflow in self.mesh.workflows():
            assert workflow.limiter is None, f"{workflow.workflow_id} is never forgotten: {workflow.limiter}"
            assert workflow.slots == {}
            assert not [step for step in workflow.steps.values() if step.status in MOVING], workflow

    def task_under_way(self) -> Any:
        for task in self.mesh.tasks:
            workflow = self.mesh.workflow(task.workflow_id)
            step = workflow.steps.get(task.step) if workflow is not None and workflow.status == "running" else None
            if (
                step is not None
                and step.status == "running"
                and (step.task_id, step.attempt) == (task.task_id, task.attempt)
            ):
                return task
        return None


@pytest.mark.deep
def test_limits_hold_whatever_happens() -> None:
    SEEN.clear()
    run_state_machine_as_test(Limits, settings=settings(max_examples=120, stateful_step_count=60))
    for kind in (SlotRequested, SlotQueued, SlotGranted, SlotReleased, SlotFreed):
        assert SEEN[kind.__name__] > 100


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_limits_hold_whatever_happens_for_longer(part: int) -> None:
    run_state_machine_as_test(part_of(Limits, part), settings=settings(max_examples=300, stateful_step_count=80))


@settings(max_examples=draws(40), deadline=None)
@given(
    rate=st.sampled_from([1, 2, 5, 101, 130]),
    bursts=st.lists(
        st.tuples(st.sampled_from([1, 30, 99, 100, 101, 4_000, 9_999, 10_000]), st.integers(1, 70)), max_size=12
    ),
)
@example(rate=101, bursts=[(1, 30), (99, 70), (9_999, 70)])  # of the first, only the last ones still count
def test_no_window_has_more_grants_than_the_rate_however_they_are_counted(
    rate: int, bursts: list[tuple[int, int]]
) -> None:
    """Grants of a high rate are merged; a merged one counts until its last has left the window."""
    limit, times, now_ms = Limit(rate=rate, per_ms=10_000), list[int](), 1_000_000
    limiter, asked = Limiter(limit=limit), 0
    for gap_ms, wanted in bursts:
        now_ms += gap_ms
        for _ in range(wanted):
            asked += 1
            limiter = queued(limiter, Claim(task_id=f"t{asked}", attempt=1, asked_at_ms=0), limit)
        while limiter.queue and has_room(limiter, now_ms):
            limiter = granted(limiter, limiter.queue[0].name, now_ms)
            times.append(now_ms)
        due_ms = next_grant_at_ms(limiter)
        if due_ms is not None:  # and at the first moment that it names
            now_ms = max(now_ms, due_ms)
            limiter = granted(limiter, limiter.queue[0].name, now_ms)
            times.append(now_ms)
    assert all(sum(at_ms - 10_000 < other <= at_ms for other in times) <= rate for at_ms in times)

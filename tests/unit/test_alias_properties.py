"""Aliases and schedules, whatever comes in.

Events, claims and answers in any delay, ends, operators, missed times, and routers that tell old
and new. No two workflows have one alias, no event is lost or taken twice, and no time starts twice.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from one_partition import Partition, agent, names, route, scheduled

from mesh.core.crossings import Crossing
from mesh.core.events import Event, EventReceived, EventUnclaimed, InputDismissed, ScheduleFired, WorkflowStarted
from mesh.core.inputs import EventForwarded
from mesh.core.schedules import next_time

KEYS = ("k1", "k2", "k3")
VALUES = ("p1", "p2")
WAIT = {"event": "paid", "alias": "charge", "key": "${{ event.data.id }}"}
ROUTE = route(
    {
        "charge": agent("psp", "${{ event.data }}", alias="${{ steps.charge.id }}"),
        "first": {"needs": "charge", "wait": WAIT},
        "last": agent("x", needs="first"),
    },
    on_repeat="new_run_after_end",
    keep_events="1h",
)
keys = st.sampled_from(KEYS)


class Aliases(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.p = Partition(ROUTE)
        self.told: list[Crossing] = []  # and not heard yet
        self.offered: dict[str, str] = {}  # event -> value
        self.taken: Counter[str] = Counter()
        # dead letters, and those that came when nobody waited any more
        self.let_go: set[str] = set()
        self.events = 0

    def after(self, events: tuple[Event, ...]) -> None:
        for event in events:
            match event:
                case EventReceived():
                    self.taken[event.cloud_event["id"]] += 1
                case EventUnclaimed():
                    self.let_go.add(event.kept.cloud_event["id"])
                case _:
                    pass
        if events:
            self.told += self.p.crossing()

    @rule(key=keys)
    def start(self, key: str) -> None:
        self.events += 1
        self.after(self.p.start(key, event_id=f"e{self.events}"))

    @rule(key=keys, value=st.sampled_from([*VALUES, "", None]))
    def charge(self, key: str, value: str | None) -> None:
        if self.status(key, "charge") == "running":
            self.after(self.p.succeed("charge", {"id": value}, key=key))

    @rule(key=keys)
    def finish(self, key: str) -> None:
        if self.status(key, "last") == "running":
            self.after(self.p.succeed("last", key=key))

    def status(self, key: str, step: str) -> str:
        workflow = self.p.state.workflows.get(f"r:{key}")
        state = workflow.steps.get(step) if workflow else None
        return state.status if state is not None else ""

    @rule(value=st.sampled_from(VALUES), again=st.booleans())
    def offer(self, value: str, again: bool) -> None:
        same = [name for name, of in self.offered.items() if of == value]
        if not (again and same):
            self.events += 1
        name = same[-1] if again and same else f"o{self.events}"
        self.offered[name] = value
        self.after(self.p.offer_by_alias("paid", "charge", value, event_id=name, data={"id": value}))

    @precondition(lambda self: self.told)
    @rule(most=st.sampled_from([1, 1, 2, 9]))
    def hear(self, most: int) -> None:
        """In order, as the watermark has it."""
        for _ in range(min(most, len(self.told))):
            given = self.told.pop(0)
            events = self.p.give(given)
            if isinstance(given, EventForwarded) and any(isinstance(event, InputDismissed) for event in events):
                self.let_go.add(given.kept.cloud_event["id"])
            self.after(events)

    @rule(key=keys, command=st.sampled_from(["cancel", "retry", "retry", "skip", "fail"]))
    def command(self, key: str, command: Any) -> None:
        self.after(self.p.command(command, key=key))

    @rule(value=st.sampled_from(VALUES))
    def forget(self, value: str) -> None:
        name = f"mesh.alias:r.charge/{value}"
        if name in self.p.state.workflows and self.p.state.workflows[name].forget_at_ms is not None:
            self.after(self.p.wait(key=name))

    @rule()
    def take_over(self) -> None:
        self.p.take_over(f"t{len(self.p.log)}")

    @invariant()
    def no_alias_is_two_workflows(self) -> None:
        live = [w for w in self.p.state.workflows.values() if w.status == "running" and w.workflow_id.startswith("r:")]
        held = Counter(
            step.alias for w in live for step in w.steps.values() if step.status == "succeeded" and step.alias
        )
        assert all(count == 1 for count in held.values())

    @invariant()
    def no_event_is_taken_twice_or_lost(self) -> None:
        states = self.p.state.workflows.values()
        kept = {one.cloud_event["id"] for workflow in states for one in workflow.kept}
        on_their_way = {one.kept.cloud_event["id"] for one in self.told if isinstance(one, EventForwarded)}
        assert set(self.offered) == set(self.taken) | self.let_go | kept | on_their_way

    def teardown(self) -> None:
        """When all is heard and every workflow has ended, no alias is anybody's."""
        if not hasattr(self, "p"):
            return
        for key in KEYS:
            if f"r:{key}" in self.p.state.workflows:
                self.command(key, "cancel")
        while self.told:
            self.hear(9)
        assert [w for w in self.p.state.workflows.values() if w.holder is not None] == []
        self.p.check_replay()


OLD = scheduled({"a": agent()}, "*/20 * * * *")
NEW = scheduled({"a": agent()}, "*/30 * * * *")
NEWER = scheduled({"a": agent(), "b": agent()}, "*/30 * * * *")
GONE = route({"a": agent()})
VERSIONS = (OLD, NEW, NEWER, GONE)


class Schedules(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.p = Partition(*VERSIONS)
        self.since = [self.p.now_ms + 3_000_000 * number for number in range(len(VERSIONS))]
        self.newest = -1  # that was told
        self.fired: list[int] = []

    @rule(version=st.integers(0, len(VERSIONS) - 1))
    def tell(self, version: int) -> None:
        """No router tells of what does not hold yet."""
        if self.since[version] <= self.p.now_ms:
            self.newest = max(self.newest, version)
            self.after(self.p.set_schedule(digest=VERSIONS[version].digest, since_ms=self.since[version]))

    @rule(ms=st.sampled_from([1, 60_000, 1_200_000, 5_400_000]))
    def time_passes(self, ms: int) -> None:
        self.p.now_ms += ms

    @rule(late_ms=st.sampled_from([0, 1, 60_000, 4_000_000]))
    def fire(self, late_ms: int) -> None:
        schedule = self.p.state.workflows.get("mesh.schedule:r")
        if schedule is not None and schedule.plan is not None and schedule.plan.next_at_ms is not None:
            self.after(self.p.fire(late_ms=late_ms))

    @rule()
    def take_over(self) -> None:
        self.p.take_over(f"t{len(self.p.log)}")

    def after(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, ScheduleFired):
                assert not self.fired or event.scheduled_at_ms > self.fired[-1]
                assert event.scheduled_at_ms <= self.p.now_ms
                self.fired.append(event.scheduled_at_ms)
        for start in self.p.crossing():
            begun = self.p.give(start)
            assert names(begun)[0] == WorkflowStarted.__name__
            assert names(self.p.give(start)) == ["StartRepeated"]

    @invariant()
    def the_newest_that_was_told_holds_and_has_its_next_time(self) -> None:
        schedule = self.p.state.workflows.get("mesh.schedule:r")
        if schedule is None or schedule.plan is None:
            assert self.newest == -1
            return
        version = VERSIONS[self.newest]
        assert schedule.digest == version.digest
        wanted = version.on.schedule if version.on else None
        assert schedule.plan.schedule == wanted
        due = schedule.plan.next_at_ms
        assert (due is None) == (wanted is None)
        if due is not None and wanted is not None:
            assert next_time(wanted, due - 1) == due

    def teardown(self) -> None:
        if hasattr(self, "p"):
            self.p.check_replay()


@pytest.mark.deep
@pytest.mark.parametrize("machine", [Aliases, Schedules])
def test_the_promises_hold_whatever_comes_in(machine: Any) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=150, stateful_step_count=40))

"""Clocks that jump: deadlines go by the time that really passes.

The jump is reported, and an operator may release the deadlines. A long downtime does not count as a
jump.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from one_partition import Partition, agent, names, only, route

from mesh.adapters import system
from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemEntropy
from mesh.codec.approvals import encode_response
from mesh.codec.cloudevents import to_record
from mesh.codec.commands import encode_command
from mesh.codec.state import decode_meta, encode_meta
from mesh.core import ids
from mesh.core.clock import AT_START_MS, BELIEVED_MS, ClockHold, Sighting, Start, in_partition_time, jump_at_start
from mesh.core.events import ClockHeld, ClockReleased, CommandRefused, InputDismissed
from mesh.core.inputs import Command, CommandGiven, ResultReceived
from mesh.core.replay import replay
from mesh.core.state import PartitionState, Workflow
from mesh.core.topics import Topics
from mesh.ports import Appended
from mesh.services.router import ingress
from mesh.services.router.clock import ClockWatch, blind
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs

DAY_MS = 86_400_000
NOW_MS = 1_763_900_000_000
TOPICS = Topics()
GENEROUS_S = 60.0


def seen(uptime_ms: int, at_ms: int, boot: str = "one") -> Sighting:
    return Sighting(boot=boot, uptime_ms=uptime_ms, at_ms=at_ms)


def start(**more: Any) -> Start:
    fields = {"broker_ms": NOW_MS, "last_ms": NOW_MS, "wall_ms": NOW_MS, "before": None, "now": None}
    return Start(**{"has_own_clock": False, **fields, **more})


# What is a jump -----------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS, 0, 5_000])
@pytest.mark.parametrize("down_ms", [0, 1_000, 30 * DAY_MS])
def test_on_one_machine_its_uptime_tells_a_jump_from_a_downtime(jump_ms: int, down_ms: int) -> None:
    now = seen(50 + down_ms, NOW_MS + down_ms + jump_ms)
    told = start(before=seen(50, NOW_MS), now=now, broker_ms=now.at_ms, wall_ms=now.at_ms)
    assert jump_at_start(told, 10_000) == (jump_ms if abs(jump_ms) > 10_000 else 0)


@pytest.mark.parametrize("before", [None, seen(1, 1, "other"), seen(1, 1, "")])
@pytest.mark.parametrize(
    ("gap_ms", "jump_ms"),
    [
        (BELIEVED_MS, 0),
        (BELIEVED_MS + 1, BELIEVED_MS + 1),
        (-10_000, 0),
        (-10_001, -10_001),
    ],
)
def test_after_a_start_of_the_machine_a_week_is_believed(before: Sighting | None, gap_ms: int, jump_ms: int) -> None:
    told = start(before=before, now=seen(1, NOW_MS, before.boot if before else "one"), broker_ms=NOW_MS + gap_ms)
    if before is None or before.boot in {"other", ""}:
        told = start(before=before, now=None, broker_ms=NOW_MS + gap_ms)
    assert jump_at_start(told, 10_000) == jump_ms


def test_a_log_without_decisions_says_nothing_of_time() -> None:
    assert jump_at_start(start(last_ms=0), 10_000) == 0


@pytest.mark.parametrize(
    ("gap_ms", "wall_ms", "jump_ms"),
    [
        (30 * DAY_MS, NOW_MS + 30 * DAY_MS, 0),  # down for a month: both clocks say so
        (2 * DAY_MS, NOW_MS, 2 * DAY_MS),  # the broker's has jumped
        (2 * DAY_MS, NOW_MS + DAY_MS, DAY_MS),  # after a day
        (0, NOW_MS - 2 * DAY_MS, 0),  # the router's is wrong
        (2 * DAY_MS, NOW_MS + 5 * DAY_MS, 0),
        (-AT_START_MS - 1, NOW_MS, -AT_START_MS - 1),
        (-AT_START_MS, NOW_MS, 0),
    ],
)
def test_on_kafka_two_clocks_must_agree(gap_ms: int, wall_ms: int, jump_ms: int) -> None:
    told = start(has_own_clock=True, broker_ms=NOW_MS + gap_ms, wall_ms=wall_ms)
    assert jump_at_start(told, 10_000) == jump_ms


@pytest.mark.parametrize(
    ("at_ms", "ahead_ms", "told_ms"),
    [
        (NOW_MS - 5, 2 * DAY_MS, NOW_MS - 5),  # from before the jump
        (NOW_MS - 5 + 2 * DAY_MS, 2 * DAY_MS, NOW_MS - 5),
        (NOW_MS - 5 - 2 * DAY_MS, -2 * DAY_MS, NOW_MS - 5),
        (NOW_MS + 9 * DAY_MS, 2 * DAY_MS, NOW_MS),  # from neither
    ],
)
def test_records_are_told_in_the_partitions_time(at_ms: int, ahead_ms: int, told_ms: int) -> None:
    hold = ClockHold(ahead_ms=ahead_ms, since_ms=NOW_MS)
    assert in_partition_time(at_ms, hold, NOW_MS) == told_ms
    assert in_partition_time(at_ms, None, NOW_MS) == at_ms


# While it runs ------------------------------------------------------------------------------------


class Machine:
    """A machine whose wall clock can be moved, as `mesh.ports.Clock` and as a `Sight`."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self.boot = "one"

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def sight(self) -> Sighting:
        uptime_ms = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
        return Sighting(boot=self.boot, uptime_ms=uptime_ms, at_ms=self.now_ms())


def test_a_watch_tells_a_jump_once_and_takes_a_long_turn_for_none() -> None:
    machine, uptimes = Machine(), iter([seen(0, 0), seen(60_000, 60_000), seen(60_000, DAY_MS), None, seen(0, 0)])
    walls = iter([0, 60_000, DAY_MS, 9 * DAY_MS, 20 * DAY_MS])
    machine.now_ms = lambda: next(walls)  # type: ignore[method-assign]
    watch = ClockWatch(machine, lambda: next(uptimes), 10.0)
    assert [watch.jump_ms() for _ in range(4)] == [0, DAY_MS - 60_000, 0, 0]


def test_a_watch_without_sight_tells_nothing() -> None:
    machine = Machine()
    watch = ClockWatch(machine, blind, 10.0)
    machine.ahead_ms = DAY_MS
    assert (watch.jump_ms(), watch.jump_ms()) == (0, 0)


def test_this_machine_tells_its_uptime_or_that_it_cant(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    one = system.sight()
    assert one is None or (one.boot and one.uptime_ms > 0)
    monkeypatch.setattr(system, "_UPTIME", tmp_path / "gone")
    assert system.sight() is None


# The log ------------------------------------------------------------------------------------------


def command(p: Partition, name: str, what: Any = "release") -> Any:
    source = p._inbox("mesh.commands", None)
    return p.give(CommandGiven(workflow_id=name, command_id="c", command=what, by="op", reason="it is right", **source))


def test_an_operator_releases_a_clock_and_the_log_says_who_and_why() -> None:
    p = Partition(route({"a": agent()}))
    name = ids.clock_of(0, 1)
    p.state.hold = p.follower.state.hold = None
    released = only(command(p, name), ClockReleased)
    assert (released.by, released.reason, p.state.hold) == ("op", "it is right", None)
    assert only(command(p, name, "cancel"), CommandRefused).code == "built_in"
    p.start()
    assert only(command(p, "r:k"), CommandRefused).code == "built_in"
    result = ResultReceived(task_id=f"{name}/1/a", attempt=1, workflow_id=name, status="succeeded")
    assert only(p.give(result), InputDismissed).message == "a clock takes no ResultReceived"
    assert names(p.decisions[0].events) == ["CommandAccepted", "ClockReleased"]
    p.check_replay()


@pytest.mark.parametrize("partitions", [1, 4, 16])
def test_each_partition_has_a_clocks_id_of_its_own(partitions: int) -> None:
    for partition in range(partitions):
        name = ids.clock_of(partition, partitions)
        assert ids.is_clock(name)
        assert ids.partition_of_key(name.encode(), partitions) == partition


def test_a_checkpoint_keeps_what_is_known_of_the_clock() -> None:
    state = PartitionState(at_ms=5, hold=ClockHold(ahead_ms=1, since_ms=2), seen=seen(1, 2))
    assert decode_meta(encode_meta(state)).state({}) == state


# Routers ------------------------------------------------------------------------------------------

STEPS: dict[str, Any] = {
    "review": {"approval": {"ask": "?", "payload": 1, "role": "lead", "deadline": "24h"}},
    "w": {"wait": {"event": "paid", "timeout": "24h", "on_timeout": "skip"}},
    "t": {"wait": "24h"},
}


class FallingBroker(MemoryBroker):
    """Acknowledges with timestamps that fall, as Kafka's may; those in memory never do."""

    behind_ms = 0

    async def append(self, *given: Any, **named: Any) -> Appended:
        appended = await super().append(*given, **named)
        return msgspec.structs.replace(appended, timestamp_ms=appended.timestamp_ms - self.behind_ms)


class World:
    """One machine with a broker, and routers one after another."""

    def __init__(self, *, has_own_clock: bool) -> None:
        self.machine, self.of_broker = Machine(), Machine()
        clock = self.of_broker if has_own_clock else self.machine
        self.cluster = MemoryCluster(clock)
        self.cluster.has_own_clock = has_own_clock
        self.cluster.create_topics(topic_specs(TOPICS, partitions=1, agents=["worker"]))
        self.broker = MemoryBroker(self.cluster, "test")
        self.of_router = FallingBroker(self.cluster, "r")

    def jump_brokers_clock(self, by_ms: int) -> None:
        if by_ms > 0:
            self.of_broker.ahead_ms = by_ms
        else:
            self.of_router.behind_ms = -by_ms

    @asynccontextmanager
    async def router(self) -> AsyncIterator[Router]:
        ready = asyncio.Event()
        router = Router(
            self.of_router,
            topics=TOPICS,
            routes=[route(STEPS)],
            roles={"ana": frozenset({"lead"})},
            config=RouterConfig(
                instance="r", partitions=1, retry_pause_s=0.001, idle_poll_s=0.005, membership_poll_s=0.005
            ),
            clock=self.machine,
            entropy=SystemEntropy(),
            ready=ready,
            sight=self.machine.sight,
        )
        with pytest.MonkeyPatch.context() as patch:
            # how late ingress may notice that the router stops
            patch.setattr(ingress, "_POLL_TIMEOUT_S", 0.005)
            async with asyncio.timeout(GENEROUS_S), asyncio.TaskGroup() as tasks:
                running = tasks.create_task(router.run())
                await self.until(lambda: router.is_owning)
                yield router
                router.stop()
                await running

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 - a router tells nobody of its state
            await asyncio.sleep(0.002)

    async def begin(self, router: Router) -> None:
        event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "k", "data": None}
        await self.broker.send([to_record(event, topic=TOPICS.events)])
        await self.until(lambda: self.steps(router).get("review") == "asking")

    def workflow(self, router: Router) -> Workflow | None:
        return next((one for one in router.workflows() if one.workflow_id == "r:k"), None)

    def steps(self, router: Router) -> dict[str, str]:
        found = self.workflow(router)
        return {} if found is None else {name: step.status for name, step in found.steps.items()}

    def held(self, router: Router) -> int:
        return router.owners[0].clock.ahead_ms if 0 in router.owners else 0

    async def approve(self, router: Router) -> None:
        found = self.workflow(router)
        assert found is not None
        record = encode_response(
            topics=TOPICS,
            approval_id=found.steps["review"].task_id,
            decision="approve",
            by="ana",
            answer_id="a1",
            at_ms=self.machine.now_ms(),
        )
        await self.broker.send([record])
        await self.until(lambda: self.steps(router).get("review") == "succeeded")

    async def release(self) -> None:
        await self.command(ids.clock_of(0, 1), "release")

    async def command(self, workflow_id: str, command: Command) -> None:
        record = encode_command(
            topics=TOPICS,
            command=command,
            workflow_id=workflow_id,
            by="op",
            command_id="c1",
            at_ms=0,
            reason="right",
        )
        await self.broker.send([record])


WAITING = {"review": "asking", "w": "waiting", "t": "waiting"}


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
async def test_a_jump_expires_nothing_answers_count_and_a_release_makes_it_the_time(
    jump_ms: int, *, is_running: bool
) -> None:
    world = World(has_own_clock=False)
    async with world.router() as router:
        await world.begin(router)
        if is_running:
            world.machine.ahead_ms = jump_ms
            await world.until(lambda: world.held(router))
    world.machine.ahead_ms = jump_ms
    async with world.router() as router:
        await world.until(lambda: world.held(router))
        assert abs(world.held(router) - jump_ms) < 1_000
        assert world.steps(router) == WAITING
        await world.approve(router)
        await world.release()
        await world.until(lambda: not world.held(router))
        if jump_ms > 0:
            await world.until(lambda: world.steps(router).get("t") != "waiting")


async def test_a_clock_that_is_set_right_again_is_released_by_itself() -> None:
    world = World(has_own_clock=False)
    async with world.router() as router:
        await world.begin(router)
        world.machine.ahead_ms = 2 * DAY_MS
        await world.until(lambda: world.held(router))
        world.machine.ahead_ms = 0
        await world.until(lambda: not world.held(router))
        assert world.steps(router) == WAITING
    async with world.router() as router:
        assert (world.held(router), world.steps(router)) == (0, WAITING)


async def test_a_night_without_the_machine_needs_no_operator() -> None:
    world = World(has_own_clock=False)
    async with world.router() as router:
        await world.begin(router)
    world.machine.ahead_ms, world.machine.boot = 2 * DAY_MS, "two"
    async with world.router() as router:
        await world.until(lambda: world.steps(router).get("t") != "waiting")
        assert world.held(router) == 0


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
async def test_on_a_broker_with_its_own_clock_a_routers_jump_changes_nothing(jump_ms: int) -> None:
    world = World(has_own_clock=True)
    async with world.router() as router:
        await world.begin(router)
        world.machine.ahead_ms = jump_ms
        offset_ms = router.owners[0].clock.offset_ms
        await world.until(lambda: router.owners[0].clock.offset_ms != offset_ms)
        await world.approve(router)
        assert (world.held(router), world.steps(router)) == (0, {**WAITING, "review": "succeeded"})
    async with world.router() as router:
        assert (world.held(router), world.steps(router)["t"]) == (0, "waiting")


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
async def test_on_a_broker_with_its_own_clock_the_brokers_jump_is_held(jump_ms: int) -> None:
    world = World(has_own_clock=True)
    async with world.router() as router:
        await world.begin(router)
        world.jump_brokers_clock(jump_ms)
        await world.command("r:none", "cancel")  # any decision's acknowledgement tells the time
        await world.until(lambda: world.held(router))
        assert abs(world.held(router) - jump_ms) < 1_000
        assert world.steps(router) == WAITING
        await world.approve(router)


def test_a_held_clock_is_in_the_log_and_its_begin_stays() -> None:
    p = Partition(route({"a": agent()}))
    for at_ms, ahead_ms in ((0, DAY_MS), (5, 2 * DAY_MS)):
        p.now_ms = NOW_MS + at_ms
        given = CommandGiven(
            workflow_id=ids.clock_of(0, 1), command_id="c", command="release", by="", **p._inbox("mesh.commands", None)
        )
        held = ClockHeld(ahead_ms=ahead_ms, reason="a jump", seen=seen(1, 2))
        p._write(given, type(decided := _nothing())((held,), decided.workflow))
    assert p.state.hold == ClockHold(ahead_ms=2 * DAY_MS, since_ms=NOW_MS)
    assert (p.state.seen, replay(p.records()).hold) == (seen(1, 2), p.state.hold)


def _nothing() -> Any:
    from mesh.core.decide import Decided  # noqa: PLC0415 - a value of its type alone

    return Decided((), None)

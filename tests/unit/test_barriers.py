"""Time at an owner: whatever both clocks say, no timer passes over what came before it.

Both clocks are read in whole milliseconds, and each cuts off a part of its own.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemEntropy
from mesh.core.clock import ClockHold, Sighting
from mesh.core.events import ClockHeld
from mesh.core.state import Directory, StepState
from mesh.core.topics import Topics
from mesh.ports import OutRecord
from mesh.services.router import takeover
from mesh.services.router.barrier import raise_barriers
from mesh.services.router.config import RouterConfig
from mesh.services.router.deadlines import Barrier, Deadlines
from mesh.services.router.owner import Owner
from mesh.services.router.partition_clock import PartitionClock
from mesh.services.topic_plan import topic_specs

DAY_MS = 86_400_000
NOW_MS = 1_763_900_000_000
TOPICS = Topics()
CONFIG = RouterConfig(instance="r", partitions=1)
parts_ms = st.floats(0, 1, exclude_max=True)


class Reading:
    """A clock that is read in whole milliseconds, as `mesh.ports.Clock`."""

    def __init__(self, at_ms: float) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return math.floor(self.at_ms)


def owner_at(broker: MemoryBroker) -> Owner:
    return Owner(
        0,
        broker=broker,
        topics=TOPICS,
        config=CONFIG,
        route_of=lambda _: None,
        directory=Directory,
        token="token",
        entropy=SystemEntropy(),
    )


def claimed(of_broker: Reading, of_router: Reading) -> Owner:
    """An owner that has compared its clock with the broker's, at this moment of both."""
    cluster = MemoryCluster(of_broker)
    cluster.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
    broker = MemoryBroker(cluster, "r")
    owner = owner_at(broker)
    asyncio.run(takeover._claim(takeover._Candidate(owner, None, None, {}), broker, TOPICS, CONFIG, of_router))
    return owner


def passes_over(owner: Owner, due_ms: int, of_broker: float, of_router: float, later_ms: float) -> str:
    """What of the records that come `later_ms` after the barrier is passed over; empty if none."""
    step = StepState(status="running", due_at_ms=due_ms)
    owner.deadlines.timers.arm(due_ms, "r:k", "a", "1", step)
    up_to_ms = owner.wants_barrier(math.floor(of_router))
    if up_to_ms is None:
        return ""
    owner.deadlines.barrier = Barrier(up_to_ms, {}, frozenset({"answers", "events"}))
    stamp_ms = math.floor(of_broker + later_ms)
    now_ms = stamp_ms + DAY_MS
    for awaited in ("results", "answers", "events"):
        fires_ms = owner.deadlines.fires_up_to(awaited, now_ms, lambda _: 0)
        if fires_ms >= stamp_ms:
            return f"a timer of {fires_ms} fires, and a record of {stamp_ms} is to come"
    return ""


@settings(max_examples=draws(80), deadline=None)
@given(
    # of the broker's clock at the claim; how far the router's is ahead; what the claim took
    clocks=st.tuples(parts_ms, st.floats(-2_000, 2_000), st.floats(0, 5)),
    asked_ms=st.floats(0, 50),
    due_ms=st.integers(-3, 60),
    later_ms=parts_ms,
)
def test_no_timer_fires_while_an_input_of_its_own_millisecond_is_to_come(
    clocks: tuple[float, float, float], asked_ms: float, due_ms: int, later_ms: float
) -> None:
    """A record of the timer's own millisecond beats it, so it must have been read."""
    part_ms, skew_ms, took_ms = clocks
    begin_ms = NOW_MS + part_ms
    owner = claimed(Reading(begin_ms), Reading(begin_ms + took_ms + skew_ms))
    of_broker = begin_ms + took_ms + asked_ms
    assert passes_over(owner, NOW_MS + due_ms, of_broker, of_broker + skew_ms, later_ms) == ""


@pytest.mark.parametrize("awaited", ["results", "answers", "events"])
def test_a_timer_waits_for_a_barrier_of_a_later_millisecond(awaited: Any) -> None:
    deadlines = Deadlines()
    deadlines.barrier = Barrier(1_000, {}, frozenset({"answers", "events"}))
    assert deadlines.fires_up_to(awaited, 5_000, lambda _: 0) == 999
    assert deadlines.fires_up_to(awaited, 500, lambda _: 0) == 500


# What an acknowledgement tells of the broker's clock ----------------------------------------------


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner makes of an acknowledgement: what it logs, and by which clock it goes on."""

    ahead_ms: int | None = None
    moved_ms: int = 0
    is_stamped_ahead: bool = False


def hear(*, jump_ms: int, took_ms: int = 0, sees: bool = True, has_own_clock: bool = True) -> Heard:
    clock = PartitionClock(0, bound_s=10.0, has_own_clock=has_own_clock, hold=lambda: None)
    clock.offset_ms = -1
    seen = Sighting(boot="one", uptime_ms=1, at_ms=NOW_MS) if sees else None
    clock.hear(NOW_MS + jump_ms - took_ms, NOW_MS - took_ms, NOW_MS, lambda: seen)
    return Heard(
        ahead_ms=clock.event.ahead_ms if isinstance(clock.event, ClockHeld) else None,
        moved_ms=clock.offset_ms + 1,
        is_stamped_ahead=clock.is_stamped_ahead,
    )


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
def test_a_jump_of_the_brokers_clock_is_held_where_this_machine_can_tell(jump_ms: int) -> None:
    assert hear(jump_ms=jump_ms) == Heard(ahead_ms=jump_ms)


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
def test_the_brokers_clock_is_believed_where_this_machine_can_tell_nothing(jump_ms: int) -> None:
    assert hear(jump_ms=jump_ms, sees=False) == Heard(moved_ms=jump_ms)


@pytest.mark.parametrize("heard", [{"jump_ms": 9_000}, {"jump_ms": -9_000}, {"jump_ms": 0, "took_ms": 60_000}])
def test_small_differences_and_slow_acknowledgements_say_nothing_of_a_clock(heard: dict[str, int]) -> None:
    assert hear(**heard) == Heard()  # type: ignore[arg-type] # its other options are flags


def test_a_broker_that_has_this_machines_clock_stamps_ahead_once_that_was_put_back() -> None:
    assert hear(jump_ms=2 * DAY_MS, has_own_clock=False) == Heard(is_stamped_ahead=True)
    assert hear(jump_ms=5, has_own_clock=False) == Heard()


@pytest.mark.parametrize(
    ("ahead_ms", "heard_ms"), [(-5_000, -5_000), (0, 0), (800, 800), (1_001, 0), (60_000, 0), (2 * DAY_MS, 0)]
)
def test_a_sign_of_life_is_not_heard_in_the_future(ahead_ms: int, heard_ms: int) -> None:
    clock = PartitionClock(0, bound_s=float("inf"), has_own_clock=True, hold=lambda: None)
    assert clock.heard_at(NOW_MS + ahead_ms, NOW_MS) == NOW_MS + heard_ms


# Jumps and releases, whatever their order ---------------------------------------------------------

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["broker", "router", "release", "nothing"]),
        st.sampled_from([-2 * DAY_MS, -60_000, -20_000, 20_000, 3_600_000, 2 * DAY_MS]),
    ),
    max_size=8,
)


def astray(steps: list[Step]) -> str:
    """Where a partition's time is not what has really passed, since the last release of the clock.

    Empty if it never is. Each step takes a minute.
    """
    hold: list[ClockHold | None] = [None]
    clock = PartitionClock(0, bound_s=10.0, has_own_clock=True, hold=lambda: hold[0])
    passed_ms, broker_ms, router_ms, released_ms = 0, NOW_MS, NOW_MS, 0
    clock.correct(broker_ms, router_ms)
    for what, jump_ms in steps:
        passed_ms, broker_ms, router_ms = passed_ms + 60_000, broker_ms + 60_000, router_ms + 60_000
        if what == "broker":
            broker_ms += jump_ms
        elif what == "router":
            router_ms += jump_ms
            clock.own_jumped(jump_ms, None)
        seen = Sighting(boot="one", uptime_ms=passed_ms, at_ms=router_ms)
        clock.hear(broker_ms, router_ms, router_ms, lambda seen=seen: seen)  # type: ignore[misc] # a constant
        event, clock.event = clock.event, None
        if event is not None:  # the owner logs it
            hold[0] = ClockHold(ahead_ms=event.ahead_ms, since_ms=0) if isinstance(event, ClockHeld) else None
        if what == "release" and hold[0] is not None:
            released_ms += hold[0].ahead_ms
            was, hold[0] = hold[0], None
            clock.released(was)
        time_ms = NOW_MS + passed_ms + released_ms - 1
        if abs(router_ms + clock.offset_ms - time_ms) > 10_000:
            return f"after {what} it is {router_ms + clock.offset_ms - time_ms} ms off"
        if abs(clock.ahead_ms - (broker_ms - 1 - time_ms)) > 10_000:
            return f"after {what} {clock.ahead_ms} ms are held, and the broker is {broker_ms - 1 - time_ms} ms ahead"
    return ""


@settings(max_examples=draws(100), deadline=None)
@given(steps=STEPS)
def test_a_partitions_time_is_what_has_passed_whichever_clock_jumps(steps: list[Step]) -> None:
    assert astray(steps) == ""


def _log_no_hold(patch: pytest.MonkeyPatch) -> None:
    honest = PartitionClock._jumped

    def jumped(self: PartitionClock, *given: Any) -> None:
        honest(self, *given)
        self.event = None

    patch.setattr(PartitionClock, "_jumped", jumped)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a hold is not logged": _log_no_hold,
    "a release forgets the offset": lambda patch: patch.setattr(PartitionClock, "released", lambda *_: None),
    "nothing is heard of the broker's clock": lambda patch: patch.setattr(PartitionClock, "hear", lambda *_: None),
    "this machine's clock is followed": lambda patch: patch.setattr(PartitionClock, "own_jumped", lambda *_: None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_in_a_partitions_clock_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [("broker", 2 * DAY_MS), ("router", -60_000), ("release", 0), ("nothing", 0)]
    assert not astray(steps)
    FAULTS[name](monkeypatch)
    assert astray(steps)


@pytest.mark.parametrize("topic", [TOPICS.responses, TOPICS.commands])
def test_a_deadline_waits_until_what_people_and_operators_sent_is_copied(topic: str) -> None:
    """An extension that reached the broker in time beats a deadline, as an answer does."""
    reading = Reading(NOW_MS)

    async def copied() -> bool:
        cluster = MemoryCluster(reading)
        cluster.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
        broker = MemoryBroker(cluster, "r")
        await broker.send([OutRecord(topic=topic, key=b"r:k", value=b"{}", headers=())])
        owner = owner_at(broker)
        step = StepState(status="asking", due_at_ms=NOW_MS + 5)
        owner.deadlines.timers.arm(NOW_MS + 5, "r:k", "a", "1", step)
        await raise_barriers([(owner, NOW_MS + 100)], broker, TOPICS)
        barrier = owner.deadlines.barrier
        assert barrier is not None
        return "answers" in barrier.copied

    assert not asyncio.run(copied())

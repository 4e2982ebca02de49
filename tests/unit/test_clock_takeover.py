"""A clock that jumps around a take-over: the jump is held whoever dies or stops, and whenever."""

from typing import Any

import msgspec
import pytest
from one_partition import Partition, agent, route
from test_clock import DAY_MS, NOW_MS, TOPICS, WAITING, FallingBroker, World, seen
from test_strayed_results import owner_of

from mesh.codec.log import encode_owner_changed
from mesh.core.events import ClockHeld, OwnerChanged
from mesh.core.ownership import Phase
from mesh.core.replay import PartitionFold
from mesh.ports import Appended, TopicPartition


def claim(token: str, uptime_ms: int, at_ms: int) -> OwnerChanged:
    return OwnerChanged(
        token=token, owner=token, partitions=1, format_level=1, at_ms=at_ms, boot="one", uptime_ms=uptime_ms
    )


def test_an_owner_accounts_for_its_clock_with_its_first_decision() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    decision = msgspec.structs.replace(p.decisions[0], epoch="second")
    fold = PartitionFold(0)
    fold.apply(0, claim("first", 10, NOW_MS))
    fold.apply(1, msgspec.structs.replace(decision, epoch="first"))
    fold.apply(2, claim("second", 20, NOW_MS + DAY_MS))
    assert fold.state.seen == seen(10, NOW_MS)
    fold.apply(3, decision)
    assert fold.state.seen == seen(20, NOW_MS + DAY_MS)


class JumpingBroker(FallingBroker):
    """The machine's clock jumps just after a claim has landed."""

    world: World
    jumps_by_ms = 0

    async def append(self, *given: Any, **named: Any) -> Appended:
        appended = await super().append(*given, **named)
        if given[1] is None and self.jumps_by_ms:
            self.world.machine.ahead_ms += self.jumps_by_ms
            self.jumps_by_ms = 0
        return appended


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
async def test_a_jump_is_held_though_the_first_owner_after_it_died_before_it_logged_anything(jump_ms: int) -> None:
    world = World(has_own_clock=False)
    async with world.router() as router:
        await world.begin(router)
    world.machine.ahead_ms = jump_ms
    now = world.machine.sight()
    died = encode_owner_changed(claim("dead", now.uptime_ms, now.at_ms), topic=TOPICS.log, partition=0)
    await world.broker.append(TopicPartition(TOPICS.log, 0), None, [died], [])
    async with world.router() as router:
        await world.until(lambda: world.held(router))
        assert world.steps(router) == WAITING


@pytest.mark.parametrize("has_own_clock", [True, False])
@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
async def test_a_jump_during_a_take_over_makes_nothing_due(jump_ms: int, *, has_own_clock: bool) -> None:
    world = World(has_own_clock=has_own_clock)
    async with world.router() as router:
        await world.begin(router)
    world.of_router = JumpingBroker(world.cluster, "r")
    world.of_router.world, world.of_router.jumps_by_ms = world, jump_ms
    async with world.router() as router:
        await world.approve(router)
        held_ms = world.held(router)
        assert abs(held_ms - (0 if has_own_clock else jump_ms)) < 1_000
        true_ms = world.machine.now_ms() - jump_ms
        assert abs(world.machine.now_ms() + router.owners[0].clock.offset_ms - true_ms) < 1_000
        assert world.steps(router) == {**WAITING, "review": "succeeded"}


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS])
async def test_a_jump_during_the_first_take_over_of_all_is_held_by_every_owner(jump_ms: int) -> None:
    world = World(has_own_clock=False)
    world.of_router = JumpingBroker(world.cluster, "r")
    world.of_router.world, world.of_router.jumps_by_ms = world, jump_ms
    async with world.router() as router:
        await world.begin(router)
        assert abs(world.held(router) - jump_ms) < 1_000
    async with world.router() as router:
        await world.approve(router)
        assert abs(world.held(router) - jump_ms) < 1_000
        assert world.steps(router) == {**WAITING, "review": "succeeded"}


def test_an_owner_that_stops_logs_what_has_become_of_the_clock_before_its_mark() -> None:
    owner = owner_of(0)
    owner.ownership.claimed(0)
    owner.ownership.phase = Phase.OWNING
    owner.clock.event = ClockHeld(ahead_ms=DAY_MS, reason="it jumped")
    batch = owner.mark_batch(NOW_MS)
    assert batch is not None
    assert [type(event) for decision in batch.decisions for event in decision.events] == [ClockHeld]

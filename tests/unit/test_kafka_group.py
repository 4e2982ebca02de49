"""How a group member deals with a broker that is away for long.

Also with a consumer that is past use. The consumer is scripted, and there is no broker.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from mesh.adapters.kafka.group import GroupSubscription
from mesh.errors import BrokerUnavailable
from mesh.ports import Committed, Record, TopicPartition

AT = TopicPartition("t", 0)
POSITIONS: dict[TopicPartition, Committed | None] = {AT: Committed(7)}
GENEROUS_S = 10.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0)


class Scripted:
    """A consumer, the broker's answers about positions, and a listener, in one.

    Each thing that happens is a word in `story`.
    """

    def __init__(self, *, session_timeout_s: float = GENEROUS_S) -> None:
        self.story: list[str] = []
        self.away = 0  # how many questions find no broker
        self.well = True
        self.commits_count = True
        self.revoking_s = 0.0
        self.subscription = GroupSubscription(
            self, self, self.committed, fetch=True, session_timeout_s=session_timeout_s
        )

    async def committed(self, _: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        self._unless_away("positions")
        return POSITIONS

    def _unless_away(self, what: str) -> None:
        if self.away:
            self.away -= 1
            self.story.append("nobody answers")
            raise BrokerUnavailable("away")
        self.story.append(what)

    async def poll_all(self) -> Sequence[Record]:
        return await self.subscription.poll(max_records=1, timeout_s=0)

    async def until_held(self) -> None:
        await until(lambda: bool(self.subscription.assignment()))

    # The consumer

    def is_member(self) -> bool:
        return True

    def is_well(self) -> bool:
        return self.well

    async def replace(self) -> None:
        self._unless_away("replaced")
        self.well = True

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        return []

    def seek(self, at: TopicPartition, offset: int) -> None:
        self.story.append(f"seek {at.partition} {offset}")

    def position(self, at: TopicPartition) -> int | None:
        return None

    def pause(self, partitions: Sequence[TopicPartition]) -> None: ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.story.append(f"resume {len(partitions)}")

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        self._unless_away("committed")
        return self.commits_count

    async def stop(self, *, leave: bool) -> None: ...

    # The listener

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self.story.append(f"assigned {len(partitions)}")

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.story.append(f"revoked {len(partitions)}")
        await asyncio.sleep(self.revoking_s)


async def test_a_share_whose_positions_nobody_tells_at_first_flows_once_somebody_does() -> None:
    member = Scripted()
    member.away = 1
    member.subscription.take_share([AT])
    await until(lambda: "nobody answers" in member.story)
    with pytest.raises(BrokerUnavailable, match="away"):
        await member.poll_all()
    assert await member.poll_all() == []
    await member.until_held()
    assert member.story == ["nobody answers", "positions", "seek 0 7", "assigned 1", "resume 1"]


async def test_a_share_that_goes_before_its_positions_are_known_was_never_ours() -> None:
    member = Scripted()
    member.away = 1
    member.subscription.take_share([AT])
    await until(lambda: "nobody answers" in member.story)
    await member.subscription.lose_share()
    assert member.subscription.assignment() == frozenset()
    assert member.story == ["nobody answers"]


async def test_a_listener_that_takes_too_long_to_let_go_is_told_once_and_stays_a_member() -> None:
    member = Scripted(session_timeout_s=0.05)
    member.revoking_s = GENEROUS_S
    member.subscription.take_share([AT])
    await member.until_held()
    await member.subscription.lose_share()
    with pytest.raises(BrokerUnavailable, match="on_revoked took longer"):
        await member.poll_all()
    member.subscription.take_share([AT])
    await member.until_held()
    assert await member.poll_all() == []


async def test_a_consumer_that_is_not_well_is_replaced_and_its_share_is_lost_without_a_word() -> None:
    member = Scripted()
    member.subscription.take_share([AT])
    await member.until_held()
    member.well, member.away = False, 1
    with pytest.raises(BrokerUnavailable, match="away"):
        await member.poll_all()
    assert member.subscription.assignment() == frozenset()
    assert await member.poll_all() == []
    assert member.story[-2:] == ["nobody answers", "replaced"]
    assert "revoked 1" not in member.story


async def test_what_the_listener_raises_ends_the_subscription() -> None:
    class Failing(Scripted):
        async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
            message = f"no room for {len(partitions)}"
            raise LookupError(message)

    member = Failing()
    member.subscription.take_share([AT])
    await member.until_held()
    for _ in range(2):
        with pytest.raises(LookupError, match="no room for 1"):
            await member.poll_all()


async def test_a_member_that_the_group_has_removed_learns_it_by_confirming() -> None:
    scripted = Scripted()
    scripted.subscription.take_share([AT])
    await scripted.until_held()
    assert await scripted.subscription.confirm() == {AT}
    scripted.commits_count = False
    assert await scripted.subscription.commit({AT: Committed(8)}) == frozenset()
    assert await scripted.subscription.confirm() == frozenset()
    assert scripted.subscription.assignment() == frozenset()


async def test_a_share_that_comes_while_a_member_confirms_stays() -> None:
    scripted = Scripted()
    scripted.subscription.take_share([AT])
    await scripted.until_held()
    scripted.commits_count = False
    confirming = asyncio.ensure_future(scripted.subscription.confirm())
    scripted.subscription.take_share([AT])
    await confirming
    assert scripted.subscription.assignment() == {AT}

"""What the contract suite asks of an adapter's tests, and the small tools that its cases share.

Owns the `BrokerHarness` protocol and the group member that the cases drive. It must not know any
adapter.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Protocol

import pytest

from mesh.ports import (
    Appended,
    Broker,
    Committed,
    OutRecord,
    Reader,
    Record,
    SendFailure,
    Subscription,
    TopicPartition,
    TopicSpec,
)

GENEROUS_S = 60.0  # a longer wait is a failure, however noisy the machine
STEADY = 4  # times the shortest session: one that a busy machine does not end by chance
_TICK_S = 0.1  # one turn of polling while a condition is waited for


class BrokerHarness(Protocol):
    """One cluster, as its adapter's tests offer it: fresh connections, and faults on request."""

    session_timeout_s: float
    """The shortest session time-out that the broker takes (6 s on a default Kafka)."""

    async def connect(self) -> Broker:
        """Open a connection, as another process would.

        The harness closes at the end what is still open.
        """
        ...

    async def crash(self, broker: Broker) -> None:
        """End the connection's process as `kill -9` would.

        It commits nothing, leaves no group, and calls no `on_revoked`.
        """
        ...

    async def trim(self, partition: TopicPartition, before_offset: int) -> None:
        """Drop the records below `before_offset`, as retention does.

        Calls `pytest.skip` if the broker can't.
        """
        ...


class ContractCases:
    """The fixtures that all cases use. An adapter's test class overrides `harness`."""

    @pytest.fixture
    def harness(self) -> AsyncIterator[BrokerHarness]:
        raise NotImplementedError("override the fixture `harness`: it yields the adapter's BrokerHarness")

    @pytest.fixture
    async def broker(self, harness: BrokerHarness) -> Broker:
        return await harness.connect()


async def new_topic(broker: Broker, partitions: int = 1) -> str:
    """Create a topic with a name that no other test has."""
    name = f"contract.{secrets.token_hex(6)}"
    await broker.create_topics([TopicSpec(name, partitions, config={"message.timestamp.type": "LogAppendTime"})])
    return name


def out(topic: str, value: str, *, key: str | None = None, partition: int | None = None) -> OutRecord:
    return OutRecord(topic, key.encode() if key is not None else None, value.encode(), (), partition)


async def collect(reader: Reader, count: int, *, partitions: Sequence[TopicPartition] | None = None) -> list[Record]:
    """Poll until `count` records have come. More than that is an error."""
    got: list[Record] = []
    async with asyncio.timeout(GENEROUS_S):
        while len(got) < count:
            got += await reader.poll(max_records=count - len(got), timeout_s=1.0, partitions=partitions)
    assert len(got) == count
    return got


async def read_all(broker: Broker, topic: str) -> list[Record]:
    """Return all records that a topic has now, partition by partition."""
    info = (await broker.topics())[topic]
    partitions = [TopicPartition(topic, p) for p in range(info.partitions)]
    begin = await broker.begin_offsets(partitions)
    end = await broker.end_offsets(partitions)
    reader = await broker.reader()
    try:
        reader.assign(begin)
        records = await collect(reader, sum(end[tp] - begin[tp] for tp in partitions))
    finally:
        await reader.close()
    return sorted(records, key=lambda r: (r.partition, r.offset))


async def send_effects(broker: Broker, appended: Appended, effects: Sequence[OutRecord]) -> Sequence[SendFailure]:
    """Send effects as an owner does: only if the append has not sent them already."""
    return appended.failures if appended.effects_sent else await broker.send(effects)


class Member:
    """A group member as a process has it: it listens, polls, and keeps what it saw.

    It asserts for every record that `on_assigned` has returned for the record's partition. A case
    can step in with `hold_assigned` and `before_revoke`. The listener raises `fail_assigned` and
    `fail_revoked`, if they are set.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.assigned: list[dict[TopicPartition, Committed | None]] = []
        self.revoked: list[frozenset[TopicPartition]] = []
        self.ever_owned: set[TopicPartition] = set()
        self.entered = asyncio.Event()
        self.hold_assigned: asyncio.Event | None = None
        self.before_revoke: Callable[[Sequence[TopicPartition]], Awaitable[None]] | None = None
        self.fail_assigned: Exception | None = None
        self.fail_revoked: Exception | None = None
        self._subscription: Subscription | None = None

    @property
    def subscription(self) -> Subscription:
        assert self._subscription is not None, "join first"
        return self._subscription

    @property
    def share(self) -> frozenset[TopicPartition]:
        return self._subscription.assignment() if self._subscription else frozenset()

    @property
    def values(self) -> list[str]:
        return [(record.value or b"").decode() for record in self.records]

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self.entered.set()
        if self.hold_assigned is not None:
            await self.hold_assigned.wait()
        if self.fail_assigned is not None:
            raise self.fail_assigned
        self.assigned.append(dict(partitions))
        self.ever_owned |= set(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        if self.before_revoke is not None:
            await self.before_revoke(partitions)
        self.revoked.append(frozenset(partitions))
        if self.fail_revoked is not None:
            raise self.fail_revoked

    async def join(
        self,
        broker: Broker,
        group: str,
        *topics: str,
        session_timeout_s: float,
        fetch: bool = True,
        others: Sequence["Member"] = (),
    ) -> None:
        """Subscribe while the other members go on polling, as they would in their own processes."""
        subscribing = asyncio.ensure_future(
            broker.subscribe(
                group, topics, self, member=f"member-{id(self):x}", fetch=fetch, session_timeout_s=session_timeout_s
            )
        )
        await drive(subscribing.done, *others)
        self._subscription = await subscribing

    async def poll(self, *, max_records: int = 100, timeout_s: float = _TICK_S) -> int:
        """Poll once. Returns the number of records that came."""
        got = await self.subscription.poll(max_records=max_records, timeout_s=timeout_s)
        for record in got:
            at = TopicPartition(record.topic, record.partition)
            assert at in self.ever_owned, f"a record of {at} was handed out before on_assigned returned for it"
        self.records += got
        return len(got)

    async def commit(self, *, metadata: str = "") -> None:
        """Commit what was read, for the partitions that this member owns now."""
        read = {TopicPartition(r.topic, r.partition): Committed(r.offset + 1, metadata) for r in self.records}
        await self.subscription.commit({at: position for at, position in read.items() if at in self.share})


async def drive(until: Callable[[], bool], *members: Member) -> None:
    """Poll all members at once, again and again, until the condition holds."""
    async with asyncio.timeout(GENEROUS_S):
        while not until():
            turns: list[Coroutine[None, None, object]] = [member.poll() for member in members]
            await asyncio.gather(*(turns or [asyncio.sleep(0.01)]))

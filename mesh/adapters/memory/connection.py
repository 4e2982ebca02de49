"""One connection to the memory cluster: the port `Broker` for one incarnation of a process.

Owns what dies with the process. After `kill` every call is inert: it never returns and has no
effect. So neither a `finally` nor a callback of the dead can do anything outside; only what was on
the wire may still land. (A call by a task that is being cancelled ends with `CancelledError` at
once, so that tests can clear the dead away.)
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from mesh import defaults
from mesh.adapters.memory.reader import MemoryReader
from mesh.adapters.memory.subscription import MemorySubscription
from mesh.adapters.memory.weak import WeakBehaviour
from mesh.adapters.memory.wire import Batch, Lane, Turnstile
from mesh.errors import BrokerUnavailable, RecordTooLarge, TopicMissing
from mesh.ports import (
    AboutBroker,
    Appended,
    Committed,
    GroupListener,
    OutRecord,
    SendFailure,
    TopicInfo,
    TopicPartition,
    TopicSpec,
)

if TYPE_CHECKING:
    from mesh.adapters.memory.cluster import MemoryCluster, Partition


class MemoryBroker:
    """A connection. Made by `MemoryCluster.connect`."""

    def __init__(self, cluster: "MemoryCluster", client_id: str) -> None:
        self.client_id = client_id
        self.has_own_clock = cluster.has_own_clock
        self.max_record_bytes = cluster.max_record_bytes
        self._cluster = cluster
        self._killed = False
        self._lanes: dict[TopicPartition, Lane] = {}
        # logs with an append that was refused, or of unknown outcome; nothing is appended to them
        # until the next claim
        self._unknown: dict[TopicPartition, None] = {}
        self._turnstile = Turnstile(cluster)
        self._open: list[MemoryReader | MemorySubscription] = []

    # life and death

    @property
    def is_killed(self) -> bool:
        return self._killed

    def kill(self) -> None:
        """End this incarnation as `kill -9` would: no goodbye to groups, no commit.

        What is on the wire may still land.
        """
        if self._killed:
            return
        self._killed = True
        for lane in list(self._lanes.values()):
            lane.give_up()
        self._turnstile.give_up()
        for opened in self._open:
            opened.abandon()

    async def alive(self) -> None:
        """Return at once while the process lives, and never after its death."""
        while self._killed:
            task = asyncio.current_task()
            # else a test could never end the tasks of a dead process
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
            await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        await self.alive()
        for opened in list(self._open):
            await opened.close()

    # topics

    async def topics(self, *, configs_of: Collection[str] = ()) -> Mapping[str, TopicInfo]:  # noqa: ARG002 - it has them all at hand
        await self._call()
        return self._cluster.topics()

    async def cluster_id(self) -> str:
        await self._call()
        return self._cluster.cluster_id

    async def about(self) -> AboutBroker:
        await self._call()
        return AboutBroker(product="memory")

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._call()
        self._cluster.create_topics(specs)

    # writing

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        await self._reach()
        weak = self._cluster.weak
        if weak is None:
            failures = await self._turnstile.through(lambda: self._send_all(records))
            await self._returned()
            return failures
        batches, failures = self._cluster.sort(records)
        on_wire = [self._put(weak, at, batch, retried=True) for at, batch in batches.items()]
        await self._acknowledged(on_wire, f"{len(records)} records sent")
        return failures

    async def append(
        self,
        log: TopicPartition,
        expected_offset: int | None,
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],
    ) -> Appended:
        await self._reach()
        partition = self._log(log, decisions)
        weak = self._cluster.weak
        if weak is not None:
            return await self._append_blindly(weak, partition, expected_offset, decisions)
        appended = await self._turnstile.through(
            lambda: self._compare_and_append(partition, expected_offset, decisions, effects)
        )
        await self._returned()
        return appended

    def _send_all(self, records: Sequence[OutRecord]) -> list[SendFailure]:
        batches, failures = self._cluster.sort(records)
        for at, batch in batches.items():
            self._cluster.land(at, batch)
        return failures

    def _log(self, log: TopicPartition, decisions: Sequence[OutRecord]) -> "Partition":
        partition = self._cluster.partition(log)
        if partition is None:
            raise TopicMissing(f"the log {log.topic} has no partition {log.partition} here; create the topics first")
        for decision in decisions:
            if decision.size_bytes() > self.max_record_bytes:
                raise RecordTooLarge(
                    f"a decision of {decision.size_bytes()} bytes for {log.topic}, at most {self.max_record_bytes} are taken"
                )
        return partition

    def _compare_and_append(
        self,
        partition: "Partition",
        expected_offset: int | None,
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],
    ) -> Appended:
        now_ms = self._cluster.clock.now_ms()
        if expected_offset is None:
            self._unknown.pop(partition.at, None)
        elif expected_offset != partition.end or partition.at in self._unknown:
            self._unknown[partition.at] = None
            return Appended((), effects_sent=False, timestamp_ms=now_ms, refused=True)
        first = self._cluster.land(partition.at, decisions)
        failures = self._send_all(effects)
        spans = ((first, len(decisions)),) if decisions else ()
        timestamp_ms = partition.records[-1].timestamp_ms if decisions else now_ms
        return Appended(spans, effects_sent=True, timestamp_ms=timestamp_ms, failures=tuple(failures))

    async def _append_blindly(
        self, weak: WeakBehaviour, partition: "Partition", expected_offset: int | None, decisions: Sequence[OutRecord]
    ) -> Appended:
        if expected_offset is None:
            # a claim rests on nothing before it
            self._unknown.pop(partition.at, None)
        elif partition.at in self._unknown:
            raise BrokerUnavailable(
                f"an earlier append to {partition.at.topic}/{partition.at.partition} by {self.client_id} may not have landed, so this one "
                "was not made; take the partition over afresh"
            )
        batches = [
            self._put(weak, partition.at, part, retried=expected_offset is None)
            for part in self._split(weak, decisions)
        ]
        offsets = await self._acknowledged(batches, f"an append to {partition.at.topic}/{partition.at.partition}")
        spans = _joined([(offset, len(batch.records)) for offset, batch in zip(offsets, batches, strict=True)])
        timestamp_ms = self._cluster.clock.now_ms()
        if spans:
            last = spans[-1][0] + spans[-1][1] - 1
            timestamp_ms = next((r.timestamp_ms for r in partition.read(last, 1)[0]), timestamp_ms)
        return Appended(spans, effects_sent=False, timestamp_ms=timestamp_ms)

    def _split(self, weak: WeakBehaviour, decisions: Sequence[OutRecord]) -> list[Sequence[OutRecord]]:
        if len(decisions) > 1 and self._cluster.happens(weak.split_append):
            # Kafka's client may send one append as two batches, and another
            # writer may come between them.
            cut = self._cluster.rng.randint(1, len(decisions) - 1)
            return [decisions[:cut], decisions[cut:]]
        return [decisions] if decisions else []

    def _put(self, weak: WeakBehaviour, at: TopicPartition, records: Sequence[OutRecord], *, retried: bool) -> Batch:
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = Lane(self._cluster, weak, at, self._gave_up)
        batch = Batch(records, retried=retried)
        lane.put(batch)
        return batch

    def _gave_up(self, lane: Lane) -> None:
        self._lanes.pop(lane.at, None)
        self._unknown[lane.at] = None

    async def _acknowledged(self, batches: Sequence[Batch], what: str) -> list[int]:
        """Wait for all batches. Returns their offsets, or raises if one is unknown."""
        offsets = [await batch.landed_at for batch in batches]
        if None in offsets:
            await self.travel()  # the news takes its time to reach the caller
        await self._returned()
        known = [offset for offset in offsets if offset is not None]
        if len(known) < len(offsets):
            raise BrokerUnavailable(f"{what} by {self.client_id} were not acknowledged in time; the outcome is unknown")
        return known

    # asking

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        await self._call()
        return {at: self._held(at).end for at in partitions}

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        await self._call()
        return {at: self._held(at).begin for at in partitions}

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        await self._call()
        return {at: self._held(at).offset_at(timestamp_ms) for at in partitions}

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        await self._call()
        known = self._cluster.group(group).committed
        return {at: known.get(at) for at in partitions}

    def _held(self, at: TopicPartition) -> "Partition":
        partition = self._cluster.partition(at)
        if partition is None:
            raise TopicMissing(f"topic {at.topic} has no partition {at.partition} here; create the topics first")
        return partition

    # reading

    async def reader(self) -> MemoryReader:
        await self.alive()
        reader = MemoryReader(self._cluster, self)
        self._open.append(reader)
        return reader

    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        listener: GroupListener,
        *,
        member: str,
        fetch: bool = True,
        session_timeout_s: float = defaults.SESSION_TIMEOUT_S,
    ) -> MemorySubscription:
        await self._call()
        subscription = MemorySubscription(
            self._cluster,
            self,
            self._cluster.group(group),
            topics,
            listener,
            member=member,
            fetch=fetch,
            session_timeout_s=session_timeout_s,
        )
        self._open.append(subscription)
        return subscription

    def stand_still(self, *, is_still: bool) -> None:
        """Stop the process, or let it go on. While it is stopped, its groups hear nothing of it."""
        for one in self._open:
            if isinstance(one, MemorySubscription):
                one.stand_still(is_still=is_still)

    def forget(self, closed: MemoryReader | MemorySubscription) -> None:
        """Drop a reader or a subscription that was closed."""
        if closed in self._open:
            self._open.remove(closed)

    # the way there and back

    async def _call(self) -> None:
        """Take the time of a call that writes no record, and let it fail by chance."""
        await self._reach()
        await self.travel()
        weak = self._cluster.weak
        if weak is not None and self._cluster.happens(weak.failed_call):
            raise BrokerUnavailable(f"the broker did not answer {self.client_id} in time; ask again")

    async def _reach(self) -> None:
        """Raise if the broker can't be reached."""
        await self.alive()
        if self._cluster.is_down:
            await self.travel()
            raise BrokerUnavailable(
                f"the broker is down, {self.client_id} does not reach it; try again when it is back"
            )

    async def travel(self) -> None:
        """Wait as long as the network takes, and at least one turn of the loop.

        Never returns to a dead process.
        """
        await asyncio.sleep(self._cluster.latency_s())
        await self.alive()

    async def _returned(self) -> None:
        """Give other tasks a turn before the answer arrives. Never returns to a dead process."""
        await asyncio.sleep(0)
        await self.alive()


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join the spans that follow each other without a gap."""
    joined: list[tuple[int, int]] = []
    for first, count in spans:
        if joined and sum(joined[-1]) == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((first, count))
    return tuple(joined)

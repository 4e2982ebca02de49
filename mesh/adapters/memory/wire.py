"""The wire between one connection and one partition, where Kafka's faults happen.

Owns what a producer's batches go through: they land one after another; one may break (lost,
unacknowledged, or late), and then the lane is given up with all that is behind it, as the Kafka
adapter gives up a producer. What still is on the wire belongs to the cluster: it may land after the
caller was told, and after its connection's death. Without Kafka's weaker behaviour a `Turnstile`
lets one connection's transactions through.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mesh.adapters.memory.weak import WeakBehaviour
from mesh.ports import OutRecord, TopicPartition

if TYPE_CHECKING:
    from mesh.adapters.memory.cluster import MemoryCluster

T = TypeVar("T")


class Batch:
    """Records of one call for one partition.

    `landed_at`: the first one's offset, or None where the outcome is unknown.
    """

    __slots__ = ("has_landed", "landed_at", "records", "retried")

    def __init__(self, records: Sequence[OutRecord], *, retried: bool) -> None:
        self.records = records
        self.retried = retried  # may land twice
        self.has_landed = False
        self.landed_at: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def acknowledge(self, offset: int | None) -> None:
        if not self.landed_at.done():
            self.landed_at.set_result(offset)


class Lane:
    """The batches of one producer for one partition, in order, the first of them on its way."""

    __slots__ = ("_at", "_cluster", "_gave_up", "_given_up", "_queue", "_weak")

    def __init__(
        self, cluster: "MemoryCluster", weak: WeakBehaviour, at: TopicPartition, gave_up: Callable[["Lane"], None]
    ) -> None:
        self._cluster = cluster
        self._weak = weak
        self._at = at
        self._gave_up = gave_up
        self._queue: list[Batch] = []
        self._given_up = False

    @property
    def at(self) -> TopicPartition:
        return self._at

    def put(self, batch: Batch) -> None:
        self._queue.append(batch)
        if len(self._queue) == 1:
            self._cluster.later(self._cluster.latency_s(), self._arrive)

    def give_up(self) -> None:
        """The producer is gone: some of what it wrote still lands, in order and late; the rest
        never does.
        """
        if self._given_up:
            return
        self._land_late(self._queue[: self._cluster.rng.randint(0, len(self._queue))])
        self._break()

    def _arrive(self) -> None:
        """The first batch reaches the broker, or not."""
        if self._given_up:
            return
        cluster, weak, head = self._cluster, self._weak, self._queue[0]
        if cluster.happens(weak.lost_request):
            self._after_a_while(self._break)
        elif cluster.happens(weak.late_landing):
            self._after_a_while(self._give_up_with_head)
        elif cluster.happens(weak.lost_acknowledgement):
            self._land_now(head)
            self._after_a_while(self.give_up)
        else:
            offset = self._land(head)
            cluster.later(cluster.latency_s(), lambda: self._acknowledge(offset))

    def _land(self, batch: Batch) -> int | None:
        """Land it, perhaps twice; the offset to acknowledge now, None if the second landing does it
        later.
        """
        cluster, weak = self._cluster, self._weak
        offset = self._land_now(batch)
        if not (batch.retried and cluster.happens(weak.lands_twice)):
            return offset
        second_counts = cluster.happens(0.5)

        def again() -> None:
            second = cluster.land(self._at, batch.records)
            if second_counts:
                batch.acknowledge(second)

        cluster.later(cluster.rng.uniform(0, weak.give_up_s), again)
        return None if second_counts else offset

    def _land_now(self, batch: Batch) -> int:
        batch.has_landed = True
        return self._cluster.land(self._at, batch.records)

    def _acknowledge(self, offset: int | None) -> None:
        if self._given_up:
            return
        head = self._queue.pop(0)
        if offset is not None:
            head.acknowledge(offset)
        if self._queue:
            self._cluster.later(self._cluster.latency_s(), self._arrive)

    def _give_up_with_head(self) -> None:
        """As `give_up`, but the first batch is sure to land."""
        if self._given_up:
            return
        self._land_late(self._queue[: self._cluster.rng.randint(1, len(self._queue))])
        self._break()

    def _land_late(self, batches: Sequence[Batch]) -> None:
        """Land these one after another, each somewhat later than the one before."""
        if not batches:
            return
        first, rest = batches[0], batches[1:]

        def land() -> None:
            if not first.has_landed:
                self._land_now(first)
            self._land_late(rest)

        self._cluster.later(self._cluster.rng.uniform(0, self._weak.late_by_s), land)

    def _break(self) -> None:
        """Tell the callers of all batches that their outcome is unknown."""
        if self._given_up:
            return
        self._given_up = True
        self._gave_up(self)
        for batch in self._queue:
            batch.acknowledge(None)
        self._queue.clear()

    def _after_a_while(self, callback: Callable[[], None]) -> None:
        self._cluster.later(self._cluster.rng.uniform(0, self._weak.give_up_s), callback)


class Turnstile:
    """One connection's transactions, each whole or not at all, one after another, with the
    network's delay before and after.
    """

    __slots__ = ("_cluster", "_is_busy", "_queue")

    def __init__(self, cluster: "MemoryCluster") -> None:
        self._cluster = cluster
        self._is_busy = False
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    async def through(self, transaction: Callable[[], T]) -> T:
        """Run the transaction when its turn has come, also if the caller is cancelled meanwhile;
        its result.
        """
        if not self._cluster.has_latency:
            return transaction()
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((transaction, result))
        self._go_on()
        return await result

    def give_up(self) -> None:
        """The process is dead: what is with the broker may still be done, what waits behind it
        never is.
        """
        if self._queue and self._cluster.happens(0.5):
            transaction, _ = self._queue[0]
            self._cluster.later(self._cluster.latency_s(), lambda: _done(transaction()))
        self._queue.clear()

    def _arrive(self) -> None:
        if not self._queue:
            return
        transaction, result = self._queue.pop(0)
        value = transaction()

        def answer() -> None:
            if not result.done():
                result.set_result(value)
            self._is_busy = False
            self._go_on()

        self._cluster.later(self._cluster.latency_s(), answer)

    def _go_on(self) -> None:
        if self._queue and not self._is_busy:
            self._is_busy = True
            self._cluster.later(self._cluster.latency_s(), self._arrive)


def _done(_: object) -> None:
    """Nobody is left to be told."""

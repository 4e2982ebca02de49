"""The wire between one connection and one partition, where Kafka's faults happen.

Owns what a producer's batches go through. They land one after another. One may break (it is lost,
unacknowledged, or late). Then the lane is given up with everything behind that batch, as the Kafka
adapter gives up a producer. What is still on the wire belongs to the cluster: it may land after the
caller has got an error, and even after its connection's death. Without Kafka's weaker behaviour a
`Turnstile` lets one connection's transactions through.
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

    `landed_at`: the first one's offset, or None if the outcome is unknown.
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
    """The batches of one producer for one partition, in order. The first is on its way."""

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
        # one batch at a time is on the wire; `_acknowledge` sends the next one
        if len(self._queue) == 1:
            self._cluster.later(self._cluster.latency_s(), self._arrive)

    def give_up(self) -> None:
        """Give the lane up, because the producer is gone.

        Some of what it wrote still lands, in order and late. The rest never does.
        """
        if self._given_up:
            return
        self._land_late(self._queue[: self._cluster.rng.randint(0, len(self._queue))])
        self._break()

    def _arrive(self) -> None:
        """Let the first batch reach the broker, or fail on the way."""
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
        """Land the batch, perhaps twice. Returns the offset to acknowledge now.

        None if the second landing acknowledges it later.
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
        # if it is None, the second landing acknowledges the batch
        if offset is not None:
            head.acknowledge(offset)
        if self._queue:
            self._cluster.later(self._cluster.latency_s(), self._arrive)

    def _give_up_with_head(self) -> None:
        """Give the lane up, but let the first batch land in any case."""
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
            # it may have landed before its lane was given up
            if not first.has_landed:
                self._land_now(first)
            self._land_late(rest)

        self._cluster.later(self._cluster.rng.uniform(0, self._weak.late_by_s), land)

    def _break(self) -> None:
        """Tell the callers of all batches that their outcome is unknown."""
        if self._given_up:
            return
        self._given_up = True
        # Before the callers hear of it: what they append next must be refused already.
        self._gave_up(self)
        for batch in self._queue:
            batch.acknowledge(None)
        self._queue.clear()

    def _after_a_while(self, callback: Callable[[], None]) -> None:
        self._cluster.later(self._cluster.rng.uniform(0, self._weak.give_up_s), callback)


class Turnstile:
    """One connection's transactions, each whole or not at all, one after another.

    The network's delay comes before and after each.
    """

    __slots__ = ("_cluster", "_is_busy", "_queue")

    def __init__(self, cluster: "MemoryCluster") -> None:
        self._cluster = cluster
        self._is_busy = False
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    async def through(self, transaction: Callable[[], T]) -> T:
        """Run the transaction in its turn, and return its result.

        It runs even if the caller is cancelled meanwhile.
        """
        if not self._cluster.has_latency:
            return transaction()
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((transaction, result))
        self._go_on()
        return await result

    def give_up(self) -> None:
        """Give up the transactions of a dead process.

        The one that is at the broker may still be done. Those behind it never are.
        """
        if self._queue and self._cluster.happens(0.5):
            transaction, _ = self._queue[0]
            self._cluster.later(self._cluster.latency_s(), lambda: _done(transaction()))
        self._queue.clear()

    def _arrive(self) -> None:
        # given up while it was on its way
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
    """Drop a result that nobody is left to receive."""

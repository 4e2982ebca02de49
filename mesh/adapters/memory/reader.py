"""Reading partitions from given offsets: the port `Reader`, and a cursor for group members too.

Owns positions, and wakes those who wait for records: partitions set an event when a record lands,
so nobody polls in circles. Called by `mesh.adapters.memory.connection`.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mesh.errors import TopicMissing
from mesh.ports import Record, TopicPartition

if TYPE_CHECKING:
    from mesh.adapters.memory.cluster import MemoryCluster
    from mesh.adapters.memory.connection import MemoryBroker


class Cursor:
    """The positions at which some partitions are read.

    `wake` is set when there may be something new.
    """

    __slots__ = ("_cluster", "_positions", "_turn", "wake")

    def __init__(self, cluster: "MemoryCluster") -> None:
        self.wake = asyncio.Event()
        self._cluster = cluster
        self._positions: dict[TopicPartition, int] = {}
        self._turn = 0

    def put(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions too, from these offsets."""
        for at, offset in positions.items():
            partition = self._cluster.partition(at)
            if partition is None:
                raise TopicMissing(f"topic {at.topic} has no partition {at.partition} here; create the topics first")
            self._positions[at] = offset
            partition.watchers[self.wake] = None
        self.wake.set()

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop reading these partitions."""
        for at in partitions:
            if self._positions.pop(at, None) is not None and (partition := self._cluster.partition(at)):
                partition.watchers.pop(self.wake, None)

    def clear(self) -> None:
        self.drop(list(self._positions))

    def position(self, at: TopicPartition) -> int | None:
        position, partition = self._positions.get(at), self._cluster.partition(at)
        return position if position is None or partition is None else max(position, partition.begin)

    def assigned(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    def take(
        self, limit: int, partitions: Sequence[TopicPartition] | None, paused: Iterable[TopicPartition]
    ) -> list[Record]:
        """Take what can be read now. The partitions take turns to be first.

        Nothing awaits in here, so a cancelled call loses no record.
        """
        if self._cluster.is_down:
            return []
        asked = [at for at in self._positions if (partitions is None or at in partitions) and at not in paused]
        taken: list[Record] = []
        self._turn += 1
        for n in range(len(asked)):
            if len(taken) >= limit:
                break
            at = asked[(n + self._turn) % len(asked)]
            partition = self._cluster.partition(at)
            if partition is not None:
                found, self._positions[at] = partition.read(self._positions[at], limit - len(taken))
                taken += found
        return taken

    async def wait_for_news(self, until_s: float) -> bool:
        """Wait until `wake` is set, or until the loop's time is `until_s`. False for the latter."""
        left_s = until_s - asyncio.get_running_loop().time()
        if left_s <= 0:
            return False
        try:
            async with asyncio.timeout(left_s):
                await self.wake.wait()
        except TimeoutError:
            return False
        return True


class MemoryReader:
    """Reads partitions from given offsets, outside any group."""

    def __init__(self, cluster: "MemoryCluster", connection: "MemoryBroker") -> None:
        self._connection = connection
        self._cursor = Cursor(cluster)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        if self._connection.is_killed:
            return
        self._cursor.clear()
        self._cursor.put(positions)

    async def poll(
        self, *, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> Sequence[Record]:
        until_s = asyncio.get_running_loop().time() + timeout_s
        await self._connection.alive()
        await self._connection.travel()
        while True:
            # before looking, so that a record which lands meanwhile sets it again
            self._cursor.wake.clear()
            if records := self._cursor.take(max_records, partitions, ()):
                return records
            came = await self._cursor.wait_for_news(until_s)
            await self._connection.alive()
            if not came:
                return self._cursor.take(max_records, partitions, ())

    def position(self, partition: TopicPartition) -> int:
        return self._cursor.position(partition) or 0

    async def close(self) -> None:
        await self._connection.alive()
        self.abandon()
        self._connection.forget(self)

    def abandon(self) -> None:
        """Stop reading: the reader was closed, or its process died."""
        self._cursor.clear()

"""A group member on one connection: `MemorySubscription` is the port `Subscription`.

Owns the member's own view: what it believes to hold, where it reads, and the calling of its
listener. The group's view is in `groups`; the two differ while a member is undead.

Listener calls run in a task of their own. A poll begins it, and that poll and those after it await
it, so that cancelling a poll never cuts a listener in two.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mesh.adapters.memory.groups import Group
from mesh.adapters.memory.reader import Cursor
from mesh.errors import BrokerUnavailable, RecordTooLarge
from mesh.ports import Committed, GroupListener, Record, TopicPartition

if TYPE_CHECKING:
    from mesh.adapters.memory.cluster import MemoryCluster
    from mesh.adapters.memory.connection import MemoryBroker

MAX_METADATA_BYTES = 4096  # Kafka's default `offset.metadata.max.bytes`


class MemorySubscription:
    """One member of a consumer group. Made by `MemoryBroker.subscribe`."""

    def __init__(
        self,
        cluster: "MemoryCluster",
        connection: "MemoryBroker",
        group: Group,
        topics: Sequence[str],
        listener: GroupListener,
        *,
        member: str,
        fetch: bool,
        session_timeout_s: float,
    ) -> None:
        self._cluster = cluster
        self._connection = connection
        self._group = group
        self._topics = tuple(topics)
        self._listener = listener
        self._name = member
        self._fetch = fetch
        self._session_s = session_timeout_s
        self._cursor = Cursor(cluster)
        self._paused: set[TopicPartition] = set()
        self._membership = group.join(member, topics, session_timeout_s, self._cursor.wake)
        self._serving: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._closed = False

    def assignment(self) -> frozenset[TopicPartition]:
        return self._cursor.assigned()

    def position(self, partition: TopicPartition) -> int | None:
        return self._cursor.position(partition)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused |= set(partitions) & self.assignment()

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused -= set(partitions)
        self._cursor.wake.set()

    async def poll(self, *, max_records: int, timeout_s: float) -> Sequence[Record]:
        until_s = asyncio.get_running_loop().time() + timeout_s
        await self._connection.alive()
        self._meet_chance()
        self._membership.polling = True
        try:
            await self._connection.travel()
            return await self._poll(max_records, until_s)
        finally:
            # a dead process gives no sign of life, even though its `finally` runs
            if not self._connection.is_killed:
                self._membership.polling = False
                self._membership.heard_at = asyncio.get_running_loop().time()

    async def _poll(self, max_records: int, until_s: float) -> Sequence[Record]:
        while True:
            # before looking, so that news which comes meanwhile sets it again
            self._cursor.wake.clear()
            served = await self._served(until_s)
            if served and self._fetch and (records := self._cursor.take(max_records, None, self._paused)):
                return records
            came = await self._cursor.wait_for_news(until_s)
            await self._connection.alive()
            if not came:
                return ()

    def _meet_chance(self) -> None:
        """Let one of Kafka's faults happen by chance.

        That is a rebalance that nobody asked for, or a membership that is lost in silence.
        """
        weak, member = self._cluster.weak, self._membership
        if member.expelled and not self._closed and self._failure is None:
            self._rejoin()
        elif weak is not None and self._cluster.happens(weak.undead):
            self._group.leave(member)
        elif weak is not None and self._cluster.happens(weak.rebalance):
            self._group.rebalance(afresh=True)

    def _rejoin(self) -> None:
        """Join again after the group has dropped this member.

        What it believed to hold is lost, without `on_revoked`.
        """
        self._cursor.clear()
        self._paused.clear()
        self._membership = self._group.join(self._name, self._topics, self._session_s, self._cursor.wake)

    # the listener

    async def _served(self, until_s: float) -> bool:
        """Call the listener if something is due. False if it has not returned by `until_s`.

        Raises what the listener raised.
        """
        if self._serving is None and self._is_something_due():
            self._serving = asyncio.get_running_loop().create_task(self._serve(), name=f"listener of {self._name}")
        if self._serving is not None:
            left_s = max(0.0, until_s - asyncio.get_running_loop().time())
            await asyncio.wait([self._serving], timeout=left_s)
            await self._connection.alive()
            if not self._serving.done():
                return False
            self._serving = None
        if self._failure is not None:
            raise self._failure
        return True

    def _is_something_due(self) -> bool:
        return (
            self._failure is None
            and not self._closed
            and bool(self._membership.must_revoke or self._group.has_for(self._membership))
        )

    async def _serve(self) -> None:
        try:
            while self._is_something_due():
                if self._membership.must_revoke:
                    await self._revoke(sorted(self._membership.must_revoke))
                else:
                    await self._assign(self._group.take(self._membership))
        except Exception as failure:  # noqa: BLE001 - whatever a listener raises is the next poll's to raise
            self._failure = failure
            self._group.leave(self._membership)
            self._cursor.clear()

    async def _revoke(self, partitions: Sequence[TopicPartition]) -> None:
        membership = self._membership
        await self._listener.on_revoked(partitions)
        await self._connection.alive()
        self._cursor.drop(partitions)
        self._paused -= set(partitions)
        self._group.released(membership, partitions)

    async def _assign(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self._cursor.put({at: committed.offset if committed else 0 for at, committed in partitions.items()})
        await self._listener.on_assigned(partitions)
        await self._connection.alive()

    # commits, and the end

    async def confirm(self) -> frozenset[TopicPartition]:
        await self._connection.alive()
        await self._connection.travel()
        weak = self._cluster.weak
        if self._cluster.is_down or (weak is not None and self._cluster.happens(weak.failed_call)):
            raise BrokerUnavailable(f"whether {self._name} is a member yet is unknown: no answer came in time")
        if self._membership.expelled and not self._closed and self._failure is None:
            self._rejoin()
        return self.assignment()

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> frozenset[TopicPartition]:
        await self._connection.alive()
        for at, position in offsets.items():
            if len(position.metadata.encode()) > MAX_METADATA_BYTES:
                raise RecordTooLarge(f"the text beside the commit of {at} has more than {MAX_METADATA_BYTES} bytes")
        membership, weak = self._membership, self._cluster.weak
        await self._connection.travel()
        fails = self._cluster.is_down or (weak is not None and self._cluster.happens(weak.failed_call))
        stands = frozenset[TopicPartition]()
        # a commit that is not acknowledged may have taken place all the same
        if not fails or (not self._cluster.is_down and self._cluster.happens(0.5)):
            stands = self._group.commit(membership, offsets)
        if fails:
            raise BrokerUnavailable(f"a commit of {self._name} was not acknowledged in time; the outcome is unknown")
        return stands

    async def close(self) -> None:
        await self._connection.alive()
        if self._closed:
            return
        self._closed = True  # nothing new is taken from here on
        if self._serving is not None:
            await asyncio.wait([self._serving])
            await self._connection.alive()
        held = sorted(self.assignment())
        try:
            if held and not self._membership.expelled:
                await self._listener.on_revoked(held)
                await self._connection.alive()
        finally:
            if not self._connection.is_killed:
                self._group.leave(self._membership)
                self._cursor.clear()
                self._connection.forget(self)

    def stand_still(self, *, is_still: bool) -> None:
        if is_still:
            self._membership.heard_at = asyncio.get_running_loop().time()
        self._membership.gone = is_still

    def abandon(self) -> None:
        """Fall silent: the process died, and the group hears nothing more from this member."""
        self._membership.gone = True
        self._membership.heard_at = asyncio.get_running_loop().time()
        self._cursor.clear()

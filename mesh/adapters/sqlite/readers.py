"""Reading partitions from positions: `Feed`, and the port's `Reader`.

Owns positions and the waiting. Readers outside groups and group members share `Feed`.

A feed sleeps until it is nudged, and looks every 250 ms in case a nudge was lost. It asks SQLite
only for partitions that may hold something new: those that a nudge named, and now and then, once
another connection has committed anything, all of them.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

from mesh.adapters.sqlite.store import Store
from mesh.ports import Record, TopicPartition

POLL_S: Final = 0.25
_SWEEP_S: Final = 0.05  # between looks at all partitions while nudges tell which have something


class Waker:
    """Lets one coroutine sleep until `wake`, or for a time.

    A wake that comes while nobody sleeps counts for the next sleep.
    """

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None
        self._is_awake = False

    def wake(self) -> None:
        self._is_awake = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def sleep(self, timeout_s: float) -> None:
        if not self._is_awake:
            loop = asyncio.get_running_loop()
            self._sleeper = loop.create_future()
            timer = loop.call_later(timeout_s, self.wake)
            try:
                await self._sleeper
            finally:
                timer.cancel()
                self._sleeper = None
        self._is_awake = False


class _Cursor:
    """Where a partition is read.

    `ready` holds records that came in a chunk with others and are not handed out yet.
    """

    __slots__ = ("is_aligned", "may_have_more", "nudge", "offset", "place", "ready")

    def __init__(self, place: TopicPartition, offset: int, nudge: Callable[[], None]) -> None:
        self.place = place
        self.offset = offset
        self.ready: list[Record] = []
        self.is_aligned = False
        self.may_have_more = True
        self.nudge = nudge


class Feed:
    """Positions in partitions, and the waiting for their next records.

    Used by one task at a time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursors: dict[int, _Cursor] = {}
        self._turn = 0
        self._version = -1
        self._swept_at = 0.0
        self.waker = Waker()

    def places(self) -> frozenset[TopicPartition]:
        return frozenset(cursor.place for cursor in self._cursors.values())

    def position(self, place: TopicPartition) -> int | None:
        """The next offset to hand out. None if the partition is not read here."""
        for cursor in self._cursors.values():
            if cursor.place == place:
                return cursor.ready[0].offset if cursor.ready else cursor.offset
        return None

    def add(self, partition_id: int, place: TopicPartition, offset: int) -> None:
        self.remove(partition_id)
        nudge = partial(self._nudged, partition_id)
        self._cursors[partition_id] = _Cursor(place, max(0, offset), nudge)
        self._store.nudges.listen(partition_id, nudge)
        self.waker.wake()

    def remove(self, partition_id: int) -> None:
        cursor = self._cursors.pop(partition_id, None)
        if cursor is not None:
            self._store.nudges.unlisten(partition_id, cursor.nudge)

    def clear(self) -> None:
        for partition_id in tuple(self._cursors):
            self.remove(partition_id)

    def _nudged(self, partition_id: int) -> None:
        self._cursors[partition_id].may_have_more = True
        self.waker.wake()

    async def poll(self, most: int, timeout_s: float, is_wanted: Callable[[TopicPartition], bool]) -> list[Record]:
        """Return up to `most` records of the wanted partitions, as soon as there are any."""
        await self._store.breathe()
        deadline = time.monotonic() + timeout_s
        while True:
            records = await self._take(most, is_wanted)
            left_s = deadline - time.monotonic()
            if records or left_s <= 0:
                return records
            await self.waker.sleep(min(left_s, POLL_S))

    async def _take(self, most: int, is_wanted: Callable[[TopicPartition], bool]) -> list[Record]:
        wanted = [(at, cursor) for at, cursor in self._cursors.items() if is_wanted(cursor.place)]
        if not wanted:
            return []
        self._turn += 1  # a partition with many records must not starve the others
        turn = self._turn % len(wanted)
        return await self._store.read(partial(self._collect, wanted[turn:] + wanted[:turn], most))

    def _collect(self, wanted: Collection[tuple[int, _Cursor]], most: int) -> list[Record]:
        records = self._collect_once(wanted, most)
        # another connection has committed, and no nudge has brought anything: one may be lost
        if not records and self._may_sweep() and (version := self._store.version()) != self._version:
            self._version = version
            for cursor in self._cursors.values():
                cursor.may_have_more = True
            records = self._collect_once(wanted, most)
        return records

    def _may_sweep(self) -> bool:
        """Whether to look at all partitions, in case a nudge was lost.

        Always true if there are no nudges.
        """
        now = time.monotonic()
        if self._store.nudges.is_open and now - self._swept_at < _SWEEP_S:
            return False
        self._swept_at = now
        return True

    def _collect_once(self, wanted: Collection[tuple[int, _Cursor]], most: int) -> list[Record]:
        records: list[Record] = []
        for partition_id, cursor in wanted:
            left = most - len(records)
            if left <= 0:
                break
            if not cursor.ready and cursor.may_have_more:
                self._fetch(partition_id, cursor, left)
            if cursor.ready:
                records += cursor.ready[:left]
                cursor.ready = cursor.ready[left:]
        return records

    def _fetch(self, partition_id: int, cursor: _Cursor, most: int) -> None:
        found, is_end = self._store.log.read(partition_id, cursor.offset, most, is_aligned=cursor.is_aligned)
        cursor.may_have_more = not is_end
        if found:
            cursor.ready = found
            cursor.offset = found[-1].offset + 1
            # whole chunks were read, so the next one begins right here
            cursor.is_aligned = True


class SqliteReader:
    """`mesh.ports.Reader` on the file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._feed = Feed(store)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        catalogue = self._store.log.catalogue
        ids = self._store.look(lambda: {place: catalogue.id_of(place) for place in positions})
        self._feed.clear()
        for place, offset in positions.items():
            self._feed.add(ids[place], place, offset)

    async def poll(
        self, *, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> Sequence[Record]:
        wanted = None if partitions is None else frozenset(partitions)
        return await self._feed.poll(max_records, timeout_s, lambda place: wanted is None or place in wanted)

    def position(self, partition: TopicPartition) -> int:
        return self._feed.position(partition) or 0

    async def close(self) -> None:
        self._feed.clear()

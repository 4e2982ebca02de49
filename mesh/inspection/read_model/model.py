"""The read model: a local SQLite file that answers the tools, and follows the broker by offset.

Owns when the file is read from the broker and how far. A command opens it, catches up to the ends
as of its start (what is new since the last command, never a full scan), queries, and closes.
Several commands may do so at once on one file. A batch is written in one short transaction, and
only onto the position that it follows; so each process passes over what another one has written
already.

The broker behind the file may be another one than last time (a data folder was deleted, or a
cluster created again under its old name). The file finds out by the last log record of each
partition that it has taken in: if the broker does not hold that very record at its offset, the file
starts over.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import apsw

from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, NotFound
from mesh.inspection.read_model.erasing import wipe_free_pages
from mesh.inspection.read_model.projection import Folder, record_digest
from mesh.inspection.read_model.schema import (
    DiskFull,
    connect,
    connect_in_memory,
    delete_file,
    generation,
    select,
    select_one,
    transaction,
    wipe,
)
from mesh.ports import Broker, Reader, Record, TopicInfo, TopicPartition
from mesh.services.reading import LOOK_S, SILENCE_S, names
from mesh.services.vault import Vault

Found = TypeVar("Found")

BATCH: Final = 1_000  # records in a transaction: other commands on the file wait some 30 ms for it


# Of a larger batch, which workflows with very many steps get. Others wait up to a second for it.
_MOST_RECORDS: Final = 20_000
_MOST_BYTES: Final = 64 * 1024 * 1024


class ReadModel:
    """An open file and the broker that it follows.

    Use it as an async context manager. It is not safe for threads. `db` is for queries
    (`mesh.inspection.read_model.queries`); they see the file as of the last `catch_up`.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        path: Path,
        *,
        on_progress: Callable[[int], None] | None = None,
        on_full: Callable[[str], None] | None = None,
    ) -> None:
        """Take what to read, and where to keep what was read.

        `on_progress` is called now and then with the number of records that are still to be read.
        `on_full` is called with the reason if the disk has no room for the file: then all of it is
        read into memory.
        """
        self._broker = broker
        self._topics = topics
        self._path = path
        self._on_progress = on_progress
        self._on_full = on_full
        self._reader: Reader | None = None
        self._vault = Vault(broker, topics)
        self._known: Mapping[str, TopicInfo] = {}
        self._checked: dict[TopicPartition, tuple[int, bytes]] = {}
        self._generation = b""
        self._in_memory = False
        self.db: apsw.Connection = self._connect()
        self._folder = Folder(self.db, topics)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()
            self._reader = None
        await self._vault.close()
        self.db.close()

    @property
    def topics_known(self) -> Mapping[str, TopicInfo]:
        """The broker's topics as of the last `catch_up`."""
        return self._known

    async def catch_up(self) -> None:
        """Take in everything that the broker had when this was called.

        Raises `NotFound` if the broker holds no mesh of this prefix, `BrokerUnavailable` if it does
        not answer, and `UnknownFormat` if a newer version wrote the log.
        """
        try:
            await self._catch_up()
            wipe_free_pages(self.db)
        except (apsw.CorruptError, apsw.NotADBError):
            # a cache: all of it can be read from the broker again
            self._start_over(new_file=True)
            await self._catch_up()
        except (apsw.FullError, apsw.IOError) as error:
            await self._go_on_in_memory(error)

    def _connect(self) -> apsw.Connection:
        if self._in_memory:
            return connect_in_memory()
        try:
            return connect(self._path)
        except DiskFull as error:
            self._tell_full(str(error))
            return connect_in_memory()

    def _tell_full(self, why: str) -> None:
        self._in_memory = True
        if self._on_full is not None:
            self._on_full(why)

    async def _go_on_in_memory(self, error: apsw.Error) -> None:
        """A full cache must not keep a person from answering."""
        if self._in_memory:
            raise error
        self._tell_full(str(error))
        await self.close()
        self._reset(self._connect())
        await self._catch_up()

    async def wait_until(self, found: Callable[[], Found | None], *, timeout_s: float) -> Found | None:
        """Follow the broker until `found()` is not None, and return that.

        Returns None if it takes longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        await self.catch_up()
        while (value := found()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            reader = self._reader or await self._place_reader()
            records = await reader.poll(max_records=BATCH, timeout_s=min(left, 1.0))
            try:
                await self._take_in(records)
            except (apsw.FullError, apsw.IOError) as error:
                await self._go_on_in_memory(error)
        return value

    async def _catch_up(self) -> None:
        ends = await self._broker.end_offsets(await self._partitions())
        # The file is ahead of the broker, so it was read from another one.
        if any(offset > ends.get(partition, 0) for partition, offset in self._positions().items()):
            self._start_over()
        ends = await self._still_held(ends)
        reader = await self._place_reader()
        heard_at, before = time.monotonic(), dict[TopicPartition, int]()
        while left := self._unread(reader, ends):
            if self._on_progress is not None:
                self._on_progress(sum(left.values()))
            records = await self._next_batch(reader, ends)
            if left != before:  # new records of busy partitions are not progress on the others
                heard_at, before = time.monotonic(), left
            elif time.monotonic() - heard_at > SILENCE_S:
                raise BrokerUnavailable(
                    f"the broker sent nothing for {SILENCE_S:g} s of {names(left)}, although it has more; is it healthy?"
                )
            await self._take_in(records)
            if any(reader.position(tp) > offset for tp, (offset, _) in self._checked.items()):
                # the record by which the file recognises the log is gone
                self._start_over()
                await self._place_reader()

    async def _next_batch(self, reader: Reader, ends: Mapping[TopicPartition, int]) -> list[Record]:
        """The records to write in one transaction."""
        records = list(await reader.poll(max_records=BATCH, timeout_s=LOOK_S))
        # A workflow is written as a whole, whatever part of it has changed. So a batch that
        # touches a large one should bring about as many records as it has steps, or to read it
        # takes the square of its length.
        wanted, room = min(self._folder.steps_written, _MOST_RECORDS), _MOST_BYTES - _size_of(records)
        while 0 < len(records) < wanted and room > 0 and self._unread(reader, ends):
            more = await reader.poll(max_records=BATCH, timeout_s=LOOK_S)
            if not more:
                break
            records += more
            room -= _size_of(more)
        return records

    async def _partitions(self) -> list[TopicPartition]:
        self._known = await self._broker.topics()
        topics = self._topics
        if topics.log not in self._known:
            raise NotFound(
                f"this broker has no topic {topics.log}: no mesh was set up here (run `mesh topics apply`, or check --broker and the prefix)"
            )
        wanted = (topics.log, topics.events, topics.dlq, topics.agents, topics.routers)
        return [
            TopicPartition(name, p)
            for name in wanted
            if name in self._known
            for p in range(self._known[name].partitions)
        ]

    async def reached(self) -> dict[TopicPartition, int]:
        """The offset up to which each partition of its topics is read, 0 where nothing is.

        Raises `NotFound` and `BrokerUnavailable`.
        """
        places, positions = await self._partitions(), self._positions()
        return {place: positions.get(place, 0) for place in places}

    def _positions(self) -> dict[TopicPartition, int]:
        rows = select(self.db, "SELECT topic, partition, next_offset FROM positions")
        return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}

    def _left(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        positions = self._positions()
        return {tp: end - positions.get(tp, 0) for tp, end in ends.items() if positions.get(tp, 0) < end}

    def _unread(self, reader: Reader, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """How many records are still to be read, by partition.

        They are what the file lacks, and the last record of a log partition that is not checked
        yet. A partition is done once the reader has passed its end, since the last offsets may hold
        no record.
        """
        reached = {tp for tp, end in ends.items() if reader.position(tp) >= end}
        left = {tp: count for tp, count in self._left(ends).items() if tp not in reached}
        return left | {tp: left.get(tp, 0) for tp in self._checked if tp not in reached}

    async def _still_held(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The ends, without partitions whose unread records the broker has dropped."""
        behind = [tp for tp in self._left(ends) if tp.topic != self._topics.log]
        begins = await self._broker.begin_offsets(behind) if behind else {}
        # to wait for those would be in vain
        return {tp: end for tp, end in ends.items() if begins.get(tp) != end}

    async def _place_reader(self) -> Reader:
        """The reader, placed at the file's positions.

        It reads the last record of each log partition again, to check that the broker still has it.
        """
        if self._reader is None:
            self._reader = await self._broker.reader()
        self._generation = generation(self.db)
        self._folder.forget()
        rows = select(self.db, "SELECT topic, partition, next_offset, last_digest FROM positions")
        stored = {TopicPartition(topic, partition): (offset, last) for topic, partition, offset, last in rows}
        self._checked = {tp: (offset - 1, last) for tp, (offset, last) in stored.items() if last is not None}
        starts = {tp: stored[tp][0] if tp in stored else 0 for tp in await self._partitions()}
        self._reader.assign(starts | {tp: offset for tp, (offset, _) in self._checked.items()})
        return self._reader

    async def _take_in(self, records: Sequence[Record]) -> None:
        """Write what was read.

        If it does not follow what the file has, the reader is placed again and the rest is dropped.
        """
        for partition, batch in _by_partition(records):
            if self._is_foreign(partition, batch):
                self._start_over()
            elif self._write(partition, batch, await self._vault.open(batch)):
                # Gives the event loop a turn: a batch is written without awaiting anything.
                await asyncio.sleep(0)
                continue
            await self._place_reader()
            return

    def _is_foreign(self, partition: TopicPartition, batch: Sequence[Record]) -> bool:
        expected = self._checked.pop(partition, None)
        return expected is not None and expected != (batch[0].offset, record_digest(batch[0]))

    def _write(self, partition: TopicPartition, batch: Sequence[Record], opened: Sequence[Record]) -> bool:
        """Write the batch in one transaction. `opened`: the same with its seals opened.

        False: another process has made the file start over, and nothing was written.
        """
        try:
            with transaction(self.db):
                if generation(self.db) != self._generation:
                    return False
                self._write_new(partition, batch, opened)
        except BaseException:
            # what is kept in memory may be ahead of the file, which was rolled back
            self._folder.forget()
            raise
        return True

    def _write_new(self, partition: TopicPartition, batch: Sequence[Record], opened: Sequence[Record]) -> None:
        """Write the records that no other process has written yet."""
        row = select_one(self.db, "SELECT next_offset FROM positions WHERE topic = ? AND partition = ?", *partition)
        new = [record for record in opened if row is None or record.offset >= row[0]]
        if not new:
            return
        self._folder.apply(partition.topic, partition.partition, new)
        # as the broker has it
        last = record_digest(batch[-1]) if partition.topic == self._topics.log else None
        self.db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", (*partition, new[-1].offset + 1, last))

    def _start_over(self, *, new_file: bool = False) -> None:
        if new_file:
            self.db.close()
            delete_file(self._path)
            self._reset(self._connect())
        else:
            wipe(self.db)
            self._reset(self.db)

    def _reset(self, db: apsw.Connection) -> None:
        self.db = db
        self._folder = Folder(db, self._topics)
        self._checked = {}


def _size_of(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)


def _by_partition(records: Sequence[Record]) -> list[tuple[TopicPartition, list[Record]]]:
    keyed = sorted(records, key=lambda record: (record.topic, record.partition))
    return [
        (TopicPartition(*where), list(batch))
        for where, batch in groupby(keyed, key=lambda record: (record.topic, record.partition))
    ]

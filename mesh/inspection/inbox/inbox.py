"""The inbox: a local cache of `mesh.approvals.open`, which tells an approver all that is open.

Owns when the file is read from the broker and how far. A command opens it, catches up to the ends
as of its start, queries (`mesh.inspection.inbox.entries`), and closes. It reads no other topic, so
it needs no right to read the log.

A file that has not been caught up for `OLDEST_MS` starts over: the broker keeps a tombstone for a
week, so after that an end may have been missed. It also starts over where the broker holds another
record than the file at the last place that the file has read.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import apsw

from mesh.core.topics import Topics
from mesh.errors import NotFound
from mesh.inspection.inbox.parts import take
from mesh.inspection.inbox.schema import caught_up_at_ms, make_tables, open_cache, open_in_memory
from mesh.inspection.read_model.schema import delete_file, select, select_one, transaction
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to

OLDEST_MS: Final = 6 * 86_400_000
_FRESH_MS: Final = 60_000  # as long as nothing is new, the file is written this rarely
_KEPT_MS: Final = 7 * 86_400_000  # a tombstone, in the file as on the broker


class Inbox:
    """An open file and the broker that it follows. Use it as an async context manager.

    `db` is for queries; they see the file as of the last `catch_up`.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        path: Path,
        *,
        now_ms: Callable[[], int],
        on_progress: Callable[[int], None] | None = None,
        on_unkept: Callable[[str], None] = lambda _: None,
        on_taken: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        """Take what to read, and where to keep what was read.

        `on_progress` is called now and then with the number of records that are still to be read.
        `on_unkept` is called with the reason where the file can't be written: then all of it is
        kept in memory. `on_taken` is called with the approvals about which something was
        written, each with the partition of its records.
        """
        self._broker = broker
        self._topic = topics.open_approvals
        self._path = path
        self._now_ms = now_ms
        self._on_progress = on_progress
        self._on_unkept = on_unkept
        self._on_taken = on_taken
        self.db: apsw.Connection = open_cache(path, on_unkept)
        # how far this process has read: what it has seen itself, it need not look at again
        self._seen: dict[TopicPartition, int] = {}
        self._left: dict[TopicPartition, tuple[int, bytes]] = {}  # how it left the positions in the file
        self._fresh_ms = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.close()

    async def catch_up(self) -> None:
        """Take in everything that the topic had when this was called.

        Raises `NotFound` where there is no such topic, `BrokerUnavailable` where the broker does
        not answer.
        """
        try:
            await self._catch_up()
        except (apsw.CorruptError, apsw.NotADBError):
            # a cache: all of it can be read from the broker again
            self.db.close()
            delete_file(self._path)
            self.db, self._seen = open_cache(self._path, self._on_unkept), {}
            await self._catch_up()
        except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.BusyError) as error:
            self._on_unkept(str(error))
            # a file that can't be written must not keep a person from answering
            self.db.close()
            self.db, self._seen = open_in_memory(self._path), {}
            await self._catch_up()

    async def _catch_up(self) -> None:
        now_ms = self._now_ms()
        if now_ms - caught_up_at_ms(self.db) > OLDEST_MS:
            self._begin_again()
        if self._positions() != self._left:
            # another process has written to the file
            self._seen = {}
        ends = await self._broker.end_offsets(await self._partitions())
        if ends == self._seen:
            self._keep_fresh(now_ms, _FRESH_MS)
            return
        # the file is ahead of the broker, so it was read from another one
        if any(offset > ends.get(at, 0) for at, (offset, _) in self._positions().items()):
            self._begin_again()
        if not await self._read(ends):
            self._begin_again()
            await self._read(ends)
        self._seen, self._left = dict(ends), self._positions()
        self._keep_fresh(now_ms)

    def _begin_again(self) -> None:
        make_tables(self.db)
        self._seen = {}

    def _keep_fresh(self, now_ms: int, after_ms: int = 0) -> None:
        if now_ms - self._fresh_ms < after_ms:
            return
        with transaction(self.db):
            self.db.execute("DELETE FROM parts WHERE value IS NULL AND at_ms < ?", (now_ms - _KEPT_MS,))
            self.db.execute("UPDATE freshness SET caught_up_at_ms = ?", (now_ms,))
        self._fresh_ms = now_ms

    async def _partitions(self) -> list[TopicPartition]:
        info = (await self._broker.topics()).get(self._topic)
        if info is None:
            raise NotFound(
                f"this broker has no topic {self._topic}, or does not let you read it: no mesh was set up here, or an older "
                "version (run `mesh topics apply`, or check --broker and the prefix)"
            )
        return [TopicPartition(self._topic, number) for number in range(info.partitions)]

    async def reached(self) -> dict[TopicPartition, int]:
        """The offset up to which each partition is read, 0 where nothing is.

        Raises `NotFound` and `BrokerUnavailable`.
        """
        places, positions = await self._partitions(), self._positions()
        return {place: positions[place][0] if place in positions else 0 for place in places}

    def mark(self) -> str:
        """How far the file has read, as one text."""
        rows = select(self.db, "SELECT partition, next_offset, last_digest FROM positions ORDER BY partition")
        return " ".join(f"{partition}:{offset}:{digest.hex()}" for partition, offset, digest in rows)

    def _positions(self) -> dict[TopicPartition, tuple[int, bytes]]:
        rows = select(self.db, "SELECT partition, next_offset, last_digest FROM positions")
        return {TopicPartition(self._topic, partition): (offset, last) for partition, offset, last in rows}

    async def _read(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Read up to `ends`. False: the broker behind the file is another one."""
        positions = self._positions()
        starts = {at: self._start(at, positions) for at in ends}
        wanted = {at: end for at, end in ends.items() if starts[at] < end}
        if not wanted:
            return True
        reader = await self._broker.reader()
        try:
            reader.assign({at: starts[at] for at in wanted})
            left = sum(end - starts[at] for at, end in wanted.items())
            async for records in read_up_to(reader, wanted):
                if self._on_progress is not None:
                    self._on_progress(left)
                left -= len(records)
                if any(self._is_foreign(record, positions) for record in records):
                    return False
                self._write(records)
        finally:
            await reader.close()
        return True

    def _start(self, at: TopicPartition, positions: Mapping[TopicPartition, tuple[int, bytes]]) -> int:
        """Where to read on."""
        if at in self._seen:
            return self._seen[at]
        # the last record is read again, to see that the broker still has it
        return max(0, positions[at][0] - 1) if at in positions else 0

    def _is_foreign(self, record: Record, positions: Mapping[TopicPartition, tuple[int, bytes]]) -> bool:
        known = positions.get(TopicPartition(record.topic, record.partition))
        return known is not None and record.offset == known[0] - 1 and record_digest(record) != known[1]

    def _write(self, records: Sequence[Record]) -> None:
        taken: dict[str, int] = {}
        with transaction(self.db):
            for partition, batch in groupby(sorted(records, key=_place), key=lambda record: record.partition):
                row = select_one(self.db, "SELECT next_offset FROM positions WHERE partition = ?", partition)
                # another process may have written some of them
                new = [record for record in batch if row is None or record.offset >= row[0]]
                if new:
                    taken.update(dict.fromkeys(take(self.db, new), partition))
                    last = (partition, new[-1].offset + 1, record_digest(new[-1]))
                    self.db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", last)
        self._on_taken(taken)


def record_digest(record: Record) -> bytes:
    """By which the file recognises a record."""
    return sha256(b"%d/%b/%b" % (record.timestamp_ms, record.key or b"", record.value or b"")).digest()


def _place(record: Record) -> tuple[int, int]:
    return record.partition, record.offset

"""Records in the file: topics, ends, reading from an offset, retention and compaction.

Owns the tables of topics and records. It must not begin a transaction: everything here is a call
into SQLite in the caller's thread, and the caller puts what must be atomic into one transaction.
`broker` and `readers` call it.

A partition's next offset and last timestamp are those of its last chunk. Nothing ever drops that
chunk, so no second table has to be kept in step.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import apsw
import msgspec

from mesh.adapters.sqlite.chunks import chunks_of, keys_of, records_of, without_first
from mesh.core.ids import partition_of_key
from mesh.errors import TopicMissing
from mesh.ports import Delivery, OutRecord, Record, SendFailure, TopicInfo, TopicPartition, TopicSpec

_OFFSET_BITS: Final = 40
_SPAN: Final = 1 << _OFFSET_BITS
_FETCH_BYTES: Final = 8 << 20  # read in one portion at the most, so that the event loop breathes
_ROWS: Final = 1024

_TAIL: Final = "SELECT pos + count, timestamp_ms FROM chunk WHERE pos >= ?1 AND pos < ?2 ORDER BY pos DESC LIMIT 1"
_HEAD: Final = "SELECT pos FROM chunk WHERE pos >= ?1 AND pos < ?2 ORDER BY pos LIMIT 1"
_AT: Final = "SELECT pos, count, timestamp_ms FROM chunk WHERE pos >= ?1 AND pos <= ?2 ORDER BY pos DESC LIMIT 1"
_CHUNK: Final = (
    "SELECT pos, count, timestamp_ms, payload FROM chunk WHERE pos >= ?1 AND pos <= ?2 ORDER BY pos DESC LIMIT 1"
)
_INSERT: Final = "INSERT INTO chunk (pos, count, timestamp_ms, payload) VALUES (?, ?, ?, ?)"
_READ: Final = "SELECT pos, timestamp_ms, payload FROM chunk WHERE pos >= ?1 AND pos < ?2 ORDER BY pos LIMIT ?3"


class Topic(msgspec.Struct, frozen=True):
    info: TopicInfo
    first_id: int
    is_compacted: bool


class Tail(NamedTuple):
    """Where the next record of a partition goes, and the timestamp that it must not go below."""

    offset: int
    timestamp_ms: int


class Plan(NamedTuple):
    """Records encoded for their partitions before the transaction begins.

    `failures`: those that can't be sent.
    """

    chunks: Mapping[int, Sequence[tuple[int, bytes]]]
    failures: Sequence[SendFailure]


class Catalogue:
    """The topics.

    Topics are only ever added, so they are read again only for an unknown name or id.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[int, TopicPartition] = {}
        self._keyless = 0

    def load(self) -> Mapping[str, Topic]:
        """Read all topics that the file has now."""
        rows = self._connection.execute("SELECT name, partitions, first_id, config FROM topic").fetchall()
        for name, partitions, first_id, config in msgspec.convert(rows, list[tuple[str, int, int, str]]):
            if name in self._by_name:
                continue
            settings = msgspec.json.decode(config, type=dict[str, str])
            compacted = "compact" in settings.get("cleanup.policy", "")
            self._by_name[name] = Topic(TopicInfo(name, partitions, settings), first_id, compacted)
            for partition in range(partitions):
                self._by_id[first_id + partition] = TopicPartition(name, partition)
        return self._by_name

    def find(self, name: str) -> Topic | None:
        return self._by_name.get(name) or self.load().get(name)

    def known_id(self, place: TopicPartition) -> int | None:
        """The partition's id, if this process has met its topic before."""
        topic = self._by_name.get(place.topic)
        return topic.first_id + place.partition if topic and 0 <= place.partition < topic.info.partitions else None

    def id_of(self, place: TopicPartition) -> int:
        """The partition's id. Raises `TopicMissing` if there is no such partition."""
        topic = self.find(place.topic)
        if topic is None or not 0 <= place.partition < topic.info.partitions:
            what = f"the topic {place.topic!r}" if topic is None else f"partition {place.partition} of {place.topic!r}"
            raise TopicMissing(f"{what} is not there. Create the mesh's topics first, e.g. with `mesh topics apply`.")
        return topic.first_id + place.partition

    def place_of(self, partition_id: int) -> TopicPartition:
        place = self._by_id.get(partition_id)
        if place is None:
            self.load()
            place = self._by_id[partition_id]
        return place

    def create(self, specs: Iterable[TopicSpec]) -> None:
        """Add the topics that do not exist yet. Call it within a transaction."""
        for spec in specs:
            if spec.name in self.load():
                continue
            free = self._connection.execute("SELECT coalesce(max(first_id + partitions), 1) FROM topic").get
            self._connection.execute(
                "INSERT INTO topic (name, partitions, first_id, config) VALUES (?, ?, ?, ?)",
                (spec.name, spec.partitions, free, msgspec.json.encode(spec.config).decode()),
            )

    def own_id(self) -> str:
        """The file's id; empty: it has none yet."""
        # a table that older versions do not know, and leave alone
        if not self._connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'identity'").get:
            return ""
        return str(self._connection.execute("SELECT id FROM identity").get or "")

    def make_id(self) -> None:
        """Give the file its id, unless it has one. Call it within a transaction."""
        self._connection.execute("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)")
        self._connection.execute(
            "INSERT INTO identity SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM identity)"
        )

    def target(self, record: OutRecord) -> tuple[int, Topic] | SendFailure:
        """The id of the partition that a record goes to, or a failure without its index."""
        topic = self._by_name.get(record.topic) or self.find(record.topic)
        if topic is None:
            return SendFailure(0, Delivery.TOPIC_MISSING, f"the topic {record.topic!r} is not there")
        count, partition = topic.info.partitions, record.partition
        if partition is None:
            if record.key is None:
                self._keyless += 1
                partition = self._keyless % count
            else:
                partition = partition_of_key(record.key, count)
        elif not 0 <= partition < count:
            why = f"the topic {record.topic!r} has {count} partitions, and no partition {partition}"
            return SendFailure(0, Delivery.TOPIC_MISSING, why)
        return topic.first_id + partition, topic


class Log:
    """The records. They belong to one connection and one thread."""

    def __init__(self, connection: apsw.Connection, max_record_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_record_bytes
        self.catalogue = Catalogue(connection)

    # Writing

    def plan(self, records: Sequence[OutRecord]) -> Plan:
        """Find each record's partition and encode it.

        Reads the catalogue only if a topic is new to this process.
        """
        plan = self._plan(records, [])
        # `size_bytes` is at the most 100 bytes and four times the encoded record, so it is
        # counted only where a record may be too large
        small = self._max_bytes // 5
        if all(len(payload) < small for parts in plan.chunks.values() for _, payload in parts):
            return plan
        too_large = [
            SendFailure(
                index, Delivery.TOO_LARGE, f"{size} bytes for {record.topic!r}; the broker takes {self._max_bytes}"
            )
            for index, record in enumerate(records)
            if (size := record.size_bytes()) > self._max_bytes
        ]
        return self._plan(records, too_large) if too_large else plan

    def _plan(self, records: Sequence[OutRecord], refused: Sequence[SendFailure]) -> Plan:
        targets: dict[int, tuple[Topic, list[OutRecord]]] = {}
        failures = list(refused)
        left_out = {failure.index for failure in refused}
        for index, record in enumerate(records):
            if index in left_out:
                continue
            found = self.catalogue.target(record)
            if isinstance(found, SendFailure):
                failures.append(msgspec.structs.replace(found, index=index))
                continue
            waiting = targets.get(found[0])
            if waiting is None:
                targets[found[0]] = (found[1], [record])
            else:
                waiting[1].append(record)
        failures.sort(key=lambda failure: failure.index)
        chunks = {at: chunks_of(group, singly=topic.is_compacted) for at, (topic, group) in targets.items()}
        return Plan(chunks, failures)

    def write(self, chunks: Mapping[int, Sequence[tuple[int, bytes]]], now_ms: int) -> int:
        """Add the chunks at their partitions' ends, within a transaction.

        Returns the latest timestamp that was given.
        """
        rows: list[tuple[int, int, int, bytes]] = []
        latest = now_ms
        for partition_id, parts in chunks.items():
            offset, timestamp_ms = self.tail(partition_id)
            # timestamps never fall within a partition, whatever the clock does
            timestamp_ms = max(now_ms, timestamp_ms)
            latest = max(latest, timestamp_ms)
            pos = (partition_id << _OFFSET_BITS) + offset
            for count, payload in parts:
                rows.append((pos, count, timestamp_ms, payload))
                pos += count
        self._connection.executemany(_INSERT, rows)
        return latest

    def tail(self, partition_id: int) -> Tail:
        low = partition_id << _OFFSET_BITS
        row = self._connection.execute(_TAIL, (low, low + _SPAN)).get
        return Tail(0, 0) if row is None else Tail(row[0] - low, row[1])

    # Reading

    def read(self, partition_id: int, offset: int, most: int, *, is_aligned: bool) -> tuple[list[Record], bool]:
        """Read records from `offset` on, and say whether the end was reached.

        Whole chunks come, so there may be more records than `most`. `is_aligned`: a chunk is known
        to begin at `offset`, or to have ended there.
        """
        low = partition_id << _OFFSET_BITS
        place = self.catalogue.place_of(partition_id)
        start = low + offset
        if not is_aligned:
            start = self._chunk_start(low, offset)
        records: list[Record] = []
        rows = min(most, _ROWS)
        taken = size = 0
        for pos, timestamp_ms, payload in self._connection.execute(_READ, (start, low + _SPAN, rows)):
            taken += 1
            records += records_of(place.topic, place.partition, pos - low, timestamp_ms, payload)
            size += len(payload)
            if len(records) >= most or size >= _FETCH_BYTES:
                return _from(records, offset), False
        # fewer rows than were asked for: there are no more
        return _from(records, offset), taken < rows

    def _chunk_start(self, low: int, offset: int) -> int:
        row = self._connection.execute(_AT, (low, low + offset)).get
        return low + offset if row is None else int(row[0])

    def begin_offset(self, partition_id: int) -> int:
        low = partition_id << _OFFSET_BITS
        pos = self._connection.execute(_HEAD, (low, low + _SPAN)).get
        return 0 if pos is None else pos - low

    def offset_at(self, partition_id: int, timestamp_ms: int) -> int:
        """The first offset at or after a time, or the end if there is none."""
        low = partition_id << _OFFSET_BITS
        end, last_ms = self.tail(partition_id)
        if last_ms < timestamp_ms:
            return end
        # the chunk with `early` is too early, and the one with `late` is not
        early, late = self.begin_offset(partition_id) - 1, end
        # halving is right, because a partition's timestamps never fall
        while late - early > 1:
            middle = (early + late) // 2
            row = self._connection.execute(_AT, (low, low + middle)).get
            if row is None:  # dropped meanwhile
                early = middle
                continue
            pos, count, at_ms = row
            if at_ms >= timestamp_ms:
                late = pos - low
            else:
                # the whole chunk is too early
                early = max(middle, pos - low + count - 1)
        return late

    # Dropping

    def drop_expired(self, partition_id: int, before_ms: int, most: int) -> int:
        """Drop up to `most` chunks that are older, but never the last one.

        Call it within a transaction. Returns how many chunks were dropped.
        """
        low = partition_id << _OFFSET_BITS
        self._connection.execute(
            "DELETE FROM chunk WHERE pos IN (SELECT pos FROM chunk WHERE pos >= ?1 AND pos < ?2 ORDER BY pos LIMIT ?3)"
            " AND timestamp_ms < ?4 AND pos < (SELECT max(pos) FROM chunk WHERE pos >= ?1 AND pos < ?2)",
            (low, low + _SPAN, most, before_ms),
        )
        return self._connection.changes()

    def drop_before(self, partition_id: int, offset: int) -> None:
        """Drop the records below `offset`, but never the last one. Call it within a transaction."""
        low = partition_id << _OFFSET_BITS
        offset = min(offset, self.tail(partition_id).offset - 1)
        row = self._connection.execute(_CHUNK, (low, low + max(0, offset))).get
        if row is None:
            return
        pos, count, timestamp_ms, payload = row
        # the chunk with `offset` goes too, and comes back without its first records
        self._connection.execute("DELETE FROM chunk WHERE pos >= ? AND pos <= ?", (low, pos))
        skip = low + offset - pos
        self._connection.execute(_INSERT, (pos + skip, count - skip, timestamp_ms, without_first(payload, skip)))

    def keys(self, partition_id: int, after: int, most: int) -> list[tuple[int, int, bytes | None, bool]]:
        """Position, time and key of records after a position, and whether each is a tombstone.

        They come in order, from up to `most` chunks.
        """
        low = partition_id << _OFFSET_BITS
        rows = self._connection.execute(_READ, (max(low, after + 1), low + _SPAN, most))
        return [
            (pos, at_ms, key, is_tombstone) for pos, at_ms, payload in rows for key, is_tombstone in keys_of(payload)
        ]

    def drop(self, positions: Sequence[int]) -> None:
        """Drop single records of a compacted topic, and leave nothing of them in free pages.

        Keys of private workflows are among them. Call it within a transaction.
        """
        self._connection.pragma("secure_delete", "on")
        try:
            self._connection.executemany("DELETE FROM chunk WHERE pos = ? AND count = 1", [(pos,) for pos in positions])
        finally:
            self._connection.pragma("secure_delete", "off")


class Compaction:
    """What can be dropped from a compacted partition.

    That is each record that a later one of the same key supersedes, and old tombstones, but never
    the last record.
    """

    def __init__(self, partition_id: int, tombstones_before_ms: int) -> None:
        self._partition_id = partition_id
        self._tombstones_before_ms = tombstones_before_ms
        self._after = -1
        self._latest: dict[bytes, int] = {}
        self._dead: list[int] = []

    def look(self, log: Log, most: int) -> bool:
        """Look at the next records. False at the end."""
        seen = log.keys(self._partition_id, self._after, most)
        for pos, at_ms, key, is_tombstone in seen:
            self._after = pos
            if key is None:
                continue
            if key in self._latest:
                self._dead.append(self._latest.pop(key))
            if is_tombstone and at_ms < self._tombstones_before_ms:
                self._dead.append(pos)
            else:
                self._latest[key] = pos
        return bool(seen)

    @property
    def count(self) -> int:
        return len(self._dead)

    def dead(self, most: int) -> Iterable[Sequence[int]]:
        """The positions to drop, in portions."""
        # the last record stays: the partition's next offset is derived from it
        if self._after in self._dead:
            self._dead.remove(self._after)
        return (self._dead[at : at + most] for at in range(0, len(self._dead), most))


def _from(records: list[Record], offset: int) -> list[Record]:
    """Leave out the records below `offset`, with which the first chunk may begin."""
    if not records or records[0].offset >= offset:
        return records
    return [record for record in records if record.offset >= offset]

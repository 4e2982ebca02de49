"""The cluster: topics, the records of their partitions, and what connections share.

Owns landing: the one place where a record gets its offset and timestamp. It must not know what a
record means. Connections call it.

Nothing here awaits, so each step is atomic. What the cluster does later (late landings, sessions
that run out) runs as callbacks in the cluster's own context, never in a caller's, so that it goes
on after the caller's death. Code here iterates over dicts and sorted sequences alone: a run must
not depend on hashes.
"""

import asyncio
import bisect
import contextvars
import random
from collections.abc import Callable, Iterable, Sequence

from mesh import defaults
from mesh.adapters.memory.connection import MemoryBroker
from mesh.adapters.memory.groups import Group
from mesh.adapters.memory.weak import WeakBehaviour
from mesh.core.ids import partition_of_key
from mesh.ports import Clock, Delivery, OutRecord, Record, SendFailure, TopicInfo, TopicPartition, TopicSpec


class Partition:
    """One partition's records, and the events to set when one lands."""

    __slots__ = ("at", "begin", "gaps", "records", "watchers")

    def __init__(self, at: TopicPartition) -> None:
        self.at = at
        self.begin = 0
        self.records: list[Record] = []
        self.gaps: set[int] = set()  # offsets that hold no record
        self.watchers: dict[asyncio.Event, None] = {}  # a dict, for its order

    @property
    def end(self) -> int:
        return self.begin + len(self.records)

    def read(self, offset: int, limit: int) -> tuple[list[Record], int]:
        """Read records from `offset` on. Returns them and the next offset to read."""
        start = max(offset, self.begin) - self.begin
        found = self.records[start : start + limit]
        following = found[-1].offset + 1 if found else offset
        return [r for r in found if r.offset not in self.gaps] if self.gaps else found, following

    def mark(self, now_ms: int) -> None:
        """Use up an offset without a record, as a transaction's marker does."""
        self.gaps.add(self.end)
        self.land([OutRecord(self.at.topic, None, None)], now_ms)

    def offset_at(self, timestamp_ms: int) -> int:
        return self.begin + bisect.bisect_left(self.records, timestamp_ms, key=lambda r: r.timestamp_ms)

    def land(self, records: Sequence[OutRecord], now_ms: int) -> int:
        """Take the records with the current time. Returns the first one's offset."""
        first = self.end
        topic, number = self.at
        # as a broker does: a partition's timestamps never fall
        if self.records:
            now_ms = max(now_ms, self.records[-1].timestamp_ms)
        self.records += [
            Record(topic, number, offset, now_ms, r.key, r.value, r.headers) for offset, r in enumerate(records, first)
        ]
        if records:
            self.wake()
        return first

    def wake(self) -> None:
        for event in self.watchers:
            event.set()


class MemoryCluster:
    """A broker inside this process.

    Connections to it belong to simulated processes (see `connect`).

    `latency_s`: the range of what each way to the broker and back takes, so that a kill meets calls
    in flight. (A `WeakBehaviour` has its own range.) `rng`: the seeded source of all chance.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        weak: WeakBehaviour | None = None,
        latency_s: tuple[float, float] = (0.0, 0.0),
        rng: random.Random | None = None,
        max_record_bytes: int = defaults.MAX_RECORD_BYTES,
    ) -> None:
        self.clock = clock
        self.weak = weak
        self.has_latency = bool(latency_s[1]) if weak is None else bool(weak.latency_s[1])
        self._latency_s = latency_s if weak is None else weak.latency_s
        self.rng = rng if rng is not None else random.Random(0)  # noqa: S311 - chance for a simulation, no secret
        self.cluster_id = "memory"  # a test may give each of its clusters its own
        self.has_own_clock = True  # as Kafka has; a test may say that it is the machine's
        self.max_record_bytes = max_record_bytes
        self.groups: dict[str, Group] = {}
        self.is_down = False
        self._topics: dict[str, TopicInfo] = {}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._keyless = 0
        self._context = contextvars.copy_context()

    def connect(self, client_id: str) -> MemoryBroker:
        """Open a connection for one incarnation of a process.

        `MemoryBroker.kill` ends it as `kill -9` would.
        """
        return MemoryBroker(self, client_id)

    def stop(self) -> None:
        """Stop answering until `start`: calls raise `BrokerUnavailable`, polls come back empty."""
        self.is_down = True

    def start(self) -> None:
        self.is_down = False
        for partition in self._partitions.values():
            partition.wake()

    # topics and partitions

    def topics(self) -> dict[str, TopicInfo]:
        return dict(self._topics)

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        for spec in specs:
            if spec.name in self._topics:
                continue
            self._topics[spec.name] = TopicInfo(spec.name, spec.partitions, dict(spec.config))
            for number in range(spec.partitions):
                at = TopicPartition(spec.name, number)
                self._partitions[at] = Partition(at)
            for group in self.groups.values():
                group.topic_created(spec.name)

    def partition(self, at: TopicPartition) -> Partition | None:
        return self._partitions.get(at)

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        return sorted(
            TopicPartition(name, number)
            for name in topics
            if name in self._topics
            for number in range(self._topics[name].partitions)
        )

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name, self))

    # for tests and checkers

    def records(self, at: TopicPartition) -> Sequence[Record]:
        """The partition's current records, without a connection: for the checks of a simulation."""
        return tuple(self._partitions[at].records)

    def mark(self, at: TopicPartition) -> None:
        """Use up an offset of the partition without a record, as a transaction's marker does."""
        self._partitions[at].mark(self.clock.now_ms())

    def trim(self, at: TopicPartition, before_offset: int) -> None:
        """Drop the records below `before_offset`, as retention does."""
        partition = self._partitions[at]
        drop = max(0, min(before_offset, partition.end) - partition.begin)
        del partition.records[:drop]
        partition.begin += drop

    # landing

    def land(self, at: TopicPartition, records: Sequence[OutRecord]) -> int:
        """Take records into a partition that exists. Returns the first one's offset."""
        return self._partitions[at].land(records, self.clock.now_ms())

    def route(self, record: OutRecord) -> TopicPartition | Delivery:
        """Find the partition that the record goes to, or the reason why there is none."""
        info = self._topics.get(record.topic)
        if info is None:
            return Delivery.TOPIC_MISSING
        if record.size_bytes() > self.max_record_bytes:
            return Delivery.TOO_LARGE
        if record.partition is not None:
            if not 0 <= record.partition < info.partitions:
                return Delivery.REFUSED
            return TopicPartition(record.topic, record.partition)
        if record.key is not None:
            return TopicPartition(record.topic, partition_of_key(record.key, info.partitions))
        self._keyless += 1
        return TopicPartition(record.topic, self._keyless % info.partitions)

    def sort(self, records: Sequence[OutRecord]) -> tuple[dict[TopicPartition, list[OutRecord]], list[SendFailure]]:
        """Sort records by the partition that they go to, and list those that can't be sent."""
        batches: dict[TopicPartition, list[OutRecord]] = {}
        failures: list[SendFailure] = []
        for index, record in enumerate(records):
            where = self.route(record)
            if isinstance(where, Delivery):
                failures.append(SendFailure(index, where, self._explain(where, record)))
            else:
                batches.setdefault(where, []).append(record)
        return batches, failures

    def _explain(self, code: Delivery, record: OutRecord) -> str:
        match code:
            case Delivery.TOPIC_MISSING:
                return f"topic {record.topic} is not there; create it"
            case Delivery.TOO_LARGE:
                return f"{record.size_bytes()} bytes for {record.topic}, at most {self.max_record_bytes} are taken"
            case _:
                return f"topic {record.topic} has no partition {record.partition}"

    # time and chance

    def later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Run the callback in the cluster's own context, even if the caller is dead then.

        A delay of 0 is the loop's next turn.
        """
        loop = asyncio.get_running_loop()
        if delay_s > 0:
            loop.call_later(delay_s, callback, context=self._context)
        else:
            loop.call_soon(callback, context=self._context)

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def latency_s(self) -> float:
        """Draw how long one way takes this time."""
        return self.rng.uniform(*self._latency_s) if self.has_latency else 0.0

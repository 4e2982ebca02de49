"""The broker port on Kafka.

Owns how the port's verbs map to lanes, readers and members. Opened by `mesh.wiring`.

Kafka appends without comparing, so `append` returns where the decisions landed and the caller
checks. Effects never go with an append. The log has a producer of its own: aiokafka keeps one
produce request on the wire for each node, and a log that waits behind effects would slow every
decision.
"""

import functools
import itertools
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from mesh import defaults
from mesh.adapters.kafka.batches import pass_over_unreadable
from mesh.adapters.kafka.cluster import Cluster
from mesh.adapters.kafka.connections import repair_connections
from mesh.adapters.kafka.consumers import Consumer, KafkaReader, Membership
from mesh.adapters.kafka.lanes import Call, Refused
from mesh.adapters.kafka.producers import Channel, teach_errors
from mesh.adapters.kafka.security import Security
from mesh.core.ids import partition_of_key
from mesh.errors import BrokerUnavailable, RecordTooLarge, TopicMissing
from mesh.ports import (
    AboutBroker,
    Appended,
    Committed,
    Delivery,
    GroupListener,
    OutRecord,
    Reader,
    SendFailure,
    Subscription,
    TopicInfo,
    TopicPartition,
    TopicSpec,
)

_MAX_HEARTBEAT_MS = 1000  # a member learns of a rebalance from its heartbeat


class KafkaBroker:
    """A connection to a Kafka cluster: implements `mesh.ports.Broker`.

    Made by `open`; `close` it.
    """

    def __init__(self, cluster: Cluster, *, max_record_bytes: int) -> None:
        self.has_own_clock = True
        self.max_record_bytes = max_record_bytes
        self._cluster = cluster
        self._log = Channel(cluster, "log", strict=True)
        self._sends = Channel(cluster, "send", strict=False)
        self._next_partition = itertools.count()
        self._readers: set[KafkaReader] = set()  # still open
        self._members: set[Membership] = set()

    @classmethod
    async def open(
        cls,
        bootstrap: str,
        *,
        client_id: str,
        request_timeout_s: float = defaults.REQUEST_TIMEOUT_S,
        open_timeout_s: float = 10.0,
        max_record_bytes: int = defaults.MAX_RECORD_BYTES,
        security: Security | None = None,
    ) -> Self:
        """Connect to `host:port[,host:port]`.

        Raises `BrokerUnavailable` if no broker answers within `open_timeout_s`, and `BrokerRefused`
        if TLS or the login fails.

        `request_timeout_s` bounds every wait for an answer. `max_record_bytes` is at most what the
        topics' `max.message.bytes` allows.
        """
        logging.getLogger("aiokafka").addHandler(
            logging.NullHandler()
        )  # else stderr gets them where no logs are set up
        teach_errors()
        repair_connections()
        pass_over_unreadable()
        cluster = Cluster(bootstrap, client_id=client_id, timeout_s=request_timeout_s, security=security)
        await cluster.connect(open_timeout_s)
        return cls(cluster, max_record_bytes=max_record_bytes)

    # Topics and offsets

    async def topics(self, *, configs_of: Collection[str] = ()) -> Mapping[str, TopicInfo]:
        """All topics but Kafka's own.

        `config`: what was set on the topic, and a few settings that matter here in any case.
        """
        return await self._cluster.topics(configs_of)

    async def cluster_id(self) -> str:
        return await self._cluster.cluster_id()

    async def about(self) -> AboutBroker:
        """Settings are those of one node. Reading them takes the right to describe the cluster."""
        return await self._cluster.about()

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Timestamps are the broker's (`LogAppendTime`) unless a spec says otherwise.

        Raises `BrokerError` with Kafka's reason.
        """
        await self._cluster.create_topics(specs)

    async def delete_records(self, partition: TopicPartition, before_offset: int) -> None:
        """Drop the records below `before_offset`, as retention does. For tests and operators."""
        await self._cluster.delete_records(partition, before_offset)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._cluster.end_offsets(partitions)

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._cluster.begin_offsets(partitions)

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        return await self._cluster.offsets_at(partitions, timestamp_ms)

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        return await self._cluster.committed(group, partitions)

    # Sending

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        if not records:
            return ()
        call = Call(len(records))
        async with self._sends.gate:
            await self._cluster.know({record.topic for record in records})
            for at, (some, indexes) in self._spread(call, records).items():
                self._sends.lane(at).put(call, some, indexes)
        await call.done
        return sorted(call.failures, key=lambda failure: failure.index)

    def _spread(
        self, call: Call, records: Sequence[OutRecord]
    ) -> dict[TopicPartition, tuple[list[OutRecord], list[int]]]:
        """Records and their indexes by partition; what can't be sent is refused right here."""
        spread: dict[TopicPartition, tuple[list[OutRecord], list[int]]] = {}
        anywhere = next(self._next_partition)  # keyless records of one call share a batch
        for index, record in enumerate(records):
            count = self._cluster.counts.get(record.topic, 0)
            partition = record.partition
            if partition is None and count:
                partition = (anywhere if record.key is None else partition_of_key(record.key, count)) % count
            if partition is None or not 0 <= partition < count or record.size_bytes() > self.max_record_bytes:
                call.refused(index, self._unfit(record, count))
                continue
            some, indexes = spread.setdefault(TopicPartition(record.topic, partition), ([], []))
            some.append(record)
            indexes.append(index)
        return spread

    def _unfit(self, record: OutRecord, count: int) -> Refused:
        if not count:
            return Refused(Delivery.TOPIC_MISSING, self._cluster.missing(record.topic), whole=True)
        if record.size_bytes() > self.max_record_bytes:
            return Refused(Delivery.TOO_LARGE, self._too_large(record), whole=False)
        text = f"there is no partition {record.partition} of {record.topic}, which has {count}"
        return Refused(Delivery.REFUSED, text, whole=False)

    def _too_large(self, record: OutRecord) -> str:
        return f"a record for {record.topic} has {record.size_bytes()} bytes, {self.max_record_bytes} are the most"

    async def append(
        self,
        log: TopicPartition,
        expected_offset: int | None,  # Kafka can't compare: the caller checks what was acknowledged
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],  # noqa: ARG002 - the caller sends them after its check
    ) -> Appended:
        """As the port has it.

        Raises `RecordTooLarge`, with nothing written, for a decision that no broker would take.
        """
        for record in decisions:
            if record.size_bytes() > self.max_record_bytes:
                raise RecordTooLarge(self._too_large(record))
        call = Call(len(decisions))
        async with self._log.gate:
            await self._cluster.know((log.topic,))
            if log.partition >= self._cluster.counts.get(log.topic, 0):
                raise TopicMissing(self._cluster.missing(f"{log.topic}/{log.partition}"))
            if not decisions:
                return Appended(spans=(), effects_sent=False, timestamp_ms=_now_ms())
            # A claim rests on nothing before it, so it is where a broken lane begins afresh.
            self._log.lane(log).put(call, decisions, fresh=expected_offset is None)
        await call.done
        # aiokafka's answer to DuplicateSequenceNumber
        if any(first < 0 for first, _ in call.spans):
            raise BrokerUnavailable(
                f"{self._cluster.name}: an append to {log.topic}/{log.partition} landed, where is unknown"
            )
        # CreateTime topics tell none
        timestamp_ms = call.timestamp_ms if call.timestamp_ms >= 0 else _now_ms()
        return Appended(spans=tuple(call.spans), effects_sent=False, timestamp_ms=timestamp_ms)

    # Reading

    async def reader(self) -> Reader:
        reader = KafkaReader(await self._consumer(role="reader"), self._readers.discard)
        self._readers.add(reader)
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
    ) -> Subscription:
        """As the port has it; joining goes on in `poll`. Raises `TopicMissing`."""
        await self._cluster.know(topics)
        for topic in topics:
            if topic not in self._cluster.counts:
                raise TopicMissing(self._cluster.missing(topic))
        session_ms = int(session_timeout_s * 1000)
        consumer = await self._consumer(
            role=member,
            group_id=group,
            # aiokafka's sticky assignor keeps what a member had in the class: one for each
            # membership, then
            partition_assignment_strategy=(type("MemberStickyAssignor", (StickyPartitionAssignor,), {}),),
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            heartbeat_interval_ms=min(_MAX_HEARTBEAT_MS, session_ms // 4),
        )
        subscription = Membership(
            consumer,
            listener,
            lambda partitions: self._cluster.committed(group, partitions),
            fetch=fetch,
            session_timeout_s=session_timeout_s,
        )
        subscription.forget = self._members.discard
        self._members.add(subscription)
        consumer.join(topics, subscription)
        return subscription

    async def _consumer(self, **options: Any) -> Consumer:
        start = functools.partial(self._cluster.start_consumer, **options)
        return Consumer(await start(), start, self._cluster)

    # The end

    async def close(self) -> None:
        """Leave the groups and close what is open, in bounded time.

        Sends and appends under way end in `BrokerUnavailable`.
        """
        for subscription in list(self._members):
            await subscription.close()
        await self._end()

    async def abort(self) -> None:
        """Drop every connection as a killed process does: no group is left, nothing is flushed.

        For fault tests.
        """
        for subscription in list(self._members):
            await subscription.abort()
        self._members.clear()
        await self._end()

    async def _end(self) -> None:
        for reader in list(self._readers):
            await reader.close()
        await self._log.close()
        await self._sends.close()
        await self._cluster.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Apache Kafka through aiokafka: implements `mesh.ports.Broker`.

Owns every use of aiokafka; nothing else imports it. It decides nothing about the mesh. Opened by `mesh.wiring`.

Kafka appends without comparing, so `append` returns where the decisions landed and the caller checks. Effects never go with an append.
The log has a producer of its own: aiokafka keeps one produce request on the wire for each node, and a log that waits behind
effects would slow every decision. Order and batches are the business of `kafka_lanes`, groups that of `kafka_group`.

aiokafka 0.14's idempotent producer is unusable for a partition once a batch of it failed for good (every later one fails with
`OutOfOrderSequenceNumber`), and it repeats a batch for ever while the broker is away. So a producer that saw a failure is retired: it
takes no more batches, what else it has under way may end, then it is closed, and the next batch gets a new one.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from mesh.adapters.kafka_group import GroupSubscription
from mesh.adapters.kafka_lanes import Acknowledgement, Call, Lane, Packed, Refused
from mesh.core.ids import partition_of_key
from mesh.errors import BrokerError, BrokerUnavailable, RecordTooLarge, TopicMissing
from mesh.ports import (
    Appended,
    Committed,
    Delivery,
    GroupListener,
    OutRecord,
    Reader,
    Record,
    SendFailure,
    Subscription,
    TopicInfo,
    TopicPartition,
    TopicSpec,
)

__all__ = ["KafkaBroker"]

T = TypeVar("T")

MAX_RECORD_BYTES = (
    1_000_000  # below the broker's default for a batch (message.max.bytes, 1,048,588) with room for framing
)
_BATCH_BYTES = 256 * 1024  # measured: see bench/kafka_adapter.py
_FETCH_WAIT_S = 0.1  # a seek or a new assignment waits for the fetch under way, so it must be short
_LOOK_S = 2.0  # how often a batch that waits for its acknowledgement looks whether its topic is still there
_COUNTS_MAX_AGE_S = 300.0  # as aiokafka's own metadata
_BACKOFF_S = 0.1
_CLOSE_S = 5.0  # what an orderly close may take before connections are cut
_DYNAMIC_TOPIC_CONFIG = 1  # Kafka's DescribeConfigs: the value was set on the topic itself
_SHOWN_CONFIGS = frozenset(
    {"cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "retention.ms"}
)


class _InvalidRecord(kafka_errors.BrokerResponseError):  # type: ignore[misc] # aiokafka is untyped here
    """Kafka's error 87, which aiokafka 0.14 does not know and would report as an unknown fault of the broker."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refused a record (a compacted topic takes none without a key, for one)"


# Failures of a batch that are about its contents, and would come again.
_REFUSALS: dict[type[BaseException], Delivery] = {
    kafka_errors.MessageSizeTooLargeError: Delivery.TOO_LARGE,
    kafka_errors.RecordListTooLargeError: Delivery.TOO_LARGE,
    kafka_errors.InvalidTimestampError: Delivery.REFUSED,
    kafka_errors.PolicyViolationError: Delivery.REFUSED,
    _InvalidRecord: Delivery.REFUSED,
}
# Those that are about the topic: each record would meet the same.
_WHOLE_REFUSALS = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.InvalidTopicError,
)


class _Producer:
    """One aiokafka producer from its start to its retirement. Implements `kafka_lanes.BatchProducer`."""

    def __init__(self, producer: Any, broker: "KafkaBroker") -> None:
        self._producer = producer
        self._broker = broker
        self._under_way = 0
        self._is_stuck = False
        self.retired = False

    def pack(self, records: Iterable[OutRecord], limit: int) -> Packed:
        batch = self._producer.create_batch()
        add, count = batch.append, 0
        for record in itertools.islice(records, limit):
            if add(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is None:
                break
            count += 1
        return Packed(batch, count)

    async def deliver(self, at: TopicPartition, packed: Packed) -> Acknowledgement:
        self._under_way += 1
        try:
            return await self._deliver(at, packed.batch)
        except BaseException as error:
            self.retired = True
            self._is_stuck |= not isinstance(error, Refused)
            raise
        finally:
            self._under_way -= 1
            if self.retired and not self._under_way:
                self._broker.spawn_closing(self.dispose())

    async def _deliver(self, at: TopicPartition, batch: Any) -> Acknowledgement:
        timeout_s = self._broker.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                future = await self._producer.send_batch(batch, at.topic, partition=at.partition)
        except (TimeoutError, KafkaError, AssertionError) as error:  # asserts that it knows the partition
            raise self._unknown(at, error) from error
        future.add_done_callback(_consume)
        if not await self._wait_acknowledged(at, future, timeout_s):
            raise self._unknown(at, f"no acknowledgement within {timeout_s:g} s")
        failed = future.exception()
        if failed is not None:
            raise self._failure(at, failed) from failed
        metadata = future.result()
        return Acknowledgement(metadata.offset, metadata.timestamp)

    async def _wait_acknowledged(self, at: TopicPartition, future: "asyncio.Future[Any]", timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            done, _ = await asyncio.wait({future}, timeout=min(left, _LOOK_S))
            if done:
                return True
            if await self._broker.is_gone(at.topic):  # the client would ask for its leader until the time-out
                raise Refused(Delivery.TOPIC_MISSING, _missing(at.topic), whole=True)
        return future.done()

    def _failure(self, at: TopicPartition, error: BaseException) -> Exception:
        if isinstance(error, _WHOLE_REFUSALS):
            return Refused(Delivery.REFUSED, f"Kafka refused records for {at.topic}: {error}", whole=True)
        code = _REFUSALS.get(type(error))
        if code is not None:
            return Refused(code, f"Kafka refused a record for {at.topic}/{at.partition}: {error}", whole=False)
        return self._unknown(at, error)

    def _unknown(self, at: TopicPartition, why: object) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"{self._broker.name}: whether records for {at.topic}/{at.partition} landed is unknown ({_words(why)})"
        )

    async def dispose(self) -> None:
        """Close it; one that is stuck is cut off, since its own `stop` would wait for its batches for ever."""
        if not self._is_stuck:
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._producer.flush()
                    await self._producer.stop()
                    return
        await self._cut()

    async def _cut(self) -> None:
        """End its sender, then fail what it still holds: aiokafka has no public way to stop without flushing."""
        sender = self._producer._sender.sender_task  # noqa: SLF001 - see above
        await self._producer.client.close()
        while sender is not None and not sender.done():  # each cancel ends one of the requests that it waits for
            sender.cancel()
            await asyncio.wait({sender}, timeout=_BACKOFF_S)
        self._producer._message_accumulator.fail_all(KafkaError("the producer was retired"))  # noqa: SLF001 - see above
        with contextlib.suppress(KafkaError):
            await self._producer.stop()


class _Channel:
    """The way of one kind of records to the broker: its producer, and a lane for each partition."""

    def __init__(self, broker: "KafkaBroker", kind: str, *, strict: bool) -> None:
        self.gate = (
            asyncio.Lock()
        )  # calls enter their lanes in the order they were begun, also while a topic is looked up
        self._broker = broker
        self._kind = kind
        self._strict = strict
        self._lanes: dict[TopicPartition, Lane] = {}
        self._current: _Producer | None = None
        self._starting = asyncio.Lock()

    def lane(self, at: TopicPartition) -> Lane:
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = Lane(at, self._producer, self._broker.spawn, strict=self._strict)
        return lane

    async def _producer(self) -> _Producer:
        current = self._current
        if current is not None and not current.retired:
            return current
        try:
            async with asyncio.timeout(self._broker.timeout_s), self._starting:
                if self._current is None or self._current.retired:
                    self._current = await self._start()
                return self._current
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"{self._broker.name}: no producer could be started within {self._broker.timeout_s:g} s"
            ) from error

    async def _start(self) -> _Producer:
        while True:
            producer = AIOKafkaProducer(
                **self._broker.connection(self._kind), acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES
            )
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                await asyncio.sleep(_BACKOFF_S)
            except BaseException:
                await producer.stop()
                raise
            else:
                return _Producer(producer, self._broker)

    async def close(self) -> None:
        if self._current is not None and not self._current.retired:
            self._current.retired = True
            await self._current.dispose()


class _Consumer:
    """One aiokafka consumer, with the mesh's values and errors. Implements `kafka_group.GroupConsumer`."""

    def __init__(self, consumer: Any, name: str, timeout_s: float) -> None:
        self._consumer = consumer
        self._name = name
        self._timeout_s = timeout_s

    def is_member(self) -> bool:
        return bool(self._consumer._coordinator.generation > 0)  # noqa: SLF001 - reset when the group dropped us; not public

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        consumer = self._consumer
        if consumer.assignment() != positions.keys():
            consumer.assign(list(positions))
            changed = dict(positions)
        else:  # what stays where it is keeps what was fetched ahead
            changed = {at: offset for at, offset in positions.items() if self._position(at) != offset}
        for at, offset in changed.items():
            consumer.seek(at, offset)

    def _position(self, at: TopicPartition) -> int | None:
        state = self._consumer._subscription.subscription.assignment.state_value(at)  # noqa: SLF001 - `position()` may wait
        return state.position if state.has_valid_position else None

    async def poll(
        self, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        if partitions is not None and not partitions:
            await asyncio.sleep(timeout_s)
            return []
        some = [KafkaPartition(*at) for at in partitions or ()]
        try:
            # getmany waits without end while the group shares anew
            async with asyncio.timeout(timeout_s + 2 * _BACKOFF_S):
                got = await self._consumer.getmany(*some, timeout_ms=timeout_s * 1000, max_records=max_records)
        except TimeoutError:
            return []
        except KafkaError as error:
            raise BrokerUnavailable(f"{self._name}: reading failed ({_words(error)})") from error
        return [
            Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, _headers(r.headers))
            for records in got.values()
            for r in records
        ]

    def seek(self, at: TopicPartition, offset: int) -> None:
        with contextlib.suppress(kafka_errors.IllegalStateError):  # shared anew meanwhile
            self._consumer.seek(at, offset)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._consumer.pause(*self._assigned(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._consumer.resume(*self._assigned(partitions))

    def _assigned(self, partitions: Sequence[TopicPartition]) -> list[Any]:
        return [KafkaPartition(*at) for at in self._consumer.assignment().intersection(partitions)]

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        given = {KafkaPartition(*at): OffsetAndMetadata(*position) for at, position in offsets.items()}
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._consumer.commit(given)
        except (kafka_errors.CommitFailedError, kafka_errors.IllegalStateError):
            return  # shared anew: the next owner reads from what was committed before
        except (TimeoutError, KafkaError) as error:
            raise BrokerUnavailable(f"{self._name}: whether the commit counts is unknown ({_words(error)})") from error

    async def stop(self, *, leave: bool = True) -> None:
        consumer = self._consumer
        if not leave and self.is_member():
            consumer._coordinator.generation = -1  # noqa: SLF001 - what makes aiokafka send LeaveGroup
        stopping = asyncio.ensure_future(consumer.stop())
        stopping.add_done_callback(_consume)
        _, pending = await asyncio.wait({stopping}, timeout=_CLOSE_S)
        if pending:  # in a join that waits for others, say: cut its connections, and it ends
            await consumer._client.close()  # noqa: SLF001 - aiokafka has no public way to stop at once
            await asyncio.wait({stopping}, timeout=_CLOSE_S)
            stopping.cancel()


class _Reader:
    """Implements `mesh.ports.Reader`."""

    def __init__(self, consumer: _Consumer, forget: Callable[[object], None]) -> None:
        self._consumer = consumer
        self._forget = forget

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._consumer.assign(positions)

    async def poll(
        self, *, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> Sequence[Record]:
        return await self._consumer.poll(max_records, timeout_s, partitions)

    async def close(self) -> None:
        self._forget(self)
        await self._consumer.stop()

    abort = close


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped here
    """Hands aiokafka's callbacks on to the subscription."""

    def __init__(self) -> None:
        self.subscription: GroupSubscription | None = None

    async def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002 - all that was held, as ever
        if self.subscription is not None:
            await self.subscription.lose_share()

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        if self.subscription is not None:
            self.subscription.take_share([TopicPartition(*at) for at in sorted(assigned)])


class KafkaBroker:
    """A connection to a Kafka cluster. Made by `open`; `close` it."""

    max_record_bytes = MAX_RECORD_BYTES

    def __init__(self, bootstrap: str, *, client_id: str, timeout_s: float) -> None:
        self.name = f"Kafka at {bootstrap}"
        self.timeout_s = timeout_s
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._admin: Any = None
        self._offsets: Any = None
        self._offsets_starting = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._counts_at = 0.0
        self._next_partition = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()  # lanes at work
        self._closing: set[asyncio.Task[None]] = set()  # retired producers on their way out
        self._members: set[Any] = set()  # readers and subscriptions still open
        self._log = _Channel(self, "log", strict=True)
        self._sends = _Channel(self, "send", strict=False)

    @classmethod
    async def open(
        cls, bootstrap: str, *, client_id: str, request_timeout_s: float = 30.0, open_timeout_s: float = 10.0
    ) -> Self:
        """Connect to `host:port[,host:port]`; raises `BrokerUnavailable` if no broker answers within `open_timeout_s`."""
        logging.getLogger("aiokafka").addHandler(
            logging.NullHandler()
        )  # else it writes to stderr where no logs are set up
        kafka_errors.kafka_errors.setdefault(_InvalidRecord.errno, _InvalidRecord)
        broker = cls(bootstrap, client_id=client_id, timeout_s=request_timeout_s)
        try:
            async with asyncio.timeout(open_timeout_s):
                await broker._connect()
        except TimeoutError as error:
            await broker.close()
            raise BrokerUnavailable(
                f"{broker.name} does not answer within {open_timeout_s:g} s: is it running, and is the address right?"
            ) from error
        return broker

    async def _connect(self) -> None:
        while True:
            self._admin = AIOKafkaAdminClient(**self.connection("admin"))
            try:
                await self._admin.start()
                await self._look()  # over the address that the broker gives for itself
            except (KafkaError, TimeoutError):
                await self._admin.close()
                await asyncio.sleep(2 * _BACKOFF_S)
            else:
                return

    # What the parts share

    def connection(self, role: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": self._bootstrap,
            "client_id": f"{self._client_id}-{role}",
            "request_timeout_ms": int(self.timeout_s * 1000),
        }

    def spawn(self, work: Coroutine[object, object, None], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawn_closing(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, name="kafka-producer close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def is_gone(self, topic: str) -> bool:
        """Whether the broker answers, and says that there is no such topic."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._look()
        except (TimeoutError, KafkaError):
            return False
        return topic not in self._counts

    async def _look(self) -> None:
        """Read all topics' partition counts. Asking for all is the one way that never creates a topic."""
        topics = await self._admin.describe_topics()
        self._counts = {
            t["topic"]: len(t["partitions"]) for t in topics if not t["error_code"] and not t["is_internal"]
        }
        self._counts_at = time.monotonic()

    async def _know(self, topics: Iterable[str]) -> None:
        """Make sure that the partition counts of these topics are known, if they exist."""
        if time.monotonic() - self._counts_at > _COUNTS_MAX_AGE_S or any(t not in self._counts for t in topics):
            await self._ask("listing topics", self._look)

    async def _ask(self, what: str, question: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, or the request's time is over."""
        why: object = "no answer"
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    try:
                        return await question()
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                        why = error
                    await asyncio.sleep(_BACKOFF_S)
        except (TimeoutError, KafkaError) as error:
            why = why if isinstance(error, TimeoutError) else error
            raise BrokerUnavailable(f"{self.name}: {what} failed ({_words(why)})") from error

    # Topics

    async def topics(self) -> Mapping[str, TopicInfo]:
        await self._ask("listing topics", self._look)
        counts = dict(self._counts)
        if not counts:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in counts]
        answers = await self._ask("reading topics' settings", lambda: self._admin.describe_configs(resources))
        found = {name: TopicInfo(name, count) for name, count in counts.items()}
        for _error, _text, _type, name, entries, *_ in itertools.chain.from_iterable(a.resources for a in answers):
            config = {e[0]: e[1] for e in entries if e[3] == _DYNAMIC_TOPIC_CONFIG or e[0] in _SHOWN_CONFIGS}
            found[name] = TopicInfo(name, counts[name], config)
        return found

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._ask("listing topics", self._look)
        missing = [spec for spec in specs if spec.name not in self._counts]
        if missing:
            await self._ask("creating topics", lambda: self._create(missing))
            await self._ask("waiting for new topics", lambda: self._created(missing))

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        new = [
            NewTopic(
                s.name, s.partitions, s.replicas, topic_configs={"message.timestamp.type": "LogAppendTime", **s.config}
            )
            for s in specs
        ]
        answer = await self._admin.create_topics(new, timeout_ms=int(self.timeout_s * 1000))
        for topic, code, *text in answer.topic_errors:
            error = kafka_errors.for_code(code)
            if error is kafka_errors.NoError or error is kafka_errors.TopicAlreadyExistsError:
                continue  # somebody else was quicker
            if error.retriable:
                raise error(topic)
            raise BrokerError(
                f"{self.name} does not create the topic {topic}: {text[0] if text and text[0] else error.message}"
            )

    async def _created(self, specs: Sequence[TopicSpec]) -> None:
        await self._look()
        absent = [spec.name for spec in specs if not self._counts.get(spec.name)]
        if absent:
            raise kafka_errors.LeaderNotAvailableError(", ".join(absent))

    async def delete_records(self, partition: TopicPartition, before_offset: int) -> None:
        """Drop the records below `before_offset`, as retention does. For tests and operators."""
        await self._ask(
            "deleting records",
            lambda: self._admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset)}),
        )

    # Sending

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        if not records:
            return ()
        call = Call(len(records))
        async with self._sends.gate:
            await self._know({record.topic for record in records})
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
            count = self._counts.get(record.topic)
            if count is None:
                call.refused(index, Refused(Delivery.TOPIC_MISSING, _missing(record.topic), whole=True))
                continue
            if record.size_bytes() > self.max_record_bytes:
                call.refused(index, Refused(Delivery.TOO_LARGE, self._too_large(record), whole=False))
                continue
            partition = record.partition
            if partition is None:
                partition = (anywhere if record.key is None else partition_of_key(record.key, count)) % count
            elif not 0 <= partition < count:
                text = f"there is no partition {partition} of {record.topic}, which has {count}"
                call.refused(index, Refused(Delivery.REFUSED, text, whole=False))
                continue
            some, indexes = spread.setdefault(TopicPartition(record.topic, partition), ([], []))
            some.append(record)
            indexes.append(index)
        return spread

    async def append(
        self,
        log: TopicPartition,
        expected_offset: int | None,  # noqa: ARG002 - Kafka can't compare: the caller checks what was acknowledged
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],  # noqa: ARG002 - the caller sends them after its check
    ) -> Appended:
        for record in decisions:
            if record.size_bytes() > self.max_record_bytes:
                raise RecordTooLarge(self._too_large(record))
        call = Call(len(decisions))
        async with self._log.gate:
            await self._know((log.topic,))
            if log.partition >= self._counts.get(log.topic, 0):
                raise TopicMissing(_missing(f"{log.topic}/{log.partition}"))
            if not decisions:
                return Appended(spans=(), effects_sent=False, timestamp_ms=_now_ms())
            self._log.lane(log).put(call, decisions)
        await call.done
        if any(first < 0 for first, _ in call.spans):  # aiokafka's answer to DuplicateSequenceNumber
            raise BrokerUnavailable(f"{self.name}: an append to {log.topic}/{log.partition} landed, where is unknown")
        timestamp_ms = call.timestamp_ms if call.timestamp_ms >= 0 else _now_ms()
        return Appended(spans=tuple(call.spans), effects_sent=False, timestamp_ms=timestamp_ms)

    def _too_large(self, record: OutRecord) -> str:
        return f"a record for {record.topic} has {record.size_bytes()} bytes, {self.max_record_bytes} are the most"

    # Offsets

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._look_up("end offsets", partitions, lambda c, ps: c.end_offsets(ps))

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._look_up("first offsets", partitions, lambda c, ps: c.beginning_offsets(ps))

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        # The end is read first: had it been read after, a record that came in between would be passed over.
        ends = await self.end_offsets(partitions)
        when = max(0, timestamp_ms)
        found = await self._look_up(
            "offsets of a time", partitions, lambda c, ps: c.offsets_for_times(dict.fromkeys(ps, when))
        )
        return {at: ends[at] if found[at] is None else found[at].offset for at in partitions}

    async def _look_up(
        self, what: str, partitions: Sequence[TopicPartition], question: Callable[[Any, list[Any]], Awaitable[Any]]
    ) -> dict[TopicPartition, Any]:
        if not partitions:
            return {}
        await self._know({at.topic for at in partitions})
        for at in partitions:
            if at.partition >= self._counts.get(at.topic, 0):
                raise TopicMissing(_missing(f"{at.topic}/{at.partition}"))
        consumer = await self._offsets_consumer()
        found = await self._ask(f"reading {what}", lambda: question(consumer, [KafkaPartition(*p) for p in partitions]))
        return {at: found[at] for at in partitions}

    async def _offsets_consumer(self) -> Any:
        """One that reads nothing: questions on a consumer that fetches wait for its fetch."""
        async with self._offsets_starting:
            if self._offsets is None:
                self._offsets = await self._start_consumer(role="offsets")
            return self._offsets

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        if not partitions:
            return {}

        async def question() -> Mapping[TopicPartition, Committed | None]:
            found = await self._admin.list_consumer_group_offsets(group, partitions=list(partitions))
            if any(
                at not in found for at in partitions
            ):  # an error of the whole group, which aiokafka does not look at
                raise kafka_errors.GroupLoadInProgressError(group)
            return {at: Committed(*found[at]) if found[at].offset >= 0 else None for at in partitions}

        return await self._ask(f"reading the positions of the group {group}", question)

    # Reading

    async def reader(self) -> Reader:
        consumer = await self._start_consumer(role="reader")
        reader = _Reader(_Consumer(consumer, self.name, self.timeout_s), self._members.discard)
        self._members.add(reader)
        return reader

    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        listener: GroupListener,
        *,
        member: str,
        fetch: bool = True,
        session_timeout_s: float = 10.0,
    ) -> Subscription:
        await self._know(topics)
        for topic in topics:
            if topic not in self._counts:
                raise TopicMissing(_missing(topic))
        # aiokafka's sticky assignor keeps what a member had in the class: one for each membership, then
        assignor = type("MemberStickyAssignor", (StickyPartitionAssignor,), {})
        session_ms = int(session_timeout_s * 1000)
        consumer = await self._start_consumer(
            role=member,
            group_id=group,
            partition_assignment_strategy=(assignor,),
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            heartbeat_interval_ms=min(1000, session_ms // 4),
        )
        mine = _Consumer(consumer, self.name, self.timeout_s)
        rebalance = _Rebalance()
        rebalance.subscription = subscription = _Membership(
            mine,
            listener,
            lambda partitions: self.committed(group, partitions),
            fetch=fetch,
            session_timeout_s=session_timeout_s,
        )
        subscription.forget = self._members.discard
        self._members.add(subscription)
        consumer.subscribe(list(topics), listener=rebalance)
        return subscription

    async def _start_consumer(self, *, role: str, **options: Any) -> Any:
        async def start() -> Any:
            consumer = AIOKafkaConsumer(
                **self.connection(role),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=int(_FETCH_WAIT_S * 1000),
                **options,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            return consumer

        return await self._ask("connecting a reader", start)

    # The end

    async def close(self) -> None:
        for member in list(self._members):
            await member.close()
        await self._end()

    async def abort(self) -> None:
        """Drop every connection as a killed process does: no group is left, nothing is flushed. For fault tests."""
        for member in list(self._members):
            await member.abort()
        self._members.clear()
        await self._end()

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        await self._log.close()
        await self._sends.close()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)
        if self._offsets is not None:
            await self._offsets.stop()
        if self._admin is not None:
            await self._admin.close()


class _Membership(GroupSubscription):
    """A subscription that the broker forgets when it is closed."""

    forget: Callable[[object], None]

    async def close(self) -> None:
        self.forget(self)
        await super().close()


def _headers(headers: Any) -> tuple[tuple[str, bytes], ...]:
    """Other clients may send a header without a value: the mesh has it as an empty one."""
    for _, value in headers:
        if value is None:
            return tuple((name, value or b"") for name, value in headers)
    return headers  # type: ignore[no-any-return] # a tuple of pairs already


def _consume(future: "asyncio.Future[Any]") -> None:
    """Look at a future's exception, so that asyncio does not report it as never seen."""
    if not future.cancelled():
        future.exception()


def _missing(topic: str) -> str:
    return f"there is no topic {topic}: create it (`mesh topics apply`), or correct its name"


def _words(why: object) -> str:
    return str(why) or repr(why)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

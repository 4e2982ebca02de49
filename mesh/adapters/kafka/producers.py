"""Producers, and the way of records through lanes to them.

Owns the life of aiokafka's producers: started when first needed, retired when one saw a failure. It
decides no order (`lanes` does) and knows no call. Called by `broker`.

aiokafka 0.14's idempotent producer is unusable for a partition once a batch of it finally failed
(every later one fails with `OutOfOrderSequenceNumber`), and it repeats a batch without end while
the broker is away. So a producer that saw a failure is retired: it takes no more batches, what else
it has under way may end, then it is closed, and the next batch gets a new one.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.errors import KafkaError

from mesh.adapters.kafka.clients import CLOSE_S, ailment, disconnect, end
from mesh.adapters.kafka.cluster import BACKOFF_S, Cluster, consume, words
from mesh.adapters.kafka.lanes import Acknowledgement, Lane, Packed, Refused
from mesh.adapters.kafka.security import UNAUTHORISED, right_refused
from mesh.errors import BrokerUnavailable
from mesh.ports import Delivery, OutRecord, TopicPartition

_log = structlog.get_logger(__name__)

_BATCH_BYTES = 256 * 1024  # one batch for each partition is on the wire; see bench/kafka_adapter.py
_CANCELS = 50
# how often a batch that waits for its acknowledgement looks whether its topic is still there
_LOOK_S = 2.0


class _InvalidRecord(kafka_errors.BrokerResponseError):  # type: ignore[misc] # aiokafka is untyped here
    """Kafka's error 87, which aiokafka 0.14 does not know.

    It would report it as an unknown fault of the broker.
    """

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refused a record (a compacted topic takes none without a key, for one)"


def teach_errors() -> None:
    """Let aiokafka know the error above: it maps codes by a table."""
    kafka_errors.kafka_errors.setdefault(_InvalidRecord.errno, _InvalidRecord)


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


class Producer:
    """One aiokafka producer from its start to its retirement. Implements `lanes.BatchProducer`."""

    def __init__(
        self, producer: Any, cluster: Cluster, spawn_closing: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._producer = producer
        self._cluster = cluster
        self._spawn_closing = spawn_closing
        self._under_way = 0
        self._is_stuck = False
        self.retired = False

    def is_usable(self) -> bool:
        """Whether it may take batches. A producer that can't be used any more is retired here."""
        if not self.retired and (why := ailment(self._producer)):
            _log.warning("kafka_client_replaced", client=self._cluster.name, why=why)
            self.retired = self._is_stuck = True
            if not self._under_way:
                self._spawn_closing(self.dispose())
        return not self.retired

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
            # after a refusal it can still flush; without an answer or a topic, flushing would never
            # end
            self._is_stuck |= not isinstance(error, Refused) or error.code is Delivery.TOPIC_MISSING
            raise
        finally:
            self._under_way -= 1
            # the last batch that is under way closes the producer
            if self.retired and not self._under_way:
                self._spawn_closing(self.dispose())

    async def _deliver(self, at: TopicPartition, batch: Any) -> Acknowledgement:
        timeout_s = self._cluster.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                future = await self._producer.send_batch(batch, at.topic, partition=at.partition)
        except (TimeoutError, KafkaError, AssertionError) as error:  # asserts that it knows the partition
            raise self._unknown(at, error) from error
        # after a time-out nobody awaits it, and asyncio would report its exception
        future.add_done_callback(consume)
        if not await self._wait_acknowledged(at, future, timeout_s):
            raise self._unknown(at, f"no acknowledgement within {timeout_s:g} s")
        failed = future.exception()
        if failed is not None:
            raise self._failure(at, failed) from failed
        metadata = future.result()
        return Acknowledgement(metadata.offset, metadata.timestamp)

    async def _wait_acknowledged(self, at: TopicPartition, future: "asyncio.Future[Any]", timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        looks_without = 0  # one node may not have heard of a new topic yet: two looks must say so
        while (left := until - time.monotonic()) > 0:
            done, _ = await asyncio.wait({future}, timeout=min(left, _LOOK_S))
            if done:
                return True
            looks_without = looks_without + 1 if await self._cluster.is_gone(at.topic) else 0
            if looks_without > 1:  # the client would ask for its leader until the time-out
                raise Refused(Delivery.TOPIC_MISSING, self._cluster.missing(at.topic), whole=True)
        return future.done()

    def _failure(self, at: TopicPartition, error: BaseException) -> Exception:
        if isinstance(error, _WHOLE_REFUSALS):
            text = f"Kafka refused records for {at.topic}: {error}"
            if isinstance(error, UNAUTHORISED):
                text = str(right_refused(self._cluster.name, self._cluster.security, f"write to the topic {at.topic}"))
            return Refused(Delivery.REFUSED, text, whole=True, is_right=isinstance(error, UNAUTHORISED))
        code = _REFUSALS.get(type(error))
        if code is not None:
            return Refused(code, f"Kafka refused a record for {at.topic}/{at.partition}: {error}", whole=False)
        return self._unknown(at, error)

    def _unknown(self, at: TopicPartition, why: object) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"{self._cluster.name}: whether records for {at.topic}/{at.partition} landed is unknown ({words(why)})"
        )

    async def dispose(self) -> None:
        """Close it.

        If it is stuck it is cut off, because its own `stop` would wait for its batches without end.
        """
        if self._is_stuck or not await self._flushed():
            await self._cut()
        await end(self._producer, self._producer.stop(), self._cluster.name)

    async def _flushed(self) -> bool:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._producer.flush()
        except (TimeoutError, KafkaError):
            return False
        return True

    async def _cut(self) -> None:
        """End its sender, then fail what it still holds.

        aiokafka has no public way to stop without flushing.
        """
        sender = self._producer._sender.sender_task  # noqa: SLF001 - see above
        await disconnect(self._producer, self._cluster.name)
        for _ in range(_CANCELS):  # each ends one of the requests that the sender waits for
            if sender is None or sender.done():
                break
            sender.cancel()
            await asyncio.wait({sender}, timeout=BACKOFF_S)
        self._fail_held()

    def _fail_held(self) -> None:
        """Fail its batches. `deliver` answers the callers that wait for one."""
        held = self._producer._message_accumulator  # noqa: SLF001 - see `_cut`
        pending = held._pending_batches  # noqa: SLF001 - as above
        # A batch that was put back, to be sent again, is not among the pending ones, and its end
        # takes it out of them: that would be a `KeyError`.
        pending.update(batch for queue in held._batches.values() for batch in queue)  # noqa: SLF001 - as above
        for batch in pending:
            # nobody waits for these, and asyncio would report each
            batch.future.add_done_callback(consume)
            batch._drain_waiter.add_done_callback(consume)  # noqa: SLF001 - as above
        held.fail_all(KafkaError("the producer was retired"))


class Channel:
    """The way of one kind of records to the broker: its producer, and a lane for each partition."""

    def __init__(self, cluster: Cluster, kind: str, *, strict: bool) -> None:
        # Calls enter their lanes in the order they were begun, also while a topic is looked up.
        self.gate = asyncio.Lock()
        self._cluster = cluster
        self._kind = kind
        self._strict = strict
        self._lanes: dict[TopicPartition, Lane] = {}
        self._current: Producer | None = None
        self._starting = asyncio.Lock()
        self._working: set[asyncio.Task[None]] = set()  # lanes
        self._closing: set[asyncio.Task[None]] = set()  # retired producers on their way out

    def lane(self, at: TopicPartition) -> Lane:
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = Lane(at, self._producer, self._spawn, strict=self._strict)
        return lane

    async def _producer(self) -> Producer:
        current = self._current
        if current is not None and current.is_usable():
            return current
        try:
            async with asyncio.timeout(self._cluster.timeout_s), self._starting:
                # another lane may have started one while this one waited for the lock
                if self._current is None or self._current.retired:
                    self._current = await self._start()
                return self._current
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"{self._cluster.name}: no producer could be started within {self._cluster.timeout_s:g} s"
            ) from error

    async def _start(self) -> Producer:
        while True:
            # Idempotent: aiokafka repeats a batch whose answer is late, and the broker must take it
            # once.
            producer = AIOKafkaProducer(
                **self._cluster.connection(self._kind), acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES
            )
            try:
                await producer.start()
            except KafkaError:
                await end(producer, producer.stop(), self._cluster.name)
                await asyncio.sleep(BACKOFF_S)
            except BaseException:
                await end(producer, producer.stop(), self._cluster.name)
                raise
            else:
                return Producer(producer, self._cluster, self._spawn_closing)

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        _keep(asyncio.create_task(work, name=name), self._working)

    def _spawn_closing(self, work: Coroutine[Any, Any, None]) -> None:
        _keep(asyncio.create_task(work, name=f"kafka-{self._kind} close"), self._closing)

    async def close(self) -> None:
        """End what is under way (its callers get `BrokerUnavailable`) and close the producers.

        In bounded time.
        """
        for task in list(self._working):
            task.cancel()
        # their callers are answered before the producers go
        if self._working:
            await asyncio.wait(self._working, timeout=CLOSE_S)
        if self._current is not None and not self._current.retired:
            # so that a lane which is still under way starts no batch with it
            self._current.retired = True
            self._spawn_closing(self._current.dispose())
        if self._closing:
            await asyncio.wait(self._closing, timeout=3 * CLOSE_S)


def _keep(task: "asyncio.Task[None]", tasks: "set[asyncio.Task[None]]") -> None:
    tasks.add(task)
    task.add_done_callback(tasks.discard)

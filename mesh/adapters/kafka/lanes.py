"""Lanes: records to one Kafka partition, in order, in batches, with one batch on the wire.

Owns the order of what is sent to a partition and who learns what of each batch's fate. It does no
I/O and knows no Kafka client: a `BatchProducer` (in `producers`) packs batches and delivers them.
Called by `broker`, through `producers`.

    call ──► one parcel for each partition ──► lane (a queue)
         ──► pack, deliver ──► landed, refused or failed ──► call

* A lane has at most one batch under way, and fills the next from its queue while it waits. The
  Kafka client has one batch for each partition in flight too, so this costs no throughput. But
  nothing of the lane is behind a batch that fails, so a failure can be dealt with in order.
* Parcels of several calls share a batch, and a parcel may take several. There is one future for
  each call, none for each record.
* A batch that the broker refuses goes record by record, so that the one that is wrong fails alone.
  This does not hold for a *strict* lane (the log): there a failure fails everything in the queue,
  since nothing may land after what did not.
* A batch whose fate is unknown fails everything in the queue: it has waited behind it long enough.
  A strict lane then takes nothing more until a call is `fresh`. The callers learn of the failure
  a moment later, and what they put until then rests on what may never land.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

from mesh.errors import BrokerError, BrokerRefused, BrokerUnavailable, TopicMissing
from mesh.ports import Delivery, OutRecord, SendFailure, TopicPartition


class Acknowledgement(NamedTuple):
    """The offset of a batch's first record, and the broker's clock.

    The clock is -1 if the topic keeps the sender's timestamps.
    """

    offset: int
    timestamp_ms: int


class Packed(NamedTuple):
    """A batch for the wire, and how many of the offered records are in it (at least one)."""

    batch: object
    records: int


class Refused(Exception):
    """The broker refused a batch; trying again does not help.

    `whole`: it would refuse each of its records, whatever they hold. `is_right`: for want of a
    right.
    """

    def __init__(self, code: Delivery, message: str, *, whole: bool, is_right: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.whole = whole
        self.is_right = is_right


class BatchProducer(Protocol):
    """The way to the broker, as long as it lasts."""

    def pack(self, records: Iterable[OutRecord], limit: int) -> Packed:
        """Put as many records as a batch takes, but no more than `limit`, into a new batch."""
        ...

    async def deliver(self, at: TopicPartition, packed: Packed) -> Acknowledgement:
        """Send a batch and wait for its acknowledgement, for a bounded time.

        Raises `Refused` or `BrokerUnavailable`.
        """
        ...


class Spawn(Protocol):
    def __call__(self, work: Coroutine[object, object, None], *, name: str) -> None:
        """Run this as a task, and keep it."""
        ...


class Call:
    """What one `append` or `send` waits for.

    All its records must be acknowledged or permanently refused.
    """

    __slots__ = ("_left", "done", "failures", "spans", "timestamp_ms")

    def __init__(self, records: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.spans: list[tuple[int, int]] = []
        self.failures: list[SendFailure] = []
        self.timestamp_ms = -1
        self._left = records

    def landed(self, first: int, count: int, timestamp_ms: int) -> None:
        if self.spans and sum(self.spans[-1]) == first:
            self.spans[-1] = (self.spans[-1][0], self.spans[-1][1] + count)
        else:
            self.spans.append((first, count))
        self.timestamp_ms = timestamp_ms
        self._settle(count)

    def refused(self, index: int, error: Refused) -> None:
        self.failures.append(SendFailure(index, error.code, str(error)))
        self._settle(1)

    def fail(self, error: BrokerError) -> None:
        if not self.done.done():
            own = type(error)(str(error))  # one instance each: callers add their tracebacks to it
            own.__cause__ = error
            self.done.set_exception(own)

    def _settle(self, count: int) -> None:
        self._left -= count
        if not self._left and not self.done.done():
            self.done.set_result(None)


class _Parcel:
    """The records of one call for one partition.

    `indexes` are their places in the call (None: the same places).
    """

    __slots__ = ("call", "indexes", "next", "records")

    def __init__(self, call: Call, records: Sequence[OutRecord], indexes: Sequence[int] | None) -> None:
        self.call = call
        self.records = records
        self.indexes = indexes
        self.next = 0

    def rest(self) -> Sequence[OutRecord]:
        return self.records[self.next :] if self.next else self.records

    def landed(self, first: int, count: int, timestamp_ms: int) -> None:
        self.next += count
        self.call.landed(first, count, timestamp_ms)

    def refused(self, count: int, error: Refused) -> None:
        for place in range(self.next, self.next + count):
            self.call.refused(self.indexes[place] if self.indexes is not None else place, error)
        self.next += count


_NO_LIMIT = 1 << 30
_BROKEN = "an earlier append may not have landed, so this one was not made; take the partition over afresh"


def _place(at: TopicPartition) -> str:
    return f"{at.topic}/{at.partition}"


class Lane:
    """The queue to one partition.

    `producer` gives the one in use, and raises `BrokerUnavailable` after a bounded wait.
    """

    def __init__(
        self, at: TopicPartition, producer: Callable[[], Awaitable[BatchProducer]], spawn: Spawn, *, strict: bool
    ) -> None:
        self._at = at
        self._producer = producer
        self._spawn = spawn
        self._strict = strict
        self._queue: deque[_Parcel] = deque()
        self._is_broken = False  # strict, and something in it failed
        self._singly = 0  # how many records go one by one, after a batch with them was refused
        self._pumping = False

    def put(
        self, call: Call, records: Sequence[OutRecord], indexes: Sequence[int] | None = None, *, fresh: bool = False
    ) -> None:
        """Queue records (one at the least) behind all that were put before.

        `fresh`: they rest on nothing before them.
        """
        if fresh:
            self._is_broken = False
        elif self._is_broken:
            call.fail(BrokerUnavailable(f"{_place(self._at)}: {_BROKEN}"))
            return
        self._queue.append(_Parcel(call, records, indexes))
        if not self._pumping:
            self._pumping = True
            self._spawn(self._pump(), name=f"kafka-lane {_place(self._at)}")

    async def _pump(self) -> None:
        try:
            while self._queue:
                await self._turn()
        except BrokerUnavailable as error:
            self._fail_all(error)
        except BaseException as error:  # cancelled or broken: no caller may be left waiting
            self._fail_all(BrokerUnavailable(f"sending to {_place(self._at)} ended: {error!r}"))
            raise
        finally:
            self._pumping = False

    async def _turn(self) -> None:
        """One batch, from the queue to its fate."""
        limit = 1 if self._singly else _NO_LIMIT
        # The producer first: while it is waited for, more calls find room in this batch.
        producer = await self._producer()
        packed = producer.pack(chain.from_iterable(parcel.rest() for parcel in self._queue), limit)
        try:
            offset, timestamp_ms = await producer.deliver(self._at, packed)
        except Refused as error:
            self._refused(packed.records, error)
        else:
            for parcel, count in self._take(packed.records):
                parcel.landed(offset, count, timestamp_ms)
                offset += count
        self._singly = max(0, self._singly - packed.records) if limit == 1 else self._singly

    def _take(self, count: int) -> Iterable[tuple[_Parcel, int]]:
        """The parcels that the next `count` records belong to, with how many of each.

        Parcels that are used up leave the queue.
        """
        while count:
            parcel = self._queue[0]
            part = min(count, len(parcel.records) - parcel.next)
            if parcel.next + part == len(parcel.records):
                self._queue.popleft()
            count -= part
            yield parcel, part

    def _refused(self, count: int, error: Refused) -> None:
        if self._strict:
            self._fail_all(_strict_error(error))
        elif count == 1 or error.whole:
            for parcel, part in self._take(count):
                parcel.refused(part, error)
        else:
            self._singly = count

    def _fail_all(self, error: BrokerError) -> None:
        # Callers hear of it later, and what they put until then may rest on what did not land.
        self._is_broken = self._strict
        while self._queue:
            self._queue.popleft().call.fail(error)


def _strict_error(error: Refused) -> BrokerError:
    """What the callers of a strict lane get for a batch that was refused."""
    if error.code is Delivery.TOPIC_MISSING:
        return TopicMissing(str(error))
    return BrokerRefused(str(error)) if error.is_right else BrokerUnavailable(str(error))

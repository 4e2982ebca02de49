"""The way from requests to the broker: what comes in at once goes out in one batch.

Owns the queue between the two, its bounds, and when a request hears that the broker has its events.
A request never waits behind a queue that does not move: it is refused at once where the queue is
full, and its wait for the broker is bounded.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from mesh.errors import BrokerError, BrokerUnavailable, MeshError
from mesh.ports import Broker, OutRecord, SendFailure

MAX_RECORDS: Final = 10_000  # that wait
MAX_BYTES: Final = 64 * 1024 * 1024
BATCH_RECORDS: Final = 1_000
_log = structlog.get_logger()


class Busy(MeshError):
    """The broker is slower than what comes in. `retry_after_s`: when to try again."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("the broker is slower than what comes in; send it again later")
        self.retry_after_s = retry_after_s


class NotTaken(MeshError):
    """The broker will never take one of the records. `failure`: which one, and why."""

    def __init__(self, failure: SendFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Parcel:
    """The records of one request, and the request that waits for them."""

    def __init__(self, records: Sequence[OutRecord]) -> None:
        self.records = records
        self.size = sum(record.size_bytes() for record in records)
        self.done: asyncio.Future[Sequence[SendFailure]] = asyncio.get_running_loop().create_future()


class Intake:
    """Takes records, and sends them. `run` must run beside it."""

    def __init__(self, broker: Broker, *, timeout_s: float) -> None:
        """`timeout_s`: how long a request waits for the broker at the most."""
        self._broker = broker
        self._timeout_s = timeout_s
        self._waiting: deque[_Parcel] = deque()
        self._records = 0
        self._bytes = 0
        self._came = asyncio.Event()
        self.is_up = True
        """Whether the broker took the last batch."""

    @property
    def waiting(self) -> int:
        """How many records wait for the broker."""
        return self._records

    async def take(self, records: Sequence[OutRecord]) -> None:
        """Return when the broker has all of them.

        Raises `Busy`, `NotTaken` or `BrokerUnavailable`. After the last it is unknown whether the
        broker has them, and sending them again is right: an event that comes twice counts once.
        """
        parcel = _Parcel(records)
        # one that is larger than all that may wait is taken where nothing waits
        if self._waiting and (self._records + len(records) > MAX_RECORDS or self._bytes + parcel.size > MAX_BYTES):
            raise Busy(1)
        self._records += len(records)
        self._bytes += parcel.size
        self._waiting.append(parcel)
        self._came.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                failures = await parcel.done
        except TimeoutError as error:
            raise BrokerUnavailable(f"the broker did not take the events within {self._timeout_s:g} s") from error
        if failures:
            raise NotTaken(failures[0])

    async def run(self) -> None:
        """Send what comes in, until cancelled."""
        while True:
            await self._came.wait()
            batch = self._next_batch()
            if batch:
                await self._send(batch)

    def _next_batch(self) -> list[_Parcel]:
        """What has waited longest, without those whose request has given up."""
        batch, records = list[_Parcel](), 0
        while self._waiting and (not batch or records + len(self._waiting[0].records) <= BATCH_RECORDS):
            parcel = self._waiting.popleft()
            self._records -= len(parcel.records)
            self._bytes -= parcel.size
            if not parcel.done.done():
                batch.append(parcel)
                records += len(parcel.records)
        if not self._waiting:
            self._came.clear()
        return batch

    async def _send(self, batch: Sequence[_Parcel]) -> None:
        try:
            failures = await self._broker.send([record for parcel in batch for record in parcel.records])
        except BrokerError as error:
            self._tell(is_up=False, error=str(error))
            for parcel in batch:
                # a future has the exception as its own; one for all would gather tracebacks
                _fail(parcel, type(error)(*error.args))
            return
        self._tell(is_up=True)
        first = 0
        for parcel in batch:
            after = first + len(parcel.records)
            if not parcel.done.done():
                parcel.done.set_result([one for one in failures if first <= one.index < after])
            first = after

    def _tell(self, *, is_up: bool, error: str = "") -> None:
        if is_up != self.is_up:
            self.is_up = is_up
            if is_up:
                _log.info("broker_takes_events_again")
            else:
                _log.warning("broker_takes_no_events", error=error, effect="senders get 503 and try again")


def _fail(parcel: _Parcel, error: BrokerError) -> None:
    if not parcel.done.done():
        parcel.done.set_exception(error)

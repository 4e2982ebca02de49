"""Results on their way to the broker: sent in batches, repeated until they land, and then settled.

Owns the order "first the broker has the result, then the offset may be committed". It must not know
handlers or partitions. The runtime gives it work with a record. It gives each piece of work back
once, when nothing more has to be done for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from mesh.errors import BrokerUnavailable
from mesh.ports import Broker, Delivery, OutRecord, SendFailure
from mesh.services.agent_runtime.work import Work

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_BATCH_RECORDS: Final = 1000

Entry = tuple[Work, OutRecord]


class Outbox:
    """Sends results.

    `settled` is called with each batch that has landed. `instead` makes the record to send if one
    is permanently refused.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        settled: Callable[[Sequence[Work]], None],
        instead: Callable[[Work, OutRecord, SendFailure], OutRecord | None],
        log: Any,
    ) -> None:
        self._broker = broker
        self._settled = settled
        self._instead = instead
        self._log: structlog.stdlib.BoundLogger = log
        self._waiting: list[Entry] = []
        self._filled = asyncio.Event()

    def put(self, work: Work, record: OutRecord) -> None:
        self._waiting.append((work, record))
        if not self._filled.is_set():
            self._filled.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._filled.wait()
            batch, self._waiting = self._waiting[:_BATCH_RECORDS], self._waiting[_BATCH_RECORDS:]
            if not self._waiting:
                self._filled.clear()
            await self._deliver(batch)

    async def _deliver(self, batch: list[Entry]) -> None:
        pause_s = _FIRST_PAUSE_S
        while batch:
            try:
                failures = await self._broker.send([record for _, record in batch])
            except BrokerUnavailable as error:
                # All of it again, since it is unknown what landed: an attempt's
                # result counts once at its router.
                self._log.warning("results_wait_for_broker", results=len(batch), error=str(error), retry_in_s=pause_s)
            else:
                if not failures:
                    self._settled([work for work, _ in batch])
                    return
                batch = self._settle_landed(batch, failures)
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def _settle_landed(self, batch: list[Entry], failures: Sequence[SendFailure]) -> list[Entry]:
        """Settle what landed. What did not comes back, as the record to send instead."""
        failed = {failure.index: failure for failure in failures}
        landed = [work for index, (work, _) in enumerate(batch) if index not in failed]
        again: list[Entry] = []
        for index, failure in failed.items():
            work, record = batch[index]
            other = self._instead(work, record, failure)
            self._log.error(
                "result_refused",
                topic=record.topic,
                code=failure.code.value,
                error=failure.message,
                task_record=f"{work.record.topic}/{work.record.partition}/{work.record.offset}",
            )
            if other is not None:
                again.append((work, other))
            elif (
                failure.code is Delivery.TOO_LARGE
            ):  # not even its dead letter fits; the task's record stays in its topic
                landed.append(work)
            else:
                again.append((work, record))
        self._settled(landed)
        return again

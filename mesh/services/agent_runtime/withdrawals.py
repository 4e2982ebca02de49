"""What routers say of tasks that nobody wants any more, as the agents of one process read it.

Owns the reading of `mesh.withdrawals`, once for all agents of the process. A task is begun only
when all that was said since the broker took it has been read; from then on the topic is followed,
so a handler that runs hears of it too. What is missed costs work that counts for nothing, and no
more. Called by `runtime`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from mesh.codec.withdrawals import decode_withdrawal
from mesh.errors import BrokerUnavailable, MalformedRecord, TopicMissing
from mesh.ports import Broker, Reader, Record, TopicPartition

_BACK_MS: Final = 60_000  # so much before the task is read as well: others may be a little older
_MOST: Final = 100_000  # that are known at once; the oldest are forgotten
_POLL_S: Final = 1.0
_AGAIN_S: Final = 5.0


class Withdrawn:
    """What is known of one agent's attempts.

    `ids`: of those that nobody wants. `on_withdrawn` is called with each, once.
    """

    def __init__(self, on_withdrawn: Callable[[str], None]) -> None:
        self.ids: dict[str, None] = {}
        self._on_withdrawn = on_withdrawn

    def add(self, attempt_id: str) -> None:
        if attempt_id in self.ids:
            return
        # a withdrawal only saves work, so an old one may be forgotten
        if len(self.ids) >= _MOST:
            del self.ids[next(iter(self.ids))]
        self.ids[attempt_id] = None
        self._on_withdrawn(attempt_id)


class Withdrawals:
    """Each agent says by `watch` what it wants to hear, before anything is read.

    `since_ms`: all that was said since this time of the broker's is known.
    """

    def __init__(self, broker: Broker, topic: str, *, log: Any) -> None:
        self._broker = broker
        self._topic = topic
        self._agents: dict[str, Withdrawn] = {}
        self._log: structlog.stdlib.BoundLogger = log
        self.since_ms: float = float("inf")
        self._next: dict[TopicPartition, int] = {}  # where the following goes on
        self._reading = asyncio.Lock()
        self._is_followed = asyncio.Event()

    def watch(self, agent: str, on_withdrawn: Callable[[str], None]) -> Withdrawn:
        self._agents[agent] = found = Withdrawn(on_withdrawn)
        return found

    def doubt(self) -> None:
        """Note that this process was away, and may have missed withdrawals."""
        self.since_ms = float("inf")

    async def catch_up(self, at_ms: int) -> None:
        """Read all that was said since `at_ms`.

        A broker that can't be asked, or has no such topic, holds nothing up.
        """
        async with self._reading:
            if self.since_ms <= at_ms:
                return
            since_ms = max(0, at_ms - _BACK_MS)
            try:
                await self._read_since(since_ms)
            except (BrokerUnavailable, TopicMissing) as error:
                self._log.warning("withdrawals_unread", error=str(error))
                return
            self.since_ms = since_ms

    async def _read_since(self, since_ms: int) -> None:
        info = (await self._broker.topics()).get(self._topic)
        if info is None:
            return
        partitions = [TopicPartition(self._topic, p) for p in range(info.partitions)]
        ends = await self._broker.end_offsets(partitions)
        starts = await self._broker.offsets_at(partitions, since_ms)
        left = {at for at in partitions if starts[at] < ends[at]}
        if left:
            reader = await self._broker.reader()
            try:
                await self._read_up_to(reader, {at: starts[at] for at in left}, {at: ends[at] for at in left})
            finally:
                await reader.close()
        # Only the first reading says where following begins; later ones read what is older.
        if not self._next:
            self._next = dict(ends)
            self._is_followed.set()

    async def _read_up_to(
        self, reader: Reader, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> None:
        """Read up to these ends, or for as long as anything comes."""
        reader.assign(positions)
        while any(positions[at] < end for at, end in ends.items()):
            records = await reader.poll(max_records=1000, timeout_s=_POLL_S)
            # the last places may hold no record
            if not records:
                return
            for record in records:
                positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                self._take(record)

    async def run(self) -> None:
        """Follow the topic, from the first task on, until cancelled."""
        await self._is_followed.wait()
        while True:
            try:
                await self._follow()
            except (BrokerUnavailable, TopicMissing) as error:
                self._log.warning("withdrawals_unread", error=str(error), retry_in_s=_AGAIN_S)
                await asyncio.sleep(_AGAIN_S)

    async def _follow(self) -> None:
        reader = await self._broker.reader()
        try:
            reader.assign(self._next)
            while True:
                for record in await reader.poll(max_records=1000, timeout_s=_POLL_S):
                    self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
                    self._take(record)
        finally:
            await reader.close()

    def _take(self, record: Record) -> None:
        try:
            withdrawal = decode_withdrawal(record)
        except MalformedRecord as error:
            self._log.warning("withdrawal_malformed", error=str(error))
            return
        if (agent := self._agents.get(withdrawal.agent)) is not None:
            agent.add(withdrawal.attempt_id)

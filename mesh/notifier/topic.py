"""The topic of notices, as a notifier reads and writes it.

Owns how the file follows the topic, and that what is written is there before anything rests on it.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Final

import structlog

from mesh.codec.notices import Notice, decode_notice, encode_notice
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, TopicMissing
from mesh.notifier.file import KEPT_MS, NoticeFile, Position, record_digest
from mesh.ports import Broker, Clock, Reader, Record, TopicPartition
from mesh.services.reading import read_up_to

RETRY_S: Final = 1.0

_log = structlog.get_logger()


class NoticeTopic:
    """`to_look_at`: says which of the approvals of which something was sent are to be looked at."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        file: NoticeFile,
        clock: Clock,
        to_look_at: Callable[[Collection[str]], Collection[str]],
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._file = file
        self._clock = clock
        self._to_look_at = to_look_at
        self._reader: Reader | None = None
        self._partitions: list[TopicPartition] = []

    async def start(self) -> None:
        """Find out where to read on. Raises `BrokerUnavailable`, and `TopicMissing`."""
        info = (await self._broker.topics()).get(self._topics.notices)
        if info is None:
            raise TopicMissing(f"topic {self._topics.notices} is not there: run `mesh topics apply`")
        self._partitions = [TopicPartition(self._topics.notices, number) for number in range(info.partitions)]
        self._reader = self._reader or await self._broker.reader()
        if not await self._is_same():
            self._file.clear()
        self._assign()
        self._file.forget_before(self._clock.now_ms() - KEPT_MS)

    def _assign(self) -> None:
        known = self._file.positions()
        starts = {at: known[at.partition].next_offset if at.partition in known else 0 for at in self._partitions}
        self._open_reader.assign(starts)

    @property
    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise RuntimeError("the topic of notices is not started")
        return self._reader

    async def _is_same(self) -> bool:
        """Whether the broker still has what the file has read, as its last records show."""
        known = self._file.positions()
        last = {at: known[at.partition] for at in self._partitions if at.partition in known}
        ends = await self._broker.end_offsets(self._partitions)
        begins = await self._broker.begin_offsets(self._partitions)
        if any(position.next_offset > ends[at] for at, position in last.items()):
            return False
        # what is too old is gone, and says nothing
        wanted = {at: one.next_offset for at, one in last.items() if one.next_offset > begins[at]}
        if not wanted:
            return True
        self._open_reader.assign({at: offset - 1 for at, offset in wanted.items()})
        async for records in read_up_to(self._open_reader, wanted):
            for record in records:
                at = TopicPartition(record.topic, record.partition)
                if record.offset == wanted[at] - 1 and _digest(record) != last[at].last_digest:
                    return False
        return True

    async def catch_up(self) -> None:
        """Take in all that the topic has now."""
        ends = await self._broker.end_offsets(self._partitions)
        async for records in read_up_to(self._open_reader, ends):
            ordered = sorted(records, key=lambda one: (one.partition, one.offset))
            for partition, batch in groupby(ordered, key=lambda one: one.partition):
                self._take(partition, list(batch))

    def _take(self, partition: int, records: Sequence[Record]) -> None:
        notices = []
        for record in records:
            try:
                notices.append(decode_notice(record))
            except MalformedRecord as error:
                _log.warning("notice_unreadable", error=str(error))
        position = Position(records[-1].offset + 1, _digest(records[-1]))
        sent = dict.fromkeys(one.approval_id for one in notices if one.status == "sent" and one.approval_id)
        self._file.take(partition, position, notices, self._to_look_at(list(sent)))

    async def write(self, notices: Sequence[Notice]) -> list[Notice]:
        """Send these, as often as it takes. Returns those that the broker refuses."""
        now_ms = self._clock.now_ms()
        records = [encode_notice(one, topics=self._topics, at_ms=now_ms) for one in notices]
        while True:
            try:
                failures = await self._broker.send(records)
                break
            except BrokerUnavailable as error:
                _log.warning("notices_not_written", notices=len(records), error=str(error))
                await asyncio.sleep(RETRY_S)
        for failure in failures:
            _log.error("notice_refused", notice_id=notices[failure.index].id, error=failure.message)
        return [notices[failure.index] for failure in failures]

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()


def _digest(record: Record) -> bytes:
    return record_digest(record.key, record.value, record.timestamp_ms)

"""A topic that is read whole: all that is there, and then what was written since.

Owns how far it was read. What the records mean is its caller's: `mesh.services.definitions` and
`mesh.services.people`.
"""

import asyncio
from collections.abc import Callable, Mapping

from mesh.errors import TopicMissing
from mesh.ports import Broker, Reader, Record, TopicPartition
from mesh.services.reading import read_up_to


class WholeTopic:
    """`take` gets each record once, in the order of its partition."""

    def __init__(self, broker: Broker, topic: str, take: Callable[[Record], None]) -> None:
        self._broker = broker
        self._topic = topic
        self._take = take
        self._reader: Reader | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Read all that is there. Called again after `BrokerUnavailable`, it continues.

        Raises `TopicMissing` too.
        """
        info = (await self._broker.topics()).get(self._topic)
        if info is None:
            raise TopicMissing(f"topic {self._topic} is not there: run `mesh topics apply`")
        if self._reader is None:
            reader = await self._broker.reader()
            self._positions = {TopicPartition(self._topic, p): 0 for p in range(info.partitions)}
            reader.assign(self._positions)
            self._reader = reader
        await self.refresh()

    async def refresh(self) -> None:
        """Read up to the topic's current end: one call to the broker if nothing is new."""
        async with self._reading:
            ends = await self._broker.end_offsets(list(self._positions))
            behind = [at for at, end in ends.items() if self._positions[at] < end]
            if behind:
                # what was dropped before it was read will never come
                for at, begin in (await self._broker.begin_offsets(behind)).items():
                    self._positions[at] = max(self._positions[at], begin)
                await self._read_up_to({at: end for at, end in ends.items() if self._positions[at] < end})
                # the last offsets may hold no record, and would look unread each time
                self._positions = {at: max(self._positions[at], end) for at, end in ends.items()}

    async def _read_up_to(self, ends: Mapping[TopicPartition, int]) -> None:
        if self._reader is None:
            raise RuntimeError(f"the reader of {self._topic} is not started")
        async for records in read_up_to(self._reader, ends):
            for record in records:
                self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                self._take(record)

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()

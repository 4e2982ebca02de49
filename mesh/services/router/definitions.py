"""Route versions by digest: read from `mesh.definitions`, and stored there before their first use.

A running workflow stays on the digest it started with, so versions are never deleted, and every router can look up any of them.
"""

from collections.abc import Iterable

import structlog

from mesh.codec.definitions import decode_definition, encode_definition
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, TopicMissing
from mesh.ports import Broker, Reader, TopicPartition

__all__ = ["Definitions"]

_log = structlog.get_logger()
_READ_TIMEOUT_S = 30.0


class Definitions:
    """All versions known so far. `get` is a look-up in memory; `refresh` reads what others have stored since."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self._broker = broker
        self._topics = topics
        self._routes: dict[str, Route] = {}
        self._reader: Reader | None = None
        self._positions: dict[TopicPartition, int] = {}

    def get(self, digest: str) -> Route | None:
        return self._routes.get(digest)

    async def start(self, routes: Iterable[Route]) -> None:
        """Read all that is stored, and store those of `routes` that are not."""
        info = (await self._broker.topics()).get(self._topics.definitions)
        if info is None:
            raise TopicMissing(f"topic {self._topics.definitions} is not there: run `mesh topics apply`")
        self._reader = await self._broker.reader()
        self._positions = {TopicPartition(self._topics.definitions, p): 0 for p in range(info.partitions)}
        self._reader.assign(self._positions)
        await self.refresh()
        new = [route for route in routes if route.digest not in self._routes]
        failures = await self._broker.send([encode_definition(route, self._topics) for route in new])
        if failures:
            raise TopicMissing(f"route {new[failures[0].index].name} could not be stored: {failures[0].message}")
        self._routes.update((route.digest, route) for route in new)

    async def refresh(self) -> None:
        """Read up to the topic's end as of now."""
        if self._reader is None:
            raise RuntimeError("definitions are not started")
        ends = await self._broker.end_offsets(list(self._positions))
        begins = await self._broker.begin_offsets(list(self._positions))
        for partition, begin in begins.items():
            self._positions[partition] = max(self._positions[partition], begin)
        while any(self._positions[tp] < end for tp, end in ends.items()):
            records = await self._reader.poll(max_records=1_000, timeout_s=_READ_TIMEOUT_S)
            if not records:
                raise BrokerUnavailable(f"{self._topics.definitions} can't be read to its end; is the broker well?")
            for record in records:
                self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                try:
                    route = decode_definition(record)
                except MalformedRecord as error:
                    _log.warning("definition_unreadable", error=str(error))
                    continue
                if route is not None:
                    self._routes[route.digest] = route

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()

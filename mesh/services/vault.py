"""The vault: keys of private workflows as `mesh.keys` has them, and the log opened with them.

Owns when the topic is read. A key is on the broker before anything is sealed with it. So a reader
that meets a record whose key it does not know reads the topic up to its end: what is not there then
is erased. Nothing is read before the first sealed record.
"""

from collections.abc import Sequence

import structlog

from mesh.codec.sealing import Key, decode_key, is_sealed, key_of, opened
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, TopicMissing
from mesh.ports import Broker, Record
from mesh.services.whole_topic import WholeTopic

_log = structlog.get_logger()


class Vault:
    """`keys`: all that were read so far and are not deleted, by name."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.keys: dict[str, Key] = {}
        self._topic = WholeTopic(broker, topics.keys, self._take)

    async def open(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records, with sealed ones opened as far as their keys are there.

        Raises `BrokerUnavailable`, and `UnknownFormat` for a seal that its own key does not open.
        """
        if not any(map(is_sealed, records)):
            return records
        names = [key_of(record) for record in records if is_sealed(record)]
        if any(name and name not in self.keys for name in names):
            await self.refresh()
        return [opened(record, self.keys) if is_sealed(record) else record for record in records]

    def of(self, workflow_id: str) -> list[str]:
        """The ids of a workflow's keys, as far as the topic was read."""
        return sorted(key.id for key in self.keys.values() if key.workflow_id == workflow_id)

    async def refresh(self) -> None:
        """Read what the topic has by now. Raises `BrokerUnavailable`."""
        try:
            await self._topic.start()
        except TopicMissing:
            # a mesh of an older version has none, and nothing that is sealed
            _log.debug("no_topic_of_keys")

    async def close(self) -> None:
        await self._topic.close()

    def _take(self, record: Record) -> None:
        try:
            found = decode_key(record)
        except MalformedRecord as error:
            _log.warning("key_unreadable", reason=str(error))
            return
        if isinstance(found, Key):
            self.keys[found.name] = found
        else:
            self.keys.pop(found, None)

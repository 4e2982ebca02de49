"""The addresses of people, as `mesh.approvals.people` has them.

Owns reading them; `mesh.services.people` reads the versions of the people on the same topic.
"""

import structlog

from mesh.codec.channels import Channel, channel_of, decode_channel
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Broker, Record
from mesh.services.whole_topic import WholeTopic

_log = structlog.get_logger()


class ChannelReader:
    """All addresses known so far, by person. `refresh` reads what has been written since.

    `changes`: grows with each record that was read.
    """

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.channels: dict[str, Channel] = {}
        self.changes = 0
        self._topic = WholeTopic(broker, topics.people, self._take)

    async def start(self) -> None:
        """Read all that is there. Raises `BrokerUnavailable` and `TopicMissing`."""
        await self._topic.start()

    async def refresh(self) -> None:
        """Read up to the topic's current end: one call to the broker if nothing is new."""
        await self._topic.refresh()

    async def close(self) -> None:
        await self._topic.close()

    def _take(self, record: Record) -> None:
        person = channel_of(record)
        if not person:
            return
        self.changes += 1
        try:
            channel = decode_channel(record)
        except MalformedRecord as error:
            _log.warning("channel_unreadable", person=person, error=str(error))
            channel = None
        if channel is None:
            self.channels.pop(person, None)
        else:
            self.channels[person] = channel

"""A mesh that takes records of `mesh.events` as foreign producers write them.

Each event of one of its types starts a workflow of its own.
"""

from mesh.codec.dead_letters import DeadLetter, decode_dead_letter
from mesh.core.events import WorkflowStarted
from mesh.ports import OutRecord, Record, TopicPartition
from mesh.testing import MeshKit

TYPES = (
    "sdk.made",
    "order.placed",
    "my.type",
    "com.dapr.event.sent",
    "io.debezium.connector.postgresql.DataChangeEvent",
)


class EventMesh:
    def __init__(self, kit: MeshKit) -> None:
        self.kit = kit
        for number, kind in enumerate(TYPES):
            kit.route(
                {"route": f"r{number}", "on": {"type": kind}, "steps": {"seen": {"value": "${{ event.source }}"}}}
            )
        kit._open()

    def send(self, *records: Record) -> None:
        """Send the records as they are, and let everything happen that follows."""
        topic = self.kit.stage.topics.events
        out = [OutRecord(topic=topic, key=one.key, value=one.value, headers=one.headers) for one in records]
        self.kit.act(self.kit.stage.send(out))

    def started(self) -> list[str]:
        """The ids of the events that started workflows, in the order of the log."""
        return [
            event.cloud_event["id"]
            for heard in self.kit.stage.heard
            for event in heard.decision.events
            if isinstance(event, WorkflowStarted)
        ]

    def letters(self) -> list[DeadLetter]:
        found: list[DeadLetter] = []

        async def read() -> None:
            topic, broker = self.kit.stage.topics.dlq, self.kit.stage.broker
            reader = await broker.reader()
            partitions = (await broker.topics())[topic].partitions
            ends = await broker.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
            reader.assign(dict.fromkeys(ends, 0))
            while len(found) < sum(ends.values()):
                found.extend(map(decode_dead_letter, await reader.poll(max_records=100, timeout_s=1.0)))
            await reader.close()

        self.kit.act(read())
        return sorted(found, key=lambda letter: (letter.original.partition, letter.original.offset))

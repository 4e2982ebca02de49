"""A memory cluster that reports every record as it lands, and watches what a router does.

Owns the hooks alone; `mesh.testing.promises.judge` judges by them. `world` uses it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.core.topics import Topics
from mesh.ports import Appended, OutRecord, Record, SendFailure, TopicPartition
from mesh.testing.promises.judge import Promises


class WatchedCluster(MemoryCluster):
    """`on_landed` is called with each record before anybody else can see it."""

    def __init__(self, *arguments: Any, on_landed: Callable[[Record], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_landed = on_landed

    def land(self, at: TopicPartition, records: Sequence[OutRecord]) -> int:
        first = super().land(at, records)
        partition = self.partition(at)
        for record in partition.read(first, len(records))[0] if partition else ():
            self._on_landed(record)
        return first


class RouterConnection(MemoryBroker):
    """A router's connection.

    It remembers where this router's claims are in the log, and so what the router knew when it
    sends a task.
    """

    def __init__(self, cluster: WatchedCluster, client_id: str, *, topics: Topics, promises: Promises) -> None:
        super().__init__(cluster, client_id)
        self._topics = topics
        self._promises = promises
        # partition -> offset of the last claim that was acknowledged
        self._claims: dict[int, int] = {}

    async def append(
        self,
        log: TopicPartition,
        expected_offset: int | None,
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],
    ) -> Appended:
        appended = await super().append(log, expected_offset, decisions, effects)
        if expected_offset is None and appended.spans:
            self._claims[log.partition] = appended.spans[0][0]
        return appended

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        if not self.is_killed:
            for record in records:
                self._check_task(record)
        return await super().send(records)

    def _check_task(self, record: OutRecord) -> None:
        """Check that no task goes out for a step that the router must know to be settled.

        The router read the log up to its claim when it took over.
        """
        if not record.topic.startswith(self._topics.tasks("")):
            return
        attempt = (record.key or b"").decode()
        settled = self._promises.settled_at(attempt)
        claim = self._claims.get(self._promises.partition_of(attempt), -1)
        if settled is not None and settled < claim:
            self._promises.find(
                f"{self.client_id} sends {attempt} again, which nobody waited for at log offset {settled}, before its claim at {claim}"
            )

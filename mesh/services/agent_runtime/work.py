"""A task in this process's hands, and the share of the topic that it came with.

Owns `Work` and `AssignedPartition`, mutable records that the runtime's parts pass around; all of
them run in one event loop.
"""

import asyncio
from typing import Any

from mesh.codec.tasks import Task
from mesh.ports import Committed, Record, TopicPartition
from mesh.services.agent_runtime.offsets import TaskOffsets


class AssignedPartition:
    """One partition, for as long as it is ours.

    `working`: begun and not yet settled, by offset. `adopted`: begun in an earlier tenure of ours
    and not read again in this one. `is_released`: it is another member's now; what waits is
    dropped, what runs may still end. `is_seen`: the subscription named it since.
    """

    __slots__ = ("adopted", "is_released", "is_seen", "offsets", "partition", "released_at_s", "working")

    def __init__(self, partition: TopicPartition, committed: Committed | None) -> None:
        self.partition = partition
        self.offsets = TaskOffsets(committed)
        self.working: dict[int, Work] = {}
        self.adopted: dict[int, Work] = {}
        self.is_released = False
        self.is_seen = False
        self.released_at_s = 0.0

    def let_go(self, now_s: float) -> None:
        """It is no longer ours.

        What runs on is kept in `adopted`, in case the partition comes back.
        """
        self.is_released = True
        self.released_at_s = now_s
        self.adopted |= self.working

    def adopt(self, earlier: "AssignedPartition") -> None:
        """Take over what runs, or has ended, of our own earlier tenure, so that it is not begun a
        second time.
        """
        for offset, work in earlier.adopted.items():
            work.share = self
            if not work.is_settled:
                self.working[offset] = work
        self.adopted = earlier.adopted

    def begin(self, record: Record) -> "Work | None":
        """The work to do for a record just read; None if it is done, or on its way."""
        if not self.offsets.begin(record.offset):
            return None
        earlier = self.adopted.pop(record.offset, None)
        if earlier is None:
            return Work(self, record)
        if earlier.is_settled:
            self.offsets.finish(record.offset)
        return None


class Work:
    """One task.

    `is_over`: its end is decided, so whatever its handler still does has no effect. `is_settled`:
    nothing is owed any more.
    """

    __slots__ = (
        "deadline_ms",
        "is_over",
        "is_settled",
        "record",
        "runner",
        "share",
        "started_s",
        "task",
        "time_out_kind",
        "usage",
    )

    def __init__(self, share: AssignedPartition, record: Record) -> None:
        self.share = share
        self.record = record
        self.task: Task | None = None  # once it is begun
        self.runner: asyncio.Task[Any] | None = None  # the worker, while the handler runs
        self.deadline_ms = 0.0
        self.time_out_kind = "timeout"  # what it is to miss it
        self.started_s = 0.0
        self.is_over = False
        self.is_settled = False
        self.usage: dict[str, float] = {}  # what its handler says that it took

    @property
    def place(self) -> str:
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"

"""What was read of a partition's input topics and is not decided yet.

Owns the two queues and how far the topics are read. It decides nothing, and knows nothing of what a
record holds. The router fills it, and the owner takes from it, results first.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from mesh.core.state import PartitionState
from mesh.core.topics import Topics
from mesh.ports import Record, TopicPartition


class InputQueues:
    """`read`: the next offset to read, by topic. `in_order`: the queues, results first.

    `passed`: the position of the reader, by topic: behind offsets that hold no record, too.
    """

    __slots__ = ("_inbox", "_partition", "_results", "_results_topic", "in_order", "passed", "read")

    def __init__(self, partition: int, topics: Topics) -> None:
        self.read: dict[str, int] = {}
        self.passed: dict[str, int] = {}
        self._partition = partition
        self._results_topic = topics.results
        self._results: deque[Record] = deque()
        self._inbox: deque[Record] = deque()
        self.in_order: Final = (self._results, self._inbox)

    def __len__(self) -> int:
        return len(self._results) + len(self._inbox)

    def of(self, topic: str) -> deque[Record]:
        return self._results if topic == self._results_topic else self._inbox

    def offer(self, record: Record) -> None:
        """Take the next record of an input topic."""
        self.read[record.topic] = record.offset + 1
        (self._results if record.topic == self._results_topic else self._inbox).append(record)

    def heads(self) -> list[Record]:
        """The next record of each topic that has one."""
        return [queue[0] for queue in self.in_order if queue]

    def note_positions(self, position: Callable[[TopicPartition], int]) -> None:
        """The reader is at `position`, and what it has brought was offered."""
        self.passed = {topic: position(TopicPartition(topic, self._partition)) for topic in self.read}

    def decided_up_to(self, topic: str, positions: Mapping[str, int]) -> int:
        """The offset below which nothing of an input topic is undecided.

        It is where the reader is, once all that it has brought has its decision.
        """
        position = positions.get(topic, 0)
        return position if self.of(topic) else max(position, self.passed.get(topic, 0))


def pass_by(record: Record, state: PartitionState) -> None:
    """Note that this record has its decision, or needs none."""
    # replaced and never changed, so that those of before can be put back
    state.positions = {**state.positions, record.topic: record.offset + 1}

"""A task in this process's hands, and the share of the topic that it came with.

Owns `Work` and `AssignedPartition`, mutable records that the runtime's parts pass around; all of
them run in one event loop.
"""

import asyncio
from collections import deque
from typing import Any

from mesh.codec.tasks import Task
from mesh.ports import Committed, Record, TopicPartition
from mesh.services.agent_runtime.begins import Begins, Life, Tenure, kept_of, may_keep, tenure_of
from mesh.services.agent_runtime.offsets import TaskOffsets


class AssignedPartition:
    """One partition, for as long as it is ours.

    `working`: begun and not yet settled, by offset. `adopted`: begun in an earlier tenure of ours
    and not read again in this one. `beyond`: read, and not below the begin line yet; `unnamed`:
    with deaths, and not named yet. `dead`: the tenure of a process that died with the partition.
    `kept`: tasks that a former owner goes on with, and whose life that is; `waiting`: those of them
    that were read here. `keeps`: tasks that our card says we go on with, also once the partition is
    ours again: a commit of an earlier tenure may name them. `promised`: those that such a commit of
    ours may name.
    `is_released`: it is another member's now; what waits is dropped, what runs may still end.
    `is_seen`: the subscription named it since.
    """

    __slots__ = (
        "adopted",
        "begins",
        "beyond",
        "dead",
        "is_released",
        "is_seen",
        "keeps",
        "kept",
        "offsets",
        "partition",
        "promised",
        "released_at_s",
        "unnamed",
        "waiting",
        "working",
    )

    def __init__(self, partition: TopicPartition, committed: Committed | None, life: Life) -> None:
        first, text = committed if committed is not None else (0, "")
        found = tenure_of(first, text)
        self.partition = partition
        self.offsets = TaskOffsets(committed)
        self.begins = Begins(first, life, found)
        # our own tenure, lost and back again, tells of no death
        self.dead: Tenure | None = found if found is not None and found.life != life.text else None
        self.beyond: deque[Work] = deque()
        self.unnamed: dict[int, Work] = {}
        self.working: dict[int, Work] = {}
        self.adopted: dict[int, Work] = {}
        self.kept: dict[int, str] = kept_of(first, text)
        self.waiting: dict[int, Work] = {}
        self.keeps: set[int] = set()
        self.promised: frozenset[int] = frozenset()
        self.is_released = False
        self.is_seen = False
        self.released_at_s = 0.0

    def let_go(self, now_s: float) -> None:
        """Note that the partition is no longer ours.

        What runs on is kept in `adopted`, in case the partition comes back.
        """
        self.is_released = True
        self.released_at_s = now_s
        self.adopted |= self.working

    def adopt(self, earlier: "AssignedPartition") -> None:
        """Take over what runs, or has ended, of our own earlier tenure.

        So it is not begun a second time.
        """
        for offset, work in earlier.adopted.items():
            work.share = self
            if not work.is_settled:
                self.working[offset] = work
                # begun in this tenure too: if we die now, the next owner must know of it
                self.begins.begin(offset)
                if work.task is not None and work.task.deaths:
                    self.begins.want(offset)
        self.adopted = earlier.adopted
        # Until a task's result is at the broker: a member that reads a commit of that tenure would
        # take a task that our card does not list for done.
        self.keeps |= earlier.keeps
        self.promised = frozenset(self.keeps)

    def keep(self, life: Life) -> None:
        """We go on with what runs, although the partition goes to another member."""
        self.keeps |= set(may_keep(self.kept, self.working, life.text))

    def keep_nothing_new(self) -> None:
        """Go on only with what an earlier commit of ours may name."""
        self.keeps &= self.promised

    def all_kept(self, life: Life) -> dict[int, str]:
        """What a commit has to name as kept, ours and that of others."""
        return self.kept | dict.fromkeys(self.keeps, life.text)

    def may_have_begun(self, offset: int) -> bool:
        """Whether a process that died may have begun the task at `offset`.

        Offsets must be given in ascending order.
        """
        dead = self.dead
        if dead is None:
            return False
        # behind all that it may have begun; what follows need not be compared any more
        if offset >= dead.line and all(offset > named for named in dead.named):
            self.dead = None
            return False
        return offset < dead.line or offset in dead.named

    def take_ready(self) -> "list[Work]":
        """Take the works that waited to be allowed to begin, and now are."""
        ready = []
        while self.beyond and self.beyond[0].record.offset < self.begins.line:
            ready.append(self.beyond.popleft())
        if self.unnamed:
            ready += [self.unnamed.pop(offset) for offset in sorted(self.begins.named & self.unnamed.keys())]
        return ready

    def take_blocked(self) -> "list[Work]":
        """Take all works that still wait to be allowed to begin."""
        blocked = [*self.waiting.values(), *self.beyond, *self.unnamed.values()]
        self.waiting.clear()
        self.beyond.clear()
        self.unnamed.clear()
        return blocked

    def begin(self, record: Record) -> "Work | None":
        """The work to do for a record just read; None if it is done, or on its way."""
        if not self.offsets.begin(record.offset):
            self.kept.pop(record.offset, None)
            return None
        earlier = self.adopted.pop(record.offset, None)
        if earlier is None:
            return Work(self, record)
        # it is in our own hands, no matter who kept it
        self.kept.pop(record.offset, None)
        if earlier.is_settled:
            self.offsets.finish(record.offset)
        return None


class Work:
    """One task.

    `is_over`: its end is decided, so whatever its handler still does has no effect. `is_settled`:
    nothing more has to be done for it.
    """

    __slots__ = (
        "deadline_ms",
        "ended_s",
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
        self.ended_s = 0.0  # when its result was made; 0: it has none, or its handler ran on
        self.is_over = False
        self.is_settled = False
        self.usage: dict[str, float] = {}  # what its handler says that it took

    @property
    def place(self) -> str:
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"

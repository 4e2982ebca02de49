"""The partitions that this process holds of its agent's topic: what is begun, what is done, what is
committed.

Owns the group's listener and the commits. It must not know handlers or results. `runtime` gives it
the records that it polls, and every work comes back once: settled, or dropped undone.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from mesh.errors import BrokerUnavailable
from mesh.ports import Committed, Record, Subscription, TopicPartition
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.services.agent_runtime.work import AssignedPartition, Work


class Assignment:
    """`held`: works handed out and not come back.

    `abandon` is told of a work that another member has, or will have.
    """

    def __init__(self, settings: AgentSettings, *, abandon: Callable[[Work], None], log: Any) -> None:
        self.held = 0
        self.subscription: Subscription | None = None
        self._settings = settings
        self._abandon = abandon
        self._log: structlog.stdlib.BoundLogger = log
        self._shares: dict[TopicPartition, AssignedPartition] = {}
        self._orphans: dict[TopicPartition, AssignedPartition] = {}  # lost lately, with works that run on
        self._unsaved: dict[AssignedPartition, None] = {}  # in the order in which they came to it
        self._progress = asyncio.Event()
        self._commit_due = asyncio.Event()

    def take(self, records: Iterable[Record]) -> list[Work]:
        """The works for records just read; what is done or under way is passed over."""
        works: list[Work] = []
        for record in records:
            share = self._shares.get(TopicPartition(record.topic, record.partition))
            if share is None:  # handed out before the share was lost: its new owner reads it
                continue
            work = share.begin(record)
            if work is None:
                self._mark_unsaved(share)
            else:
                works.append(work)
        self.held += len(works)
        return works

    def settle(self, works: Sequence[Work]) -> None:
        """Nothing is owed for these any more: their results are at the broker, or none is needed."""
        for work in works:
            if work.is_settled:
                continue
            work.is_settled = True
            offset = work.record.offset
            work.share.working.pop(offset, None)
            if offset not in work.share.adopted:
                work.share.offsets.finish(offset)
            self._mark_unsaved(work.share)
            self.held -= 1
        self._progress.set()

    def drop(self, work: Work) -> None:
        """It is not done here: whoever has the partition next does it."""
        work.share.working.pop(work.record.offset, None)
        work.share.adopted.pop(work.record.offset, None)
        self.held -= 1
        self._progress.set()

    def nudge(self) -> None:
        """End a `wait_progress`."""
        self._progress.set()

    async def wait_progress(self, timeout_s: float) -> None:
        """Until a work comes back, or `timeout_s`."""
        self._progress.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._progress.wait()
        except TimeoutError:
            return

    # Membership -----------------------------------------------------------------------------------

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        for partition, committed in partitions.items():
            share = AssignedPartition(partition, committed)
            earlier = self._shares.pop(partition, None) or self._orphans.pop(partition, None)
            self._shares[partition] = share
            if earlier is not None:
                self._adopt(share, earlier)
        self._log.info("partitions_assigned", partitions=sorted(p.partition for p in partitions))

    def _adopt(self, share: AssignedPartition, earlier: AssignedPartition) -> None:
        earlier.let_go(_now_s())
        share.adopt(earlier)
        for work in list(share.working.values()):
            if share.offsets.is_done_elsewhere(work.record.offset):
                self._abandon(work)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        leaving = [self._shares[partition] for partition in partitions if partition in self._shares]
        for share in leaving:
            # its waiting tasks are dropped, its running ones may still end
            share.is_released = True
        until_s = _now_s() + self._settings.revoke_drain_s
        while any(share.working for share in leaving) and (left_s := until_s - _now_s()) > 0:
            await self.wait_progress(left_s)
        await self._commit(leaving)
        for share in leaving:
            self._let_go(share)
        self._log.info("partitions_revoked", partitions=sorted(p.partition for p in partitions))

    def reconcile(self, assignment: frozenset[TopicPartition]) -> None:
        """Let go of what was lost without a word (to a time-out), and of what did not come back in
        time after a revoke.
        """
        for share in list(self._shares.values()):
            if share.partition in assignment:
                share.is_seen = True
            elif share.is_seen:
                self._let_go(share)
        if self._orphans:
            self._expire_orphans(_now_s() - self._settings.session_timeout_s)

    def _let_go(self, share: AssignedPartition) -> None:
        share.let_go(_now_s())
        del self._shares[share.partition]
        self._unsaved.pop(share, None)
        if share.adopted:
            self._orphans[share.partition] = share

    def _expire_orphans(self, before_s: float) -> None:
        for share in [share for share in self._orphans.values() if share.released_at_s <= before_s]:
            del self._orphans[share.partition]
            for work in list(share.working.values()):
                self._abandon(work)

    # Commits --------------------------------------------------------------------------------------

    async def keep_committed(self) -> None:
        """Commit what is settled, at once after a pause and then at most every `commit_every_s`,
        until cancelled.
        """
        while True:
            await self._commit_due.wait()
            self._commit_due.clear()
            await self.commit()
            await asyncio.sleep(self._settings.commit_every_s)

    async def commit(self) -> None:
        shares, self._unsaved = self._unsaved, {}
        await self._commit([share for share in shares if not share.is_released])

    async def _commit(self, shares: Sequence[AssignedPartition]) -> None:
        if self.subscription is None or not shares:
            return
        try:
            await self.subscription.commit({share.partition: share.offsets.committed() for share in shares})
        except BrokerUnavailable as error:
            self._log.warning("commit_failed", error=str(error))
            for share in shares:
                self._mark_unsaved(share)

    def _mark_unsaved(self, share: AssignedPartition) -> None:
        if share.is_released:
            return
        self._unsaved[share] = None
        if not self._commit_due.is_set():
            self._commit_due.set()


def _now_s() -> float:
    return asyncio.get_running_loop().time()

"""The partitions that this process holds of its agent's topic.

For each: what may begin, what is begun, what is done, what is committed.

Owns the group's listener and the commits. It must not know handlers or results. `runtime` gives it
the records that it polls; it hands each on as a work when it may begin (`begins`), and every work
comes back once: settled, or dropped undone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from mesh.codec.tasks import decode_task
from mesh.errors import BrokerUnavailable, MalformedRecord
from mesh.ports import Committed, Record, Subscription, TopicPartition
from mesh.services.agent_runtime.begins import MARK, Life, Proposal, kept_text
from mesh.services.agent_runtime.keepers import Fate, Keepers
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.services.agent_runtime.work import AssignedPartition, Work


class Assignment:
    """`held`: works taken and not come back; `blocked_bytes`: of those that may not begin yet.

    `begin` gets the works that may begin, in order. `interrupt` gets one that a process had in its
    hands when it died, and the process's name. `abandon` gets a work that another member has,
    or will have. `keepers`: of tasks that former owners go on with. `tell_kept` says on our card
    what we go on with ourselves; false if the broker does not have it. `kept_less`: the card may
    say less.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        life: Life,
        concurrency: int,
        begin: Callable[[Sequence[Work]], None],
        interrupt: Callable[[Work, str], None],
        abandon: Callable[[Work], None],
        keepers: Keepers,
        tell_kept: Callable[[], Awaitable[bool]],
        kept_less: Callable[[], None],
        log: Any,
    ) -> None:
        self.held = 0
        self.blocked_bytes = 0
        self.subscription: Subscription | None = None
        self._settings = settings
        self._life = life
        self._concurrency = concurrency
        self._begin = begin
        self._interrupt = interrupt
        self._abandon = abandon
        self._keepers = keepers
        self._tell_kept = tell_kept
        self._kept_less = kept_less
        self._log: structlog.stdlib.BoundLogger = log
        self._shares: dict[TopicPartition, AssignedPartition] = {}
        self._orphans: dict[TopicPartition, AssignedPartition] = {}  # lost lately, with works that run on
        self._unsaved: dict[AssignedPartition, None] = {}  # in the order in which they came to it
        self.has_heard = False
        """Whether the group has told it of a share, even of none."""
        self._progress = asyncio.Event()
        self._commit_due = asyncio.Event()
        self._commit_urgent = asyncio.Event()
        self._committed_some = asyncio.Event()  # a fresh one after each commit

    def take(self, records: Iterable[Record]) -> None:
        """Take records just read.

        Hand on what may begin, keep what may not yet, and pass over what is done or under way.
        """
        works: list[Work] = []
        partition, share = -1, None
        for record in records:
            # all are of one topic, and those of one partition come together
            if record.partition != partition:
                partition = record.partition
                share = self._shares.get(TopicPartition(record.topic, partition))
            if share is None:  # handed out before the share was lost: its new owner reads it
                continue
            work = share.begin(record)
            if work is None:
                # what is done already may let the committed position move on
                self._mark_unsaved(share)
                continue
            self.held += 1
            if record.offset in share.kept and self._is_left_to_keeper(share, work):
                continue
            if share.dead is not None and self._was_interrupted(share, work):
                continue
            # While one waits for the line, all behind it wait too, so that none overtakes another.
            if record.offset < share.begins.line and not share.beyond:
                works.append(work)
            else:
                share.beyond.append(work)
                self.blocked_bytes += len(record.value or b"")
                self._hurry(share)
        self._begin(works)

    def _was_interrupted(self, share: AssignedPartition, work: Work) -> bool:
        """Whether a process died with this task in its hands; then its router hears of it."""
        dead = share.dead
        if dead is None or not share.may_have_begun(work.record.offset):
            return False
        return self._tell_interrupted(work, dead.instance, is_named=work.record.offset in dead.named)

    def _tell_interrupted(self, work: Work, instance: str, *, is_named: bool) -> bool:
        try:
            work.task = task = decode_task(work.record)
        except MalformedRecord:
            return False
        # An older router does not know the word, so its task just begins again. And a task with
        # deaths begins only once it is named: one that is not named was not begun (docs/adr/0012).
        if "interrupted" not in task.accepts or (task.deaths and not is_named):
            return False
        work.share.working[work.record.offset] = work
        self._interrupt(work, instance)
        return True

    # What others keep -----------------------------------------------------------------------------

    def _is_left_to_keeper(self, share: AssignedPartition, work: Work) -> bool:
        """Whether a former owner goes on with this one: then it waits here for its end."""
        offset = work.record.offset
        # we kept it ourselves, and it is not in our hands any more
        if share.kept[offset] == self._life.text:
            del share.kept[offset]
            # its result is at the broker; or we gave it up at our stop, and still say that we keep
            # it
            if offset in share.keeps:
                return False
            self.settle((work,))
            return True
        share.waiting[offset] = work
        self.blocked_bytes += len(work.record.value or b"")
        self._keepers.want(work.record.timestamp_ms)
        self._log.info("task_left_to_its_keeper", task_record=work.place, keeper=share.kept[offset])
        return True

    def look_after_kept(self) -> bool:
        """Go on with what its keeper does not keep any more; false if nothing waits."""
        shares = [share for share in self._shares.values() if share.waiting and not share.is_released]
        for share in shares:
            for offset, work in list(share.waiting.items()):
                life = share.kept[offset]
                fate = self._keepers.fate(life, _place(work))
                if fate != "kept":
                    del share.waiting[offset], share.kept[offset]
                    self._end_waiting(share, work, fate, keeper=life)
        return any(share.waiting for share in shares)

    def _end_waiting(self, share: AssignedPartition, work: Work, fate: Fate, *, keeper: str) -> None:
        size = len(work.record.value or b"")
        if fate == "ended":
            self.blocked_bytes -= size
            self.settle((work,))
        # it was begun for certain, so it counts as named
        elif fate == "dead" and self._tell_interrupted(work, keeper.rpartition("~")[0], is_named=True):
            self.blocked_bytes -= size
        else:
            # It begins behind a commit that does not name it as kept any more: if we die with it,
            # the next owner must take it for ours.
            share.beyond.appendleft(work)
            self._hurry(share)

    # What we keep ---------------------------------------------------------------------------------

    def kept_places(self) -> list[str]:
        """What we go on with, and a commit may name as kept: each as <partition>/<offset>."""
        shares = [*self._orphans.values(), *self._shares.values()]
        return [f"{share.partition.partition}/{offset}" for share in shares for offset in sorted(share.keeps)]

    async def _keep(self, leaving: Sequence[AssignedPartition]) -> None:
        """Say what we go on with, before anybody else can have the partition."""
        for share in leaving:
            share.keep(self._life)
        # Without the card nobody could tell when they end; then they run on for one session alone.
        if any(share.keeps for share in leaving) and not await self._tell_kept():
            for share in leaving:
                share.keep_nothing_new()

    def _end_keeping(self, work: Work) -> None:
        if work.record.offset in work.share.keeps:
            work.share.keeps.discard(work.record.offset)
            self._kept_less()

    def name(self, work: Work) -> bool:
        """Whether a task with deaths may begin: once it is named.

        If not, it is handed on again when it may.
        """
        share, offset = work.share, work.record.offset
        if offset in share.begins.named:
            return True
        share.unnamed[offset] = work
        self.blocked_bytes += len(work.record.value or b"")
        share.begins.want(offset)
        self._hurry(share)
        return False

    async def name_now(self, work: Work) -> bool:
        """Wait until a task with deaths is named; false if its partition is lost before."""
        share, offset = work.share, work.record.offset
        share.begins.want(offset)
        # asked for again after each commit: it may have failed, and what one can name is bounded
        while offset not in share.begins.named and not share.is_released:
            self._hurry(share)
            await self._committed_some.wait()
        return not share.is_released

    def near_line(self, work: Work) -> None:
        """Move the line soon, if this work, which has begun, came near it.

        Only while others wait for it: otherwise ordinary commits move it soon enough.
        """
        if work.share.begins.is_short(self._concurrency):
            self._hurry(work.share)

    def drop_blocked(self) -> None:
        """Give back what may not begin yet."""
        for share in self._shares.values():
            self._drop_blocked(share)

    def _drop_blocked(self, share: AssignedPartition) -> None:
        # those who wait in `name_now` must see that the partition is lost
        self._wake_named()
        for work in share.take_blocked():
            self.blocked_bytes -= len(work.record.value or b"")
            self.drop(work)

    def settle(self, works: Sequence[Work]) -> None:
        """Note that nothing more has to be done for these works.

        Their results are at the broker, or none is needed.
        """
        marked: AssignedPartition | None = None
        for work in works:
            if work.is_settled:
                continue
            work.is_settled = True
            share, offset = work.share, work.record.offset
            share.working.pop(offset, None)
            # one that ran on from an earlier tenure is not open here until its record is read again
            if offset not in share.adopted:
                share.offsets.finish(offset)
            if work.task is not None and work.task.deaths:
                share.begins.finish(offset)
            if share is not marked:
                self._mark_unsaved(share)
                marked = share
            if share.keeps:
                self._end_keeping(work)
            self.held -= 1
        self._progress.set()

    def drop(self, work: Work) -> None:
        """Give back work that is not done here. The next holder of the partition does it."""
        work.share.working.pop(work.record.offset, None)
        work.share.adopted.pop(work.record.offset, None)
        self.held -= 1
        self._progress.set()

    def nudge(self) -> None:
        """End a `wait_progress`."""
        self._progress.set()

    async def wait_progress(self, timeout_s: float) -> None:
        """Wait until work comes back, or for `timeout_s`."""
        self._progress.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._progress.wait()
        except TimeoutError:
            return

    # Membership -----------------------------------------------------------------------------------

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self.has_heard = True
        for partition, committed in partitions.items():
            share = AssignedPartition(partition, committed, self._life)
            earlier = self._shares.pop(partition, None) or self._orphans.pop(partition, None)
            self._shares[partition] = share
            if earlier is not None:
                self._drop_blocked(earlier)
                self._adopt(share, earlier)
            # its first commit says whose tenure it is, and only then anything may begin
            self._mark_unsaved(share)
        self._log.info("partitions_assigned", partitions=sorted(p.partition for p in partitions))

    def _adopt(self, share: AssignedPartition, earlier: AssignedPartition) -> None:
        earlier.let_go(_now_s())
        share.adopt(earlier)
        for work in list(share.working.values()):
            # another member had the partition in between, and its result is at the broker
            if share.offsets.is_done_elsewhere(work.record.offset):
                self._abandon(work)
                self._end_keeping(work)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        leaving = [self._shares[partition] for partition in partitions if partition in self._shares]
        for share in leaving:
            # its waiting tasks are dropped, its running ones may still end
            share.is_released = True
            self._drop_blocked(share)
        until_s = _now_s() + self._settings.revoke_drain_s
        while any(share.working for share in leaving) and (left_s := until_s - _now_s()) > 0:
            await self.wait_progress(left_s)
        await self._keep(leaving)
        # The tenure ends in good order, so the next holder takes nothing of
        # it for a death (docs/adr/0012).
        await self._commit(leaving, is_end=True)
        for share in leaving:
            self._let_go(share)
        self._log.info("partitions_revoked", partitions=sorted(p.partition for p in partitions))

    def reconcile(self, assignment: frozenset[TopicPartition]) -> None:
        """Let go of partitions that were lost without notice.

        Also of work that is late after a revoke.
        """
        for share in list(self._shares.values()):
            if share.partition in assignment:
                share.is_seen = True
            elif share.is_seen:
                self._let_go(share)
        if self._orphans:
            self._expire_orphans(_now_s() - self._settings.session_timeout_s)

    async def confirm(self) -> None:
        """Ask the broker what is ours as of now, and let go of what is not.

        Raises `BrokerUnavailable`.
        """
        if self.subscription is None:
            return
        ours = await self.subscription.confirm()
        lost = [share for partition, share in self._shares.items() if partition not in ours]
        for share in lost:
            self._let_go(share)
        self._log.info("membership_confirmed", lost=sorted(share.partition.partition for share in lost))

    def _let_go(self, share: AssignedPartition) -> None:
        share.let_go(_now_s())
        self._drop_blocked(share)
        # it may have come back meanwhile, as a new share
        if self._shares.get(share.partition) is share:
            del self._shares[share.partition]
        self._unsaved.pop(share, None)
        if share.adopted or share.keeps:
            self._orphans[share.partition] = share

    def _expire_orphans(self, before_s: float) -> None:
        # not back within a session: another member has these tasks by now
        for share in [share for share in self._orphans.values() if share.released_at_s <= before_s]:
            if not share.keeps:
                del self._orphans[share.partition]
            for offset, work in list(share.working.items()):
                if offset not in share.keeps:
                    self._abandon(work)

    # Commits --------------------------------------------------------------------------------------

    async def keep_committed(self) -> None:
        """Commit what is settled, until cancelled.

        At once after a pause, and then at most every `commit_every_s`.
        """
        while True:
            await self._commit_due.wait()
            # before the commit: what is settled meanwhile asks for the next one
            self._commit_due.clear()
            self._commit_urgent.clear()
            is_well = await self.commit()
            if is_well:
                await self._pause(self._settings.commit_every_s)
            else:
                # the whole pause, however urgent: asking more often does not bring a broker back
                await asyncio.sleep(self._settings.commit_every_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait until something waits to be allowed to begin, but at most one pause."""
        try:
            async with asyncio.timeout(pause_s):
                await self._commit_urgent.wait()
        except TimeoutError:
            return

    async def commit(self) -> bool:
        """False if it has to be done again."""
        # what is settled while this commit is under way belongs to the next one
        shares, self._unsaved = self._unsaved, {}
        try:
            return await self._commit([share for share in shares if not share.is_released])
        finally:
            self._wake_named()

    def _wake_named(self) -> None:
        self._committed_some.set()
        self._committed_some = asyncio.Event()

    async def _commit(self, shares: Sequence[AssignedPartition], *, is_end: bool = False) -> bool:
        """What is done, and what may begin; at the end of a tenure nothing may."""
        if self.subscription is None or not shares:
            return True
        proposals = {} if is_end else {share: self._propose(share) for share in shares}
        offsets = {share.partition: self._committed(share, proposals.get(share)) for share in shares}
        try:
            stands = await self.subscription.commit(offsets)
        except BrokerUnavailable as error:
            self._log.warning("commit_failed", error=str(error))
            for share in shares:
                self._mark_unsaved(share)
            # What it names as kept stays on our card: the broker may have the commit nevertheless.
            return False
        if is_end:
            for share in shares:
                # the group did not take it, so nobody knows what we would keep
                if share.partition not in stands:
                    share.keep_nothing_new()
        is_well = True
        for share, proposal in proposals.items():
            # Only once the broker has it: a task that begins before that
            # could kill us without a trace.
            if share.partition in stands and not share.is_released:
                self._accept(share, proposal)
            elif share.beyond or share.unnamed:
                self._mark_unsaved(share)
                is_well = False
        return is_well

    def _propose(self, share: AssignedPartition) -> Proposal:
        waiting = share.beyond[0].record.offset if share.beyond else 0
        return share.begins.propose(self._concurrency, waiting)

    def _committed(self, share: AssignedPartition, proposal: Proposal | None) -> Committed:
        """`proposal`: what may begin; None at the end of a tenure."""

        def said(offset: int) -> str:
            begins = "" if proposal is None else share.begins.text(offset, proposal)
            # within a tenure its line says what we may have begun
            kept = kept_text(offset, share.kept if proposal is not None else share.all_kept(self._life))
            return begins + (";" if begins else MARK) + kept if kept else begins

        return share.offsets.committed(said)

    def _accept(self, share: AssignedPartition, proposal: Proposal) -> None:
        share.begins.accept(proposal)
        ready = share.take_ready()
        if ready:
            self.blocked_bytes -= sum(len(work.record.value or b"") for work in ready)
            self._begin(ready)
        if share.unnamed or (share.beyond and share.begins.is_short(self._concurrency)):
            self._hurry(share)

    def _hurry(self, share: AssignedPartition) -> None:
        """Commit as soon as can be: something waits for it."""
        self._mark_unsaved(share)
        if not self._commit_urgent.is_set():
            self._commit_urgent.set()

    def _mark_unsaved(self, share: AssignedPartition) -> None:
        if share.is_released:
            return
        self._unsaved[share] = None
        if not self._commit_due.is_set():
            self._commit_due.set()


def _place(work: Work) -> str:
    return f"{work.record.partition}/{work.record.offset}"


def _now_s() -> float:
    return asyncio.get_running_loop().time()

"""One member of a consumer group: it keeps its lease, takes and gives partitions, and reads.

Owns the member's own view, and calls its listener. `groups` has the view of the file.

One background task does the membership; `poll` only reads. A member that was stopped past its lease
finds its row gone. It drops what it held without calling the listener, since another member may
have it already, and joins again.

    joined ── share grows ──> claim ── on_assigned ──> read
       │  └── share shrinks ─> on_revoked ── release
       └── row gone ─────────> drop all ── join again
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import Final

import structlog

from mesh.adapters.sqlite.groups import Me, Step
from mesh.adapters.sqlite.nudge import group_key
from mesh.adapters.sqlite.processes import this_process
from mesh.adapters.sqlite.readers import POLL_S, Feed, Waker
from mesh.adapters.sqlite.store import Store
from mesh.errors import BrokerUnavailable
from mesh.ports import Committed, GroupListener, Record, TopicPartition

_LOOK_S: Final = 0.5  # between looks at the other members' processes; a nudge comes before it
_RENEWALS: Final = 5  # in one session's time-out

_log = structlog.get_logger(__name__)


class SqliteSubscription:
    """`mesh.ports.Subscription` on the file. Made by `join`."""

    def __init__(
        self,
        store: Store,
        group_id: int,
        topics: Sequence[str],
        listener: GroupListener,
        *,
        member: str,
        fetch: bool,
        session_s: float,
    ) -> None:
        self._store = store
        self._listener = listener
        self._fetch = fetch
        self._me = Me(_fresh(member), group_id, member, tuple(topics), session_s, this_process())
        self._lease_until_s = 0.0
        self._held: dict[int, TopicPartition] = {}
        self._paused: frozenset[TopicPartition] = frozenset()
        self._feed = Feed(store)
        self._look = Waker()
        self._failure: BaseException | None = None
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Become a member, and begin to take part."""
        await self._join()
        self._store.nudges.listen(group_key(self._me.group_id), self._look.wake)
        self._task = asyncio.create_task(self._live(), name=f"sqlite group member {self._me.name}")

    async def _join(self) -> None:
        now_s = time.monotonic()
        await self._store.write(lambda: self._store.groups.join(self._me, now_s))
        self._lease_until_s = now_s + self._me.session_s
        self._nudge_group()

    def _nudge_group(self) -> None:
        self._store.nudges.send((group_key(self._me.group_id),))

    # Membership: the background task

    async def _live(self) -> None:
        """Take part until closed. An error that can't be survived is kept for the next `poll`."""
        # A task of its own: a listener may take longer than the lease.
        renewing = asyncio.create_task(self._keep_lease(), name=f"sqlite lease of {self._me.name}")
        try:
            while not self._is_closing:
                try:
                    await self._take_step()
                except BrokerUnavailable as error:  # the file is busy: the lease may end, nothing else does
                    _log.warning("group_membership_waits", member=self._me.name, error=str(error))
                await self._look.sleep(min(_LOOK_S, self._me.session_s / _RENEWALS))
        except Exception as error:  # noqa: BLE001 - the listener's own, whatever it is: `poll` raises it
            self._failure = error
            with suppress(BrokerUnavailable):
                await self._leave()
            self._feed.waker.wake()
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._me.session_s / _RENEWALS)
            with suppress(BrokerUnavailable):
                await self._renew()

    async def _renew(self) -> None:
        now_s, me = time.monotonic(), self._me
        if await self._store.write(lambda: self._store.groups.renew(me, now_s)):
            self._lease_until_s = now_s + me.session_s
        # it may have joined again meanwhile, and then this says nothing of the new membership
        elif me is self._me:
            self._drop_all()

    async def _take_step(self) -> None:
        step = await self._store.read(self._next_step)
        if not step.is_needed:
            return
        if step.is_lost:
            self._drop_all()
            # a new id, so that what was begun under the old one can't touch the new membership
            self._me = self._me._replace(id=_fresh(self._me.name), process=this_process())
            await self._join()
            _log.warning("group_member_joins_anew", member=self._me.name, reason="its lease had ended")
            step = Step(is_lost=False, dead=(), claim=(), release=())
        step, claimed = await self._store.write(self._claim)
        if step.dead:
            _log.info("group_members_removed", member=self._me.name, removed=list(step.dead))
        await self._revoke(step.release)
        await self._assign(claimed)
        # others may claim what has come free, and need not wait for their next look
        if step.dead or step.release:
            self._nudge_group()
        self._look.wake()  # look again at once: this step may have made another one due

    def _next_step(self) -> Step:
        return self._store.groups.next_step(self._me, time.monotonic())

    def _claim(self) -> tuple[Step, Mapping[int, Committed | None]]:
        """Claim what is due, within a transaction."""
        # computed again in here, because it may have changed since it was read
        step = self._next_step()
        return step, {} if step.is_lost else self._store.groups.apply(self._me, step)

    def _drop_all(self) -> None:
        """Drop everything that was held.

        The listener is not called, because another member may hold it already.
        """
        self._feed.clear()
        self._held.clear()
        self._paused = frozenset()
        self._look.wake()

    async def _assign(self, claimed: Mapping[int, Committed | None]) -> None:
        if not claimed:
            return
        me = self._me
        places = {at: self._store.log.catalogue.place_of(at) for at in claimed}
        self._held.update(places)
        # Before any record of these is read, and with the partitions held: the listener may commit.
        await self._listener.on_assigned({places[at]: position for at, position in claimed.items()})
        for at, position in claimed.items():
            # it may have lost its membership while the listener ran
            if self._fetch and me is self._me and at in self._held:
                self._feed.add(at, places[at], position.offset if position is not None else 0)

    async def _revoke(self, partitions: Collection[int]) -> None:
        """Call the listener, and then let go. Its commits count until then."""
        ours = {at: self._held[at] for at in partitions if at in self._held}
        for at in partitions:
            # no record may be handed out once the listener knows that the partition goes
            self._feed.remove(at)
        try:
            if ours:
                await self._tell_revoked(tuple(ours.values()))
        finally:
            for at in ours:
                self._held.pop(at, None)
            self._paused -= frozenset(ours.values())
            me = self._me
            if partitions:
                await self._store.write(lambda: self._store.groups.release(me, partitions))

    async def _tell_revoked(self, places: Sequence[TopicPartition]) -> None:
        try:
            async with asyncio.timeout(self._me.session_s):
                await self._listener.on_revoked(places)
        except TimeoutError:
            _log.warning("group_revoke_timed_out", member=self._me.name, partitions=[f"{t}/{p}" for t, p in places])

    async def _leave(self) -> None:
        self._drop_all()
        me = self._me
        await self._store.write(lambda: self._store.groups.remove(me.group_id, (me.id,)))
        self._nudge_group()

    # The port

    async def poll(self, *, max_records: int, timeout_s: float) -> Sequence[Record]:
        deadline = time.monotonic() + timeout_s
        while True:
            self._raise_failure()
            # this process was stopped: another member may already have what it holds
            if time.monotonic() > self._lease_until_s:
                await self._renew()
            left_s = max(0.0, deadline - time.monotonic())
            records = await self._feed.poll(max_records, min(left_s, POLL_S), self._is_readable)
            if records or left_s <= POLL_S:
                self._raise_failure()
                return records

    def _is_readable(self, place: TopicPartition) -> bool:
        return place not in self._paused

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._held.values())

    def position(self, partition: TopicPartition) -> int | None:
        return self._feed.position(partition)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused |= frozenset(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused -= frozenset(partitions)
        self._feed.waker.wake()

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> frozenset[TopicPartition]:
        held = {place: at for at, place in self._held.items()}
        ours = {held[place]: position for place, position in offsets.items() if place in held}
        if not ours:
            return frozenset()
        stands = await self._store.write(partial(self._store.groups.commit, self._me, ours))
        return frozenset(place for place, at in held.items() if at in stands)

    async def confirm(self) -> frozenset[TopicPartition]:
        await self._renew()  # drops what is held, if the group has removed us
        return self.assignment()

    async def close(self) -> None:
        if self._is_closing:
            return
        try:
            await self._stop()
            if self._failure is None and self._held:
                await self._revoke(tuple(self._held))
        finally:
            self._store.nudges.unlisten(group_key(self._me.group_id), self._look.wake)
            if self._store.is_open:
                await self._leave()

    async def abandon(self) -> None:
        """Leave the group without calling the listener: the broker is being closed."""
        if not self._is_closing:
            await self._stop()
            await self._leave()

    async def abort(self) -> None:
        """Stop as a killed process would: the membership stays until its lease ends."""
        self._is_closing = True
        await self._end_task(grace_s=0.0)

    async def _stop(self) -> None:
        """End the background task, once the listener has returned or a session has passed."""
        self._is_closing = True
        self._look.wake()
        await self._end_task(grace_s=self._me.session_s)

    async def _end_task(self, *, grace_s: float) -> None:
        task = self._task
        # a listener may close its own subscription
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait({task}, timeout=grace_s)
            task.cancel()
            await asyncio.wait({task})


def _fresh(member: str) -> str:
    return f"{member}-{token_hex(6)}"

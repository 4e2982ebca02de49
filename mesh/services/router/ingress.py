"""Ingress: copies events, answers and commands into the inbox.

Each goes to the partition that decides on it.

Any number of routers share the work as one consumer group. A crash or a rebalance may copy a record
twice; it is never lost and never overtaken: copies go out in the order of their source, a batch is
repeated until the broker has it, offsets are committed after that, and the receiver keeps one
watermark for each source partition. What can't be read goes to the dead letters as it came, and so
does what routers die on (`trail`). An owner hears of each answer and command that goes there, and
its sender gets a receipt: only operators may read dead letters.

Ingress decides nothing: the owner says who may answer and whether a workflow lives. An event's own
broker timestamp says which routes it meets (`copies`), so every router matches it alike.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import structlog

from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, LogError
from mesh.ports import (
    Broker,
    Clock,
    Committed,
    Delivery,
    Record,
    Subscription,
    TopicPartition,
)
from mesh.services.router.config import RouterConfig
from mesh.services.router.copies import Copies, Copy
from mesh.services.router.definitions import Definitions
from mesh.services.router.trail import Trails

_log = structlog.get_logger()
_POLL_TIMEOUT_S: Final = 0.5
_LAG_CHECK_S: Final = 1.0
# also how late a deadline's barrier may learn that an answer has been copied
_COMMIT_EVERY_S: Final = 0.1
_MAX_COPIES: Final = 5_000  # that are sent at once
_CAREFUL_TURN_S: Final = 0.5
_LARGE_BYTES: Final = 65_536  # a broker that takes less than it says takes this much at least


class Ingress:
    """One router's share of the work.

    `copies`: what records become. `is_on_trial`: a record is announced and read that routers may
    have died of, so nothing else may be handled. `may_read`: whether records may be read; not while
    an owner has an input on trial.
    """

    def __init__(self, broker: Broker, topics: Topics, routes: Definitions, config: RouterConfig, clock: Clock) -> None:
        self._broker = broker
        self._topics = topics
        self._routes = routes
        self._config = config
        self.copies = Copies(broker, topics, routes, config, clock)
        self._subscription: Subscription | None = None
        self.is_on_trial = False
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._lag_checked_at = 0.0
        self._committed_at = 0.0
        self._left: Sequence[Record] = ()  # polled, and not copied yet
        self._is_leaving = False  # some of our partitions go elsewhere
        self._copied: dict[TopicPartition, int] = {}  # and not committed yet
        self._passed: dict[TopicPartition, int] = {}  # where the reading stood at the last commit
        self._trails = Trails()

    async def run(self) -> None:
        """Copy until `stop`."""
        await self._wait_for_routes()
        if self._stopping.is_set():
            return
        self._subscription = await self._broker.subscribe(
            self._topics.ingress_group,
            list(self.copies.converters),
            self,
            member=self._config.instance,
            session_timeout_s=self._config.session_timeout_s,
        )
        try:
            while not self._stopping.is_set():
                await self._turn(self._subscription)
        finally:
            await self._subscription.close()

    async def _wait_for_routes(self) -> None:
        """Wait until a route was activated.

        Before that, events stay on their topic: the first routes apply to them too.
        """
        if not self._routes.has_begun:
            _log.warning("ingress_waits_for_routes", next="start a router with --routes, or `mesh routes apply FOLDER`")
        while not self._routes.has_begun and not self._stopping.is_set():
            await asyncio.sleep(self._config.retry_pause_s)
            try:
                await self._routes.refresh()
            except BrokerUnavailable as error:
                _log.warning("ingress_waits", error=str(error))

    def shares(self) -> Collection[TopicPartition]:
        """The partitions that it copies from now."""
        return () if self._subscription is None else self._subscription.assignment()

    def stop(self) -> None:
        """End after the batch under way."""
        self._stopping.set()

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        """Learn how the previous holders of these partitions ended.

        There is nothing else to prepare, because copies know their place by their source.
        """
        self._passed = {tp: committed.offset if committed else 0 for tp, committed in partitions.items()}
        self._leave_to_others(partitions)  # they are read again, from where the last commit is
        self._trails.assign(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Let the batch under way land, and commit.

        If it does not land in time, the next member copies it again.
        """
        self._is_leaving = True
        try:
            async with asyncio.timeout(self._config.drain_timeout_s):
                await self._idle.wait()
                if self._copied and self._subscription is not None:
                    await self._commit(self._subscription)
        except TimeoutError:
            _log.warning("ingress_leaves_a_batch", partitions=[f"{tp.topic}/{tp.partition}" for tp in partitions])
        finally:
            self._is_leaving = False
        self._leave_to_others(partitions)
        self._trails.revoke(partitions)

    def _leave_to_others(self, partitions: Collection[TopicPartition]) -> None:
        self._left = [one for one in self._left if TopicPartition(one.topic, one.partition) not in partitions]

    async def _turn(self, subscription: Subscription) -> None:
        try:
            await self._wait_for_room(subscription)
            # What is copied is committed soon: a deadline's barrier waits
            # for the commit (docs/adr/0003).
            timeout_s = _COMMIT_EVERY_S if self._copied else _POLL_TIMEOUT_S
            limit = self._config.max_poll_records
            # While records are left, a poll only shows the group that we are alive. What it brings
            # is no more than a turn copies.
            if self._left:
                timeout_s, limit = 0.0, 1
            polled = await subscription.poll(max_records=limit, timeout_s=timeout_s)
        except BrokerUnavailable as error:
            _log.warning("ingress_waits", error=str(error))
            await asyncio.sleep(self._config.retry_pause_s)
            return
        # from here to the end of the turn, a revocation waits
        self._idle.clear()
        try:
            records, self._left = [*self._left, *polled] if self._left else polled, ()
            is_copied = not records or await self._take(subscription, records)
            now = asyncio.get_running_loop().time()
            # Only if all that was polled is copied: the position lies behind all of it.
            if is_copied and now - self._committed_at >= _COMMIT_EVERY_S:
                self._pass_on(subscription)
            # Not after every batch: a commit costs as much as a small batch,
            # and a second copy is ignored.
            if self._copied and now - self._committed_at >= _COMMIT_EVERY_S:
                self._committed_at = now
                await self._commit(subscription)
        finally:
            self._idle.set()

    async def _take(self, subscription: Subscription, records: Sequence[Record]) -> bool:
        """Copy a batch, one record at a time as far as routers have died on it.

        False: not all of it is copied. The rest is `_left` for the next turn.
        """
        if begun := self._trails.begin(records):
            await self._leave(subscription, begun)
        careful = [] if self._trails.is_calm else [record for record in records if self._trails.is_careful(record)]
        rest = [record for record in records if not self._trails.is_careful(record)] if careful else records
        now = asyncio.get_running_loop().time
        end = now() + _CAREFUL_TURN_S
        for number, record in enumerate(careful):
            # Each takes several round trips. A member that does not poll for long loses its
            # partitions, and the next one would begin again, and lose them too.
            if number and (self._is_leaving or now() >= end):
                self._left = [*careful[number:], *rest]
                return False
            if not await self._copy_alone(subscription, record):
                return False
        if rest and not await self._copy(rest):
            return False
        self._copied.update({TopicPartition(r.topic, r.partition): r.offset + 1 for r in rest})
        return True

    async def _copy_alone(self, subscription: Subscription, record: Record) -> bool:
        """Copy a record that routers may have died of: announced, and with nothing beside it.

        False: stopped before it was copied.
        """
        if not await self._know_routes_of([record]):
            return False
        _log.warning("ingress_is_careful", topic=record.topic, partition=record.partition, offset=record.offset)
        try:
            await self._leave(subscription, self._trails.announce(record), alone=True)
            out = list(self._copies(record))
            # at once, or a death of another cause would be counted against this record
            await subscription.commit(self._trails.survived(record))
        except BrokerUnavailable as error:  # only of the last commit
            _log.warning("ingress_commit_failed", error=str(error))
        finally:
            self.is_on_trial = False
        if not await self._land(out):
            return False
        self._copied[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return True

    async def _leave(
        self, subscription: Subscription, trail: dict[TopicPartition, Committed], *, alone: bool = False
    ) -> None:
        """Write the trail down before what it tells of is touched.

        `alone`: from here on nothing else is to be handled.
        """
        while not self._stopping.is_set():
            if alone:
                await self._until_it_may_read()
                self.is_on_trial = True
            try:
                await subscription.commit(trail)
            except BrokerUnavailable as error:
                self.is_on_trial = False  # a broker that does not answer must not hold up owners
                _log.warning("ingress_waits", error=str(error))
                await asyncio.sleep(self._config.retry_pause_s)
            else:
                return

    async def _until_it_may_read(self) -> None:
        # a loop, because the next trial may begin before this task is resumed
        while not self.may_read.is_set():
            await self.may_read.wait()

    async def _wait_for_room(self, subscription: Subscription) -> None:
        """Hold events back while the inbox lags, so that new work does not bury what is under way.

        Answers and commands go on.
        """
        now = asyncio.get_running_loop().time()
        if now - self._lag_checked_at < _LAG_CHECK_S:
            return
        self._lag_checked_at = now
        inbox = [TopicPartition(self._topics.inbox, p) for p in range(self._config.partitions)]
        ends = await self._broker.end_offsets(inbox)
        read = await self._broker.committed(self._topics.router_group, inbox)
        lag = sum(end - (committed.offset if (committed := read[tp]) else 0) for tp, end in ends.items())
        # Answers and commands are not held back: they end or steer work that is under way.
        events = [tp for tp in subscription.assignment() if tp.topic == self._topics.events]
        if lag > self._config.max_inbox_lag:
            _log.info("ingress_holds_back", inbox_lag=lag)
            subscription.pause(events)
        else:
            subscription.resume(events)

    def _pass_on(self, subscription: Subscription) -> None:
        """Commit also what holds no record (markers, what was rolled back).

        A deadline's barrier waits until everything up to an end is copied, and it may be that no
        record comes to show it.
        """
        for tp in subscription.assignment():
            position = subscription.position(tp)
            if position is not None and position > self._passed.get(tp, 0):
                self._passed[tp] = position
                self._copied[tp] = position

    async def _copy(self, records: Sequence[Record]) -> bool:
        """Send the copies until the broker has all of them, in the order of their source.

        False: stopped before that.
        """
        if not await self._know_routes_of(records):
            return False
        out: list[Copy] = []
        for record in records:
            if not self.may_read.is_set():
                await self._until_it_may_read()
            out += self._copies(record)
            # a record may be a batch of many events: not all of their copies are held at once
            if len(out) >= _MAX_COPIES:
                if not await self._land(out):
                    return False
                out = []
        return await self._land(out)

    async def _land(self, out: list[Copy]) -> bool:
        """Send copies, each with its source, until the broker has all of them.

        What takes the place of a copy that is refused lands before all that follows it. Behind
        that, its owner would take it for a repeat.
        """
        while out and not self._stopping.is_set():
            now = out[: _up_to_large(out)]
            try:
                failures = await self._broker.send([copy for copy, _ in now])
            except BrokerUnavailable as error:
                # The same batch again, in the same order: what had landed is passed over by the
                # owner's watermark.
                _log.warning("ingress_repeats_a_batch", error=str(error), records=len(now))
                await asyncio.sleep(self._config.retry_pause_s)
                continue
            again = [instead for failure in failures for instead in self.copies.instead(*now[failure.index], failure)]
            out = again + out[len(now) :]
            if any(failure.code is not Delivery.TOO_LARGE for failure in failures):
                await asyncio.sleep(self._config.retry_pause_s)  # until an operator has repaired it
        return not out

    async def _know_routes_of(self, records: Sequence[Record]) -> bool:
        """Learn which routes were in effect at the times of these events, however long it takes.

        False: stopped before that.
        """
        # An event may be matched only once every activation that concerns
        # its time is read (docs/adr/0008).
        times_ms = [record.timestamp_ms for record in records if record.topic == self._topics.events]
        while not self._stopping.is_set():
            try:
                await self._routes.prepare(times_ms)
            except BrokerUnavailable as error:
                _log.warning("ingress_waits", error=str(error))
            except LogError as error:  # another router may read it; to pass over the route would lose events
                _log.error("ingress_holds_events", error=str(error))
            else:
                return True
            await asyncio.sleep(self._config.retry_pause_s)
        return False

    async def _commit(self, subscription: Subscription) -> None:
        """Record how far everything is copied."""
        copied, self._copied = self._copied, {}
        try:
            await subscription.commit({place: self._trails.commit(place, offset) for place, offset in copied.items()})
        except BrokerUnavailable as error:
            # what was copied meanwhile is further on, so it wins
            self._copied = {**copied, **self._copied}
            _log.warning("ingress_commit_failed", error=str(error))

    def _copies(self, record: Record) -> Iterator[Copy]:
        if not self._trails.is_calm and self._trails.is_poison(record):
            return self.copies.set_aside(record)
        return self.copies.of(record)


def _up_to_large(out: Sequence[Copy]) -> int:
    """How many copies may be sent at once: up to the first that may be too large."""
    sizes = (len(copy.value) if copy.value is not None else 0 for copy, _ in out)
    return next((number for number, size in enumerate(sizes, 1) if size > _LARGE_BYTES), len(out))

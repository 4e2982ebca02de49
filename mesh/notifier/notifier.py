"""`mesh notifier`: the turns between the approvals topics and people's addresses.

Owns the order of things, start and stop. How it hangs together
-----------------------------------------------------------------
1. The inbox's file follows `mesh.approvals.open`, the notifier's own file follows
   `mesh.approvals.notices`. Both are read to their ends before anything is planned.
2. `plan` compares how an approval is with what was told, and gives the notices that are due. They
   go to the topic, and come into the file from there. So a notice has its id before it goes out,
   and the next one finds it.
3. Once nothing is left to plan, lanes deliver what is due, and write what became of it.

Notifiers share the work by the partitions of `mesh.approvals.open`: an approval's notices are in
the partition of the same number. A partition that goes to another notifier is given up only when
what is on its way has landed, so the other one finds what was told. Two may tell the same after one
was silent for too long; the ids are the same then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import structlog
from msgspec.structs import replace

from mesh.codec.channels import DailyTime
from mesh.codec.notices import Notice, notice_id, notice_key, notice_partition
from mesh.codec.open_approvals import decode_payload
from mesh.codec.times import rfc3339
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, UnknownFormat
from mesh.inspection.inbox import Filters, Inbox, Mine, page_of
from mesh.inspection.read_model.schema import select_one
from mesh.notifier.closings import closings
from mesh.notifier.config import NotifierConfig
from mesh.notifier.couriers import Courier
from mesh.notifier.file import NoticeFile
from mesh.notifier.lanes import Content, Lanes, Sorted
from mesh.notifier.messages import LISTED, Console, Shown, Waits, of_digest, of_notices
from mesh.notifier.plan import Closing, plan, plan_close, to_close, to_tell_of_close, why_not_wanted
from mesh.notifier.topic import RETRY_S, NoticeTopic
from mesh.notifier.waiting import Directory, Reachable, Waiting, gone_among, naming, waiting_among
from mesh.ports import Broker, Clock, Committed, Subscription, TopicPartition
from mesh.services.channels import ChannelReader
from mesh.services.people import PeopleReader

LATE_DIGEST_MS: Final = 6 * 3_600_000
"""A digest that is later than this is left out: the next one comes soon enough."""

_RECEIPT_WAIT_MS: Final = 10_000
_RECEIPT_AGAIN_MS: Final = 1_000
_REFUSED_AGAIN_MS: Final = 60_000
_PORTION: Final = 1_000  # approvals that one turn looks at
_LAND_S: Final = 5.0  # at a hand-over, for what is on its way
_MANY: Final = 1_000

Told = Callable[[Sequence[Notice]], None]

_log = structlog.get_logger()


class Notifier:
    """`folder`: for its files, which are caches.

    `on_ready` is called once all that there is has been read, `on_told` with notices that have come
    to their end.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        topics: Topics,
        config: NotifierConfig,
        clock: Clock,
        folder: Path,
        courier: Courier,
        on_ready: Callable[[], None] = lambda: None,
        on_told: Told = lambda _: None,
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._config = config
        self._clock = clock
        self._on_ready = on_ready
        self._on_told = on_told
        self._file = NoticeFile.open(folder / "notices.sqlite")
        self._topic = NoticeTopic(broker, topics, self._file, clock, lambda sent: gone_among(self._inbox.db, sent))
        self._inbox = Inbox(
            broker, topics, folder / "open.sqlite", now_ms=clock.now_ms, on_unkept=_tell_unkept, on_taken=self._taken
        )
        self._people = PeopleReader(broker, topics)
        self._channels = ChannelReader(broker, topics)
        self._directory = Directory(None, {})
        self._directory_is_of: object = None
        self._refreshed_s: float | None = None
        self._next_digests: dict[str, int] = {}
        self._owned: frozenset[int] = frozenset()
        self._turning = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._lanes = Lanes(
            self._file, courier, clock, partitions=lambda: self._owned, sort=self._sort, record=self._record
        )

    @property
    def inbox(self) -> Inbox:
        """Its read model of what is open."""
        return self._inbox

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Tell people until `stop`.

        Raises `TopicMissing` or `NotFound` if the topics are not there.
        """
        try:
            await self._start()
            _log.info("notifier_starts", instance=self._config.instance)
            self._on_ready()
            async with asyncio.TaskGroup() as group:
                membership = group.create_task(self._take_part())
                while not self._stopping.is_set():
                    await self._keep_turning(group)
                await self._lanes.settle(self._config.drain_s)
                membership.cancel()
        finally:
            await self._close()
        _log.info("notifier_stopped", instance=self._config.instance)

    async def _start(self) -> None:
        for part in (self._people.start, self._channels.start, self._topic.start):
            await self._until_available(part)
        is_other = self._file.looks.inbox_mark() != self._inbox.mark()
        await self._until_available(self._inbox.catch_up)
        # only now, since it asks what is open
        await self._until_available(self._topic.catch_up)
        if is_other:
            self._look_at_all()

    async def _until_available(self, begin: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await begin()
            except BrokerUnavailable as error:
                _log.warning("notifier_waits_for_broker", error=str(error))
                await self._pause(RETRY_S)

    async def _close(self) -> None:
        for reader in (self._topic, self._people, self._channels):
            await reader.close()
        self._inbox.db.close()
        self._file.close()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    # Membership -----------------------------------------------------------------------------------

    async def _take_part(self) -> None:
        subscription = await self._subscribe()
        try:
            while True:
                try:
                    await subscription.poll(max_records=1, timeout_s=self._config.look_s)
                    # what was lost to a time-out is gone without a word
                    self._owned &= {partition for _, partition in subscription.assignment()}
                except BrokerUnavailable as error:
                    _log.warning("membership_waits", error=str(error))
                    await asyncio.sleep(RETRY_S)
        finally:
            await subscription.close()

    async def _subscribe(self) -> Subscription:
        while True:
            try:
                return await self._broker.subscribe(
                    self._topics.notifier_group,
                    [self._topics.open_approvals],
                    self,
                    member=self._config.instance,
                    # the group only shares partitions out: what is open is read whole
                    fetch=False,
                    session_timeout_s=self._config.session_timeout_s,
                )
            except BrokerUnavailable as error:
                _log.warning("membership_waits", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self._owned |= {partition for _, partition in partitions}
        _log.info("partitions_assigned", partitions=sorted(p for _, p in partitions))

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        revoked = {partition for _, partition in partitions}
        _log.info("partitions_revoked", partitions=sorted(revoked))
        self._owned -= revoked
        # The group waits for this, so the next notifier finds on the topic what we told.
        try:
            async with asyncio.timeout(_LAND_S), self._turning:
                pass
        except TimeoutError:
            _log.warning("hand_over_unfinished", partitions=sorted(revoked))
        await self._lanes.settle(_LAND_S)

    # Turns ----------------------------------------------------------------------------------------

    async def _keep_turning(self, group: asyncio.TaskGroup) -> None:
        """One turn, and a pause until there may be something to do."""
        try:
            async with self._turning:
                is_more = await self._turn()
        except BrokerUnavailable as error:
            _log.warning("notifier_waits_for_broker", error=str(error))
            await self._pause(RETRY_S)
            return
        if is_more:
            await asyncio.sleep(0)
            return
        # nothing leaves before all that is due now is known: one message can then tell all of it
        self._lanes.start_due(group)
        await self._pause(self._config.look_s)

    async def _turn(self) -> bool:
        """Read what is new, and plan a portion of what is due. True: more is due."""
        await self._inbox.catch_up()
        await self._topic.catch_up()
        await self._refresh_people()
        now_ms = self._clock.now_ms()
        ids = self._file.looks.due(self._owned, now_ms, _PORTION)
        notices, looks = await self._look(ids, now_ms)
        notices += self._digests(now_ms)
        refused = await self._topic.write(notices) if notices else []
        # perhaps a right is missing that an operator gives back
        again = [(one.approval_id, now_ms + _REFUSED_AGAIN_MS) for one in refused if one.approval_id]
        self._file.looks.looked([*looks, *again])
        return bool(ids or notices)

    def _taken(self, approvals: Mapping[str, int]) -> None:
        self._file.looks.add_read(approvals.items(), self._inbox.mark())

    def _look_at_all(self) -> None:
        """Have looked at what is open, and at what was told and is not open any more."""
        looks, db = self._file.looks, self._inbox.db
        for told in _portions(self._file.told_keys()):
            looks.add_now(gone_among(db, told))
        every = (row[0] for row in db.execute("SELECT approval_id FROM approvals"))
        looks.add_read(((one, notice_partition(one)) for one in every), self._inbox.mark())

    async def _refresh_people(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._refreshed_s is not None and now_s - self._refreshed_s < self._config.people_s:
            return
        self._refreshed_s = now_s
        await self._people.refresh()
        await self._channels.refresh()
        now_ms, known = self._clock.now_ms(), self._people.delegations
        placed, calendars = self._people.timeline.at(now_ms), self._people.calendars.at(now_ms)
        absent, in_force = frozenset(known.absent(now_ms)), known.in_force(now_ms)
        hours = {name: one.digest for name, one in calendars.items()}
        now_of = (placed, self._channels.changes, hours, absent, in_force if absent else ())
        if now_of == self._directory_is_of:
            return
        try:
            people = self._people.people_of(placed)
        except UnknownFormat as error:
            _log.error("people_unreadable", error=str(error))
            return
        if people is None:
            _log.warning("nobody_is_told", why="no version of the people was applied: mesh people apply FILE")
        directory = Directory(people, self._channels.channels, calendars, absent, in_force)
        _warn_of_hours(directory)
        for person, reach in directory.reachable.items():
            before = self._directory.reachable.get(person)
            if before is not None and before.channel != reach.channel:
                self._lanes.resume(person)
        self._directory, self._directory_is_of = directory, now_of
        self._next_digests = {}
        self._look_for_changed(directory)

    def _look_for_changed(self, directory: Directory) -> None:
        """Have looked at what may wait for people who are others than they were."""
        looks, reachable = self._file.looks, directory.reachable
        before, now = looks.people(), {person: reach.mark for person, reach in reachable.items()}
        if before != now:
            changed = [reach for person, reach in reachable.items() if before.get(person) != now[person]]
            looks.add_of_people(naming(self._inbox.db, changed), now)

    # Planning -------------------------------------------------------------------------------------

    async def _look(self, ids: Sequence[str], now_ms: int) -> tuple[list[Notice], list[tuple[str, int | None]]]:
        """What is due for these approvals, and when to look at each again."""
        notices: list[Notice] = []
        looks: list[tuple[str, int | None]] = []
        closed: dict[str, int] = {}
        open_now, told = waiting_among(self._inbox.db, ids), self._file.told(ids)
        for approval_id in ids:
            next_ms = None
            if (waiting := open_now.get(approval_id)) is not None:
                due, next_ms = plan(waiting, told[approval_id], self._directory, now_ms)
                notices += due
            elif to_close(told[approval_id]):
                at_ms = self._closed_at_ms(approval_id)
                if to_tell_of_close(told[approval_id], self._directory, at_ms, now_ms):
                    closed[approval_id] = at_ms
            looks.append((approval_id, next_ms))
        return await self._with_closes(closed, notices, looks, now_ms)

    async def _with_closes(
        self,
        closed: Mapping[str, int],
        notices: list[Notice],
        looks: list[tuple[str, int | None]],
        now_ms: int,
    ) -> tuple[list[Notice], list[tuple[str, int | None]]]:
        known = await closings(self._broker, self._topics, closed) if closed else {}
        again, told = dict[str, int](), self._file.told(list(closed))
        for approval_id, at_ms in closed.items():
            # the receipt lands beside the tombstone, and perhaps after it
            if approval_id not in known and now_ms < at_ms + _RECEIPT_WAIT_MS:
                again[approval_id] = now_ms + _RECEIPT_AGAIN_MS
                continue
            closing = known.get(approval_id, Closing())
            due = plan_close(told[approval_id], self._directory, closing, at_ms, now_ms)
            notices += due.notices
            if due.next_ms is not None:
                again[approval_id] = due.next_ms
        return notices, [(one, again.get(one, next_ms)) for one, next_ms in looks]

    def _closed_at_ms(self, approval_id: str) -> int:
        sql = "SELECT max(at_ms) FROM parts WHERE approval_id = ? AND value IS NULL"
        (found,) = select_one(self._inbox.db, sql, approval_id)
        return int(found or 0)

    def _digests(self, now_ms: int) -> list[Notice]:
        """The digests that are due now."""
        found: list[Notice] = []
        for reach in self._directory.reachable.values():
            if reach.digest is None or now_ms < self._next_digests.get(reach.person, 0):
                continue
            self._next_digests[reach.person] = reach.digest.next(now_ms)
            found += self._digest(reach, reach.digest, now_ms)
        return found

    def _digest(self, reach: Reachable, daily: DailyTime, now_ms: int) -> list[Notice]:
        day, at_ms = daily.last(now_ms)
        number = int(f"{day:%Y%m%d}")
        own_id = notice_id("", "digest", number, reach.person)
        notices = [
            Notice(id=own_id, what="digest", number=number, person=reach.person, channel=kind, at=rfc3339(at_ms))
            for kind in reach.kinds
        ]
        is_ours = bool(notices) and notice_partition(notice_key(notices[0])) in self._owned
        return notices if is_ours and now_ms - at_ms <= LATE_DIGEST_MS and not self._file.has(own_id) else []

    # Sending --------------------------------------------------------------------------------------

    def _sort(self, notices: Sequence[Notice]) -> Sorted:
        """What of these notices, all of one address, goes out as one message."""
        now_ms = self._clock.now_ms()
        reach = self._directory.reachable.get(notices[0].person)
        if notices[0].what == "digest":
            return self._sort_digest(notices[0], reach, now_ms)
        wanted: list[Notice] = []
        dropped: list[Notice] = []
        shown: dict[str, Shown] = {}
        open_now = waiting_among(self._inbox.db, [one.approval_id for one in notices])
        for one in notices:
            if one.what == "digest":
                continue
            waiting = open_now.get(one.approval_id)
            why = why_not_wanted(one, waiting, reach, now_ms)
            if why:
                dropped.append(replace(one, status="dropped", reason=why))
            else:
                wanted.append(one)
                if waiting is not None and len(wanted) == 1:
                    shown[one.approval_id] = self._shown(waiting)
        if reach is None or not wanted:
            return Sorted(None, dropped)
        message = of_notices(wanted, shown, self._console(now_ms))
        return Sorted(Content(dict(reach.channel.addresses())[notices[0].channel], message, wanted), dropped)

    def _sort_digest(self, notice: Notice, reach: Reachable | None, now_ms: int) -> Sorted:
        if reach is None or notice.channel not in reach.kinds:
            return Sorted(None, [replace(notice, status="dropped", reason=why_not_wanted(notice, None, reach, now_ms))])
        mine = Mine(names={reach.body.name, *reach.body.names}, roles=reach.body.roles)
        others = tuple(
            Mine(
                names={one.body.name, *one.body.names},
                roles=one.body.roles,
                giver=one.person,
                routes=one.routes,
                by_roles=one.body.by_roles,
                barred=mine.names,
            )
            for one in reach.givers
        )
        page = page_of(self._inbox.db, Filters(mine=mine, others=others), limit=LISTED)
        if not page.total:
            return Sorted(None, [replace(notice, status="dropped", reason="nothing waits for the person")])
        message = of_digest(notice, Waits(page, page.total), self._console(now_ms))
        return Sorted(Content(dict(reach.channel.addresses())[notice.channel], message, [notice]), [])

    def _console(self, now_ms: int) -> Console:
        return Console(self._config.console_url, self._config.links, now_ms)

    def _shown(self, waiting: Waiting) -> Shown:
        if not self._config.include_payload:
            return Shown(waiting.choices)
        row = select_one(self._inbox.db, "SELECT value FROM payloads WHERE approval_id = ?", waiting.approval_id)
        try:
            return Shown(waiting.choices) if row is None else Shown(waiting.choices, decode_payload(row[0]))
        except MalformedRecord:
            return Shown(waiting.choices)

    async def _record(self, notices: Sequence[Notice]) -> None:
        """Write what became of notices: to the topic, and once it is there to the file."""
        for start in range(0, len(notices), _MANY):
            portion = notices[start : start + _MANY]
            await self._topic.write(portion)
            self._file.settle(portion)
            self._on_told(portion)


def _warn_of_hours(directory: Directory) -> None:
    unknown = {reach.channel.hours for reach in directory.reachable.values() if reach.hours is None} - {""}
    for name in sorted(unknown):
        _log.warning("calendar_not_in_effect", calendar=name, effect="its people are told at any time")


def _tell_unkept(why: str) -> None:
    _log.warning("inbox_unkept", why=why, effect="what is open is kept in memory")


def _portions(keys: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(keys, _MANY)):
        yield some

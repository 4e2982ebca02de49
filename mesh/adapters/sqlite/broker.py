"""The port on the file: `SqliteBroker`.

Owns the port's calls: topics, sending, appending with compare, offsets, and the opening of readers
and group members. It must not write SQL: `log` and `groups` do.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from random import uniform
from typing import Final, TypeVar

import apsw
import msgspec
import structlog

from mesh import defaults
from mesh.adapters.sqlite.chunks import chunks_of
from mesh.adapters.sqlite.log import Compaction, Plan, Topic
from mesh.adapters.sqlite.readers import SqliteReader
from mesh.adapters.sqlite.schema import Durability, connect
from mesh.adapters.sqlite.store import Store
from mesh.adapters.sqlite.subscription import SqliteSubscription
from mesh.errors import BrokerUnavailable, RecordTooLarge
from mesh.ports import (
    AboutBroker,
    Appended,
    Committed,
    GroupListener,
    OutRecord,
    SendFailure,
    TopicInfo,
    TopicPartition,
    TopicSpec,
)

T = TypeVar("T")

_BUSY_TIMEOUT_S: Final = 10.0
_CLEAN_EVERY_S: Final = 60.0
_CLEAN_PORTION: Final = 100  # chunks in one transaction: a few milliseconds
_COMPACT_PORTION: Final = 2000  # records read at a time
_RETRY_S: Final = 0.01
_DAY_MS: Final = 86_400_000  # Kafka's delete.retention.ms

_log = structlog.get_logger(__name__)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteBroker:
    """`mesh.ports.Broker` on one SQLite file. Lives in the event loop that opened it."""

    def __init__(self, store: Store, client_id: str, *, max_record_bytes: int, read_only: bool) -> None:
        self._store = store
        self._client_id = client_id
        self._subscriptions: list[SqliteSubscription] = []
        # logs that refused an append, by id; nothing is appended to them until the next claim
        self._refused: set[int] = set()
        self.has_own_clock = False
        self.max_record_bytes = max_record_bytes
        self._cleaner = (
            None if read_only else asyncio.create_task(self._keep_clean(), name=f"sqlite cleaner {client_id}")
        )

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        client_id: str,
        durability: Durability = "full",
        read_only: bool = False,
        busy_timeout_s: float = _BUSY_TIMEOUT_S,
        max_record_bytes: int = defaults.MAX_RECORD_BYTES,
        now_ms: Callable[[], int] = _wall_clock_ms,
    ) -> "SqliteBroker":
        """Open the file. It is made with its folder if it does not exist.

        `durability`: "normal" survives the death of any process, "full" a power loss too.
        `read_only`: for queries; the file must exist. Raises `OperatorError` if the path can't be
        used, and `BrokerUnavailable` if another process holds the file for too long.
        """
        file = _absolute(path)
        connection = await _connect(file, durability, read_only=read_only, timeout_s=busy_timeout_s)
        store = Store(connection, file, max_record_bytes=max_record_bytes, busy_timeout_s=busy_timeout_s, now_ms=now_ms)
        return cls(store, client_id, max_record_bytes=max_record_bytes, read_only=read_only)

    # Topics

    async def topics(self, *, configs_of: Collection[str] = ()) -> Mapping[str, TopicInfo]:  # noqa: ARG002 - it has them all at hand
        catalogue = await self._store.read(self._store.log.catalogue.load)
        return {name: topic.info for name, topic in catalogue.items()}

    async def cluster_id(self) -> str:
        """The file's own id. It is made when it is first asked for."""
        found = await self._store.read(self._store.log.catalogue.own_id)
        # a connection for reading makes none: nobody has needed one so far
        if not found and self._cleaner is not None:
            await self._store.write(self._store.log.catalogue.make_id)
            found = await self._store.read(self._store.log.catalogue.own_id)
        return found

    async def about(self) -> AboutBroker:
        return AboutBroker(product="SQLite", version=apsw.sqlite_lib_version())

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._store.write(lambda: self._store.log.catalogue.create(specs))

    # Writing

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        plan = await self._plan(records)
        if plan.chunks:
            log, now_ms = self._store.log, self._store.now_ms
            await self._store.write(lambda: log.write(plan.chunks, now_ms()))
            self._store.nudges.send(plan.chunks)
        await self._store.breathe()
        return plan.failures

    async def append(
        self,
        log: TopicPartition,
        expected_offset: int | None,
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],
    ) -> Appended:
        """Write decisions and effects in one transaction, or nothing if the log ends elsewhere.

        Besides what the port says, it raises `RecordTooLarge` for a decision that the broker would
        not take.
        """
        for record in decisions:
            if len(record.value or b"") + len(record.key or b"") > self.max_record_bytes:
                raise RecordTooLarge(
                    f"a decision for {log.topic}/{log.partition} is larger than {self.max_record_bytes} bytes"
                )
        log_id = await self._partition_id(log)
        own = {log_id: chunks_of(decisions, singly=False)}
        sent = await self._plan(effects)

        def work() -> Appended:
            # Within the transaction: no other process can write between this look and the append.
            end = self._store.log.tail(log_id).offset
            # One that was made ready before the refusal may fit the end by chance, and its effects
            # would leave with it.
            if expected_offset is not None and (end != expected_offset or log_id in self._refused):
                self._refused.add(log_id)
                return Appended((), effects_sent=False, timestamp_ms=self._store.now_ms(), refused=True)
            timestamp_ms = self._store.log.write(own, self._store.now_ms())
            self._store.log.write(sent.chunks, timestamp_ms)
            return Appended(
                spans=((end, len(decisions)),),
                effects_sent=True,
                timestamp_ms=timestamp_ms,
                failures=tuple(sent.failures),
            )

        try:
            appended = await self._store.write(work)
        except BrokerUnavailable:
            self._refused.add(log_id)
            raise
        if expected_offset is None:
            self._refused.discard(log_id)
        if not appended.refused:
            # after the commit: a reader that wakes must find the records
            self._store.nudges.send((log_id, *sent.chunks))
        await self._store.breathe()
        return appended

    async def _plan(self, records: Sequence[OutRecord]) -> Plan:
        try:
            return self._store.log.plan(records)
        except (apsw.Error, msgspec.MsgspecError):  # a topic was unknown, and the file is busy
            return await self._store.read(lambda: self._store.log.plan(records))

    async def _partition_id(self, place: TopicPartition) -> int:
        catalogue = self._store.log.catalogue
        known = catalogue.known_id(place)
        return known if known is not None else await self._store.read(lambda: catalogue.id_of(place))

    async def delete_records(self, place: TopicPartition, before_offset: int) -> None:
        """Drop the records below an offset, as retention does with old ones."""
        log = self._store.log
        await self._store.write(lambda: log.drop_before(log.catalogue.id_of(place), before_offset))

    # Offsets

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._for_each(partitions, lambda at: self._store.log.tail(at).offset)

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._for_each(partitions, self._store.log.begin_offset)

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        return await self._for_each(partitions, lambda at: self._store.log.offset_at(at, timestamp_ms))

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        groups = self._store.groups

        def find(partition_id: int) -> Committed | None:
            group_id = groups.group_id(group)
            return None if group_id is None else groups.committed(group_id, partition_id)

        return await self._for_each(partitions, find)

    async def _for_each(self, places: Sequence[TopicPartition], find: Callable[[int], T]) -> dict[TopicPartition, T]:
        catalogue = self._store.log.catalogue
        return await self._store.read(lambda: {place: find(catalogue.id_of(place)) for place in places})

    # Readers

    async def reader(self) -> SqliteReader:
        return SqliteReader(self._store)

    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        listener: GroupListener,
        *,
        member: str,
        fetch: bool = True,
        session_timeout_s: float = defaults.SESSION_TIMEOUT_S,
    ) -> SqliteSubscription:
        group_id = await self._store.write(lambda: self._store.groups.add_group(group))
        subscription = SqliteSubscription(
            *(self._store, group_id, topics, listener), member=member, fetch=fetch, session_s=session_timeout_s
        )
        await subscription.join()
        self._subscriptions.append(subscription)
        return subscription

    # The end

    async def close(self) -> None:
        """Leave the groups that are still joined, and close the file.

        The listeners are not called.
        """
        await self._stop_cleaning()
        try:
            for subscription in self._subscriptions:
                await subscription.abandon()
        finally:
            await self._store.close()

    async def abort(self) -> None:
        """End as a killed process would, for tests.

        It commits nothing, leaves no group, and calls no `on_revoked`.
        """
        await self._stop_cleaning()
        for subscription in self._subscriptions:
            await subscription.abort()
        await self._store.close()

    # Retention and compaction

    async def _stop_cleaning(self) -> None:
        if self._cleaner is not None:
            self._cleaner.cancel()
            await asyncio.wait({self._cleaner})

    async def _keep_clean(self) -> None:
        while True:
            await asyncio.sleep(uniform(0.5, 1.5) * _CLEAN_EVERY_S)  # noqa: S311 - spreads the processes' turns
            try:
                await self.clean()
            except BrokerUnavailable as error:
                _log.warning("cleaning_put_off", client_id=self._client_id, error=str(error))

    async def clean(self) -> int:
        """Drop what `retention.ms` and `cleanup.policy=compact` no longer keep, in portions.

        Returns how many chunks were dropped.
        """
        dropped = 0
        for topic in tuple((await self._store.read(self._store.log.catalogue.load)).values()):
            for partition_id in range(topic.first_id, topic.first_id + topic.info.partitions):
                dropped += await self._clean_partition(topic, partition_id)
        return dropped

    async def _clean_partition(self, topic: Topic, partition_id: int) -> int:
        log, now_ms = self._store.log, self._store.now_ms()
        if topic.is_compacted:
            keep_ms = int(topic.info.config.get("delete.retention.ms", _DAY_MS))
            return await self._compact(partition_id, now_ms - keep_ms)
        retention_ms = int(topic.info.config.get("retention.ms", -1))
        if retention_ms < 0:
            return 0
        dropped = 0
        while went := await self._store.write(
            lambda: log.drop_expired(partition_id, now_ms - retention_ms, _CLEAN_PORTION)
        ):
            dropped += went
            await self._store.breathe()
        return dropped

    async def _compact(self, partition_id: int, tombstones_before_ms: int) -> int:
        log, compaction = self._store.log, Compaction(partition_id, tombstones_before_ms)
        while await self._store.read(lambda: compaction.look(log, _COMPACT_PORTION)):
            await self._store.breathe()
        # In portions, because every other writer waits while a transaction is open.
        for dead in compaction.dead(_CLEAN_PORTION):
            await self._store.write(partial(log.drop, dead))
            await self._store.breathe()
        return compaction.count


def _absolute(path: str | PathLike[str]) -> Path:
    """Make the path absolute, so that a later change of the working folder has no effect."""
    return Path(fspath(path)).expanduser().absolute()


async def _connect(file: Path, durability: Durability, *, read_only: bool, timeout_s: float) -> apsw.Connection:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return connect(file, durability=durability, read_only=read_only)
        except (apsw.BusyError, apsw.LockedError) as error:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"another process has held {file} for {timeout_s:g} s. End it (`fuser` names it), or name another file."
                ) from error
        await asyncio.sleep(_RETRY_S)

"""Consumers: the port's reader, and what a group's member is built on.

Owns the use of aiokafka's consumers, with the mesh's values and errors around them. What a
rebalance means is `group`'s business. Called by `broker`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from mesh.adapters.kafka.clients import ailment, end
from mesh.adapters.kafka.cluster import BACKOFF_S, Cluster, words
from mesh.adapters.kafka.group import GroupSubscription
from mesh.adapters.kafka.security import UNAUTHORISED, right_refused
from mesh.errors import BrokerUnavailable
from mesh.ports import Committed, Record, TopicPartition, UnreadableRecords

_log = structlog.get_logger(__name__)


class Consumer:
    """An aiokafka consumer, with the mesh's values and errors.

    If aiokafka's consumer is past use, another one takes its place. Implements
    `group.GroupConsumer`. `start` gives one that is connected, reads nothing and is in no group.
    """

    def __init__(self, consumer: Any, start: Callable[[], Awaitable[Any]], cluster: Cluster) -> None:
        self._consumer = consumer
        self._start = start
        self._join: Callable[[], None] | None = None
        self._name = cluster.name
        self._timeout_s = cluster.timeout_s
        self._security = cluster.security

    def join(self, topics: Sequence[str], subscription: GroupSubscription) -> None:
        """Become a member of the group, for `subscription`. Joining goes on in the background."""

        def join() -> None:
            self._consumer.subscribe(list(topics), listener=_Rebalance(subscription))

        self._join = join
        join()

    def is_well(self) -> bool:
        return not ailment(self._consumer)

    async def replace(self) -> None:
        """As the group has it. A reader's new consumer reads on where the old one was."""
        fresh = await self._start()
        old, self._consumer = self._consumer, fresh
        _log.warning("kafka_client_replaced", client=self._name, why=ailment(old))
        if self._join is None:
            self._read_on(old)
        try:
            # before its successor joins: it may be a member yet
            await end(old, old.stop(), self._name)
        finally:
            if self._join is not None:
                self._join()

    def _read_on(self, old: Any) -> None:
        """Read what the old consumer read, from where it was."""
        positions = {at: _position(old, at) for at in old.assignment()}
        if positions:
            self._consumer.assign(list(positions))
        for at, offset in positions.items():
            # one that had not found its position yet reads from the first record, as it would have
            if offset is not None:
                self._consumer.seek(at, offset)

    def is_member(self) -> bool:
        return bool(self._consumer._coordinator.generation > 0)  # noqa: SLF001 - reset when the group dropped us; not public

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        consumer = self._consumer
        # A new assignment drops what aiokafka has fetched ahead, so
        # there is one only where it must be.
        if consumer.assignment() != positions.keys():
            consumer.assign(list(positions))
            changed = dict(positions)
        else:  # what stays where it is keeps what was fetched ahead
            changed = {at: offset for at, offset in positions.items() if _position(consumer, at) != offset}
        for at, offset in changed.items():
            consumer.seek(at, offset)

    async def poll(
        self, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        # to `getmany`, none means all
        if partitions is not None and not partitions:
            await asyncio.sleep(timeout_s)
            return []
        some = [KafkaPartition(*at) for at in partitions or ()]
        try:
            # getmany waits without end while the group shares again
            async with asyncio.timeout(timeout_s + 2 * BACKOFF_S):
                got = await self._consumer.getmany(*some, timeout_ms=timeout_s * 1000, max_records=max_records)
        except TimeoutError:
            return []
        except UNAUTHORISED as error:
            raise right_refused(self._name, self._security, f"read {_objects(error)}") from error
        except KafkaError as error:
            raise BrokerUnavailable(f"{self._name}: reading failed ({words(error)})") from error
        return [
            r
            if type(r) is UnreadableRecords
            else Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, _headers(r.headers))
            for records in got.values()
            for r in records
        ]

    def position(self, at: TopicPartition) -> int | None:
        return _position(self._consumer, at)

    def seek(self, at: TopicPartition, offset: int) -> None:
        with contextlib.suppress(kafka_errors.IllegalStateError):  # shared again meanwhile
            self._consumer.seek(at, offset)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._consumer.pause(*self._assigned(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._consumer.resume(*self._assigned(partitions))

    def _assigned(self, partitions: Sequence[TopicPartition]) -> list[Any]:
        return [KafkaPartition(*at) for at in self._consumer.assignment().intersection(partitions)]

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        given = {KafkaPartition(*at): OffsetAndMetadata(*position) for at, position in offsets.items()}
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._consumer.commit(given)
        except (kafka_errors.CommitFailedError, kafka_errors.IllegalStateError):
            # The group has rebalanced: the next owner reads from what was committed before.
            return False
        except UNAUTHORISED as error:
            raise right_refused(self._name, self._security, f"commit positions of {_objects(error)}") from error
        except (TimeoutError, KafkaError) as error:
            raise BrokerUnavailable(f"{self._name}: whether the commit counts is unknown ({words(error)})") from error
        return True

    async def stop(self, *, leave: bool = True) -> None:
        consumer = self._consumer
        if not leave and self.is_member():
            consumer._coordinator.generation = -1  # noqa: SLF001 - what makes aiokafka send LeaveGroup
        await end(consumer, consumer.stop(), self._name)


class KafkaReader:
    """Implements `mesh.ports.Reader`."""

    def __init__(self, consumer: Consumer, forget: Callable[[object], None]) -> None:
        self._consumer = consumer
        self._forget = forget
        self._starts: Mapping[TopicPartition, int] = {}

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._starts = dict(positions)
        self._consumer.assign(positions)

    def position(self, partition: TopicPartition) -> int:
        position = self._consumer.position(partition)
        return self._starts[partition] if position is None else position

    async def poll(
        self, *, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> Sequence[Record]:
        if not self._consumer.is_well():
            await self._consumer.replace()
        return await self._consumer.poll(max_records, timeout_s, partitions)

    async def close(self) -> None:
        self._forget(self)
        await self._consumer.stop()


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped here
    """Hands aiokafka's callbacks on to the subscription."""

    def __init__(self, subscription: GroupSubscription) -> None:
        self._subscription = subscription

    async def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002 - all that was held, as ever
        await self._subscription.lose_share()

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._subscription.take_share([TopicPartition(*at) for at in sorted(assigned)])


class Membership(GroupSubscription):
    """A subscription that the broker forgets when it is closed."""

    forget: Callable[[object], None]

    async def close(self) -> None:
        self.forget(self)
        await super().close()


def _objects(error: KafkaError) -> str:
    """The topics or the group that an error of rights is about."""
    kind = "the group" if isinstance(error, kafka_errors.GroupAuthorizationFailedError) else "the topic"
    named = error.args[0] if error.args else "?"
    return f"{kind} {', '.join(sorted(named)) if isinstance(named, set) else named}"


def _position(consumer: Any, at: TopicPartition) -> int | None:
    subscription = consumer._subscription.subscription  # noqa: SLF001 - `position()` may wait
    assignment = subscription.assignment if subscription is not None else None
    state = assignment.state_value(at) if assignment is not None and at in assignment.tps else None
    return state.position if state is not None and state.has_valid_position else None


def _headers(headers: Any) -> tuple[tuple[str, bytes], ...]:
    """Other clients may send a header without a value: the mesh has it as an empty one."""
    for _, value in headers:
        if value is None:
            return tuple((name, value or b"") for name, value in headers)
    return headers  # type: ignore[no-any-return] # a tuple of pairs already

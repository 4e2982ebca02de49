"""One member of a Kafka consumer group, with the port's meaning of a rebalance.

Owns what the listener hears and when records flow. It knows no Kafka client: a `GroupConsumer`
(in `consumers`) polls, seeks and commits, and calls `lose_share` and `take_share` as the group
rebalances. Called through `mesh.ports.Subscription`.

Kafka's eager protocol takes all partitions from every member at each rebalance and gives each its
new share, so the listener sees `on_revoked` with all that it held, then `on_assigned` with all that
it has. What aiokafka 0.14 does, and what is done about it here:

* It hands out records while its `on_partitions_assigned` runs. So that callback first pauses all
  partitions.
* It sends no heartbeat while that callback runs, and a listener that reads a state may need longer
  than the session. So the listener is called in a task, and the partitions flow when it has
  returned. A revocation waits for that task.
* It swallows what callbacks raise. So the failure is kept, and the next `poll` raises it.
* It calls no callback when the consumer stops. So `close` calls `on_revoked`.
* It takes a group's positions as absent while their coordinator still loads them (the error is
  outside the partitions that it looks at), and would begin at the first record. So positions come
  from `Cluster.committed`, which asks again, and each is set.
* Its background tasks may die (see `clients`). So a consumer that is not well is replaced, and the
  share is lost without a word.

What the listener raises ends the subscription. If the broker is unavailable, the next
`poll` raises that once, and it is tried again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from mesh.errors import BrokerUnavailable
from mesh.ports import Committed, GroupListener, Record, TopicPartition

_AGAIN_S = (
    # between questions for a new share's positions, each of which takes its own time where the
    # broker is away
    0.5
)


_FROM_THE_FIRST = Committed(0)  # where a group begins that has committed nothing


class GroupConsumer(Protocol):
    """A Kafka consumer that has joined a group, or is about to."""

    def is_member(self) -> bool:
        """False once the group has dropped us, until we have joined again."""
        ...

    def is_well(self) -> bool:
        """False once something in it has ended that it needs."""
        ...

    async def replace(self) -> None:
        """Drop the consumer that is not well, and join the group afresh.

        Raises `BrokerUnavailable` if that must be tried again.
        """
        ...

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]: ...

    def seek(self, at: TopicPartition, offset: int) -> None: ...

    def position(self, at: TopicPartition) -> int | None:
        """The next offset that will be read; None where it is not known."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None: ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None: ...

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        """Commit what is ours; false, and nothing happens, if the group has rebalanced meanwhile.

        Raises `BrokerUnavailable`.
        """
        ...

    async def stop(self, *, leave: bool) -> None:
        """Leave the group (or just fall silent), and free everything. Bounded."""
        ...


class GroupSubscription:
    """Implements `mesh.ports.Subscription`."""

    def __init__(
        self,
        consumer: GroupConsumer,
        listener: GroupListener,
        committed: Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, Committed | None]]],
        *,
        fetch: bool,
        session_timeout_s: float,
    ) -> None:
        self._consumer = consumer
        self._listener = listener
        self._committed = committed
        self._fetch = fetch
        self._session_timeout_s = session_timeout_s
        self._held: frozenset[TopicPartition] = frozenset()
        self._shares_taken = 0
        self._stands: dict[TopicPartition, Committed] = {}  # what was committed last, of what is held
        self._paused: set[TopicPartition] = set()
        self._taking: asyncio.Task[None] | None = None
        self._rebalance = asyncio.Lock()
        self._failure: BaseException | None = None
        self._trouble: BrokerUnavailable | None = None
        self._closed = False

    # The port

    async def poll(self, *, max_records: int, timeout_s: float) -> Sequence[Record]:
        self._raise_failure()
        if not self._consumer.is_well():
            # nothing can be committed any more, and others may have our share already
            await self._give_up(told=False)
            await self._consumer.replace()
        records = await self._consumer.poll(max_records, timeout_s)
        # what came before the failure is handed out first
        if not records:
            self._raise_failure()
        return records

    def assignment(self) -> frozenset[TopicPartition]:
        return self._held

    def position(self, partition: TopicPartition) -> int | None:
        return self._consumer.position(partition) if partition in self._held else None

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        ours = self._held.intersection(partitions)
        self._paused |= ours
        self._consumer.pause(list(ours))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        ours = self._held.intersection(partitions)
        self._paused -= ours
        if self._fetch and (self._taking is None or self._taking.done()):
            self._consumer.resume(list(ours))

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> frozenset[TopicPartition]:
        ours = {at: position for at, position in offsets.items() if at in self._held}
        if not ours or not await self._consumer.commit(ours):
            return frozenset()
        self._stands |= ours
        return frozenset(ours)

    async def confirm(self) -> frozenset[TopicPartition]:
        """Commit once more what was committed before, and return what is still ours.

        The broker refuses the commit of a member that it has removed.
        """
        taken = self._shares_taken
        known = {at: self._stands.get(at, _FROM_THE_FIRST) for at in self._held}
        # a share that was taken meanwhile is not what the refusal is about
        if known and not await self._consumer.commit(known) and taken == self._shares_taken:
            self._held = frozenset()
            self._paused.clear()
        return self._held

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._give_up(told=self._consumer.is_member())
            await self._consumer.stop(leave=True)

    async def abort(self) -> None:
        """Fall silent as a killed process does: nothing is committed, and the session runs out."""
        self._closed = True
        if self._taking is not None:
            self._taking.cancel()
        await self._consumer.stop(leave=False)

    # The group's side, called by the consumer as it rebalances

    async def lose_share(self) -> None:
        """The group is about to rebalance, or has dropped us."""
        await self._give_up(told=self._consumer.is_member())

    def take_share(self, partitions: Sequence[TopicPartition]) -> None:
        """The group has given us these, and nothing else.

        Returns at once, before any of their records can be handed out.
        """
        # before all else, since aiokafka hands out records while its callback runs
        self._consumer.pause(partitions)
        self._shares_taken += 1
        if not self._closed:
            self._taking = asyncio.create_task(self._take(partitions), name="kafka-group take")

    async def _take(self, partitions: Sequence[TopicPartition]) -> None:
        async with self._recorded():
            positions = await self._positions(partitions)
            for at, position in positions.items():
                if position is not None:
                    self._consumer.seek(at, position.offset)
            self._held = frozenset(partitions)
            self._stands = {at: position for at, position in positions.items() if position is not None}
            # held before the listener hears of it, because it may commit
            await self._listener.on_assigned(positions)
            # only now: no record may come before the listener has prepared for it
            if self._fetch:
                self._consumer.resume([at for at in partitions if at not in self._paused])

    async def _positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed | None]:
        """The group's positions, however long it takes to get them.

        Without them nothing of this share may flow.
        """
        while partitions:
            try:
                return await self._committed(partitions)
            except BrokerUnavailable as error:
                self._trouble = error
            await asyncio.sleep(_AGAIN_S)
        return {}

    async def _give_up(self, *, told: bool) -> None:
        """Give up all partitions.

        If `told`, the listener hears of it first, within the session's time.
        """
        async with self._rebalance:
            await self._settle_taking()
            if self._held and told:
                async with self._recorded():
                    await self._tell_revoked()
            self._held = frozenset()
            self._paused.clear()

    async def _tell_revoked(self) -> None:
        try:
            async with asyncio.timeout(self._session_timeout_s):
                await self._listener.on_revoked(sorted(self._held))
        except TimeoutError:
            self._trouble = BrokerUnavailable(
                f"on_revoked took longer than the session's {self._session_timeout_s:g} s: its partitions go to others without it"
            )

    async def _settle_taking(self) -> None:
        """Wait for an `on_assigned` that is under way.

        If the listener has not heard of its share yet, it need not hear of it.
        """
        taking, self._taking = self._taking, None
        if taking is None or taking.done():
            return
        # the listener has not heard of this share, so it need not hear that it is gone
        if not self._held:
            taking.cancel()
        await asyncio.wait({taking}, timeout=self._session_timeout_s)
        taking.cancel()
        await asyncio.wait({taking}, timeout=self._session_timeout_s)

    @contextlib.asynccontextmanager
    async def _recorded(self) -> AsyncIterator[None]:
        """Keep what the listener raises for the next poll: otherwise nobody would see it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the port promises to raise it, whatever it is, in `poll`
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble

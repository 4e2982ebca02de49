"""A router's part in its group: the group shares the partitions out, and nothing more.

Owns the subscription. It must not conclude that a partition is ours to write: the log decides that
(`mesh.core.ownership`). It tells `holdings` which partitions to want, and the group how far each is
decided. The router runs it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, PartitionsDiffer, TopicMissing
from mesh.ports import Broker, Committed, Subscription, TopicPartition
from mesh.services.router.config import RouterConfig
from mesh.services.router.holdings import Holdings
from mesh.services.router.owner import Owner
from mesh.services.router.positions import told

_log = structlog.get_logger()


async def check_topics(broker: Broker, topics: Topics, partitions: int) -> None:
    """Raise `TopicMissing` or `PartitionsDiffer` unless one owner can have partition p of all.

    Which partition a workflow is in depends on this count.
    """
    there = await broker.topics()
    for name in (topics.log, topics.inbox, topics.results):
        info = there.get(name)
        if info is None:
            raise TopicMissing(f"topic {name} is not there: run `mesh topics apply` first")
        if info.partitions != partitions:
            raise PartitionsDiffer(
                f"topic {name} has {info.partitions} partitions, and this router is set to {partitions}: "
                f"set MESH_PARTITIONS={info.partitions} if the log was written so; the count can't change under a log"
            )


class Membership:
    """`land`: lets what owners have under way land, before their partitions go to others."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        config: RouterConfig,
        holdings: Holdings,
        land: Callable[[Sequence[Owner]], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._config = config
        self._holdings = holdings
        self._land = land
        self._told: dict[TopicPartition, Committed] = {}
        self._has_heard = False  # of a share, even of none
        self.waits_for = "the group has not let it in yet"
        """Why it does not take part just now; empty if it does."""

    async def take_part(self, drained: asyncio.Event) -> None:
        """Take part in the sharing of partitions until everything is drained."""
        subscription = await self._broker.subscribe(
            self._topics.router_group,
            [self._topics.inbox],
            self,
            member=self._config.instance,
            # The group only shares partitions out: owners read from the positions that the log has.
            fetch=False,
            session_timeout_s=self._config.session_timeout_s,
        )
        loop = asyncio.get_running_loop()
        # a member that gets no partition may not hear of that
        in_by_s = loop.time() + self._config.session_timeout_s
        try:
            while not drained.is_set():
                try:
                    await subscription.poll(max_records=1, timeout_s=self._config.membership_poll_s)
                    self._holdings.want_only({partition for _, partition in subscription.assignment()})
                    if self._has_heard or loop.time() >= in_by_s:
                        self.waits_for = ""
                    await self._tell_positions(subscription)
                except BrokerUnavailable as error:
                    self.waits_for = str(error)
                    _log.warning("membership_waits", error=str(error))
                    await asyncio.sleep(self._config.retry_pause_s)
        finally:
            await subscription.close()

    async def _tell_positions(self, subscription: Subscription) -> None:
        """Commit the positions that have changed since the last time."""
        positions = self._positions()
        changed = {tp: position for tp, position in positions.items() if self._told.get(tp) != position}
        if changed:
            await subscription.commit(changed)
            self._told = positions

    def _positions(self) -> dict[TopicPartition, Committed]:
        """How far each partition's inputs have been decided or skipped.

        This is for lag, not for correctness.
        """
        inbox, results = self._topics.inbox, self._topics.results
        read = {p: owner.state.positions for p, owner in self._holdings.owners.items()}
        return {TopicPartition(inbox, p): told(at.get(inbox, 0), at.get(results, 0)) for p, at in read.items()}

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self._has_heard = True
        self._holdings.want([partition for _, partition in partitions])
        _log.info("partitions_assigned", partitions=sorted(p for _, p in partitions))

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        revoked = [p for _, p in partitions]
        _log.info("partitions_revoked", partitions=sorted(revoked))
        # The group waits for this, so the next owner finds our last mark in the log.
        await self._land(self._holdings.give_up(revoked))

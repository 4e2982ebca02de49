"""How a router carries out bulk operations: it sends their commands at a bounded rate.

The router that owns partition 0 does it. It notes on `mesh.operations` how far it has got, so that
the next owner goes on there. Two routers may send the same command, if one does not know yet that
it has lost the partition, or died before its note: a workflow decides on each operation once
(docs/adr/0029).
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from mesh.codec.operations import Ordered, Progress, command_of, encode_operation
from mesh.core.topics import Topics
from mesh.errors import MeshError, TopicMissing
from mesh.ports import Broker
from mesh.services.operations import Operation, OperationsReader

_log = structlog.get_logger()
_LOOK_EVERY_S: Final = 1.0
# an older mesh has no such topic, and asking for it costs more than looking at its end
_LOOK_FOR_TOPIC_S: Final = 30.0


class OperationRunner:
    """`owns`: whether this router owns partition 0, as far as it knows."""

    def __init__(self, broker: Broker, topics: Topics, owns: Callable[[], bool]) -> None:
        self._broker = broker
        self._topics = topics
        self._owns = owns
        self._known = OperationsReader(broker, topics, keeps_ids=False)
        self._has_started = False

    async def follow(self) -> None:
        """Send what is to be sent, until it is cancelled."""
        try:
            pause_s = 0.0
            while pause_s >= 0:
                await asyncio.sleep(pause_s)
                pause_s = await self._look()
        finally:
            await self._known.close()

    async def _look(self) -> float:
        """Send some. Returns the seconds until the next look."""
        try:
            if self._owns():
                await self.send_some()
        except TopicMissing:
            return _LOOK_FOR_TOPIC_S
        except MeshError as error:
            _log.warning("operations_wait", error=str(error), next="they go on when the broker answers")
        return _LOOK_EVERY_S

    async def send_some(self) -> None:
        """Send what each operation may send in a second."""
        if self._has_started:
            await self._known.refresh()
        else:
            await self._known.start()
            self._has_started = True
        for operation in self._known.to_send():
            if operation.ordered is not None:
                await self._send_of(operation, operation.ordered)

    async def _send_of(self, operation: Operation, ordered: Ordered) -> None:
        ids = operation.workflow_ids()
        if len(ids) < ordered.total:
            _log.error("operation_incomplete", operation=operation.id, missing=ordered.total - len(ids))
            return
        batch = ids[operation.sent : operation.sent + ordered.rate]
        records = [command_of(ordered, one, operation.forks.get(one), topics=self._topics) for one in batch]
        failures = await self._broker.send(records)
        for failure in failures:
            _log.error("command_not_sent", operation=operation.id, reason=failure.message)
        unsent = tuple(batch[failure.index] for failure in failures)
        # after the broker has them: who dies in between leaves them to be sent again
        operation.sent += len(batch)
        operation.unsent += unsent
        note = Progress(operation=operation.id, sent=operation.sent, unsent=operation.unsent)
        await self._broker.send([encode_operation(note, topics=self._topics)])
        if operation.sent >= ordered.total:
            _log.info("operation_sent", operation=operation.id, commands=ordered.total)

"""The content of `mesh.operations`: every bulk operation, and how far it has got.

Owns reading the topic, for the router that sends the commands and for the command line, and the
order of writing: the ids first, and then what is ordered.
"""

from collections.abc import Sequence

import msgspec
import structlog

from mesh.codec.operations import (
    Ids,
    Ordered,
    Progress,
    Stopped,
    chunked,
    command_of,
    decode_operation,
    encode_operation,
)
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, OperatorError, RecordTooLarge
from mesh.ports import Broker, OutRecord, Record, UnreadableRecords
from mesh.services.whole_topic import WholeTopic

_log = structlog.get_logger()


class Operation(msgspec.Struct, kw_only=True):
    """One operation, as far as it was read. Mutable: its reader is its only writer."""

    id: str
    ordered: Ordered | None = None
    chunks: dict[int, tuple[str, ...]] = {}
    sent: int = 0
    unsent: tuple[str, ...] = ()
    stopped: Stopped | None = None

    @property
    def is_to_send(self) -> bool:
        """Whether there are commands that nobody has sent."""
        ordered = self.ordered
        return ordered is not None and self.stopped is None and self.sent < ordered.total

    def workflow_ids(self) -> list[str]:
        return [one for number in sorted(self.chunks) for one in self.chunks[number]]


class OperationsReader:
    """All that is known so far. `refresh` reads what has been written since.

    `keeps_ids`: also of operations of which nothing is left to send.
    """

    def __init__(self, broker: Broker, topics: Topics, *, keeps_ids: bool) -> None:
        self.operations: dict[str, Operation] = {}  # in the order in which they were ordered
        self._keeps_ids = keeps_ids
        self._topic = WholeTopic(broker, topics.operations, self._take)

    async def start(self) -> None:
        """Read all that is there. Raises `TopicMissing` and `BrokerUnavailable`."""
        await self._topic.start()

    async def refresh(self) -> None:
        await self._topic.refresh()

    async def close(self) -> None:
        await self._topic.close()

    def to_send(self) -> list[Operation]:
        """The operations with commands that nobody has sent."""
        return [one for one in self.operations.values() if one.is_to_send]

    def _take(self, record: Record) -> None:
        if isinstance(record, UnreadableRecords):
            _log.error("operations_unreadable", error=record.message)
            return
        # a tombstone says nothing
        if record.value is None:
            return
        try:
            said = decode_operation(record)
        except MalformedRecord as error:
            _log.warning("operation_unreadable", error=str(error))
            return
        operation = self.operations.setdefault(said.operation, Operation(id=said.operation))
        match said:
            case Ordered():
                # a second order under this id changes nothing: commands may be out already
                operation.ordered = operation.ordered or said
            case Ids():
                operation.chunks.setdefault(said.number, said.ids)
            case Progress():
                # of two routers for a moment, one may be behind the other
                operation.sent = max(operation.sent, said.sent)
                operation.unsent = tuple(dict.fromkeys((*operation.unsent, *said.unsent)))
            case Stopped():
                operation.stopped = operation.stopped or said
        if not self._keeps_ids and operation.ordered is not None and not operation.is_to_send:
            operation.chunks.clear()


async def order(broker: Broker, topics: Topics, ordered: Ordered, workflow_ids: Sequence[str]) -> Ordered:
    """Write the operation down: from then on some router sends its commands.

    Raises `RecordTooLarge` if a command would be too large, and `BrokerUnavailable`.
    """
    chunks = chunked(ordered.operation, list(workflow_ids))
    ordered = msgspec.structs.replace(ordered, total=len(workflow_ids), chunks=len(chunks))
    largest = max(command_of(ordered, one, topics=topics).size_bytes() for one in workflow_ids)
    record = encode_operation(ordered, topics=topics)
    if max(largest, record.size_bytes()) > broker.max_record_bytes:
        raise RecordTooLarge(
            f"each command would have {largest} bytes, and the broker takes {broker.max_record_bytes}: "
            "put the bulk of the input elsewhere; nothing was ordered"
        )
    for chunk in chunks:
        await send(broker, [encode_operation(chunk, topics=topics)])
    # last of all: what dies before this has ordered nothing
    await send(broker, [record])
    return ordered


async def send(broker: Broker, records: Sequence[OutRecord]) -> None:
    """Send records of the topic. Raises `OperatorError` if the broker does not take one."""
    failures = await broker.send(records)
    if failures:
        raise OperatorError(f"the operation could not be written down: {failures[0].message}")

"""The content of `mesh.operations`: every bulk operation, and how far it has got.

Owns reading the topic, for the router that sends the commands and for the command line, and the
order of writing: the ids first, and then what is ordered.
"""

from collections.abc import Mapping, Sequence

import msgspec
import structlog

from mesh.codec.operations import (
    Forks,
    Ids,
    Ordered,
    Progress,
    Stopped,
    chunked,
    chunked_forks,
    command_of,
    decode_operation,
    encode_operation,
)
from mesh.core.forks import PlannedFork
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
    into: dict[str, str] = {}  # of fork: the new workflow, by the other one
    forks: dict[str, PlannedFork] = {}
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

    `keeps_ids`: also of operations of which nothing is left to send. That is for who shows them.
    Without it, what a fork says is kept until it is sent.
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
            case Forks() if said.number not in operation.chunks:
                operation.chunks[said.number] = tuple(said.forks)
                if self._keeps_ids:
                    operation.into |= {one: fork.into for one, fork in said.forks.items()}
                else:
                    operation.forks |= said.forks
            case Forks():
                pass
            case Progress():
                # of two routers for a moment, one may be behind the other
                operation.sent = max(operation.sent, said.sent)
                operation.unsent = tuple(dict.fromkeys((*operation.unsent, *said.unsent)))
            case Stopped():
                operation.stopped = operation.stopped or said
        if not self._keeps_ids and operation.ordered is not None and not operation.is_to_send:
            operation.chunks.clear()
            operation.forks.clear()


async def order(
    broker: Broker,
    topics: Topics,
    ordered: Ordered,
    workflow_ids: Sequence[str],
    forks: Mapping[str, PlannedFork] | None = None,
) -> Ordered:
    """Write the operation down: from then on some router sends its commands.

    `forks`: of fork, what each workflow's says. Raises `RecordTooLarge` if a command would be too
    large, and `BrokerUnavailable`.
    """
    planned = forks or {}
    chunks = chunked_forks(ordered.operation, planned) if planned else chunked(ordered.operation, workflow_ids)
    ordered = msgspec.structs.replace(ordered, total=len(workflow_ids), chunks=len(chunks))
    sizes = {one: command_of(ordered, one, planned.get(one), topics=topics).size_bytes() for one in workflow_ids}
    largest = max(sizes, key=sizes.__getitem__)
    parts = [encode_operation(part, topics=topics) for part in chunks]
    record = encode_operation(ordered, topics=topics)
    if max(sizes[largest], *(part.size_bytes() for part in (*parts, record))) > broker.max_record_bytes:
        raise RecordTooLarge(
            f"the command for {largest} would have {sizes[largest]} bytes, and the broker takes records of "
            f"{broker.max_record_bytes}: put the bulk of the input elsewhere; nothing was ordered"
        )
    for part in parts:
        await send(broker, [part])
    # last of all: what dies before this has ordered nothing
    await send(broker, [record])
    return ordered


async def send(broker: Broker, records: Sequence[OutRecord]) -> None:
    """Send records of the topic. Raises `OperatorError` if the broker does not take one."""
    failures = await broker.send(records)
    if failures:
        raise OperatorError(f"the operation could not be written down: {failures[0].message}")

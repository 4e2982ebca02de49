"""How approvals ended, as their receipts say.

Owns looking a receipt up, near the time at which the approval went from the topic of what is open.
"""

from collections.abc import Mapping
from typing import Final

from mesh.codec.approvals import Receipt, decode_receipt
from mesh.core.ids import parse_step_id, partition_of_key
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.notifier.plan import Closing
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to

_EARLIER_MS: Final = 60_000  # a receipt may be stamped by another node of the broker


async def closings(broker: Broker, topics: Topics, closed_at_ms: Mapping[str, int]) -> dict[str, Closing]:
    """How these approvals ended. Those whose receipt is not found are left out."""
    info = (await broker.topics()).get(topics.receipts)
    if info is None or not closed_at_ms:
        return {}
    partitions = {_partition(one, info.partitions) for one in closed_at_ms}
    places = [TopicPartition(topics.receipts, partition) for partition in sorted(partitions)]
    starts = await broker.offsets_at(places, min(closed_at_ms.values()) - _EARLIER_MS)
    ends = await broker.end_offsets(places)
    found: dict[str, Closing] = {}
    reader = await broker.reader()
    try:
        reader.assign(starts)
        async for records in read_up_to(reader, ends):
            for receipt in filter(None, map(_closing, records)):
                if receipt.approval_id in closed_at_ms:
                    found[receipt.approval_id] = Closing(receipt.verdict or receipt.code, receipt.by)
    finally:
        await reader.close()
    return found


def _partition(approval_id: str, partitions: int) -> int:
    parts = parse_step_id(approval_id)
    return partition_of_key((parts.workflow_id if parts else approval_id).encode("utf-8", "surrogatepass"), partitions)


def _closing(record: Record) -> Receipt | None:
    try:
        receipt = decode_receipt(record)
    except MalformedRecord:
        return None
    # a refused answer may say too that the approval is closed
    return receipt if receipt.closed and receipt.status != "refused" else None

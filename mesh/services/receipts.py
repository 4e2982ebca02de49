"""Receipts of answers that were decided on before.

Owns how one is found again on its topic. `mesh.services.client` waits for those that are to come.
"""

from typing import Final

from mesh.codec.approvals import Receipt, decode_receipt
from mesh.core.ids import parse_step_id, partition_of_key
from mesh.core.topics import Topics
from mesh.errors import SenderError
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to

_SKEW_MS: Final = 60_000  # between the clock of an owner and that of the broker


async def receipt_of(
    broker: Broker, topics: Topics, answer_id: str, approval_id: str, *, since_ms: int
) -> Receipt | None:
    """The receipt of an answer; None: the broker no longer has it.

    `since_ms`: when it was decided on, by the log. Of several under one id it is the one that
    counts.
    """
    parts, known = parse_step_id(approval_id), await broker.topics()
    if parts is None or topics.receipts not in known:
        return None
    number = partition_of_key(parts.workflow_id.encode(), known[topics.receipts].partitions)
    starts = await broker.offsets_at([TopicPartition(topics.receipts, number)], since_ms - _SKEW_MS)
    ends = await broker.end_offsets(list(starts))
    found: Receipt | None = None
    reader = await broker.reader()
    try:
        reader.assign(starts)
        async for records in read_up_to(reader, ends):
            for one in map(_readable, records):
                if one is not None and one.answer_id == answer_id and (found is None or one.status == "accepted"):
                    found = one
    finally:
        await reader.close()
    return found


def _readable(record: Record) -> Receipt | None:
    """The receipt in a record; None: somebody else wrote it."""
    try:
        return decode_receipt(record)
    except SenderError:
        return None

"""How a record is named in messages. Called by every codec that refuses one."""

from mesh.core.receipts import Place
from mesh.ports import Record, UnreadableRecords


def place(record: Record) -> str:
    """A record's place in words: `mesh.events, partition 3, offset 17`."""
    if isinstance(record, UnreadableRecords) and record.first_offset != record.offset:
        return f"{record.topic}, partition {record.partition}, offsets {record.first_offset} to {record.offset}"
    return f"{record.topic}, partition {record.partition}, offset {record.offset}"


def place_id(record: Record) -> str:
    """A record's place as an id: `mesh.events/3/17`. One record always has the same id."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def receipt_id_at(source: Place) -> str:
    """The id of the receipt for the answer or the command at this place."""
    return f"{source.topic}/{source.partition}/{source.offset}/receipt"

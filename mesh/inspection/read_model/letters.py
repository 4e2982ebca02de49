"""Dead letters in the read model, with what operators have done about them.

Owns the table `dead_letters`. `mesh.inspection.read_model.projection` calls it.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import apsw

from mesh.codec.dead_letters import decode_dead_letter
from mesh.codec.handlings import decode_handling, is_handling
from mesh.codec.redrive import times_redriven, workflow_of
from mesh.core import ids
from mesh.errors import MalformedRecord
from mesh.inspection.letters import OPEN, Standing, after
from mesh.inspection.read_model.schema import select_one
from mesh.ports import Record

# how `mesh.core.matching` begins to say that a route makes no key of an event
_NO_KEY: Final = re.compile(r"(?:event \d+ of the batch: )?route (\S+) ")
_COLUMNS: Final = (
    "partition, dlq_offset, at_ms, topic, source_partition, source_offset, reason, message, workflow_id, route, times,"
    " status, operation, handled_by, handled_reason, handled_at_ms"
)


def take_letters(db: apsw.Connection, records: Sequence[Record]) -> None:
    """Take in records of `mesh.dlq`, in their order."""
    for record in records:
        if is_handling(record):
            _take_handling(db, record)
        else:
            sql = f"INSERT OR REPLACE INTO dead_letters ({_COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608 - constants only
            db.execute(sql, (*_letter_row(record), *OPEN, "", "", None))


def _take_handling(db: apsw.Connection, record: Record) -> None:
    try:
        given = decode_handling(record)
    except MalformedRecord:
        return  # it says nothing about any letter
    sql = "SELECT status, operation FROM dead_letters WHERE partition = ? AND dlq_offset = ?"
    # in the letter's own partition: elsewhere its order among the others is unknown
    row = select_one(db, sql, record.partition, given.offset) if given.partition == record.partition else None
    if row is None:
        return
    before = Standing(*row)
    now = after(before, given)
    if now != before:
        db.execute(
            "UPDATE dead_letters SET status = ?, operation = ?, handled_by = ?, handled_reason = ?, handled_at_ms = ?"
            " WHERE partition = ? AND dlq_offset = ?",
            (*now, given.by, given.reason, record.timestamp_ms, given.partition, given.offset),
        )


def _letter_row(record: Record) -> tuple[Any, ...]:
    where = (record.partition, record.offset, record.timestamp_ms)
    try:
        letter = decode_dead_letter(record)
    except MalformedRecord as error:
        return (*where, "", -1, -1, "foreign", str(error), "", "", 0)
    original = letter.original
    workflow_id = workflow_of(letter)
    no_key = _NO_KEY.match(letter.message) if letter.code == "no_key" else None
    return (
        *where,
        original.topic,
        original.partition,
        original.offset,
        letter.code,
        letter.message,
        workflow_id,
        no_key[1] if no_key else ids.route_of(workflow_id),
        times_redriven(letter),
    )

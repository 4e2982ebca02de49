"""The decisions of the log, as a timeline shows them."""

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgspec

from mesh.core.events import Decision
from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select, select_one

_decode_decision: Final = msgspec.json.Decoder(Decision).decode


class TimelineEntry(Row, frozen=True, array_like=True):
    partition: int
    offset: int
    run_id: str
    decision: Decision


def decisions_of(db: apsw.Connection, workflow_id: str) -> list[TimelineEntry]:
    """All decisions about a workflow, of all its runs, in the log's order."""
    sql = "SELECT partition, log_offset, run_id, record FROM decisions WHERE workflow_id = ? ORDER BY log_offset"
    return _timeline(select(db, sql, workflow_id))


def decisions_citing(db: apsw.Connection, topic: str, partition: int, offset: int) -> list[TimelineEntry]:
    """The decisions that this record caused, about any workflow."""
    sql = (
        "SELECT d.partition, d.log_offset, d.run_id, d.record FROM citations c JOIN decisions d"
        " ON d.partition = c.log_partition AND d.log_offset = c.log_offset"
        " WHERE c.topic = ? AND c.partition = ? AND c.source_offset = ? ORDER BY d.at_ms"
    )
    return _timeline(select(db, sql, topic, partition, offset))


def is_cited(db: apsw.Connection, topic: str, partition: int, offset: int) -> bool:
    """Whether this record caused any decision, also one that is archived."""
    sql = "SELECT 1 FROM citations WHERE topic = ? AND partition = ? AND source_offset = ?"
    return select_one(db, sql, topic, partition, offset) is not None


def decisions_after(db: apsw.Connection, row: int, *, limit: int = 1_000) -> list[tuple[int, TimelineEntry]]:
    """The decisions that the file took in after a row number, with their own row numbers.

    They are of all workflows. 0: from the first decision on.
    """
    sql = "SELECT partition, log_offset, run_id, record, rowid FROM decisions WHERE rowid > ? ORDER BY rowid LIMIT ?"
    rows = select(db, sql, row, limit)
    return list(zip((found[4] for found in rows), _timeline([found[:4] for found in rows]), strict=True))


def row_before_last(db: apsw.Connection, last: int, *, workflow_id: str | None = None) -> int:
    """The row number after which `decisions_after` begins with the last decisions.

    `workflow_id`: with the last ones about this workflow.
    """
    whose = "" if workflow_id is None else "WHERE workflow_id = ?2"
    values = (last,) if workflow_id is None else (last, workflow_id)
    sql = f"SELECT min(rowid) - 1 FROM (SELECT rowid FROM decisions {whose} ORDER BY rowid DESC LIMIT ?1)"  # noqa: S608 - constants only
    found: int | None = select_one(db, sql, *values)[0]
    if found is not None:
        return found
    newest: int | None = select_one(db, "SELECT max(rowid) FROM decisions")[0]
    return newest or 0


def _timeline(rows: Sequence[Any]) -> list[TimelineEntry]:
    return [TimelineEntry(partition, offset, run, _decode_decision(record)) for partition, offset, run, record in rows]

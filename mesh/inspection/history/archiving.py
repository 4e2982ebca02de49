"""From the read model into the archive: the workflows that the mesh has forgotten.

Owns which they are, and the order: first the file is on the disk, then the read model lets go. So a
run that dies at any moment has lost nothing, and the next one goes on. The log keeps all of it.
"""

from collections.abc import Iterator
from typing import Any, Final

import apsw
import msgspec

from mesh.codec.archives import VERSION, ArchivedDecision, ArchivedHead, sum_of
from mesh.codec.state import decode_workflow
from mesh.core.evolve import evolve
from mesh.core.state import Workflow
from mesh.inspection.history.archive import Archive, Part
from mesh.inspection.read_model.queries import TimelineEntry
from mesh.inspection.read_model.schema import select, transaction
from mesh.inspection.read_model.search import attributes_of

_BATCH: Final = 500  # workflows in a file


def archive_forgotten(db: apsw.Connection, archive: Archive, *, batch: int = _BATCH) -> Iterator[int]:
    """Archive all that is forgotten, file by file.

    Gives after each how many workflows have left the read model with it.
    """
    after = ""
    while rows := select(
        db,
        "SELECT workflow_id, state FROM workflows WHERE forgotten AND workflow_id > ? ORDER BY 1 LIMIT ?",
        after,
        batch,
    ):
        states = [decode_workflow(state) for _, state in rows]
        # files are never changed, so what may be erased stays out of them, and in the read model
        found = [_part(db, state) for state in states if not state.private]
        new = [(head, lines) for head, lines in found if lines and not archive.has(head.workflow_id, head.last_offset)]
        if new:
            archive.add(new)
        with transaction(db):
            for head, _ in found:
                _let_go(db, head)
        after = rows[-1][0]
        yield len(found)


def _part(db: apsw.Connection, last: Workflow) -> Part:
    sql = "SELECT partition, log_offset, run_id, record FROM decisions WHERE workflow_id = ? ORDER BY log_offset"
    decisions = [
        ArchivedDecision(partition=partition, offset=offset, run_id=run_id, record=msgspec.Raw(record))
        for partition, offset, run_id, record in select(db, sql, last.workflow_id)
    ]
    head = ArchivedHead(
        archive=VERSION,
        workflow_id=last.workflow_id,
        route=last.route,
        status=last.status,
        started_at_ms=last.started_at_ms,
        ended_at_ms=last.ended_at_ms,
        search=attributes_of(db, last.workflow_id),
        partition=decisions[-1].partition if decisions else -1,
        last_offset=decisions[-1].offset if decisions else -1,
        decisions=len(decisions),
        sum=sum_of(decisions),
    )
    return head, decisions


def _let_go(db: apsw.Connection, head: ArchivedHead) -> None:
    """Delete what the archive has, unless the workflow has begun again meanwhile."""
    name, last = head.workflow_id, head.last_offset
    again = "SELECT 1 FROM workflows WHERE workflow_id = ?1 AND NOT forgotten"
    later = "SELECT 1 FROM decisions WHERE workflow_id = ?1 AND log_offset > ?2"
    if select(db, f"{again} UNION ALL {later}", name, last):
        return
    texts = [(key, value, name) for key, value in attributes_of(db, name).items() if isinstance(value, str)]
    db.executemany("DELETE FROM search_texts WHERE name = ? AND value = ? AND workflow_id = ?", texts)
    of_approvals = "DELETE FROM answers WHERE approval_id IN (SELECT approval_id FROM approvals WHERE workflow_id = ?)"
    db.execute(of_approvals, (name,))
    for table in ("search", "approvals", "commands", "decisions", "workflows"):
        db.execute(f"DELETE FROM {table} WHERE workflow_id = ?", (name,))  # noqa: S608 - constants only


def entries_of(decisions: list[ArchivedDecision]) -> list[TimelineEntry]:
    """What the read model had of these decisions."""
    return [TimelineEntry(one.partition, one.offset, one.run_id, one.decision()) for one in decisions]


def last_state(entries: list[TimelineEntry]) -> Workflow | None:
    """The last state that these decisions gave, before the workflow was forgotten."""
    workflow: Workflow | None = None
    last: Workflow | None = None
    for entry in entries:
        decision: Any = entry.decision
        for event in decision.events:
            workflow = evolve(workflow, event, workflow_id=decision.workflow_id, at_ms=decision.at_ms)
            last = workflow or last
    return last

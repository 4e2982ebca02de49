"""Erased workflows in the read model: all rows of one go, and then what SQLite has left of them.

Owns both. `projection` takes the rows out with the decision that erases, and notes that the file
has to be wiped; `model` wipes it after it has caught up. SQLite leaves deleted text in free pages
and in the write-ahead log until then.
"""

import apsw
import structlog

from mesh.inspection.read_model.schema import select, select_one

_log = structlog.get_logger()


def take_out(db: apsw.Connection, workflow_id: str) -> None:
    """Delete all rows of a workflow. Call it within a transaction."""
    of_approvals = "DELETE FROM answers WHERE approval_id IN (SELECT approval_id FROM approvals WHERE workflow_id = ?)"
    db.execute(of_approvals, (workflow_id,))
    causes = [cause for (cause,) in select(db, "SELECT cause FROM incidents WHERE workflow_id = ?", workflow_id)]
    for table in ("approvals", "commands", "decisions", "incidents", "open_steps", "workflows"):
        db.execute(f"DELETE FROM {table} WHERE workflow_id = ?", (workflow_id,))  # noqa: S608 - constants only
    db.executemany(
        "DELETE FROM causes WHERE cause = ?1 AND NOT EXISTS (SELECT 1 FROM incidents WHERE cause = ?1)",
        [(cause,) for cause in causes],
    )
    # incidents that were resolved have left their causes
    route = workflow_id.partition(":")[0]
    db.execute(
        "DELETE FROM causes WHERE route = ? AND cause NOT IN (SELECT cause FROM incidents)",
        (route,),
    )
    db.execute("UPDATE dead_letters SET message = 'erased' WHERE workflow_id = ?", (workflow_id,))
    db.execute("INSERT OR IGNORE INTO unwiped VALUES (?)", (workflow_id,))


def wipe_free_pages(db: apsw.Connection) -> None:
    """Rewrite the file without what was deleted, if anything was erased. Not in a transaction.

    Where another process uses the file, it stays to be done by the next that catches up.
    """
    if select_one(db, "SELECT 1 FROM unwiped LIMIT 1") is None:
        return
    try:
        db.execute("VACUUM")
        found = select_one(db, "PRAGMA wal_checkpoint(TRUNCATE)")
        # another process still reads from the write-ahead log
        is_busy = bool(found and found[0])
        if not is_busy:
            db.execute("DELETE FROM unwiped")
    except (apsw.BusyError, apsw.LockedError):
        _log.info("read_model_not_wiped_yet", effect="what was erased stays in free pages until the next command")

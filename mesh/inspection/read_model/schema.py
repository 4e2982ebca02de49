"""The read model's file: its tables, and how it is opened.

Owns the schema. The file is a cache of what the broker holds. It may be deleted at any time, and
one that is damaged or of another version is deleted and created again. Several processes may use it
at once; each write is one short transaction, under SQLite's own lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import apsw

from mesh.adapters.sqlite_files import make_private
from mesh.errors import OperatorError

SCHEMA_VERSION: Final = 7
APPLICATION_ID: Final = 0x6D657368  # "mesh"
BUSY_TIMEOUT_MS: Final = 30_000  # others hold the lock for one batch, some tens of milliseconds

# Each list that the tools show has an index in the order of its pages, with the columns that its
# filters read: the rows themselves hold whole payloads and states, and a count must not read them.
_TABLES: Final = """
CREATE TABLE generation (id BLOB NOT NULL);
INSERT INTO generation VALUES (randomblob(16));
CREATE TABLE positions (topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, last_digest BLOB,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE partitions (partition INTEGER PRIMARY KEY, meta BLOB NOT NULL, epoch TEXT NOT NULL, owner TEXT NOT NULL,
    owner_since_ms INTEGER NOT NULL, mesh_partitions INTEGER NOT NULL, decided_at_ms INTEGER NOT NULL);
CREATE TABLE epochs (partition INTEGER, token TEXT, PRIMARY KEY (partition, token)) WITHOUT ROWID;
CREATE TABLE workflows (workflow_id TEXT PRIMARY KEY, partition INTEGER NOT NULL, run_id TEXT NOT NULL, route TEXT NOT NULL,
    status TEXT NOT NULL, started_at_ms INTEGER NOT NULL, updated_at_ms INTEGER NOT NULL, ended_at_ms INTEGER,
    reason TEXT NOT NULL, incidents INTEGER NOT NULL, forgotten INTEGER NOT NULL, digest TEXT NOT NULL, paused_at_ms INTEGER, state BLOB NOT NULL);
CREATE INDEX workflows_by_status ON workflows (status, updated_at_ms, workflow_id, forgotten, route);
CREATE INDEX workflows_by_update ON workflows (updated_at_ms, workflow_id, forgotten, status, route);
CREATE INDEX workflows_with_incidents ON workflows (updated_at_ms, workflow_id, forgotten, status, route) WHERE incidents > 0;
CREATE INDEX workflows_paused ON workflows (updated_at_ms, workflow_id, forgotten, status, route) WHERE paused_at_ms NOTNULL;
CREATE INDEX workflows_by_digest ON workflows (digest, status, started_at_ms);
CREATE TABLE open_steps (workflow_id TEXT, step TEXT, status TEXT NOT NULL, agent TEXT NOT NULL, role TEXT NOT NULL,
    attempt INTEGER NOT NULL, task_id TEXT NOT NULL, since_ms INTEGER NOT NULL, due_at_ms INTEGER, incident_kind TEXT NOT NULL,
    incident_message TEXT NOT NULL, awaits TEXT NOT NULL, alike INTEGER NOT NULL, settled INTEGER NOT NULL, total INTEGER NOT NULL,
    PRIMARY KEY (workflow_id, step, status, agent)) WITHOUT ROWID;
CREATE INDEX open_steps_by_status ON open_steps (status, agent, since_ms, alike);
CREATE TABLE causes (cause TEXT PRIMARY KEY, kind TEXT NOT NULL, route TEXT NOT NULL, step TEXT NOT NULL, agent TEXT NOT NULL,
    agent_version TEXT NOT NULL, pattern TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE incidents (workflow_id TEXT, step TEXT, cause TEXT NOT NULL, since_ms INTEGER NOT NULL, agent_version TEXT NOT NULL,
    PRIMARY KEY (workflow_id, step)) WITHOUT ROWID;
CREATE INDEX incidents_by_cause ON incidents (cause, since_ms, workflow_id, step);
CREATE TABLE search (workflow_id TEXT PRIMARY KEY, attributes TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE search_texts (name TEXT, value TEXT, workflow_id TEXT, PRIMARY KEY (name, value, workflow_id)) WITHOUT ROWID;
CREATE TABLE decisions (partition INTEGER NOT NULL, log_offset INTEGER NOT NULL, workflow_id TEXT NOT NULL, run_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL, record BLOB NOT NULL, UNIQUE (partition, log_offset));
CREATE INDEX decisions_by_workflow ON decisions (workflow_id, log_offset);
CREATE TABLE rates (at_ms INTEGER, what TEXT, n REAL NOT NULL, PRIMARY KEY (at_ms, what)) WITHOUT ROWID;
CREATE TABLE citations (topic TEXT, partition INTEGER, source_offset INTEGER, log_partition INTEGER, log_offset INTEGER,
    PRIMARY KEY (topic, partition, source_offset, log_partition, log_offset)) WITHOUT ROWID;
CREATE TABLE events (topic TEXT, partition INTEGER, event_offset INTEGER, at_ms INTEGER NOT NULL, event_id TEXT NOT NULL,
    source TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL, problem TEXT NOT NULL, member INTEGER NOT NULL,
    PRIMARY KEY (topic, partition, event_offset, member)) WITHOUT ROWID;
CREATE INDEX events_by_id ON events (event_id);
CREATE INDEX events_by_time ON events (at_ms, partition, event_offset, member);
CREATE TABLE approvals (approval_id TEXT PRIMARY KEY, workflow_id TEXT NOT NULL, step TEXT NOT NULL, question TEXT NOT NULL,
    role TEXT NOT NULL, asked_at_ms INTEGER NOT NULL, deadline_at_ms INTEGER, closed_at_ms INTEGER, verdict TEXT NOT NULL,
    closed_by TEXT NOT NULL, reason TEXT NOT NULL, request BLOB NOT NULL, ref TEXT NOT NULL);
CREATE INDEX approvals_by_ref ON approvals (ref);
CREATE INDEX approvals_open ON approvals (asked_at_ms, approval_id) WHERE closed_at_ms IS NULL;
CREATE INDEX approvals_open_by_role ON approvals (role, asked_at_ms, approval_id) WHERE closed_at_ms IS NULL;
CREATE INDEX approvals_by_workflow ON approvals (workflow_id, asked_at_ms);
CREATE TABLE answers (answer_id TEXT, approval_id TEXT, at_ms INTEGER NOT NULL, status TEXT NOT NULL, code TEXT NOT NULL,
    message TEXT NOT NULL, by TEXT NOT NULL, PRIMARY KEY (answer_id, approval_id)) WITHOUT ROWID;
CREATE TABLE commands (command_id TEXT PRIMARY KEY, workflow_id TEXT NOT NULL, at_ms INTEGER NOT NULL, command TEXT NOT NULL,
    by TEXT NOT NULL, accepted INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letters (partition INTEGER, dlq_offset INTEGER, at_ms INTEGER NOT NULL, topic TEXT NOT NULL,
    source_partition INTEGER NOT NULL, source_offset INTEGER NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
    workflow_id TEXT NOT NULL, route TEXT NOT NULL, times INTEGER NOT NULL, status TEXT NOT NULL, operation TEXT NOT NULL,
    handled_by TEXT NOT NULL, handled_reason TEXT NOT NULL, handled_at_ms INTEGER, PRIMARY KEY (partition, dlq_offset)) WITHOUT ROWID;
CREATE INDEX dead_letters_by_source ON dead_letters (topic, source_partition, source_offset);
CREATE INDEX dead_letters_by_time ON dead_letters (at_ms, partition, dlq_offset);
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, at_ms, partition, dlq_offset);
CREATE INDEX dead_letters_by_status ON dead_letters (status, at_ms, partition, dlq_offset);
CREATE TABLE unwiped (workflow_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE cards (name TEXT, instance TEXT, renewed_at_ms INTEGER NOT NULL, card BLOB NOT NULL,
    PRIMARY KEY (name, instance)) WITHOUT ROWID;
CREATE TABLE routers (instance TEXT PRIMARY KEY, renewed_at_ms INTEGER NOT NULL, card BLOB NOT NULL) WITHOUT ROWID;
"""


def model_path(data_dir: Path, broker_url: str, prefix: str) -> Path:
    """The path of the file: one for each mesh and each version of the schema.

    So two versions of the tools can be used side by side.
    """
    mesh = sha256(f"{broker_url}\n{prefix}".encode()).hexdigest()[:12]
    return data_dir / f"read-model-v{SCHEMA_VERSION}-{mesh}.sqlite"


def connect(path: Path) -> apsw.Connection:
    """Open the file, and make a new one if it is missing, damaged or of another version.

    Raises `OperatorError` where the folder can't be used at all, `DiskFull` where it has no room.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path)
        except (apsw.NotADBError, apsw.CorruptError):
            delete_file(path)
            return _connect(path)
    except (apsw.Error, OSError) as error:
        if is_full(error):
            raise DiskFull(str(error)) from error
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            raise
        why = error.strerror if isinstance(error, OSError) else None
        raise OperatorError(
            f"the data folder {path.parent} can't be used: {why or error}. Make it yours to write, or name another one "
            "in MESH_DATA_DIR."
        ) from error


class DiskFull(Exception):
    """There is no room for the file."""


def is_full(error: BaseException) -> bool:
    """Whether the disk, or its owner's share of it, is used up.

    SQLite reports some of that as a failed write.
    """
    if isinstance(error, OSError):
        return error.errno in (ENOSPC, EDQUOT)
    return isinstance(error, apsw.FullError | apsw.IOError)


def connect_in_memory() -> apsw.Connection:
    """The same tables in this process alone."""
    return _opened(apsw.Connection(":memory:"))


def _connect(path: Path) -> apsw.Connection:
    make_private(path)
    return _opened(apsw.Connection(str(path)))


def _opened(connection: apsw.Connection) -> apsw.Connection:
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("journal_mode", "wal")
        # what a power loss takes is read from the broker again
        connection.pragma("synchronous", "normal")
        with transaction(connection):
            if (
                connection.pragma("user_version") != SCHEMA_VERSION
                or connection.pragma("application_id") != APPLICATION_ID
            ):
                _make_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def wipe(connection: apsw.Connection) -> None:
    """Forget everything, because the broker behind the file is another one than before.

    Call it outside a transaction.
    """
    with transaction(connection):
        _make_tables(connection)


def generation(connection: apsw.Connection) -> bytes:
    """An id that changes whenever the file starts over, so that other processes notice."""
    row = select_one(connection, "SELECT id FROM generation")
    found: bytes = row[0] if row else b""
    return found


def _make_tables(connection: apsw.Connection) -> None:
    found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for (name,) in connection.execute(found).fetchall():
        connection.execute(f'DROP TABLE "{name}"')
    connection.execute(_TABLES)
    connection.pragma("user_version", SCHEMA_VERSION)
    connection.pragma("application_id", APPLICATION_ID)


def select(connection: apsw.Connection, sql: str, *values: Any) -> list[Any]:
    """All rows, as tuples of what the columns hold."""
    return connection.execute(sql, values).fetchall()


def select_one(connection: apsw.Connection, sql: str, *values: Any) -> Any:
    """The first row, or None."""
    return connection.execute(sql, values).fetchone()


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """A write transaction that takes its lock at once.

    So what is read inside it still holds when it is written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def delete_file(path: Path) -> None:
    """Delete the file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

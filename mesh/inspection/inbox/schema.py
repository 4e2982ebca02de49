"""The inbox's file: its tables, and how it is opened.

Owns the schema. The file is a cache of `mesh.approvals.open`, and may be deleted at any time. Where
the data folder can't be written, what the file holds is used, and the rest is kept in memory.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import apsw

from mesh.adapters.sqlite_files import make_private
from mesh.inspection.read_model.schema import delete_file, select_one, transaction

SCHEMA_VERSION: Final = 4
APPLICATION_ID: Final = 0x6D696E62  # "minb"
NEVER: Final = 2**62  # where there is no deadline: behind all others
_BUSY_TIMEOUT_MS: Final = 10_000

# `parts` has the records as they came; the other tables are made of them, for lists and filters.
# `payloads`: as JSON, what is to be approved now. A condition on payloads reads this table alone,
# since the records are half as large again, and take three times as long to decode.
_TABLES: Final = """
CREATE TABLE positions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, last_digest BLOB NOT NULL);
CREATE TABLE freshness (caught_up_at_ms INTEGER NOT NULL);
INSERT INTO freshness VALUES (0);
CREATE TABLE parts (approval_id TEXT, part TEXT, log_offset INTEGER NOT NULL, at_ms INTEGER NOT NULL, value BLOB,
    PRIMARY KEY (approval_id, part));
CREATE INDEX tombstones ON parts (at_ms) WHERE value IS NULL;
CREATE INDEX edited ON parts (approval_id) WHERE part = 'payload';
CREATE INDEX notes ON parts (approval_id) WHERE part GLOB 'note/*';
CREATE TABLE approvals (approval_id TEXT PRIMARY KEY, workflow_id TEXT NOT NULL, route TEXT NOT NULL, step TEXT NOT NULL,
    question TEXT NOT NULL, role TEXT NOT NULL, asked_at_ms INTEGER NOT NULL, due_at_ms INTEGER NOT NULL, ref TEXT NOT NULL);
CREATE INDEX approvals_by_ref ON approvals (ref);
CREATE INDEX approvals_by_deadline ON approvals (due_at_ms, asked_at_ms, approval_id, route);
CREATE INDEX approvals_by_workflow ON approvals (workflow_id);
CREATE TABLE payloads (approval_id TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entitled (kind TEXT, name TEXT, approval_id TEXT, PRIMARY KEY (kind, name, approval_id)) WITHOUT ROWID;
CREATE INDEX entitled_by_approval ON entitled (approval_id);
CREATE TABLE questioned (kind TEXT, name TEXT, approval_id TEXT, PRIMARY KEY (kind, name, approval_id)) WITHOUT ROWID;
CREATE INDEX questioned_by_approval ON questioned (approval_id);
CREATE TABLE barred (approval_id TEXT, name TEXT, PRIMARY KEY (approval_id, name)) WITHOUT ROWID;
"""


def inbox_path(data_dir: Path, broker_url: str, prefix: str) -> Path:
    """The path of the file: one for each mesh and each version of the schema."""
    mesh = sha256(f"{broker_url}\n{prefix}".encode()).hexdigest()[:12]
    return data_dir / f"inbox-v{SCHEMA_VERSION}-{mesh}.sqlite"


def open_cache(path: Path, tell: Callable[[str], None] = lambda _: None) -> apsw.Connection:
    """Open the file, or a copy of it in memory where it can't be written. `tell` hears why."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _open_file(path)
        except (apsw.NotADBError, apsw.CorruptError):
            delete_file(path)
            return _open_file(path)
    except (apsw.Error, OSError) as error:
        tell(str(error))
        return open_in_memory(path)


def open_in_memory(path: Path | None = None) -> apsw.Connection:
    """The same tables in this process alone, with what the file holds if it can be read."""
    connection = apsw.Connection(":memory:")
    if path is not None:
        try:
            # without a look at what lies beside it, since nobody may be able to write that
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            source = apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)
            with connection.backup("main", source, "main") as backup:
                backup.step()
            source.close()
            return _prepared(connection)
        except (apsw.Error, OSError):
            connection.close()
            connection = apsw.Connection(":memory:")
    return _prepared(connection)


def _open_file(path: Path) -> apsw.Connection:
    make_private(path)
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        connection.pragma("journal_mode", "wal")
        # what a power loss takes is read from the broker again
        connection.pragma("synchronous", "off")
        # it is small, and what is closed may be erased later, which nobody tells this machine
        connection.pragma("secure_delete", "on")
        return _prepared(connection)
    except BaseException:
        connection.close()
        raise


def _prepared(connection: apsw.Connection) -> apsw.Connection:
    is_ours = connection.pragma("user_version") == SCHEMA_VERSION
    if not is_ours or connection.pragma("application_id") != APPLICATION_ID:
        make_tables(connection)
    return connection


def make_tables(connection: apsw.Connection) -> None:
    """Make the tables, in place of those that are there."""
    with transaction(connection):
        found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        for (name,) in connection.execute(found).fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        connection.execute(_TABLES)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.pragma("application_id", APPLICATION_ID)


def caught_up_at_ms(connection: apsw.Connection) -> int:
    row = select_one(connection, "SELECT caught_up_at_ms FROM freshness")
    return int(row[0]) if row else 0

"""The file itself: opening, tables, version, and what SQLite's errors mean to a user.

Owns the schema. `broker` and `store` call it.

Records are kept in *chunks*: what one call sent to one partition is one row. A row for each record
costs twice the time in batches. A primary key of (partition, offset) writes into the middle of its
b-tree, which costs half of the rest. So rows are appended at the table's end, and one covering
index orders them. (Measured with 48 partitions and 200 records of 500 bytes a commit: 250k
records/s, against 160k with a table for each partition and 50k with a clustered key.)
"""

from os import PathLike, fspath
from pathlib import Path
from typing import Final, Literal

import apsw
import msgspec

from mesh.adapters.sqlite.damage import damaged, refuse_damaged
from mesh.adapters.sqlite_files import make_private, roll_back
from mesh.errors import BrokerUnavailable, MeshError, OperatorError

Durability = Literal["normal", "full"]

APPLICATION_ID: Final = 0x6D657368  # "mesh"
VERSION: Final = 1
# 20 % faster than 4096 in batches, 10 microseconds slower for a single small commit
_PAGE_BYTES: Final = 8192
_WAL_BYTES: Final = 1 << 26  # the size at which an emptied write-ahead log may stay on disk
_STATEMENTS: Final = 256
_LOCK_WAIT_MS: Final = 2  # for locks that SQLite holds for microseconds; longer waits are asyncio's

_TABLES: Final = """
CREATE TABLE topic (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL,
    first_id INTEGER NOT NULL,      -- partition p of this topic has the id first_id + p in every other table
    config TEXT NOT NULL            -- JSON
);
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    pos INTEGER NOT NULL,           -- partition's id << 40 | offset of the first record
    count INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    payload BLOB NOT NULL           -- MessagePack: [[key, value, [[name, value], ...]], ...]
);
CREATE UNIQUE INDEX chunk_at ON chunk (pos, count, timestamp_ms);
CREATE TABLE consumer_group (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE member (
    id TEXT PRIMARY KEY,
    group_id INTEGER NOT NULL,
    joined INTEGER NOT NULL,        -- order of joining
    name TEXT NOT NULL,
    topics TEXT NOT NULL,           -- JSON
    session_s REAL NOT NULL,
    lease_until_s REAL NOT NULL,    -- on the machine's monotonic clock
    process TEXT NOT NULL           -- JSON: pid, start of the process, boot and pid namespace
) WITHOUT ROWID;
CREATE INDEX member_of ON member (group_id, joined);
CREATE TABLE claim (
    group_id INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    member_id TEXT NOT NULL,
    PRIMARY KEY (group_id, partition_id)
) WITHOUT ROWID;
CREATE TABLE position (
    group_id INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (group_id, partition_id)
) WITHOUT ROWID;
"""


def connect(path: str | PathLike[str], *, durability: Durability, read_only: bool) -> apsw.Connection:
    """Open the file, and make it with its folder unless it is there.

    Raises `OperatorError`, `FileDamaged` among them, or an `apsw.Error` that `is_busy`.
    """
    file = Path(fspath(path))
    try:
        if not read_only:
            file.parent.mkdir(parents=True, exist_ok=True)
            refuse_damaged(file)
            # before SQLite makes it with the mode that the umask leaves
            make_private(file)
        connection = _open(file, read_only=read_only)
    except OSError as error:
        raise OperatorError(_cannot_open(file, error.strerror or str(error))) from error
    except apsw.Error as error:
        raise _not_opened(error, file) from error
    try:
        _prepare(connection, file, durability, read_only=read_only)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.Error) and not is_busy(error):
            raise _not_opened(error, file) from error
        raise
    return connection


def _not_opened(error: apsw.Error, file: Path) -> OperatorError:
    return damaged(file, str(error)) if is_damage(error) else OperatorError(_cannot_open(file, str(error)))


def _open(file: Path, *, read_only: bool) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    return apsw.Connection(str(file), flags=flags, statementcachesize=_STATEMENTS)


def _cannot_open(file: Path, why: str) -> str:
    return (
        f"cannot open the mesh's file {file}: {why}. Check that the folder exists and is yours to write, "
        "or name another file with --broker sqlite://PATH (or MESH_BROKER)."
    )


def _prepare(connection: apsw.Connection, file: Path, durability: Durability, *, read_only: bool) -> None:
    connection.set_busy_timeout(_LOCK_WAIT_MS)
    if not read_only:
        connection.pragma("page_size", _PAGE_BYTES)
        # readers do not wait for the writer, nor the writer for them
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "FULL" if durability == "full" else "NORMAL")
        connection.pragma("wal_autocheckpoint", 0)  # `Checkpointer` does it
        connection.pragma("journal_size_limit", _WAL_BYTES)
    connection.pragma("cache_size", -16 * 1024)
    if not _is_current(connection, file):
        if read_only:
            raise OperatorError(f"{file} holds no mesh yet. Start one first, e.g. with `mesh dev`.")
        _create(connection, file)


def _is_current(connection: apsw.Connection, file: Path) -> bool:
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    # an empty file, as one that was only just made; anything else without our id is not ours
    if application == 0 and version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
        return False
    if application != APPLICATION_ID:
        raise OperatorError(f"{file} is an SQLite file of another program, and was left as it is. Name another file.")
    if version > VERSION:
        raise OperatorError(
            f"{file} was written by a newer agent-mesh (its format is {version}, this one reads up to {VERSION}). "
            "Update agent-mesh, or name another file."
        )
    return True


def _create(connection: apsw.Connection, file: Path) -> None:
    with _immediate(connection):
        if _is_current(connection, file):  # another process was faster
            return
        connection.execute(_TABLES)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", VERSION)


class _immediate:  # noqa: N801 - reads as a statement
    """A write transaction for `with`. An exception rolls it back."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            roll_back(self._connection)
            return
        try:
            self._connection.execute("COMMIT")
        except apsw.Error:
            roll_back(self._connection)
            raise


def is_busy(error: BaseException) -> bool:
    """Whether another process holds the file, so that the same call may succeed a moment later."""
    return isinstance(error, apsw.BusyError | apsw.LockedError)


def is_damage(error: BaseException) -> bool:
    """The file does not hold what SQLite, or the mesh, wrote into it."""
    return isinstance(error, apsw.CorruptError | apsw.NotADBError | msgspec.MsgspecError)


def explain(error: apsw.Error | msgspec.MsgspecError, file: Path) -> MeshError:
    """Translate an error of SQLite at run time into an error of the port."""
    if is_damage(error):
        return damaged(file, str(error))
    if isinstance(error, apsw.ReadOnlyError):
        return OperatorError(
            f"{file} can only be read here: {error}. Open it with a user who may write to it and its folder."
        )
    return BrokerUnavailable(
        f"the mesh's file {file} does not answer: {error}. Check the disk, its space and the file's owner."
    )

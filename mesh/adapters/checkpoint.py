"""A partition's checkpoint: one SQLite file with the states of its workflows at one log offset.

It is a cache of the log, and may be deleted at any time. A file that is damaged, of another program
or of another version is replaced: by its older copy (`checkpoint_copy`) if that is good, else it
counts as absent. The bytes are the caller's (the router's
partition owner); nothing here knows what they mean. One process uses a file at a time.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import apsw
import structlog

from mesh.adapters.checkpoint_copy import ENDINGS, OlderCopy
from mesh.adapters.sqlite_files import Checkpointer, make_private, roll_back
from mesh.errors import OperatorError
from mesh.ports import Checkpoint

_APPLICATION_ID: Final = 0x6D636B70  # "mckp"
_BEFORE_VOTES: Final = 1
_VERSION: Final = 2
"""Raised wherever a state may hold what older code would pass over without a word.

Such code then takes the file for another version's and reads the log, where it meets what it does
not know and stops. By the file alone it would go on, and let one answer do where several must.
"""
_WAL_PAGES: Final = 1_000  # 4 MiB
_BUSY_MS: Final = 1000  # a predecessor that is still closing
_TABLES: Final = """
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    log_offset INTEGER NOT NULL,
    epoch_tokens BLOB NOT NULL,
    meta BLOB NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE workflow (
    id TEXT PRIMARY KEY,
    state BLOB NOT NULL,
    crc INTEGER NOT NULL
);
"""
_LEFTOVERS: Final = ("", "-wal", "-shm", "-journal")
_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError)

_log = structlog.get_logger(__name__)


class _Damaged(Exception):
    """The file does not hold what was saved."""


class CheckpointFile:
    """An open checkpoint: implements `mesh.ports.CheckpointStore`.

    `load` once, then `put` and `save` as often as it pays.
    """

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = path
        self._older = _older(path)
        self._take(connection)
        self._is_deleted = False

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "CheckpointFile":
        """Open the file, or create it with its folder.

        A file that can't be used is replaced, with a warning. Raises `OperatorError` if the path
        can't be written at all.
        """
        file = Path(fspath(path))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                return cls(file, _connect(file))
            except (apsw.NotADBError, apsw.CorruptError, _Damaged) as error:
                _warn_replaced(file, error)
                _remove(file, _LEFTOVERS)
                return cls(file, _connect_older(file))
        except (apsw.Error, OSError) as error:
            raise OperatorError(
                f"cannot open the checkpoint {file}: {error}. Check that the folder is yours to write, and that no other router "
                "uses it; or name another state folder. The file may be deleted: it is rebuilt from the log."
            ) from error

    def load(self) -> Checkpoint | None:
        """What was saved last; None if nothing was.

        If it is damaged, its older copy; None if there is no good one (then the file is emptied).
        What was put and not saved is dropped.
        """
        if self._is_deleted:
            return None
        # a portion that was put and not saved is of an owner that is gone
        roll_back(self._connection)
        try:
            return self._load()
        except (*_DAMAGE, _Damaged) as error:
            _warn_replaced(self._path, error)
        self._close()
        _remove(self._path, _LEFTOVERS)
        self._take(_connect_older(self._path))
        try:
            return self._load()
        except (*_DAMAGE, _Damaged) as error:
            _warn_replaced(self._path, error)
            self._replace()
            return None

    def _load(self) -> Checkpoint | None:
        with self._connection:  # one state of the file
            row = self._connection.execute("SELECT log_offset, epoch_tokens, meta, crc FROM state").get
            if row is None:
                return None
            rows = _checked(row, self._connection.execute("SELECT id, state, crc FROM workflow"))
            workflows = {id_: state for id_, state, _ in rows}
        offset, epoch_tokens, meta, _ = row
        return Checkpoint(offset=offset, epoch_tokens=epoch_tokens, meta=meta, workflows=workflows)

    def put(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        """A portion of the next checkpoint, in the transaction that `save` ends."""
        with self._writing():
            execute_many = self._connection.executemany
            execute_many("DELETE FROM workflow WHERE id = ?", [(id_,) for id_ in removed])
            execute_many(
                "INSERT OR REPLACE INTO workflow VALUES (?, ?, ?)",
                [(id_, state, crc32(state)) for id_, state in changed.items()],
            )

    def save(self, *, offset: int, epoch_tokens: bytes, meta: bytes) -> None:
        """Bring the file to `offset`, with all that was put."""
        with self._writing():
            self._connection.execute(
                "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?)",
                (offset, epoch_tokens, meta, _state_crc(offset, epoch_tokens, meta)),
            )
            self._connection.execute("COMMIT")
        self._older.saved()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write within the transaction of the next checkpoint.

        An error ends the transaction, and is raised as `OperatorError`.
        """
        try:
            if self._is_deleted:
                self._replace()
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            yield
        except BaseException as error:
            if not self._is_deleted:  # it is closed then, and could not be made again
                roll_back(self._connection)
            if not isinstance(error, apsw.Error | OSError):
                raise
            raise OperatorError(
                f"cannot save the checkpoint {self._path}: {error}. Check the disk and its space; the file may be deleted."
            ) from error

    def close(self) -> None:
        """Close the file; what was saved stays."""
        if not self._is_deleted:
            self._older.finish()
        self._close()

    def _close(self) -> None:
        with suppress(apsw.Error):
            self._connection.close()
        self._checkpointer.close()

    def delete(self) -> None:
        """Delete the file and its copy.

        It holds nothing until the next `save` creates it again.
        """
        self._older.wait()
        self._close()
        _remove(self._path)
        self._older = _older(self._path)
        self._is_deleted = True

    def _replace(self) -> None:
        self.delete()
        self._take(_connect(self._path))
        self._is_deleted = False

    def _take(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._checkpointer = Checkpointer(connection, self._path, pages=_WAL_PAGES)


def _connect(path: Path) -> apsw.Connection:
    make_private(path)
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("journal_mode", "wal")
        # a power loss may take the last saves: the log has all of it
        connection.pragma("synchronous", "NORMAL")
        connection.pragma("wal_autocheckpoint", 0)  # `Checkpointer` does it
        with connection:
            _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_older(path: Path) -> apsw.Connection:
    """Connect to the older copy, in the place of a file that was removed; else to a new file."""
    if _older(path).put_in_place():
        try:
            return _connect(path)
        except (*_DAMAGE, _Damaged) as error:
            _warn_replaced(path, error)
            _remove(path)
    return _connect(path)


def _older(path: Path) -> OlderCopy:
    return OlderCopy(path, _prepare, _checked)


def _checked(head: tuple[Any, ...] | None, rows: Iterable[tuple[str, bytes, int]]) -> Iterator[tuple[str, bytes, int]]:
    """The rows as they are.

    Raises `_Damaged` if the head, or one of them, is not what was saved.
    """
    # SQLite keeps no checksums, and a wrong state would be decided on without a sign.
    if head is None or head[3] != _state_crc(*head[:3]):
        raise _Damaged("its head is not what was saved")
    for id_, state, crc in rows:
        if crc != crc32(state):
            raise _Damaged(f"the state of {id_} is not what was saved")
        yield id_, state, crc


def _prepare(connection: apsw.Connection) -> None:
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application == 0 and version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
        connection.execute(_TABLES)
        connection.pragma("application_id", _APPLICATION_ID)
        connection.pragma("user_version", _VERSION)
    elif application == _APPLICATION_ID and version == _BEFORE_VOTES:
        connection.pragma("user_version", _VERSION)  # the tables are the same
    elif application != _APPLICATION_ID or version != _VERSION:
        raise _Damaged("it is of another program or another version")


def _state_crc(offset: int, epoch_tokens: bytes, meta: bytes) -> int:
    return crc32(meta, crc32(epoch_tokens, crc32(str(offset).encode())))


def _warn_replaced(path: Path, error: Exception) -> None:
    _log.warning("checkpoint_replaced", file=str(path), reason=str(error) or type(error).__name__)


def _remove(path: Path, endings: Sequence[str] = (*_LEFTOVERS, *ENDINGS)) -> None:
    for ending in endings:
        path.with_name(path.name + ending).unlink(missing_ok=True)

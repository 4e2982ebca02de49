"""What every SQLite file of the mesh needs, the embedded broker's and the caches'.

Only its owner may read the file, a failed transaction is ended, and no commit waits for the
write-ahead log.

SQLite would move the log into the file inside the commit that fills it up, and that commit then
takes 20 ms instead of 0.1: one workflow in eighty, all of its p99. So a thread does it. A commit
does it only as a last resort: the log starts over once all of it is moved, and while others go on
writing, only a commit can see to that.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw
import structlog

_OWNER_ONLY: Final = 0o600
_MOST: Final = 4  # times the pages after which it is moved; then a commit does it

_log = structlog.get_logger(__name__)


def make_private(path: Path) -> None:
    """Make the file, readable by its owner alone, unless it is there.

    What SQLite keeps beside a file has the file's mode.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _OWNER_ONLY))


def roll_back(connection: apsw.Connection) -> None:
    """End a transaction, if there is one, and SQLite has not ended it itself."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


class Checkpointer:
    """One connection's part in moving the write-ahead log, each time it has grown by `pages`.

    Every process that writes has one. If two come at once, SQLite lets one do it.
    """

    def __init__(self, connection: apsw.Connection, path: Path, *, pages: int) -> None:
        self._path = path
        self._pages = pages
        self._moved = 0  # pages of the log, when it was last taken in hand
        self._moving: threading.Thread | None = None
        connection.set_wal_hook(self._committed)

    def _committed(self, connection: apsw.Connection, _: str, pages: int) -> int:
        """Called after each commit, with the length of the log.

        Nothing may be raised: the commit has happened.
        """
        if pages < self._moved:  # it has started over
            self._moved = 0
        if pages - self._moved >= self._pages and (self._moving is None or not self._moving.is_alive()):
            self._moved = pages
            if pages >= _MOST * self._pages:
                with _what_goes_wrong_told():
                    _move(connection)
            else:
                self._moving = threading.Thread(target=self._move_beside, name="move-wal")
                self._moving.start()
        return apsw.SQLITE_OK

    def _move_beside(self) -> None:
        with _what_goes_wrong_told():
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                # it does not know that there is a log before it has read something
                connection.pragma("schema_version")
                _move(connection)
            finally:
                connection.close()

    def close(self) -> None:
        """Wait until nothing is being moved."""
        if self._moving is not None:
            self._moving.join()


def _move(connection: apsw.Connection) -> None:
    """Waits for nobody, and holds nobody up."""
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


@contextmanager
def _what_goes_wrong_told() -> Iterator[None]:
    try:
        yield
    except apsw.BusyError:
        pass  # another process does it
    except apsw.Error as error:  # the next commits say what is wrong, if it is more than this
        _log.warning("write_ahead_log_not_moved", error=str(error))

"""An older copy of a checkpoint file, for a start that finds the file damaged.

Without it a start would read the whole log. Owns how a copy is made: in a thread, from one state of
the file, and only if every checksum in it is right, so that damage is never copied over a good
copy. Called by `checkpoint`, which also has the files' tables.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import apsw
import structlog

from mesh.adapters.sqlite_files import make_private

_EVERY_S: Final = 30.0
_SHARE: Final = 100  # a copy may take this fraction of the time: 1 / 100
_ENDING: Final = ".older"
_UNDER_WAY: Final = ".older-new"
ENDINGS: Final = (_ENDING, _UNDER_WAY, f"{_UNDER_WAY}-journal")

_log = structlog.get_logger(__name__)

Prepare = Callable[[apsw.Connection], None]
"""Makes the tables in an empty file."""

Check = Callable[[tuple[Any, ...] | None, Iterable[tuple[str, bytes, int]]], Iterator[tuple[str, bytes, int]]]
"""Passes the workflows' rows on, and raises if one of them, or the head, is not what was saved."""


class OlderCopy:
    """The copy beside the file at `path`. One thread at a time makes it."""

    def __init__(self, path: Path, prepare: Prepare, check: Check) -> None:
        self._path = path
        self._prepare = prepare
        self._check = check
        self._copying: threading.Thread | None = None
        # not with the first save: that comes when a router is busy with what waited for it
        self._due_s = time.monotonic() + _EVERY_S
        self._is_stale = False

    def saved(self) -> None:
        """The file has a newer state: copy it, if the last copy is old enough."""
        self._is_stale = True
        is_busy = self._copying is not None and self._copying.is_alive()
        if not is_busy and time.monotonic() >= self._due_s:
            self._is_stale = False
            self._copying = threading.Thread(target=self._copy, name="copy-checkpoint")
            self._copying.start()

    def finish(self) -> None:
        """Wait for the copy under way, and copy what was saved since."""
        self.wait()
        if self._is_stale:
            self._is_stale = False
            self._copy()

    def wait(self) -> None:
        """Wait for the copy under way."""
        if self._copying is not None:
            self._copying.join()

    def put_in_place(self) -> bool:
        """Make the copy the file itself, which must not be there; false if there is no copy.

        So a copy is tried once. The next save makes another.
        """
        older = self._path.with_name(self._path.name + _ENDING)
        if older.exists():
            older.replace(self._path)
        return self._path.exists()

    def _copy(self) -> None:
        began_s = time.monotonic()
        target = self._path.with_name(self._path.name + _UNDER_WAY)
        try:
            target.unlink(missing_ok=True)
            make_private(target)
            self._copy_to(target)
            target.replace(self._path.with_name(self._path.name + _ENDING))
        # Whatever it is, the file is as it was, and so is the copy before.
        except Exception as error:  # noqa: BLE001 - a thread's outermost place
            _log.warning("checkpoint_not_copied", file=str(self._path), reason=str(error) or type(error).__name__)
            with suppress(OSError):
                target.unlink(missing_ok=True)
        ended_s = time.monotonic()
        self._due_s = ended_s + max(_EVERY_S, _SHARE * (ended_s - began_s))

    def _copy_to(self, target: Path) -> None:
        # it must not make a file that was deleted meanwhile
        source = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        copy = apsw.Connection(str(target))
        try:
            copy.pragma("synchronous", "OFF")  # a copy that a power loss spoils does not check
            with source, copy:  # one state of the file
                self._prepare(copy)
                head = source.execute("SELECT log_offset, epoch_tokens, meta, crc FROM state").get
                rows = self._check(head, source.execute("SELECT id, state, crc FROM workflow"))
                copy.executemany("INSERT INTO workflow VALUES (?, ?, ?)", rows)
                copy.execute("INSERT INTO state VALUES (1, ?, ?, ?, ?)", head)
        finally:
            copy.close()
            source.close()

"""An archive: the histories of workflows that are over, in a folder or an object store.

Owns what is there: files of many parts (`mesh.codec.archives`), and an index that finds the part of
a workflow. The files are what counts; the index is made of them again where it lacks one. One
process writes at a time, and one that dies at any moment leaves whole files behind, or none. To an
object store several machines may write: none takes another's name, and what two of them archived
counts once.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import apsw

from mesh.adapters.sqlite_files import make_private
from mesh.codec.archives import ArchivedDecision, ArchivedHead, decode_part, encode_part, parts_of
from mesh.errors import OperatorError
from mesh.ports import FileStore

_ENDING: Final = ".jsonl.gz"
_INDEX: Final = "index.sqlite"
_LOCK: Final = "lock.sqlite"
_WAIT_MS: Final = 10_000
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS file (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part (workflow_id TEXT, last_offset INTEGER, file TEXT NOT NULL, begin INTEGER NOT NULL,
    length INTEGER NOT NULL, PRIMARY KEY (workflow_id, last_offset)) WITHOUT ROWID;
"""
Part = tuple[ArchivedHead, Sequence[ArchivedDecision]]


class Archive:
    """An open archive, for reading, or with `writes` for writing too. Use it as a context manager.

    `files`: where it is. `folder`: where its index is. With `is_cached` the index is ours alone,
    and is brought up to date at each opening. Raises `OperatorError` where either can't be used, or
    where another process writes to it.
    """

    def __init__(self, files: FileStore, folder: Path, *, writes: bool = False, is_cached: bool = False) -> None:
        self._files = files
        self._folder = folder
        self._open: list[apsw.Connection] = []
        # an archive in a folder has an index once something was written
        self._is_empty = not (writes or is_cached or (folder / _INDEX).exists())
        if self._is_empty:
            return
        try:
            if writes or is_cached:
                folder.mkdir(parents=True, exist_ok=True)
            if writes:
                self._lock()
            self._db = self._connect(_INDEX, writes=writes or is_cached)
            if writes or is_cached:
                self._db.execute(_TABLES)
                self._recover(tidies=writes)
        except apsw.BusyError as error:
            self._close()
            raise OperatorError(
                f"another process writes to the archive {files}: try again when it has ended"
            ) from error
        except (apsw.Error, OSError) as error:
            self._close()
            raise OperatorError(
                f"the archive {files} can't be used: {error}. Make {folder} yours to write, or name another place in "
                f"MESH_ARCHIVE_DIR; if the {_INDEX} there is damaged, delete it: it is made of the files again"
            ) from error
        except OperatorError:
            self._close()
            raise

    def _lock(self) -> None:
        # a file of its own: those who read the index must not wait. The system frees the lock where
        # this process dies
        self._connect(_LOCK, writes=True, wait_ms=0).execute("BEGIN EXCLUSIVE")

    def _connect(self, name: str, *, writes: bool, wait_ms: int = _WAIT_MS) -> apsw.Connection:
        path = self._folder / name
        if writes:
            make_private(path)
        # who reads may have to undo what a process that died has begun
        may_write = writes or os.access(path, os.W_OK)
        flags = apsw.SQLITE_OPEN_READWRITE if may_write else apsw.SQLITE_OPEN_READONLY
        made = apsw.Connection(str(path), flags=flags)
        self._open.append(made)
        made.set_busy_timeout(wait_ms)
        return made

    def _close(self) -> None:
        for one in self._open:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def has(self, workflow_id: str, last_offset: int) -> bool:
        """Whether the history up to this offset of the log is here."""
        sql = "SELECT 1 FROM part WHERE workflow_id = ? AND last_offset = ?"
        return self._db.execute(sql, (workflow_id, last_offset)).fetchone() is not None

    def parts(self, workflow_id: str) -> list[tuple[str, ArchivedHead, list[ArchivedDecision]]]:
        """The parts of a workflow, the oldest first, each with its file's name."""
        if self._is_empty:
            return []
        sql = "SELECT file, begin, length FROM part WHERE workflow_id = ? ORDER BY last_offset"
        rows: list[Any] = self._db.execute(sql, (workflow_id,)).fetchall()
        found = []
        for name, begin, length in rows:
            part = self._files.read(name, begin, length)
            found.append((name, *decode_part(part, f"{self._files}/{name}, byte {begin}")))
        return found

    def add(self, parts: Sequence[Part]) -> None:
        """Keep these parts in one new file. When this returns they are durable."""
        content = b"".join(encode_part(head, decisions) for head, decisions in parts)
        number = max((int(name.removesuffix(_ENDING)) for name in self._names()), default=0) + 1
        # in an object store another machine may be quicker
        while not self._files.create(name := f"{number:09}{_ENDING}", content):
            number += 1
        self._index(name)

    def _recover(self, *, tidies: bool) -> None:
        """Finish what a process that died has left, and index what others have written."""
        if tidies:
            self._files.tidy()
        known = {name for (name,) in self._db.execute("SELECT name FROM file")}
        for name in self._names():
            if name not in known:
                self._index(name)

    def _index(self, name: str) -> None:
        file = self._files.read(name)
        rows = []
        for begin, length in parts_of(file, name):
            head, _ = decode_part(file[begin : begin + length], f"{name}, byte {begin}")
            rows.append((head.workflow_id, head.last_offset, name, begin, length))
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO part VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute("INSERT OR IGNORE INTO file VALUES (?)", (name,))

    def _names(self) -> list[str]:
        return [name for name in self._files.names() if name.endswith(_ENDING)]

    def check(self) -> Iterator[ArchivedHead]:
        """Read every part of every file. Raises `ArchiveDamaged` at the first that is not whole."""
        for name in self._names():
            file = self._files.read(name)
            for begin, length in parts_of(file, name):
                yield decode_part(file[begin : begin + length], f"{name}, byte {begin}")[0]

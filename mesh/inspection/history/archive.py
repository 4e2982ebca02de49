"""A folder with the histories of workflows that are over.

Owns the folder: files of many parts (`mesh.codec.archives`), and an index that finds a workflow's
part. The files are what counts; the index is made of them again where it lacks one. One process
writes at a time, and one that dies at any moment leaves whole files behind, or none.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import apsw

from mesh.adapters.sqlite_files import make_private
from mesh.codec.archives import ArchivedDecision, ArchivedHead, decode_part, encode_part, parts_of
from mesh.errors import OperatorError

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
    """An open folder, for reading, or with `writes` for writing too. Use it as a context manager.

    Raises `OperatorError` where the folder can't be used, or where another process writes to it.
    """

    def __init__(self, folder: Path, *, writes: bool = False) -> None:
        self._folder = folder
        self._open: list[apsw.Connection] = []
        try:
            if writes:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock()
            self._db = self._connect(_INDEX, writes=writes)
            if writes:
                self._db.execute(_TABLES)
                self._recover()
        except apsw.BusyError as error:
            self._close()
            raise OperatorError(
                f"another process writes to the archive {folder}: try again when it has ended"
            ) from error
        except (apsw.Error, OSError) as error:
            self._close()
            raise OperatorError(
                f"the archive {folder} can't be used: {error}. Make the folder yours to write, or name another one in "
                f"MESH_ARCHIVE_DIR; if its {_INDEX} is damaged, delete that: it is made of the files again"
            ) from error

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
        sql = "SELECT file, begin, length FROM part WHERE workflow_id = ? ORDER BY last_offset"
        rows: list[Any] = self._db.execute(sql, (workflow_id,)).fetchall()
        found = []
        for name, begin, length in rows:
            found.append((name, *decode_part(self._read(name, begin, length), f"{self._folder / name}, byte {begin}")))
        return found

    def _read(self, name: str, begin: int, length: int) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(begin)
                return file.read(length)
        except OSError as error:
            raise OperatorError(f"the archive's file {name} can't be read: {error}; restore it from a copy") from error

    def add(self, parts: Sequence[Part]) -> None:
        """Keep these parts in one new file. When this returns they are on the disk."""
        taken = [int(one.name.removesuffix(_ENDING)) for one in self._files()]
        name = f"{max(taken, default=0) + 1:09}{_ENDING}"
        being_written = self._folder / f"{name}.part"
        with being_written.open("wb") as file:
            for head, decisions in parts:
                file.write(encode_part(head, decisions))
            file.flush()
            os.fsync(file.fileno())
        being_written.rename(self._folder / name)
        self._sync_folder()
        self._index(name)

    def _recover(self) -> None:
        """Finish what a process that died has left: half a file goes, a whole one is indexed."""
        for half in self._folder.glob(f"*{_ENDING}.part"):
            half.unlink()
        known = {name for (name,) in self._db.execute("SELECT name FROM file")}
        for file in self._files():
            if file.name not in known:
                self._index(file.name)

    def _index(self, name: str) -> None:
        file = (self._folder / name).read_bytes()
        rows = []
        for begin, length in parts_of(file, name):
            head, _ = decode_part(file[begin : begin + length], f"{name}, byte {begin}")
            rows.append((head.workflow_id, head.last_offset, name, begin, length))
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO part VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute("INSERT INTO file VALUES (?)", (name,))

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_ENDING}"))

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def check(self) -> Iterator[ArchivedHead]:
        """Read every part of every file. Raises `ArchiveDamaged` at the first that is not whole."""
        for path in self._files():
            file = path.read_bytes()
            for begin, length in parts_of(file, path.name):
                yield decode_part(file[begin : begin + length], f"{path.name}, byte {begin}")[0]


def find(folder: Path | None, workflow_id: str) -> list[tuple[str, ArchivedHead, list[ArchivedDecision]]]:
    """The parts of a workflow in the archive of the settings; none if there is no archive."""
    if folder is None or not (folder / _INDEX).exists():
        return []
    with Archive(folder) as archive:
        return archive.parts(workflow_id)

"""What is known of a damaged file: an error of its own kind, and a mark beside the file.

The process that finds the damage leaves the mark, so that nobody opens the file for writing until
it is restored. The mark holds for the file as it was then: a copy put in its place is another file,
and the mark says nothing of it. Called by `schema` and `store`.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from mesh.errors import FileDamaged

_ENDING: Final = ".damaged"


def damaged(file: Path, why: str) -> FileDamaged:
    """Leave the mark, and return the error to raise."""
    with suppress(OSError):  # a folder that can only be read: the next one finds the damage again
        _mark_of(file).write_text(f"{_fingerprint(file)}\n{why}\n")
    return _error(file, why)


def refuse_damaged(file: Path) -> None:
    """Raise `FileDamaged` if the file is the one that was found damaged.

    The mark of a file that was restored since is removed.
    """
    mark = _mark_of(file)
    try:
        seen, _, why = mark.read_text(errors="replace").partition("\n")
        if seen != _fingerprint(file):
            mark.unlink()
            return
    except OSError:
        return
    raise _error(file, why.strip())


def _error(file: Path, why: str) -> FileDamaged:
    return FileDamaged(
        f"the mesh's file {file} is damaged: {why}. Nothing more is written to it. Stop the mesh, restore the file from a copy, "
        f"and delete {file.name}-wal and {file.name}-shm (docs/operating.md, `A damaged file`)."
    )


def _mark_of(file: Path) -> Path:
    return file.with_name(file.name + _ENDING)


def _fingerprint(file: Path) -> str:
    found = file.stat()
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"

"""Files of an archive in a folder: `mesh.ports.FileStore` on a disk."""

import os
from pathlib import Path
from typing import Final

from mesh.errors import NotFound, OperatorError

_HALF: Final = ".part"


class FolderFiles:
    """A folder. It is made when the first file comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def names(self) -> list[str]:
        if not self._folder.exists():
            return []
        files = (path for path in self._folder.iterdir() if path.is_file() and path.suffix != _HALF)
        return sorted(path.name for path in files)

    def read(self, name: str, begin: int = 0, length: int | None = None) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(begin)
                return file.read(-1 if length is None else length)
        except FileNotFoundError as error:
            raise NotFound(f"{self._folder / name} is not there: restore it from a copy") from error
        except OSError as error:
            raise OperatorError(f"{self._folder / name} can't be read: {error}; restore it from a copy") from error

    def create(self, name: str, content: bytes) -> bool:
        being_written = self._folder / f"{name}{_HALF}"
        if (self._folder / name).exists():
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        with being_written.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        being_written.rename(self._folder / name)
        self._sync()
        return True

    def tidy(self) -> None:
        for half in self._folder.glob(f"*{_HALF}"):
            half.unlink()

    def _sync(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

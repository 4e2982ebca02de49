"""Places of files from a text: a folder, or an object store's URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mesh.adapters.files import FolderFiles
from mesh.errors import NotFound, OperatorError
from mesh.inspection.history.archive import Archive

if TYPE_CHECKING:
    from mesh.adapters.objects import ObjectFiles

_SCHEMES: Final = ("s3", "gs", "az")
_DIGITS: Final = 16  # of the name of a cache


def _is_remote(place: str) -> bool:
    """Whether this is an object store's URL, and not a path."""
    return "://" in place and not place.startswith("file://")


def _path_of(place: str) -> Path:
    """The path of a place that is not remote: a path, or a `file://` URL."""
    return Path(unquote(urlsplit(place).path) if place.startswith("file://") else place)


def _objects(url: str) -> "ObjectFiles":
    """The objects below a URL. Raises `OperatorError` where it is of no store that we can use."""
    if urlsplit(url).scheme not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise OperatorError(f"{url} is no place for files: name a path, or a URL with {known} or file://")
    try:
        from mesh.adapters.objects import ObjectFiles  # noqa: PLC0415 - an extra, which only those who use it have
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"{url} is in an object store, for which a library is missing: pip install 'agent-mesh[objects]'"
        ) from error
    return ObjectFiles.at(url)


def open_archive(place: str, data_dir: Path, *, writes: bool = False) -> Archive:
    """The archive at a place. Of an object store the index is a cache below `data_dir`."""
    if not _is_remote(place):
        folder = _path_of(place)
        return Archive(FolderFiles(folder), folder, writes=writes)
    cache = data_dir / "archives" / sha256(place.encode()).hexdigest()[:_DIGITS]
    return Archive(_objects(place), cache, writes=writes, is_cached=True)


@contextmanager
def written(place: str) -> Iterator[Path]:
    """A path to write one file to; what is there at the end goes to its place, and is new there."""
    if not _is_remote(place):
        path = _path_of(place)
        if path.exists():
            raise OperatorError(f"{path} is there already: name another file")
        if not path.parent.is_dir():
            raise OperatorError(f"there is no folder {path.parent}: create it, or name another file")
        yield path
        return
    folder, name = _split(place)
    files = _objects(folder)
    if name in files.names():
        raise OperatorError(f"{place} is there already: name another one")
    with TemporaryDirectory(prefix="mesh-") as here:
        yield Path(here) / name
        files.put_file(name, Path(here) / name)


@contextmanager
def read_here(place: str) -> Iterator[Path]:
    """A path with what is in one file at a place."""
    if not _is_remote(place):
        path = _path_of(place)
        if not path.is_file():
            raise NotFound(f"there is no file {path}")
        yield path
        return
    folder, name = _split(place)
    with TemporaryDirectory(prefix="mesh-") as here:
        _objects(folder).get_file(name, Path(here) / name)
        yield Path(here) / name


def local_path(place: str) -> Path:
    """The path of a place; of an object its name, in the folder where we are."""
    return Path(_split(place)[1]) if _is_remote(place) else _path_of(place)


def _split(place: str) -> tuple[str, str]:
    """A URL of one object: what it lies in, and its name."""
    folder, _, name = place.rpartition("/")
    if not name or folder.endswith("/"):
        raise OperatorError(f"{place} names no file: add its name, as in s3://bucket/mesh.gz")
    return folder, name

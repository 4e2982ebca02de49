"""Files of an archive in an object store: `mesh.ports.FileStore` through obstore.

Owns the library, which is an extra (`agent-mesh[objects]`), and how its errors are told. It takes
credentials and regions from the environment, by the stores' own names (`AWS_...`, `GOOGLE_...`,
`AZURE_...`). An object is there whole or not at all, so nothing half-written is ever left.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from mesh.errors import NotFound, OperatorError

_RETRIES: Final = 3
_REFUSED: Final = re.compile(r"status code: 40[13]\b")
_PATIENCE: Final = timedelta(seconds=30)  # for one request with all its retries


class ObjectFiles:
    """Objects below a URL: `s3://bucket/prefix`, `gs://...`, `az://...`."""

    def __init__(self, store: ObjectStore, url: str) -> None:
        self._store = store
        self._url = url.rstrip("/")

    @classmethod
    def at(cls, url: str) -> "ObjectFiles":
        """The store at a URL; it is asked nothing yet. Raises `OperatorError` for a wrong URL."""
        with _told(url):
            retry = {"max_retries": _RETRIES, "retry_timeout": _PATIENCE}
            return cls(from_url(url, retry_config=retry), url)  # type: ignore[call-overload]  # its overloads are by literal schemes

    def __str__(self) -> str:
        return self._url

    def names(self) -> list[str]:
        with _told(self._url):
            return sorted(one["path"] for some in obstore.list(self._store) for one in some if "/" not in one["path"])

    def read(self, name: str, begin: int = 0, length: int | None = None) -> bytes:
        with _told(f"{self._url}/{name}"):
            if length is None:
                return bytes(obstore.get(self._store, name).bytes())[begin:]
            return bytes(obstore.get_range(self._store, name, start=begin, length=length))

    def create(self, name: str, content: bytes) -> bool:
        with _told(f"{self._url}/{name}"):
            try:
                obstore.put(self._store, name, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def tidy(self) -> None:
        """Nothing: the store drops what was not put whole."""

    def put_file(self, name: str, source: Path) -> None:
        """Write an object of any size, in parts."""
        with _told(f"{self._url}/{name}"):
            obstore.put(self._store, name, source)

    def get_file(self, name: str, target: Path) -> None:
        """Copy an object of any size."""
        with _told(f"{self._url}/{name}"), target.open("wb") as file:
            for portion in obstore.get(self._store, name).stream():
                file.write(portion)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn the library's errors into ours: what happened, where, and what to do next."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{where} is not there: {_said(error)}") from error
    except BaseError as error:
        if _is_refused(error):
            raise OperatorError(
                f"the object store does not let us in at {where}: {_said(error)}; check the credentials in the "
                "environment (AWS_..., GOOGLE_..., AZURE_...), and that they may list, read and write there"
            ) from error
        raise OperatorError(
            f"the object store at {where} can't be used: {_said(error)}; check the URL, the region and the network"
        ) from error


def _is_refused(error: BaseError) -> bool:
    # a list that is refused is an error without a class of its own
    return isinstance(error, PermissionDeniedError | UnauthenticatedError) or bool(_REFUSED.search(str(error)))


def _said(error: Exception) -> str:
    """The first lines of the message, without the library's own values behind it."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())

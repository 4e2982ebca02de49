"""The folders in which services keep their files, below the data folder (`MESH_DATA_DIR`).

Owns which folder a service takes. What is in it is the service's own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path

from mesh.errors import OperatorError
from mesh.settings import Settings


def claim_slot(settings: Settings, kind: str) -> Path:
    """The first folder of this kind that no running service on this machine holds.

    So a restarted service finds its own files again.
    """
    import fcntl  # noqa: PLC0415 - not there on Windows

    for slot in count():
        folder = slots_of(settings, kind) / str(slot)
        with data_folder_named(settings):
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return folder  # the lock is held, and its descriptor kept, until the process ends
    raise AssertionError("count() has no end")


def slots_of(settings: Settings, kind: str) -> Path:
    """The folder of all services of this kind, of one mesh. It may not exist yet."""
    mesh = sha256(f"{settings.broker}\n{settings.topic_prefix}".encode()).hexdigest()[:12]
    return settings.data_dir / kind / mesh


@contextmanager
def data_folder_named(settings: Settings) -> Iterator[None]:
    """What goes wrong with the data folder, as one line that names it."""
    try:
        yield
    except OSError as error:
        raise OperatorError(
            f"the data folder {settings.data_dir} can't be used: {error.strerror or error}. Make it yours to write, or name "
            "another one in MESH_DATA_DIR."
        ) from error

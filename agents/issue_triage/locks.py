"""A lock between processes of one machine, by a file.

Owns the waiting and its end. Called by the publisher, so that two deliveries of one task look and
post one after the other.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE_S = 0.02


class LockBusy(Exception):
    """Another process held the lock for too long; trying again later may help."""


@contextmanager
def file_lock(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock of `path`.

    The kernel releases it when the process dies. Raises `LockBusy` after `timeout_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + timeout_s
    with path.open("ab") as file:
        while not _try(file.fileno()):
            if time.monotonic() > give_up:
                raise LockBusy(f"{path} was held by another process for {timeout_s:g} s; is one stopped in mid-post?")
            time.sleep(_PAUSE_S)
        yield  # closing the file releases the lock


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

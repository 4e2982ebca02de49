"""Replies in a local file, one JSON object a line. They go there if there is no GitHub.

Owns the file's format: `key`, `repository`, `number`, `at`, `labels`, `body`. A line is written as
a whole or not at all. Called by the publisher.
"""

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from .locks import file_lock
from .models import Published, PublishRequest

_LOCK_WAIT_S = 20.0


class Outbox:
    def __init__(self, path: Path, *, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now

    def publish(self, request: PublishRequest, *, key: str) -> Published:
        """Append the reply, unless there is one with this key.

        The reply is durable on return. Raises `LockBusy`.
        """
        lock = self._path.with_name(self._path.name + ".lock")
        with file_lock(lock, timeout_s=_LOCK_WAIT_S), self._path.open("a+b") as file:
            # under the lock: nobody else can be in the middle of a write
            _drop_torn_end(file)
            already = _has(file, key)
            if not already:
                file.write(self._line(request, key))
                file.flush()
                os.fsync(file.fileno())
        return Published(where="outbox", url=f"{self._path}#{key}", already=already)

    def _line(self, request: PublishRequest, key: str) -> bytes:
        entry = {
            "key": key,
            "repository": request.repository,
            "number": request.number,
            "at": self._now().isoformat(timespec="seconds"),
            "labels": request.reply.labels,
            "body": request.reply.body,
        }
        return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _drop_torn_end(file: BinaryIO) -> None:
    """Cut off what a process left behind that died while it wrote.

    It was never reported as posted.
    """
    end = file.seek(0, os.SEEK_END)
    start = end
    while start:
        step = min(start, 65_536)
        file.seek(start - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            start = start - step + newline + 1
            break
        start -= step
    if start < end:
        file.truncate(start)


def _has(file: BinaryIO, key: str) -> bool:
    file.seek(0)
    # `key` is the first member of each line, so lines need not be parsed
    begins = json.dumps({"key": key})[:-1].encode() + b","
    return any(line.startswith(begins) for line in file)

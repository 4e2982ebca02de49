"""Read-only connections to a cache that the projector writes, one for each thread that reads.

Owns how a page's queries run: in a thread, in one read transaction, so that all of them see the
same moment, and none holds up the event loop.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Final, NamedTuple, TypeVar

import apsw
from starlette.concurrency import run_in_threadpool

T = TypeVar("T")
BUSY_MS: Final = 5_000


class _Open(NamedTuple):
    connection: apsw.Connection
    inode: int


class CacheFile:
    """A cache, and those who read it.

    `live`: the projector's own connection, for where the cache is in memory because the disk is
    full: then only the event loop can read it.
    """

    def __init__(self, live: Callable[[], apsw.Connection]) -> None:
        self._live = live
        self._idle: LifoQueue[_Open] = LifoQueue()

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """What the question finds. It must only read."""
        path = self._live().filename
        if not path:
            return question(self._live())
        return await run_in_threadpool(self._ask, Path(path), question)

    def _ask(self, path: Path, question: Callable[[apsw.Connection], T]) -> T:
        opened = self._take(path)
        try:
            opened.connection.execute("BEGIN")
            found = question(opened.connection)
            opened.connection.execute("ROLLBACK")
        except BaseException:
            opened.connection.close()
            raise
        self._idle.put(opened)
        return found

    def _take(self, path: Path) -> _Open:
        inode = path.stat().st_ino
        with suppress(Empty):
            while True:
                opened = self._idle.get_nowait()
                # a damaged file is made again under the same name
                if opened.inode == inode:
                    return opened
                opened.connection.close()
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_MS)
        return _Open(connection, inode)

    def close(self) -> None:
        """Close what nobody uses."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().connection.close()

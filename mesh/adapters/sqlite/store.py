"""One open file in one event loop, with short transactions and the tables behind them.

Owns the transactions, and must not hold the loop up. Called by `broker`, `readers` and
`subscription`.

SQLite is called in the loop's own thread: a commit costs tens of microseconds, and a hand-over to a
thread costs more. While another process holds the file, calls wait in asyncio, in the order in
which they were begun.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import apsw
import msgspec

from mesh.adapters.sqlite.groups import Groups
from mesh.adapters.sqlite.log import Log
from mesh.adapters.sqlite.nudge import Nudges
from mesh.adapters.sqlite.schema import explain, is_busy
from mesh.adapters.sqlite_files import Checkpointer, roll_back
from mesh.errors import BrokerUnavailable, FileDamaged, MeshError

T = TypeVar("T")

_FIRST_WAIT_S: Final = 0.0005
_LONGEST_WAIT_S: Final = 0.02
_BREATH_S: Final = 0.005
_WAL_PAGES: Final = 2_000  # 16 MiB of 8 KiB pages


class Store:
    """The connection with its tables. `now_ms` is the broker's clock."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        *,
        max_record_bytes: int,
        busy_timeout_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self.now_ms = now_ms
        self.log = Log(connection, max_record_bytes)
        self.groups = Groups(connection, self.log.catalogue)
        self.nudges = Nudges(path, asyncio.get_running_loop())
        self._checkpointer = None if connection.readonly("main") else Checkpointer(connection, path, pages=_WAL_PAGES)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._breathed_at = 0.0
        self._damage: FileDamaged | None = None
        self.is_open = True

    # Transactions

    async def read(self, work: Callable[[], T]) -> T:
        """Run `work`, which sees one state of the file. It does not wait for writers."""
        try:
            return self._try(work, "BEGIN")
        except (apsw.BusyError, apsw.LockedError):
            return await self._retry(work, "BEGIN", time.monotonic() + self._busy_timeout_s)

    def look(self, work: Callable[[], T]) -> T:
        """Run a single query outside of a transaction. Raises the port's errors."""
        try:
            return work()
        except (apsw.Error, msgspec.MsgspecError) as error:
            raise self._explained(error) from error

    async def write(self, work: Callable[[], T]) -> T:
        """Run `work` and commit. An exception of `work` rolls back.

        Writes take place in the order of the calls.
        """
        # calls that wait came first
        if not self._waiting:
            try:
                # Immediate: one that reads first and writes later would fail
                # if another wrote in between.
                return self._try(work, "BEGIN IMMEDIATE")
            except (apsw.BusyError, apsw.LockedError):
                pass
        deadline = time.monotonic() + self._busy_timeout_s
        self._waiting += 1
        try:
            # the lock is fair, so writes keep the order of their calls
            async with self._turn:
                return await self._retry(work, "BEGIN IMMEDIATE", deadline)
        finally:
            self._waiting -= 1

    async def _retry(self, work: Callable[[], T], begin: str, deadline: float) -> T:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return self._try(work, begin)
            except (apsw.BusyError, apsw.LockedError) as error:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(
                        f"another process has held the mesh's file {self._path} for {self._busy_timeout_s:g} s. "
                        "Look for a stopped or hanging process that has it open (`fuser` lists them), and end it."
                    ) from error
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _try(self, work: Callable[[], T], begin: str) -> T:
        """Try once. Raises SQLite's own busy errors, and the port's errors for the others."""
        if not self.is_open:
            raise BrokerUnavailable(f"this connection to {self._path} was closed")
        # what a damaged file says can't be trusted, and nothing may be written on top of it
        if self._damage is not None:
            raise self._damage
        execute = self._connection.execute
        try:
            execute(begin)
            result = work()
            execute("COMMIT")
        except (apsw.Error, msgspec.MsgspecError) as error:
            roll_back(self._connection)
            if is_busy(error):
                raise
            raise self._explained(error) from error
        except BaseException:
            roll_back(self._connection)
            raise
        return result

    def _explained(self, error: apsw.Error | msgspec.MsgspecError) -> MeshError:
        explained = explain(error, self._path)
        if isinstance(explained, FileDamaged):
            self._damage = explained
            # closing would move the log into the damaged file
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return explained

    async def breathe(self) -> None:
        """Let the event loop's other tasks run, if they may have waited for long.

        Calls here need not suspend otherwise.
        """
        now_s = time.monotonic()
        if now_s - self._breathed_at > _BREATH_S:
            await asyncio.sleep(0)
            self._breathed_at = time.monotonic()

    def version(self) -> int:
        """A number that changes when another connection has committed."""
        return int(self.look(lambda: self._connection.pragma("data_version")))

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.nudges.close()
            try:
                if self._checkpointer is not None:
                    # in a thread: it waits for the one that moves the log,
                    # and other tasks must go on
                    await asyncio.to_thread(self._checkpointer.close)
            finally:
                self._connection.close()

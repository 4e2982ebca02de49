"""Tasks that are run alone: those that two processes have died with.

Owns `Solitude`, one for all agents of a process. A task that kills its process takes its neighbours
with it, and each of those counts as a suspect once more; so one that is under strong suspicion
begins when no other handler runs, and none begins beside it. Called by `workers`.

A handler may take hours, and must not hold all others up as long. So a handler that wants to be
alone, or is, keeps others from beginning for `HOLD_S` at a time, and lets them in for as long in
between.
"""

import asyncio
from collections.abc import Callable
from typing import Final

DEATHS: Final = 2  # from this number on a task is run alone
HOLD_S: Final = 60.0


class Solitude:
    """Lets one handler run alone in this process.

    `running`: handlers that run in this process. A worker that begins one counts it up. When it
    ends, the worker counts it down, and calls `changed` if `is_sought`: somebody wants to be alone,
    or is.
    """

    __slots__ = ("_bell", "_has_lone", "_seekers", "_since_s", "is_sought", "running")

    def __init__(self) -> None:
        self.running = 0
        self.is_sought = False  # no property: every task asks, and few ever seek
        self._seekers = 0
        self._has_lone = False
        self._since_s = 0.0
        self._bell = asyncio.Event()

    def changed(self) -> None:
        """Wake those who wait for something to end."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def wait_open(self) -> None:
        """Wait until others may begin."""
        while self.is_sought and (left_s := self._closed_for_s()) > 0:
            await self._wait(left_s)

    async def wait_alone(self, is_over: Callable[[], bool]) -> bool:
        """Wait until no handler runs; the caller's is then the only one, until `leave`.

        Returns False if `is_over` becomes true before that.
        """
        if not self.is_sought:
            self._since_s = _now_s()
        self._seekers += 1
        self.is_sought = True
        try:
            while self._has_lone or self.running:
                if is_over():
                    return False
                # bounded, because nothing rings the bell when `is_over` changes
                await self._wait(1.0)
        finally:
            self._seekers -= 1
            self.is_sought = self._has_lone or self._seekers > 0
            self.changed()
        self._has_lone = self.is_sought = True
        self._since_s = _now_s()
        return True

    def leave(self) -> None:
        """Let others begin: the lone handler has ended."""
        self._has_lone = False
        self.is_sought = self._seekers > 0
        self._since_s = _now_s()
        self.changed()

    def _closed_for_s(self) -> float:
        return HOLD_S - (_now_s() - self._since_s) % (2 * HOLD_S)

    async def _wait(self, timeout_s: float) -> None:
        bell = self._bell
        try:
            async with asyncio.timeout(timeout_s):
                await bell.wait()
        except TimeoutError:
            return


def _now_s() -> float:
    return asyncio.get_running_loop().time()

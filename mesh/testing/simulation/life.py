"""One life of one simulated router: from its start until it is killed, or has ended.

Owns the waiting for its end alone. `world` begins lives, and ends them.
"""

import asyncio
from contextlib import suppress

from mesh.services.router.router import Router
from mesh.testing.virtual_time.incarnation import Incarnation


class Life:
    """One life of one router."""

    def __init__(self, router: Router, incarnation: Incarnation) -> None:
        self.router = router
        self.incarnation = incarnation
        self.name = incarnation.name
        self._over = asyncio.Event()
        incarnation.on_kill(self._over.set)
        self._running = incarnation.start(router.run())
        self._running.add_done_callback(lambda _: self._over.set())

    def is_over(self) -> bool:
        return self._over.is_set()

    def error(self) -> BaseException | None:
        return self._running.exception() if self._running.done() else None

    async def wait_over(self, timeout_s: float | None) -> None:
        """Wait until it was killed or has ended, or until the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._over.wait()

"""When a card is renewed: at intervals, and sooner where others may take its process for dead.

Owns the pause between two renewals. A card's age counts by the broker's clock, so a renewal that
could not be sent is repeated soon, and so is one whose time a jump of the clock has passed.
"""

import asyncio
from typing import Final

from mesh.ports import Clock

LOOK_S: Final = 1.0  # how late a jump of the clock, or a broker that is back, may be noticed


class Renewal:
    """`every_s`: the pause while nothing is wrong."""

    def __init__(self, clock: Clock, every_s: float) -> None:
        self._clock = clock
        self._every_s = every_s
        self._hastened = asyncio.Event()

    def hasten(self) -> None:
        """End the pause under way."""
        self._hastened.set()

    async def wait(self, *, is_sent: bool) -> None:
        """Wait until the card is due again. `is_sent`: whether the last renewal was sent."""
        loop = asyncio.get_running_loop()
        began_s, began_ms = loop.time(), self._clock.now_ms()
        pause_s = self._every_s if is_sent else min(self._every_s, LOOK_S)
        while (left_s := began_s + pause_s - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, LOOK_S)):
                    await self._hastened.wait()
            except TimeoutError:
                passed_ms = (loop.time() - began_s) * 1_000
                # asleep, or set: to the broker and to readers the card is older than to us
                if abs(self._clock.now_ms() - began_ms - passed_ms) > LOOK_S * 1_000:
                    return
            else:
                self._hastened.clear()
                return

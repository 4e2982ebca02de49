"""How far a topic of activations is known, by the broker's timestamps.

Owns the rule of when a router must look at the end of the topic again (docs/adr/0008). Both the
routes of events and the people of answers follow it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from mesh.core.activation import SLACK_MS, known_until_ms


class Lookout:
    """`refresh` reads the topic up to its end."""

    def __init__(self, refresh: Callable[[], Awaitable[None]]) -> None:
        self._refresh = refresh
        self._until_ms = 0  # what is in effect below this time is known
        self._began_s = float("-inf")

    def knows(self, at_ms: int) -> bool:
        """Whether what is in effect at a time is known, however old the last look is."""
        return at_ms < self._until_ms

    def is_fresh(self) -> bool:
        """Whether the last look is so new that a broker's clock that was put back hides nothing."""
        # by this machine's time: a broker whose clock was set back stamps everything with one time
        return asyncio.get_running_loop().time() - self._began_s < SLACK_MS / 1000

    async def look(self, seen_ms: int) -> None:
        """Look, unless it is known already. `seen_ms`: the newest broker timestamp seen so far.

        Raises `BrokerUnavailable`.
        """
        if self.knows(seen_ms) and self.is_fresh():
            return
        began_s = asyncio.get_running_loop().time()
        await self._refresh()
        self._until_ms = max(self._until_ms, known_until_ms(seen_ms))
        self._began_s = began_s

"""Live updates: what has changed, told to each open tab as server-sent events.

Owns the streams. An event says what changed, never how: the browser fetches its part again, with
its own rights. So rights are checked in one place. With many changes a message stays as small.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from typing import Final

TOPICS: Final = ("status", "approvals", "workflows", "incidents", "dead-letters", "agents")
EVERY_S: Final = 1.0  # at most one message in this time
COMMENT_S: Final = 15.0  # proxies close what is silent for long


class _Tab:
    def __init__(self, topics: Collection[str]) -> None:
        self.topics = frozenset(topics)
        self.changed: dict[str, None] = {}
        self.news = asyncio.Event()


class Hub:
    """Who listens. For one event loop."""

    def __init__(self) -> None:
        self._tabs: dict[_Tab, str] = {}
        self._closing = asyncio.Event()
        self.position = ""  # partition and offset of the last decision that was told

    def tell(self, changed: Iterable[str], position: str = "") -> None:
        """Say that these have changed."""
        self.position = position or self.position
        for tab in self._tabs:
            mine = [topic for topic in changed if topic in tab.topics]
            if mine:
                tab.changed |= dict.fromkeys(mine)
                tab.news.set()

    def close(self) -> None:
        """End all streams, so that they hold up no stop."""
        self._closing.set()
        for tab in self._tabs:
            tab.news.set()

    def streams_of(self, person: str) -> int:
        return sum(one == person for one in self._tabs.values())

    async def stream(self, person: str, topics: Collection[str], last_id: str = "") -> AsyncGenerator[bytes, None]:
        """The stream of one tab. `last_id`: the last position that it has heard of."""
        tab = _Tab(topics)
        self._tabs[tab] = person
        try:
            yield b"retry: 2000\n\n"
            if last_id and last_id != self.position:
                tab.changed |= dict.fromkeys(topics)
                tab.news.set()
            while not self._closing.is_set():
                try:
                    async with asyncio.timeout(COMMENT_S):
                        await tab.news.wait()
                except TimeoutError:
                    yield b": here\n\n"
                    continue
                tab.news.clear()
                if tab.changed:
                    yield self._message(tab)
                    tab.changed.clear()
                    await self._pause()
        finally:
            del self._tabs[tab]

    def _message(self, tab: _Tab) -> bytes:
        position = f"id: {self.position}\n" if self.position else ""
        return f"event: changed\n{position}data: {' '.join(tab.changed)}\n\n".encode()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY_S):
                await self._closing.wait()
        except TimeoutError:
            return

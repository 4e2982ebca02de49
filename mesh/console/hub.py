"""Live updates: what has changed, told to each open tab as server-sent events.

Owns the streams. An event says what changed, never how: the browser fetches its part again, with
its own rights. So rights are checked in one place. With many changes a message stays as small.

A page carries the mark of the moment from which it was made (`Hub.mark`), and its stream begins
there. So a change between the page and its stream reaches the browser, and so does one during a
break.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Collection, Iterable
from typing import Final
from urllib.parse import quote, unquote

TOPICS: Final = (
    "status",
    "approvals",
    "workflows",
    "incidents",
    "dead-letters",
    "agents",
    "operations",
    "routes",
    "events",
)
EVERY_S: Final = 0.4  # at most one message in this time: with the rest a change is seen within a second
COMMENT_S: Final = 15.0  # proxies close what is silent for long
_WORKFLOW: Final = "workflow:"


def topic_of(workflow_id: str) -> str:
    """The topic of one workflow, without a space or a comma."""
    return _WORKFLOW + quote(workflow_id, safe=":")


class _Tab:
    def __init__(self, topics: Collection[str]) -> None:
        self.topics = frozenset(topics)
        self.changed: dict[str, None] = {}
        self.news = asyncio.Event()

    def tell(self, changed: Iterable[str]) -> None:
        if mine := [topic for topic in changed if topic in self.topics]:
            self.changed |= dict.fromkeys(mine)
            self.news.set()

    def take(self) -> str:
        """What has changed since the last time; what changes from now on comes with the next."""
        changed, self.changed = self.changed, {}
        self.news.clear()
        return " ".join(changed)


class Hub:
    """Who listens. For one event loop."""

    def __init__(self) -> None:
        self._tabs: dict[_Tab, str] = {}
        self._closing = asyncio.Event()
        self._name = secrets.token_hex(4)  # marks of another console say nothing here
        self._count = 0
        self._told: dict[str, int] = {}  # by topic, the count at its last change
        self._position = "-"

    @property
    def mark(self) -> str:
        """Now: how often something was told, and the log's place at the last of them."""
        return f"{self._name}.{self._count}.{self._position}"

    def tell(self, changed: Collection[str], position: str = "") -> None:
        """Say that these have changed.

        `position`: partition and offset of the last decision that is in the caches.
        """
        self._count += 1
        self._position = position or self._position
        self._told |= {topic: self._count for topic in changed if topic in TOPICS}
        for tab in self._tabs:
            tab.tell(changed)

    def watched(self) -> set[str]:
        """The ids of the workflows that somebody looks at."""
        return {
            unquote(topic.removeprefix(_WORKFLOW))
            for tab in self._tabs
            for topic in tab.topics
            if topic.startswith(_WORKFLOW)
        }

    def close(self) -> None:
        """End all streams, so that they hold up no stop."""
        self._closing.set()
        for tab in self._tabs:
            tab.news.set()

    def streams_of(self, person: str) -> int:
        return sum(one == person for one in self._tabs.values())

    async def stream(self, person: str, topics: Collection[str], since: str = "") -> AsyncGenerator[bytes, None]:
        """The stream of one tab. `since`: the mark of its page, or the last that it has heard."""
        tab = _Tab(topics)
        self._tabs[tab] = person
        tab.tell(self._missed(topics, since))
        try:
            yield b"retry: 2000\n\n"
            while not self._closing.is_set():
                try:
                    async with asyncio.timeout(COMMENT_S):
                        await tab.news.wait()
                except TimeoutError:
                    yield b": here\n\n"
                    continue
                # before the message is sent: what changes meanwhile must not be forgotten with it
                mark, changed = self.mark, tab.take()
                if changed:
                    yield f"event: changed\nid: {mark}\ndata: {changed}\n\n".encode()
                    await self._pause()
        finally:
            del self._tabs[tab]

    def _missed(self, topics: Collection[str], since: str) -> Collection[str]:
        """Which of them may have changed since this mark."""
        if not since:
            return ()
        known = re.fullmatch(rf"{self._name}\.(\d+)\..*", since)
        if known is None:
            return topics
        count = int(known[1])
        # of single workflows nothing is kept: any of them may have changed
        return [topic for topic in topics if self._told.get(topic if topic in TOPICS else "workflows", 0) > count]

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY_S):
                await self._closing.wait()
        except TimeoutError:
            return

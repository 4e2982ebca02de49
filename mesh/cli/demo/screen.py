"""Where a run is shown: as a live picture on a terminal, as plain lines anywhere else.

Owns when something is drawn. Plain lines have no control codes, each with the seconds since the
start before it. With `--json` nothing is shown but the result.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from mesh.cli.demo.news import Item
from mesh.cli.demo.picture import MOST_NEWS, news_line, picture
from mesh.cli.demo.script import Script
from mesh.cli.demo.view import View

LEAST_WIDTH: Final = 72
LEAST_HEIGHT: Final = 20


class Screen(Protocol):
    def show(self, view: View, news: Sequence[Item]) -> None:
        """The mesh as it is now, and what is new since the last call."""

    def say(self, *parts: RenderableType) -> None:
        """Something between the pictures; what was drawn stays above it."""

    def rest(self) -> None:
        """Leave the screen to somebody else, until `show` is called again."""


class LiveScreen:
    """The picture, drawn anew in its place. It stays on the screen when it rests."""

    def __init__(
        self, console: Console, script: Script, *, title: str, steps: Mapping[str, bool], partitions: int
    ) -> None:
        self._console = console
        self._script = script
        self._title = title
        self._steps = steps
        self._partitions = partitions
        self._news: deque[Item] = deque(maxlen=MOST_NEWS)
        self._began = time.monotonic()
        self._live: Live | None = None

    def show(self, view: View, news: Sequence[Item]) -> None:
        self._news.extend(news)
        drawn = picture(
            view,
            self._script,
            title=f"{self._title}   {time.monotonic() - self._began:.0f} s",
            steps=self._steps,
            news=tuple(self._news),
            partitions=self._partitions,
            width=self._console.width,
            height=self._console.height,
        )
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(drawn, refresh=True)

    def say(self, *parts: RenderableType) -> None:
        self.rest()
        for part in parts:
            self._console.print(part)

    def rest(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @staticmethod
    def fits(console: Console) -> bool:
        """Whether this is a terminal that can take it."""
        large = console.width >= LEAST_WIDTH and console.height >= LEAST_HEIGHT
        return console.is_terminal and not console.is_dumb_terminal and large


class PlainScreen:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def show(self, view: View, news: Sequence[Item]) -> None:  # noqa: ARG002 - lines tell what happens, not how it stands
        for item in news:
            passed = Text(f"{time.monotonic() - self._began:5.1f} s  ", style="dim")
            self._console.print(passed + news_line(item), soft_wrap=True)

    def say(self, *parts: RenderableType) -> None:
        for part in parts:
            self._console.print(part)

    def rest(self) -> None:
        """Nothing is in the way."""


class SilentScreen:
    def show(self, view: View, news: Sequence[Item]) -> None:
        """For programs only the end counts."""

    def say(self, *parts: RenderableType) -> None:
        """As `show`."""

    def rest(self) -> None:
        """As `show`."""

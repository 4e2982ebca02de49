"""Where a run of the demo is shown.

Each thing that happens is a line, with the seconds since the start. A terminal has one more line
below them, with the current state. Owns the look. Every state is a sign and a word; colour only
repeats them. With `--json` nothing is shown but the result. `command` and `conductor` call it.
"""

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from mesh.cli.demo.news import Item
from mesh.cli.demo.script import Script
from mesh.cli.demo.view import View
from mesh.cli.text.format import counted, one_line, printable

WHAT: Final = 160  # characters of an item's line, before its reason
WHY: Final = 200


class Screen:
    """The screen. `console` None: for a program, which wants the result alone."""

    def __init__(self, console: Console | None, script: Script) -> None:
        self._console = console
        self._script = script
        self._began = time.monotonic()
        self._live: Live | None = None

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches on a terminal, and must be able to follow."""
        return self._console is not None and self._console.is_terminal and not self._console.is_dumb_terminal

    def show(self, view: View, news: Sequence[Item]) -> None:
        """Show what is new since the last call, and the mesh's state now."""
        if self._console is None:
            return
        for item in news:
            passed = Text(f"{time.monotonic() - self._began:5.1f} s  ", style="dim")
            self._console.print(passed + news_line(item), soft_wrap=True)
        if self.is_watched:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(standing(view, self._script), refresh=True)

    def say(self, *parts: RenderableType) -> None:
        self.rest()
        for part in parts:
            if self._console is not None:
                self._console.print(part)

    def rest(self) -> None:
        """Leave the screen to others until the next call of `show`."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def news_line(item: Item) -> Text:
    line = Text(f"{item.symbol} ", style=item.style)
    line.append(f"{printable(item.about)}  ", style="bold")
    line.append(one_line(item.what, WHAT), style=item.style)
    if item.why:
        line.append(f"  {one_line(item.why, WHY)}", style="dim")
    return line


def standing(view: View, script: Script) -> Text:
    """`● 9 of 16 events sent   3 workflows run, 5 have ended   2 questions wait for a person`."""
    running = sum(one.status == "running" for one in view.workflows.values())
    parts = [
        f"{len(view.sent)} of {len(script.deliveries)} events sent",
        f"{counted(running, 'workflow')} under way, {len(view.workflows) - running} ended",
    ]
    if view.waiting:
        parts.append(f"{counted(len(view.waiting), 'question')} for a person")
    if missing := [name for name, alive in view.agents.items() if not alive]:
        parts.append(f"starting: {', '.join(missing)}")
    return Text("● " + "   ".join(parts), style="cyan", no_wrap=True, overflow="ellipsis")

"""A workflow's timeline: when, what and why, decision by decision.

Owns its rows for people. It only renders; `mesh workflows show` reads and calls it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mesh.cli.text.events import Line, describe
from mesh.cli.text.format import clock_time, printable, readable
from mesh.inspection.documents.timeline import is_at
from mesh.inspection.for_each_items import Shown, folded
from mesh.inspection.read_model.queries import TimelineEntry

SHOWN_LINES: Final = 40  # lines of one payload, unless --full asks for all


class Row(NamedTuple):
    """One line of the timeline. `when`: empty on all but the first line of a decision."""

    when: str
    line: Line


def rows(entries: Iterable[TimelineEntry], now_ms: int, *, step: str | None = None) -> list[Row]:
    """A row for each event, without those of a for-each's items that went well.

    With `step`: every event of that step, item by item.
    """
    shown = list(folded(entries)) if step is None else [one for one in _each(entries) if is_at(one.event, step)]
    found: list[Row] = []
    run, last = shown[0].entry.run_id if shown else "", None
    for entry, event, items in shown:
        if entry.run_id != run:
            run = entry.run_id
            found.append(Row("", Line("", f"run {run}", "bold")))
        line = describe(event, entry.decision)
        if items is not None and items.total:
            line = line._replace(what=f"{line.what}: {items.said()}")
        found.append(Row("" if entry is last else clock_time(entry.decision.at_ms, now_ms), line))
        last = entry
    return found


def _each(entries: Iterable[TimelineEntry]) -> Iterator[Shown]:
    return (Shown(entry, event) for entry in entries for event in entry.decision.events)


def entries_at(entries: Iterable[TimelineEntry], step: str) -> list[TimelineEntry]:
    """The decisions in which something happened to this step."""
    return [entry for entry in entries if any(is_at(event, step) for event in entry.decision.events)]


def table(found: Iterable[Row]) -> Table:
    """The rows as a table, one line for each. The time is shown where a decision begins."""
    shown = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    shown.add_column("WHEN", no_wrap=True, style="dim")
    shown.add_column("STEP", no_wrap=True)
    shown.add_column("WHAT", overflow="fold", ratio=2)
    shown.add_column("WHY", overflow="fold", ratio=3, style="dim")
    for when, line in found:
        shown.add_row(when, printable(line.step), Text(printable(line.what), style=line.style), printable(line.why))
    return shown


def in_full(found: Iterable[Row], *, limit: int | None = SHOWN_LINES) -> Iterator[RenderableType]:
    """The rows over the whole width, with every payload below its event.

    `limit`: how many lines of a payload are shown. None: all.
    """
    for when, line in found:
        head = Text(f"{when:<12}  ", style="dim")
        head.append(f"{printable(line.step)} " if line.step else "", style="bold")
        head.append(printable(line.what), style=line.style)
        head.append(f"  {printable(line.why)}", style="dim")
        yield head
        for name, value in line.payloads:
            yield Padding(Text(f"{name}\n", style="dim") + _payload(value, limit), (0, 0, 1, 14), expand=False)


def _payload(value: Any, limit: int | None) -> Text:
    lines = readable(value).split("\n")
    if limit is None or len(lines) <= limit:
        return Text("\n".join(lines), style="default")
    left = f"\n... and {len(lines) - limit:,} more lines; --full shows all"
    return Text("\n".join(lines[:limit]), style="default") + Text(left, style="dim")

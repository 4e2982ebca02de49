"""A workflow's timeline: when, what and why, decision by decision.

Owns its rows, for people and in JSON. It only renders; `mesh workflows show` reads and calls it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mesh.cli.text.events import Line, describe
from mesh.cli.text.format import clock_time, printable, readable
from mesh.core import ids
from mesh.core.events import Event
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
    shown = list(folded(entries)) if step is None else [one for one in _each(entries) if _is_at(one.event, step)]
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


def _is_at(event: Event, step: str) -> bool:
    """Whether an event is about this step or place.

    A step's items and its compensation are part of it.
    """
    place: str = getattr(event, "step", "")
    return place != "" and step in (place, ids.step_of(place))


def entries_at(entries: Iterable[TimelineEntry], step: str) -> list[TimelineEntry]:
    """The decisions in which something happened to this step."""
    return [entry for entry in entries if any(_is_at(event, step) for event in entry.decision.events)]


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


PAYLOAD_FIELDS: Final = ("input", "output", "payload", "cloud_event", "value", "payload_schema", "items")


def document(entry: TimelineEntry, *, payloads: bool, step: str | None = None) -> dict[str, Any]:
    """One decision as JSON, with the log's own events.

    `step`: only the events of that step. `payloads`: with their payloads.
    """
    decision = entry.decision
    events: list[dict[str, Any]] = [
        msgspec.to_builtins(event) for event in decision.events if step is None or _is_at(event, step)
    ]
    return {
        "at_ms": decision.at_ms,
        "partition": entry.partition,
        "offset": entry.offset,
        "run_id": entry.run_id,
        "cause": msgspec.to_builtins(decision.cause),
        "events": events if payloads else [_without_payloads(event) for event in events],
    }


def _without_payloads(event: dict[str, Any]) -> dict[str, Any]:
    """The event without its payloads.

    Of a kept event, the place where it lies remains; its data is left out.
    """
    shown = {name: value for name, value in event.items() if name not in PAYLOAD_FIELDS}
    if "kept" in shown and isinstance(shown["kept"], dict):
        about = {name: value for name, value in shown["kept"]["cloud_event"].items() if not name.startswith("data")}
        shown["kept"] = {**shown["kept"], "cloud_event": about}
    return shown

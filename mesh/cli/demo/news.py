"""What happens in the mesh, one line each, for a newcomer.

Owns the choice and the wording. It reads the log's decisions, as `mesh workflow` does, but tells
only what a newcomer wants to follow. Pure.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from mesh.cli.demo.script import Delivery, short_id
from mesh.cli.text.events import describe
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    IncidentRaised,
    InputParked,
    RetryScheduled,
    StartRepeated,
    TaskFailed,
    WorkflowEnded,
    WorkflowStarted,
)
from mesh.inspection.read_model.queries import TimelineEntry

SYMBOLS: Final[dict[type, str]] = {
    WorkflowStarted: "▸",
    StartRepeated: "=",
    TaskFailed: "✗",
    RetryScheduled: "↻",
    ApprovalRequested: "?",
    ApprovalClosed: "✓",
    AnswerRefused: "✗",
    IncidentRaised: "✗",
    InputParked: "✗",
    WorkflowEnded: "✓",
}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `about`: the issue, or whom the line comes from."""

    symbol: str
    about: str
    what: str
    why: str = ""
    style: str = ""


def sent(delivery: Delivery) -> Item:
    """The line for an event that upstream published."""
    what = f"published: {delivery.event['type']}" if delivery.event else "published: bytes that are not an event"
    return Item(symbol="→", about=delivery.short, what=what, why=delivery.title, style="dim")


def no_workflow(delivery: Delivery, fate: str) -> Item | None:
    """The line for an event that no workflow takes, so that no decision mentions it.

    None for any other event.
    """
    match fate:
        case "unmatched":
            return Item(symbol="-", about=delivery.short, what="unwanted", why="no route takes this type", style="dim")
        case "dead_letter":
            why = "it can't be read, and is kept as it came"
            return Item(symbol="✗", about=delivery.short, what="dead letter", why=why, style="red")
        case _:
            return None


def news_of(entry: TimelineEntry) -> Iterator[Item]:
    """The lines for one decision."""
    for event in entry.decision.events:
        symbol = SYMBOLS.get(type(event))
        if symbol is None:
            continue
        line = describe(event, entry.decision)
        if (isinstance(event, WorkflowEnded) and event.status != "completed") or (
            isinstance(event, ApprovalClosed) and event.verdict == "rejected"
        ):
            symbol = "✗"
        why = "" if isinstance(event, WorkflowStarted) else line.why
        what = f"{line.step}: {line.what}" if line.step else line.what
        yield Item(symbol=symbol, about=short_id(entry.decision.workflow_id), what=what, why=why, style=line.style)

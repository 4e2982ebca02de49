"""The items of a for-each in a timeline: one line of counts, and those that went wrong by name.

Owns which events of items get a line. A for-each may have ten thousand items, and each of them
several events; a reader of the timeline wants the counts, and what failed. `mesh.cli.text.timeline`
calls it.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from mesh.core import ids
from mesh.core.events import (
    Event,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    IncidentResolved,
    PortionScheduled,
    StepCancelled,
    StepCompleted,
    StepGivenUp,
    TaskDispatched,
    TaskSucceeded,
    WorkflowEnded,
)
from mesh.inspection.read_model.queries import TimelineEntry

NAMED: Final = 10  # items that went wrong and are named: more names help nobody


class Items:
    """How the items of one for-each came out, as far as the timeline has gone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.begun: set[str] = set()
        self.succeeded = 0
        self.failed: list[str] = []
        self.incidents: dict[str, None] = {}
        self.is_over = False
        self._told: set[str] = set()

    def note(self, event: Event, place: str) -> bool:
        """Count an item's event. Returns True if the event deserves a line of its own."""
        match event:
            case TaskDispatched():
                self.begun.add(place)
                return False
            case TaskSucceeded() | StepCompleted():
                self.succeeded += 1
                return False
            case StepGivenUp():
                self.failed.append(place)
            case IncidentRaised():
                self.begun.add(place)
                self.incidents[place] = None
            case IncidentResolved():
                self.incidents.pop(place, None)
            case _:
                return False
        if len(self._told) < NAMED:
            self._told.add(place)
        return place in self._told

    def said(self) -> str:
        """The counts in words: `2 succeeded, 1 failed (check[3]), 1 under way`."""
        going = len(self.begun) - self.succeeded - len(self.failed) - len(self.incidents)
        to_come = self.total - len(self.begun)
        counts = [
            (self.succeeded, "succeeded", ""),
            (len(self.failed), "failed", _names(self.failed)),
            (len(self.incidents), "with an incident", _names(self.incidents)),
            (going, "cancelled" if self.is_over else "under way", ""),
            (to_come, "never begun" if self.is_over else "to come", ""),
        ]
        return ", ".join(f"{count:,} {what}{names}" for count, what, names in counts if count)


def _names(places: Iterable[str]) -> str:
    return f" ({some(list(places))})"


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


class Shown(NamedTuple):
    """An event that gets a line.

    `items`: the items of the for-each that begins here. They are complete once all entries have
    been read.
    """

    entry: TimelineEntry
    event: Event
    items: Items | None = None


def folded(entries: Iterable[TimelineEntry]) -> Iterator[Shown]:
    """The events to show: without those of items that went well."""
    fans: dict[str, Items] = {}
    for entry in entries:
        for event in entry.decision.events:
            place: str = getattr(event, "step", "")
            items = fans.get(ids.step_of(place)) if place else None
            if ids.is_item(place):
                if items is None or items.note(event, place):
                    yield Shown(entry, event)
                continue
            match event:
                case ForEachStarted():
                    fans[place] = Items(len(event.items))
                    yield Shown(entry, event, fans[place])
                    continue
                case WorkflowEnded():
                    for one in fans.values():
                        one.is_over = True
                case ForEachEnded() | StepGivenUp() | StepCancelled() if items is not None:
                    items.is_over = True
                case PortionScheduled():
                    continue
            yield Shown(entry, event)

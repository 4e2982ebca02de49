"""One decision of a timeline, as JSON. Owns what of an event is left out where payloads are."""

from typing import Any, Final

import msgspec

from mesh.core import ids
from mesh.core.events import Event
from mesh.inspection.read_model.queries import TimelineEntry

PAYLOAD_FIELDS: Final = ("input", "output", "payload", "cloud_event", "value", "payload_schema", "items")


def is_at(event: Event, step: str) -> bool:
    """Whether an event is about this step or place.

    A step's items and its compensation are part of it.
    """
    place: str = getattr(event, "step", "")
    return place != "" and step in (place, ids.step_of(place))


def timeline_document(entry: TimelineEntry, *, payloads: bool, step: str | None = None) -> dict[str, Any]:
    """One decision as JSON, with the log's own events.

    `step`: only the events of that step. `payloads`: with their payloads.
    """
    decision = entry.decision
    events: list[dict[str, Any]] = [
        msgspec.to_builtins(event) for event in decision.events if step is None or is_at(event, step)
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

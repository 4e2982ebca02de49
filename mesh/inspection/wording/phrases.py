"""The phrases that all words share: durations, times, counts, CloudEvents, and what ids say.

Owns their form, so that the timeline and a transcript say the same thing in the same way. Every
module of `mesh.inspection.wording` calls it, and the command line's texts do.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from msgspec import to_builtins

from mesh.core.ids import parse_step_id

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WAITED: Final = re.compile(r"(?:\b(?:after|in|for) )?\b[0-9.]+ s\b")
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))
_EXACT_BELOW_S: Final = 10
_IN_HOURS_BELOW_S: Final = 2 * 86_400  # people say 24h, and 36h


def event_words(event: dict[str, Any]) -> str:
    """A CloudEvent on one line, with its data."""
    subject = f" {event['subject']}" if event.get("subject") else ""
    return f"event {event['id']}, {event['type']}{subject}: {as_json(event.get('data'))}"


def data_of(event: dict[str, Any], name: str = "data") -> tuple[tuple[str, Any], ...]:
    """A CloudEvent's data as a value to show, under this name; empty if it has none at all."""
    return ((name, event["data"]),) if "data" in event else ()


def event_name(cloud_event: dict[str, Any]) -> str:
    """A CloudEvent by its id and type: `event o1 (com.shop.paid)`."""
    return f"event {cloud_event.get('id', '')} ({cloud_event.get('type', '')})"


def step_words(task_id: str) -> str:
    """The step and its workflow, from a task's id. Any other id is returned as it is."""
    parts = parse_step_id(task_id)
    return f"{parts.step} of {parts.workflow_id}" if parts else task_id


def short(name: str) -> str:
    """What an id says of the step: `draft`, or `draft, attempt 2`.

    Any other id is returned as it is.
    """
    for whole, tail in ((name, ""), name.rpartition("/")[::2]):
        parts = parse_step_id(whole)
        if parts is not None and len(parts.run_id) == len("4f2a9c01"):
            return parts.step + (f", attempt {tail}" if tail else "")
    return name


def blamed(kind: str, message: str) -> str:
    """`kind: message`; the message alone if it begins with the kind."""
    return message if message.startswith(f"{kind}: ") else f"{kind}: {message}"


def timeless(message: str) -> str:
    """The message without the exact time that was waited, which differs from run to run."""
    return _WAITED.sub("in time", message)


def named(value: object) -> str:
    """The name of a type in words, for a value that has no words of its own."""
    return _WORD.sub(" ", type(value).__name__).lower()


def lasting(ms: float) -> str:
    """A duration as a route would say it: `24h`, `1m 30s`, `0.9s`."""
    seconds = ms / 1000
    if seconds < _EXACT_BELOW_S:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    left, parts = round(seconds), []
    for unit, size in _UNITS:
        if unit == "d" and left < _IN_HOURS_BELOW_S:
            continue
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts + ([f"{left}s"] if left else []))


def duration(ms: float) -> str:
    """A duration in at most two units: `180 ms`, `4.2 s`, `14 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = int(ms)
    if whole < SECOND_MS:
        return f"{whole} ms"
    if whole < MINUTE_MS:
        return f"{whole // 100 / 10:.1f} s" if whole < 10 * SECOND_MS else f"{whole // SECOND_MS} s"
    if whole < HOUR_MS:
        return f"{whole // MINUTE_MS} min"
    large, small = (("d", DAY_MS), ("h", HOUR_MS)) if whole >= DAY_MS else (("h", HOUR_MS), ("min", MINUTE_MS))
    rest = whole % large[1] // small[1]
    return f"{whole // large[1]} {large[0]}" + (f" {rest} {small[0]}" if rest else "")


def clock_time(at_ms: int, now_ms: int) -> str:
    """The local time, with its date if that is not today."""
    at, now = (datetime.fromtimestamp(ms / 1_000, UTC).astimezone() for ms in (at_ms, now_ms))
    day = "" if at.date() == now.date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 event`, `12,000 events`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def as_json(value: Any) -> str:
    return orjson.dumps(value, default=to_builtins).decode()


def said_for(by: str, on_behalf: str) -> str:
    """Who has answered, and for whom if it was for somebody else: `ana for ben`."""
    return f"{by} for {on_behalf}" if on_behalf else by

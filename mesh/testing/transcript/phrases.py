"""The phrases that the words of a transcript share: durations, CloudEvents, and what ids say."""

import re
from typing import Any, Final

from mesh.core.ids import parse_step_id
from mesh.testing.transcript.writer import as_json

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WAITED: Final = re.compile(r"\b(?:after|in|for) [0-9.]+ s\b")
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))
_EXACT_BELOW_S: Final = 10
_IN_HOURS_BELOW_S: Final = 2 * 86_400  # people say 24h, and 36h


def event_words(event: dict[str, Any]) -> str:
    """A CloudEvent in a line."""
    subject = f" {event['subject']}" if event.get("subject") else ""
    return f"event {event['id']}, {event['type']}{subject}: {as_json(event.get('data'))}"


def step_words(task_id: str) -> str:
    """The step, and whose it is. Another id as it is."""
    parts = parse_step_id(task_id)
    return f"{parts.step} of {parts.workflow_id}" if parts else task_id


def short(name: str) -> str:
    """What an id says of the step: `draft`, `draft/2`. Another id as it is."""
    for whole, tail in ((name, ""), name.rpartition("/")[::2]):
        parts = parse_step_id(whole)
        if parts is not None and len(parts.run_id) == len("4f2a9c01"):
            return parts.step + (f", attempt {tail}" if tail else "")
    return name


def timeless(message: str) -> str:
    """How long exactly something was waited for differs from run to run."""
    return _WAITED.sub("in time", message)


def named(value: object) -> str:
    """What a thing without words of its own is called."""
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

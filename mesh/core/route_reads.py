"""What a route's expressions may read, and where: checked when the route is loaded, so that no event finds it out.

`event` is there everywhere; `workflow` and `steps` are there once a workflow has begun. A step may read those steps alone that it needs, directly or through
others: of any other it is not sure to find an output. `route_compile` is the only caller.
"""

import re
from difflib import get_close_matches
from typing import Final, Literal

import msgspec

from mesh.core.cel_paths import path_text
from mesh.core.route_problems import Book, Reading, join, near

__all__ = ["Sight", "check_readings"]

EVENT_FIELDS: Final = (
    "id",
    "source",
    "specversion",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
)
WORKFLOW_FIELDS: Final = ("id", "run_id", "route", "key")
APPROVAL_FIELDS: Final = ("verdict", "payload", "by", "reason", "edited")
ROOTS: Final = ("event", "steps", "workflow")
_EXTENSION: Final = re.compile("[a-z0-9]+")  # CloudEvents 1.0.2, "Naming conventions" of attributes


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """`kinds`: of the steps that could be read; `declared`: the names of all; `upstream`: None where the graph does not hold."""

    kinds: dict[str, Literal["agent", "approval"]]
    declared: frozenset[str]
    upstream: dict[str, frozenset[str]] | None


def check_readings(book: Book, sight: Sight) -> None:
    """Note every reading of what can't be there."""
    for reading in book.readings:
        _check(book, sight, reading)


def _check(book: Book, sight: Sight, reading: Reading) -> None:
    root = reading.read.segments[0]
    if root not in ROOTS:
        _note(book, reading, f"unknown name {root}", _root_hint(sight, str(root)))
    elif root == "event":
        _check_event(book, reading)
    elif reading.path[0] in ("on", "key"):
        _note(book, reading, f"{root} is not there yet when an event is matched", "read event alone here")
    elif root == "workflow":
        _check_field(book, reading, 1, WORKFLOW_FIELDS)
    else:
        _check_step(book, sight, reading)


def _note(book: Book, reading: Reading, message: str, hint: str) -> None:
    book.add(reading.path, f"{message}, at column {reading.read.column} of: {reading.text.strip()}", hint)


def _root_hint(sight: Sight, root: str) -> str:
    if root in sight.declared:
        return f"did you mean steps.{root}?"
    found = get_close_matches(root, ROOTS, 1, 0.75)
    return f"did you mean {found[0]}?" if found else f"paths begin with {join(ROOTS)}; text stands in quotes"


def _check_event(book: Book, reading: Reading) -> None:
    """Any attribute may be an extension, as long as its name can be one and is not a near miss of a known one."""
    segments = reading.read.segments
    field = segments[1] if len(segments) > 1 else "data"
    if field in EVENT_FIELDS:
        return
    found = get_close_matches(str(field), EVENT_FIELDS, 1, 0.75)
    if found:
        _note(book, reading, f"an event has no {field}", f"did you mean event.{found[0]}?")
    elif not isinstance(field, str) or not _EXTENSION.fullmatch(field):
        _note(
            book, reading, f"an event has no {field}", f"what the event carries is under event.data: event.data.{field}"
        )


def _check_field(book: Book, reading: Reading, place: int, known: tuple[str, ...]) -> None:
    segments = reading.read.segments
    if len(segments) > place and segments[place] not in known:
        holder = path_text(segments[:place])
        _note(book, reading, f"{holder} has no {segments[place]}", near(str(segments[place]), known))


def _check_step(book: Book, sight: Sight, reading: Reading) -> None:
    segments = reading.read.segments
    if len(segments) == 1:
        _note(book, reading, "steps must be read by name", "steps.NAME")
        return
    name = str(segments[1])
    if name not in sight.declared:
        _note(book, reading, f"there is no step {name}", near(name, sight.declared))
        return
    _check_upstream(book, sight, reading, name)
    if sight.kinds.get(name) == "approval":
        _check_field(book, reading, 2, APPROVAL_FIELDS)


def _check_upstream(book: Book, sight: Sight, reading: Reading, name: str) -> None:
    if reading.path[0] != "steps" or sight.upstream is None:
        return
    reader = str(reading.path[1])
    if name == reader:
        _note(book, reading, f"the step {name} reads its own output", "it is not there before it has run")
    elif name not in sight.upstream[reader]:
        _note(book, reading, f"the step {reader} reads steps.{name} but does not need it", f"add {name} to its needs")

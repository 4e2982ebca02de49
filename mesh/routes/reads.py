"""What a route's expressions may read, and where.

Checked when the route is loaded, so that no event has to find it out. `event` is always there.
`workflow`, `steps` and `status` are there once a workflow has begun. A step may read only steps
that it needs, directly or through others: it can't be sure of any other's output. In a loop it may
read the whole body, because it finds the last round's outputs. `item` and `index` are there for the
items of a for-each, `round` in a loop, and `start` (the event that started the workflow) where
`event` is the one that a wait is for. Only `compiler` calls it.
"""

import re
from difflib import get_close_matches
from typing import Final

import msgspec

from mesh.routes.expressions.paths import path_text
from mesh.routes.problems import Book, Reading, join, near

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
VOTED_FIELDS: Final = (*APPROVAL_FIELDS, "choice", "form", "edition", "expired", "editors", "votes")
ROOTS: Final = ("event", "steps", "status", "workflow")
_EXTENSION: Final = re.compile("[a-z0-9]+")  # CloudEvents 1.0.2, "Naming conventions" of attributes


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What a step can see.

    `kinds`: of the steps that could be read. `declared`: the names of all. `upstream`: None if the
    graph is invalid. `loops`: each step's loop body. `voted`: the approvals of version 2,
    `several`: those where more than one person votes.
    """

    kinds: dict[str, str]
    declared: frozenset[str]
    upstream: dict[str, frozenset[str]] | None
    voted: frozenset[str] = frozenset()
    several: frozenset[str] = frozenset()
    for_each: frozenset[str] = frozenset()
    loops: dict[str, frozenset[str]] = {}


def check_readings(book: Book, sight: Sight) -> None:
    """Note every reading of something that can't be there."""
    for reading in book.readings:
        _check(book, sight, reading)


def _check(book: Book, sight: Sight, reading: Reading) -> None:
    root = reading.read.segments[0]
    if root in _LOCAL:
        _check_local(book, sight, reading)
    elif root not in ROOTS:
        _note(book, reading, f"unknown name {root}", _root_hint(sight, str(root)))
    elif root == "event":
        _check_event(book, reading)
    elif reading.path[0] in ("priority", "requester", "search") or reading.path[2:4] == _LIMIT_KEY:
        _note(book, reading, f"{root} can't be read here", "read event alone here, so that it stays what it is")
    elif reading.path[0] in ("on", "key") or reading.path[2:] == _WAIT_KEY:
        _note(book, reading, f"{root} is not there yet when an event is matched", "read event alone here")
    elif root == "workflow":
        _check_field(book, reading, 1, WORKFLOW_FIELDS)
    else:
        _check_step(book, sight, reading)


_WAIT_KEY: Final = ("wait", "key")
_LIMIT_KEY: Final = ("limit", "key")
_LOCAL: Final = {
    "item": "only the input or the approval of a step with for_each has item",
    "index": "only the input or the approval of a step with for_each has index",
    "round": "only the steps of a loop have round (repeat: {from: ..., until: ..., limit: ...})",
    "start": "only the `if` of a wait has start, where event is the one that is awaited",
}


def _check_local(book: Book, sight: Sight, reading: Reading) -> None:
    root, path = str(reading.read.segments[0]), reading.path
    step = str(path[1]) if path[0] == "steps" else ""
    match root:
        case "round":
            there = step in sight.loops and path[2:] != _WAIT_KEY
        case "start":
            there = path[2:] == ("wait", "if")
        case _:
            there = step in sight.for_each and path[2] in ("input", "approval", "approve")
    if not there:
        _note(book, reading, f"there is no {root} here", _LOCAL[root])
    elif root == "start":
        _check_event(book, reading)


def _note(book: Book, reading: Reading, message: str, hint: str) -> None:
    book.add(reading.path, f"{message}, at column {reading.read.column} of: {reading.text.strip()}", hint)


def _root_hint(sight: Sight, root: str) -> str:
    if root in sight.declared:
        return f"did you mean steps.{root}?"
    found = get_close_matches(root, ROOTS, 1, 0.75)
    return f"did you mean {found[0]}?" if found else f"paths begin with {join(ROOTS)}; text goes in quotes"


def _check_event(book: Book, reading: Reading) -> None:
    """Check an attribute of the event.

    Any attribute may be an extension if its name can be one and is not a near miss of a known one.
    """
    segments = reading.read.segments
    field = segments[1] if len(segments) > 1 else "data"
    if field in EVENT_FIELDS:
        return
    # stricter than usual: any short word may be an extension that upstream really sends
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
    root = str(segments[0])
    if len(segments) == 1:
        _note(book, reading, f"{root} must be read by name", f"{root}.NAME")
        return
    name = str(segments[1])
    if name not in sight.declared:
        _note(book, reading, f"there is no step {name}", near(name, sight.declared))
        return
    _check_upstream(book, sight, reading, name)
    if root == "status":
        if len(segments) > 2:  # noqa: PLR2004 - status.NAME
            _note(book, reading, f"status.{name} is a word, and has no {segments[2]}", f"did you mean steps.{name}?")
    # of a for-each it is a list of them
    elif sight.kinds.get(name) == "approval" and name not in sight.for_each:
        _check_field(book, reading, 2, VOTED_FIELDS if name in sight.voted else APPROVAL_FIELDS)
        if name in sight.several and segments[2:3] == ("form",):
            message = f"several people vote in {name}, and each has a form of their own"
            _note(book, reading, message, f"read them in steps.{name}.votes")


def _check_upstream(book: Book, sight: Sight, reading: Reading, name: str) -> None:
    # with an invalid graph every step would seem to read what it does not need
    if reading.path[0] != "steps" or sight.upstream is None:
        return
    reader = str(reading.path[1])
    if name in sight.loops.get(reader, ()) or (name == reader and reading.path[2] in ("undo", "repeat", "alias")):
        return
    if name == reader:
        _note(book, reading, f"the step {name} reads its own output", "it is not there before it has run")
    elif name not in sight.upstream[reader]:
        root = reading.read.segments[0]
        _note(book, reading, f"the step {reader} reads {root}.{name} but does not need it", f"add {name} to its needs")

"""What an edit has changed, word by word.

Owns how two payloads are compared for people. A text that is too long for that is compared line by
line.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mesh.inspection.wording.plain import readable

MOST_WORDS: Final = 4_000
MOST_LINES: Final = 4_000
_ABSENT: Final = msgspec.UNSET
_WORDS: Final = re.compile(r"\s+|[^\s]+")


class Piece(NamedTuple):
    """A piece of a text: as it was, added or removed."""

    kind: Literal["same", "added", "removed"]
    text: str


class Change(NamedTuple):
    """A member that was changed. `name` empty: the whole."""

    name: str
    pieces: list[Piece]


def changes(before: Any, after: Any) -> list[Change]:
    """What differs, member by member where both have members."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys((*before, *after))
        texts = {name: _texts(before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in names}
        return [Change(name, _pieces(old, new)) for name, (old, new) in texts.items() if old != new]
    old, new = _texts(before, after)
    return [] if old == new else [Change("", _pieces(old, new))]


def _texts(before: Any, after: Any) -> tuple[str, str]:
    """Both as texts that differ where the values do."""
    if all(isinstance(one, str) or one is _ABSENT for one in (before, after)):
        return _shown(before, str), _shown(after, str)
    return _shown(before, readable), _shown(after, readable)


def _shown(value: Any, as_text: Callable[[Any], str]) -> str:
    return "" if value is _ABSENT else as_text(value)


def _pieces(before: str, after: str) -> list[Piece]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if max(len(old), len(new)) > MOST_WORDS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if max(len(old), len(new)) > MOST_LINES:
        return [Piece("removed", before), Piece("added", after)]
    return list(_compared(old, new))


def _compared(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            yield Piece("same", "".join(old[a:b]))
            continue
        if b > a:
            yield Piece("removed", "".join(old[a:b]))
        if d > c:
            yield Piece("added", "".join(new[c:d]))

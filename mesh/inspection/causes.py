"""Causes of incidents: which incidents are alike, and the short name of what they share.

Owns what is left of a message when its variable parts are taken out, and a cause's id. Pure
functions. The read model calls them for each incident that it writes.

    message   Down: order 4711 of 'ACME' is not at https://crm/o/4711 (attempt 3 of 3)
    pattern   Down: order … of … is not at … (attempt … of …)

Variable parts are whole words that hold a digit or look like an id, a place or a time, and
whatever is in quotes. All become the same sign, so that an id of digits alone and one with letters
are alike. A word with a colon inside is taken part by part: of `orders:4711` the route is kept.
"""

import re
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

MAX_PATTERN: Final = 200  # characters: what is after them tells no two causes apart
ID_DIGITS: Final = 10  # of a cause's id, hexadecimal
SIGN: Final = "…"

_PARTS: Final = re.compile(
    r"""
      (?<!\w) (?: "(?:[^"\\]|\\.)*" | '[^']*' | `[^`]*` ) (?!\w)  # in quotes; not an apostrophe
    | [A-Za-z][\w+.-]* :// [^\s"'`<>]+                            # an address
    | [A-Za-z]:\\ [^\s"'`<>|]+                                    # a path of Windows
    | (?: [^\s()\[\]{}<>,;=|"'`:] | (?<=\d):(?=\d) )+             # a word; of times with the colons
    """,
    re.VERBOSE,
)
_TAIL: Final = re.compile(r"[.:!?,;)\]}-]+\Z")
_VARIABLE: Final = re.compile(
    r"""
      .*\d                           # a number, an id, a time, a version
    | ["'`]
    | (?: [./~\\] | \.\. ) [/\\] .   # ./a, ../a, ~/a, \\host
    | [/\\] [^/\\]                   # /a, \a
    | .* [/\\] .* (?: [/\\] | \.\w )  # a/b/c, a/b.txt
    | .* ://
    | [A-Za-z]:\\
    | .+ @ .+
    | [0-9a-fA-F]{8,} \Z
    """,
    re.VERBOSE | re.DOTALL,
)
_SEVERAL: Final = re.compile(rf"{SIGN}(?:[\s,]*{SIGN})+")
_SPACES: Final = re.compile(r"\s+")


class Cause(NamedTuple):
    """What incidents of one cause have in common.

    `step`: without the number of an item. `agent_version`: empty where no answer of an agent raised
    it. `pattern`: the message without its variable parts.
    """

    kind: str
    route: str
    step: str
    agent: str
    agent_version: str
    pattern: str

    @property
    def id(self) -> str:
        """The same for these incidents in every mesh and at every time."""
        return sha256(msgspec.json.encode(list(self))).hexdigest()[:ID_DIGITS]


def pattern_of(message: str, *, workflow_id: str = "") -> str:
    """The message on one line with `…` in place of its variable parts, up to 200 characters.

    `workflow_id`: taken out whole, whatever its key looks like.
    """
    text = message.replace(workflow_id, SIGN) if workflow_id else message
    text = _PARTS.sub(_without, text)
    text = _SEVERAL.sub(SIGN, _SPACES.sub(" ", text).strip())
    return text if len(text) <= MAX_PATTERN else text[: MAX_PATTERN - 1] + SIGN


def _without(found: re.Match[str]) -> str:
    part = found[0]
    if not _VARIABLE.match(part):
        return part
    # what ends a sentence or closes a bracket is not of the word
    tail = _TAIL.search(part)
    return SIGN + (tail[0] if tail else "")

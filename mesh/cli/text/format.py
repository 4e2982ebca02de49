"""Times, counts and payloads as people read them.

Owns the text form of single values; it must not know any command. Everything that prints for people
calls it.

What comes from outside (titles, payloads, messages) goes through `printable` before it reaches a
terminal. An escape sequence in an issue's text must not be able to move the cursor over what an
approver is about to approve.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from mesh.codec.times import rfc3339
from mesh.inspection.wording import phrases

# re-exported: timelines and transcripts say these in the same way
clock_time = phrases.clock_time
counted = phrases.counted
duration = phrases.duration

# What a terminal obeys or does not show (Unicode TR 36, 2.8, and the character database's
# Default_Ignorable_Code_Points): names may look alike through it, and text may hide in it.
_HIDDEN: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but line feed and tab
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the direction of text
    "\u2028\u2029"  # end lines
    "\u00ad\u034f\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufeff"  # have no width
    "\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # show nothing
    "\ud800-\udfff"  # half a character, which no terminal can be sent
    "\U000e0000-\U000e0fff"  # tags, and the variations beyond those of emoji
    "]"
)


def ago(at_ms: int, now_ms: int) -> str:
    """How long ago a time was: `14 min ago`; `now` within a second."""
    passed = now_ms - at_ms
    return "now" if passed < phrases.SECOND_MS else f"{duration(passed)} ago"


def until(at_ms: int | None, now_ms: int) -> str:
    """How far away a deadline is: `in 3 h`, `2 min over`, or `none`."""
    if at_ms is None:
        return "none"
    left = at_ms - now_ms
    return f"in {duration(left)}" if left >= 0 else f"{duration(-left)} over"


def rfc3339_or_none(at_ms: int | None) -> str | None:
    """The time for JSON output; None if there is none."""
    return None if at_ms is None else rfc3339(at_ms)


def printable(text: str) -> str:
    """The text without anything that a terminal obeys: hidden characters become codes."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str, width: int = 120) -> str:
    """The text on one line, cut off with an ellipsis."""
    flat = re.sub(r"\s+", " ", printable(text))
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def readable(value: Any) -> str:
    """A JSON value for people: one name and value on each line, long texts as blocks.

    Quotes and braces are left out if they help nobody.
    """
    return "\n".join(_lines(value))


def _lines(value: Any) -> Iterator[str]:
    match value:
        case dict() if value:
            for name, member in value.items():
                yield from _named(f"{printable(str(name))}:", member)
        case list() if value:
            for member in value:
                yield from _item(member)
        case str():
            yield from printable(value).split("\n")
        case _:
            yield _scalar(value)


def _named(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, list) and value and all(isinstance(member, str | int | float | bool) for member in value):
        line = ", ".join(_scalar(member) for member in value)
        if "\n" not in line:
            yield f"{name} {line}"
            return
    if (isinstance(value, dict | list) and value) or (isinstance(value, str) and "\n" in value):
        yield name
        yield from (f"  {line}".rstrip() for line in _lines(value))
    else:
        yield f"{name} {_scalar(value)}"


def _item(value: Any) -> Iterator[str]:
    for number, line in enumerate(_lines(value)):
        yield f"- {line}" if number == 0 else f"  {line}"


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value) or "(empty)"
        case dict() | list():
            return "(empty)"
        case _:
            return str(value)

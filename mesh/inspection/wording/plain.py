"""Times, counts and payloads as people read them.

Owns the text form of single values; it must not know any command or page. The command line and the
console call it.

What comes from outside (titles, payloads, messages) goes through `printable` before it reaches a
terminal. An escape sequence in an issue's text must not be able to move the cursor over what an
approver is about to approve.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from mesh.codec.times import rfc3339
from mesh.inspection.wording import phrases

# re-exported: pages, timelines and transcripts say these in the same way
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

    Two values that differ never look alike. So a text goes without quotes only where it can't be
    taken for anything else: `true` is a truth and `"true"` a text; `null` is no text, `""` an empty
    one.
    """
    if isinstance(value, str) and "\n" in value and not _STRUCTURE.search(value):
        return printable(value)
    return "\n".join(_lines(value))


# Lines of a text that could be taken for a name with its value, for an item, or for a block's head.
_STRUCTURE: Final = re.compile(r"""^\s*(?:-(?:\s|$)|["\[{|]|.*:(?:\s|$))""", re.MULTILINE)
_QUOTED: Final = re.compile(
    r"""(?:true|false|null|[-+]?\.?[0-9][0-9_.]*(?:e[-+]?[0-9]+)?)\Z"""  # would be read as such
    r"""|\s|["\[{|]|.*\s\Z"""  # begins as something else, or has an edge that is not seen
    r"""|\Z""",
    re.IGNORECASE,
)
_NAME_QUOTED: Final = re.compile(r"""\s|["\[{|]|-(?:\s|\Z)|.*(?::|\s\Z)|\Z""")


def _lines(value: Any) -> Iterator[str]:
    match value:
        case dict() if value:
            for name, member in value.items():
                yield from _named(_name(str(name)) + ":", member)
        case list() if value:
            for member in value:
                yield from _item(member)
        case str() if "\n" in value:
            yield from _block("", value)
        case str() if _STRUCTURE.search(value):
            yield _in_quotes(value)
        case _:
            yield _scalar(value)


def _named(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, list) and value and all(_is_short(member) for member in value):
        yield f"{name} [{', '.join(_listed(member) for member in value)}]"
    elif isinstance(value, str) and "\n" in value:
        yield from _block(f"{name} ", value)
    elif isinstance(value, dict | list) and value:
        yield name
        yield from (f"  {line}".rstrip() for line in _lines(value))
    else:
        yield f"{name} {_scalar(value)}"


def _block(head: str, text: str) -> Iterator[str]:
    """A text of several lines below a bar, as YAML has it."""
    yield f"{head}|"
    yield from (f"  {line}".rstrip() for line in printable(text).split("\n"))


def _item(value: Any) -> Iterator[str]:
    for number, line in enumerate(_lines(value)):
        yield f"- {line}" if number == 0 else f"  {line}".rstrip()


def _is_short(value: Any) -> bool:
    return not isinstance(value, dict | list) and not (isinstance(value, str) and "\n" in value)


def _listed(value: Any) -> str:
    """A value of a list on one line, where a comma and a bracket have their meaning."""
    return _in_quotes(value) if isinstance(value, str) and re.search(r"[,\]]", value) else _scalar(value)


def _name(name: str) -> str:
    return _in_quotes(name) if "\n" in name or _NAME_QUOTED.match(name) else printable(name)


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _in_quotes(value) if _QUOTED.match(value) else printable(value)
        case dict():
            return "{}"
        case list():
            return "[]"
        case _:
            return str(value)


def _in_quotes(text: str) -> str:
    return printable(json.dumps(text, ensure_ascii=False))

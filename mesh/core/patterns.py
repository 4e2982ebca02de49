"""Regular expressions in linear time: RE2's, for CEL's `matches` and for JSON Schemas.

Owns the choice of the engine (docs/adr/0013). A pattern comes from a route, an agent's card or an
event, and the text from anybody: with Python's own engine `^(a+)+$` and thirty characters would
hold a router for minutes.
"""

from functools import lru_cache
from typing import Any, Final

MAX_PATTERN: Final = 1_000
"""Characters. RE2's time grows with the pattern's length times the text's."""


class PatternRefused(ValueError):
    """A pattern that can't be used; the message says why."""


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_found",)

    def __init__(self, compiled: Any) -> None:
        self._found = compiled.search

    def is_in(self, text: str) -> bool:
        """Whether any part of the text matches. Half of a surrogate pair matches nothing."""
        return self._found(text.encode("utf-8", "replace")) is not None


@lru_cache(maxsize=512)
def pattern(source: str) -> Pattern:
    """Compile the pattern. Raises `PatternRefused`."""
    # loaded when first needed: few routes have a pattern
    import re2  # noqa: PLC0415

    if len(source) > MAX_PATTERN:
        raise PatternRefused(f"the pattern has {len(source)} characters; the most is {MAX_PATTERN}")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # whether it matches is all that is asked, and that is faster
    try:
        return Pattern(re2.compile(source.encode(), options))
    except UnicodeEncodeError:
        raise PatternRefused("the pattern is not text: it holds half of a surrogate pair") from None
    except re2.error as error:
        raise PatternRefused(f"the pattern {source!r} can't be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """RE2's words, and what to do about the two constructs that it leaves out on purpose."""
    reason = error.args[0]
    text: str = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    if text.startswith("invalid perl operator"):
        return f"{text} (RE2 has no look-around)"
    if text.startswith("invalid escape sequence"):
        return f"{text} (RE2 has no back-references, and writes \\z for the end)"
    return text

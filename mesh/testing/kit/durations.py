"""Durations as a test writes them: `"23h"`, `"1d 12h"`, seconds as a number, a `timedelta`."""

import re
from datetime import timedelta
from typing import Final

from mesh.testing.kit.errors import KitError, is_for_the_test

__tracebackhide__ = is_for_the_test

Duration = str | float | timedelta

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)\b")


def seconds(duration: Duration) -> float:
    """Convert a duration to seconds. Raises `KitError` if it can't be read or is negative."""
    if isinstance(duration, timedelta):
        found = duration.total_seconds()
    elif isinstance(duration, str):
        found = _read(duration)
    else:
        found = float(duration)
    if found < 0:
        raise KitError(f"a duration can't be {duration!r}: time only goes forward")
    return found


def _read(text: str) -> float:
    at, total = 0, 0.0
    while at < len(text.rstrip()) or not text.strip():
        part = _PART.match(text, at)
        if part is None:
            raise KitError(
                f"a duration can't be {text!r} (write a number and ms, s, m, h or d, such as '30s', '23h', '1d 12h')"
            )
        total += float(part[1]) * _UNITS_S[part[2]]
        at = part.end()
    return total

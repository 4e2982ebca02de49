"""Times on the wire: RFC 3339 text, and milliseconds since the epoch, UTC.

Only codecs call it. The core knows only milliseconds.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}):(\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last that RFC 3339 can write


# the outcomes of a batch have one time
@lru_cache(maxsize=256)
def rfc3339(at_ms: int) -> str:
    """The time as `2026-11-24T09:00:00.000Z`.

    Always UTC, always with milliseconds, so that equal times have equal text. A time beyond the
    year 9999 (a deadline that means "never") is written as that year's last moment.
    """
    at_ms = min(at_ms, _LAST_MS)
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """Milliseconds since the epoch, cut off below one.

    Raises `ValueError` on anything but RFC 3339 with its offset.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time, e.g. 2026-11-24T09:00:00Z")
    leap = match[3] == "60"  # RFC 3339 allows a leap second; datetime does not know it
    whole = f"{text[:17]}59{text[19:]}" if leap else text
    try:
        since = datetime.fromisoformat(whole.upper()) - _EPOCH
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: {error}") from error
    return (since.days * 86_400 + since.seconds + leap) * 1000 + since.microseconds // 1000


def is_rfc3339(text: str) -> bool:
    """Whether `parse_rfc3339` takes it."""
    if _RFC3339.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return _parses(text)  # a leap second, or no such day
    return True


def _parses(text: str) -> bool:
    try:
        parse_rfc3339(text)
    except ValueError:
        return False
    return True

"""Times in expressions: reading them, writing them, and taking them apart.

Owns CEL's rules for `timestamp` and `duration` (cel-spec, doc/langdef.md, "Timezones" and "Abstract
types"): RFC 3339 in, UTC out, nanoseconds kept, a time zone if a getter is given one. Equal times
have equal text and equal parts, however they were written. `conversions` and `closures` call it.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mesh.routes.expressions.values import Duration, Refused, Timestamp, words

_SECOND: Final = 1_000_000_000
_UNITS: Final = {
    "h": 3_600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
}
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_DURATION: Final = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:h|ms|m|s|us|µs|ns))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"(\d*)\.?(\d*)(h|ms|m|s|us|µs|ns)", re.ASCII)
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):([0-5]\d)", re.ASCII)
_SHOWN: Final = 40
_LONGEST_TEXT: Final = 100  # of a duration; one that is longer is none
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = int((datetime(1, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()) * _SECOND
_END: Final = (int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds()) + 1) * _SECOND
_LONGEST: Final = 315_576_000_000 * _SECOND  # google.protobuf.Duration


def timestamp_of(text: str) -> Timestamp:
    """An RFC 3339 time. Raises `Refused`."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Refused(f"{text[:_SHOWN]!r} is not an RFC 3339 time such as 2026-01-02T03:04:05Z")
    year, month, day, hour, minute, second, fraction, sign, ahead_h, ahead_m = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError as error:
        raise Refused(f"{text!r} is not a time: {error}") from None
    ahead_s = (int(ahead_h) * 60 + int(ahead_m)) * 60 if sign else 0
    since_s = _seconds(at) - (-ahead_s if sign == "-" else ahead_s)
    return timestamp(since_s * _SECOND + int((fraction or "").ljust(9, "0")))


def _seconds(at: datetime) -> int:
    since = at - _EPOCH
    return since.days * 86_400 + since.seconds


def timestamp(nanos: int) -> Timestamp:
    """Raises `Refused` outside of the years 1 to 9999."""
    if _FIRST <= nanos < _END:
        return Timestamp(nanos)
    raise Refused("the time is not in the years 1 to 9999")


def duration_of(text: str) -> Duration:
    """Numbers with units: `1h30m`, `-1.5s`. Raises `Refused`."""
    if len(text) > _LONGEST_TEXT or (text != "0" and not _DURATION.fullmatch(text)):
        raise Refused(f"{text[:_SHOWN]!r} is not a duration such as 1h30m or 1.5s")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        total += int(whole or "0") * _UNITS[unit]
        total += int(fraction or "0") * _UNITS[unit] // 10 ** len(fraction)
    return duration(-total if text.startswith("-") else total)


def duration(nanos: int) -> Duration:
    """Raises `Refused` beyond 10,000 years."""
    if -_LONGEST <= nanos <= _LONGEST:
        return Duration(nanos)
    raise Refused("the duration is longer than 10,000 years")


def timestamp_text(at: Timestamp) -> str:
    """RFC 3339 in UTC, without zeros at the end of the fraction."""
    seconds, nanos = divmod(at, _SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    # not `%Y`, which does not fill up years before 1000 on every platform
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}{_fraction(nanos)}Z"


def duration_text(length: Duration) -> str:
    """Seconds, as `5400s` or `-1.5s`."""
    seconds, nanos = divmod(abs(length), _SECOND)
    return f"{'-' if length < 0 else ''}{seconds}{_fraction(nanos)}s"


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


# --- parts ----------------------------------------------------------------------------------------

_OF_TIME: Final[dict[str, Callable[[datetime], int]]] = {
    "getFullYear": lambda at: at.year,
    # CEL counts months and days from 0, except in `getDate`
    "getMonth": lambda at: at.month - 1,
    "getDate": lambda at: at.day,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1_000,
}
_OF_DURATION: Final = {
    "getHours": 3_600 * _SECOND,
    "getMinutes": 60 * _SECOND,
    "getSeconds": _SECOND,
    "getMilliseconds": 1_000_000,
}
GETTERS: Final = tuple(_OF_TIME)


def part_of(function: str, value: Any, zone: Any = None) -> int:
    """What a getter gives: of a time in UTC, or in the zone; of a duration, all of it in that unit.

    Raises `Refused`.
    """
    if type(value) is Timestamp:
        return _OF_TIME[function](_in_zone(value, zone))
    if type(value) is Duration and function in _OF_DURATION and zone is None:
        whole = abs(value) // _OF_DURATION[function]
        return -whole if value < 0 else whole
    if type(value) is Duration and zone is not None:
        raise Refused(f"{function}() of a duration takes no time zone")
    raise Refused(f"{function}() is for a timestamp, not for {words(value)}")


def _in_zone(at: Timestamp, zone: Any) -> datetime:
    seconds, nanos = divmod(at, _SECOND)
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)
    if zone is None:
        return moment
    if type(zone) is not str:
        raise Refused(f"a time zone is a name such as 'Europe/Berlin' or '+02:00', not {words(zone)}")
    try:
        return moment.astimezone(_zone(zone))
    except OverflowError:
        raise Refused("the time is not in the years 1 to 9999 of that zone") from None


@lru_cache(maxsize=128)
def _zone(name: str) -> tzinfo:
    offset = _OFFSET.fullmatch(name)
    if offset is not None and int(offset[2]) < 24:  # noqa: PLR2004 - hours of a day
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-ahead if offset[1] == "-" else ahead)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(f"there is no time zone {name[:_SHOWN]!r}") from None

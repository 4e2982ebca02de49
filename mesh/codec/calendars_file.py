"""A file of working hours: `mesh calendars apply FILE` compiles it to a calendar.

    calendar: berlin
    timezone: Europe/Berlin
    hours:
      mon-thu: 09:00-17:00
      fri: [09:00-12:00, 13:00-15:00]
    holidays:
      - 2026-12-25
      - {date: 2026-05-08, name: bridge day}
      - {country: DE, subdivision: BE}
    half_days:
      2026-12-24: 09:00-12:00
    until: 2029-12-31

Owns the file's shape. `half_days` are the hours of these dates, whatever else is said of them. A
country's holidays come from the library `holidays`, which is only asked where a file names one.
"""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from mesh.codec.calendar_days import Hours, midnight_ms, working_days
from mesh.codec.yaml_lines import DocumentPath, Fault, YamlDocument, read_yaml, read_yaml_text
from mesh.core.calendars import Calendar
from mesh.core.json_values import kind_of
from mesh.errors import SettingsInvalid
from mesh.routes.problems import is_name
from mesh.routes.values import NAME_HINT

YEARS: Final = 3  # with the present one, without `until`
LONGEST_YEARS: Final = 10
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KEYS: Final = ("calendar", "timezone", "hours", "holidays", "half_days", "until")
_SPAN: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_DAY_MINUTES: Final = 24 * 60
_HOURS_HINT: Final = "write 09:00-17:00, or [09:00-12:00, 13:00-17:00]"
_HOLIDAY_HINT: Final = "write 2026-12-25, {date: 2026-12-25, name: Christmas} or {country: DE, subdivision: BE}"


def load_calendar(path: Path, today: date) -> Calendar:
    """The calendar in a file, from the first day of this year on.

    Raises `SettingsInvalid`, with one line `file:line: what is wrong (how to fix it)` for every
    problem.
    """
    try:
        documents, faults = read_yaml(path)
    except OSError as error:
        raise SettingsInvalid(f"{path}: the file can't be read: {error.strerror} (is the path right?)") from error
    return _compiled(documents, faults, str(path), today)


def load_calendar_text(text: str, today: date) -> Calendar:
    """The calendar in a file's text, as `load_calendar` reads a file."""
    return _compiled(*read_yaml_text(text), "calendar", today)


def _compiled(documents: list[YamlDocument], faults: list[Fault], where: str, today: date) -> Calendar:
    troubles = [(fault.line, fault.message) for fault in faults]
    if len(documents) > 1:
        troubles.append((documents[1].line, "the file has more than one document (write a file for each calendar)"))
    if not documents and not faults:
        troubles.append((1, "the file is empty (docs/approvals.md has an example)"))
    for document in documents[:1]:
        troubles += [(fault.line, fault.message) for fault in document.faults]
        found = _File(document, today)
        troubles += found.troubles
    if troubles:
        raise SettingsInvalid("\n".join(f"{where}:{line}: {message}" for line, message in sorted(troubles)))
    return found.calendar()


class _File:
    """What was read of one document, and what is wrong with it (`troubles`: line and message)."""

    def __init__(self, document: YamlDocument, today: date) -> None:
        self.troubles: list[tuple[int, str]] = []
        self._document = document
        self._weekly: dict[str, Hours] = {}
        self._half_days: dict[date, Hours] = {}
        self._off: dict[date, str] = {}
        self._first = date(today.year, 1, 1)
        value = document.value
        if not isinstance(value, dict):
            self._trouble((), f"a calendar is a mapping, not {kind_of(value)} (docs/approvals.md has an example)")
            value = {}
        self._value: dict[str, Any] = value
        for key in value:
            if key not in _KEYS:
                self._trouble((key,), f"unknown key {key} (there are {', '.join(_KEYS)})")
        self._name, self._zone = self._read_name(), self._read_zone()
        self._until = self._read_until()
        self._read_hours()
        self._read_holidays()
        self._read_half_days()

    def calendar(self) -> Calendar:
        zone = ZoneInfo(self._zone)
        return Calendar(
            name=self._name,
            zone=self._zone,
            from_ms=midnight_ms(zone, self._first),
            until_ms=midnight_ms(zone, self._until + timedelta(days=1)),
            days=tuple(working_days(zone, self._hours())),
            weekly={day: tuple(map(_written, spans)) for day, spans in self._weekly.items()},
            off={day.isoformat(): why for day, why in sorted(self._off.items()) if day not in self._half_days},
        )

    def _hours(self) -> Iterator[tuple[date, Hours]]:
        day = self._first
        while day <= self._until:
            usual = () if day in self._off else self._weekly.get(WEEKDAYS[day.weekday()], ())
            yield day, self._half_days.get(day, usual)
            day += timedelta(days=1)

    def _trouble(self, path: DocumentPath, message: str) -> None:
        self.troubles.append((self._document.line_of(path), message))

    # Reading --------------------------------------------------------------------------------------

    def _read_name(self) -> str:
        name = self._value.get("calendar")
        if is_name(name):
            return str(name)
        self._trouble(("calendar",), f"calendar can't be {_shown(name)} ({NAME_HINT})")
        return ""

    def _read_zone(self) -> str:
        zone = self._value.get("timezone")
        if isinstance(zone, str) and _is_zone(zone):
            return zone
        self._trouble(("timezone",), f"timezone can't be {_shown(zone)} (write a zone such as Europe/Berlin, or UTC)")
        return "UTC"

    def _read_until(self) -> date:
        last = self._first.replace(year=self._first.year + YEARS) - timedelta(days=1)
        if "until" not in self._value:
            return last
        until = _date_of(self._value["until"])
        longest = self._first.replace(year=self._first.year + LONGEST_YEARS)
        if until is not None and self._first <= until < longest:
            return until
        hint = f"write a date from {self._first} to {longest - timedelta(days=1)}"
        self._trouble(("until",), f"until can't be {_shown(self._value['until'])} ({hint})")
        return last

    def _read_hours(self) -> None:
        value = self._value.get("hours")
        if not isinstance(value, dict) or not value:
            self._trouble(("hours",), "hours needs the hours of weekdays (hours: {mon-fri: 09:00-17:00})")
            return
        for key, spans in value.items():
            days = _weekdays(key)
            if not days:
                self._trouble(("hours", key), f"{key} is no weekday (write mon, or mon-fri)")
            hours = self._spans(("hours", key), spans)
            for day in days:
                if day in self._weekly:
                    self._trouble(("hours", key), f"{day} has hours already (write each weekday once)")
                self._weekly[day] = hours

    def _read_half_days(self) -> None:
        value = self._value.get("half_days", {})
        if not isinstance(value, dict):
            self._trouble(("half_days",), "half_days needs hours by date (half_days: {2026-12-24: 09:00-12:00})")
            return
        for key, spans in value.items():
            day, path = _date_of(key), ("half_days", key)
            if day is None:
                self._trouble(path, f"{key} is no date (write 2026-12-24)")
            else:
                self._half_days[day] = self._spans(path, spans)

    def _read_holidays(self) -> None:
        value = self._value.get("holidays", [])
        if not isinstance(value, list):
            self._trouble(("holidays",), f"holidays must be a list ({_HOLIDAY_HINT})")
            return
        for place, one in enumerate(value):
            entry = one if isinstance(one, dict) else {"date": one}
            keys = entry.keys()
            if "date" in keys and keys <= {"date", "name"} and (day := _date_of(entry["date"])) is not None:
                self._off[day] = str(entry.get("name", ""))
            elif (
                "country" in keys
                and keys <= {"country", "subdivision"}
                and all(isinstance(v, str) for v in entry.values())
            ):
                self._read_country(place, entry["country"], entry.get("subdivision"))
            else:
                self._trouble(("holidays", place), f"a holiday can't be {_shown(one)} ({_HOLIDAY_HINT})")

    def _read_country(self, place: int, country: str, subdivision: str | None) -> None:
        try:
            known = import_module("holidays")
        except ImportError:
            hint = "pip install 'agent-mesh[holidays]', or write the dates"
            self._trouble(("holidays", place), f"the holidays of {country} need the library holidays ({hint})")
            return
        years = range(self._first.year, self._until.year + 1)
        try:
            found = dict(known.country_holidays(country, subdiv=subdivision, years=years))
        except NotImplementedError:  # how the library says that it has no such country or part
            where = country if subdivision is None else f"{country} {subdivision}"
            self._trouble(
                ("holidays", place), f"the library holidays does not know {where} (write codes such as DE, BE)"
            )
            return
        for day, why in found.items():
            self._off.setdefault(day, str(why))

    def _spans(self, path: DocumentPath, value: Any) -> Hours:
        """The hours of a day, in order. None at all is a day off."""
        found = []
        for one in value if isinstance(value, list) else [value]:
            span = _span_of(one)
            if span is None:
                self._trouble(path, f"hours can't be {_shown(one)} ({_HOURS_HINT})")
            else:
                found.append(span)
        found.sort()
        if any(one[1] > other[0] for one, other in pairwise(found)):
            self._trouble(path, "the hours overlap (write each hour once)")
        return tuple(found)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    # an absolute path, a folder, or a name that no database has
    except (ValueError, OSError, LookupError):
        return False
    return True


def _weekdays(key: str) -> tuple[str, ...]:
    first, _, last = key.partition("-")
    if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
        return ()
    start, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
    return WEEKDAYS[start : end + 1]


def _span_of(value: Any) -> tuple[int, int] | None:
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    return (start, end) if start < end <= _DAY_MINUTES else None


def _written(span: tuple[int, int]) -> str:
    return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in span)


def _date_of(value: Any) -> date | None:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float) else kind_of(value)

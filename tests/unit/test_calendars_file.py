"""Files of working hours: what they compile to, what is refused, and their records."""

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from msgspec.structs import replace
from one_partition import as_record

from mesh.codec.calendars import (
    calendar_version_of,
    decode_calendar,
    decode_calendar_activation,
    digest_of,
    document_of,
    encode_calendar,
    encode_calendar_activation,
)
from mesh.codec.calendars_file import load_calendar
from mesh.core.calendars import Calendar, CalendarActivation
from mesh.core.json_values import digest
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, SettingsInvalid
from mesh.inspection.calendar_changes import DayChange, calendar_plan, last_date, why_near
from mesh.ports import OutRecord

TOPICS = Topics()
TODAY = date(2026, 11, 29)
DAY_MS = 86_400_000
BERLIN = """\
calendar: berlin
timezone: Europe/Berlin
hours:
  mon-thu: 09:00-17:00
  fri: [13:00-15:00, 09:00-12:00]
holidays:
  - 2026-12-25
  - {date: 2026-05-08, name: bridge day}
half_days:
  2026-12-24: 09:00-12:00
  2026-12-31: []
until: 2027-12-31
"""


def load(folder: Path, text: str) -> Calendar:
    path = folder / "c.yaml"
    path.write_text(text)
    return load_calendar(path, TODAY)


def hours(found: Calendar) -> dict[str, tuple[tuple[int, int], ...]]:
    """The hours of each day, in minutes after its midnight."""
    days = {}
    for day in found.days:
        spans = tuple(((a - day.begins_ms) // 60_000, (b - day.begins_ms) // 60_000) for a, b in day.hours)
        days[datetime.fromtimestamp((day.begins_ms + DAY_MS // 2) / 1000, UTC).date().isoformat()] = spans
    return days


def test_a_file_is_compiled_to_days(tmp_path: Path) -> None:
    found = load(tmp_path, BERLIN)
    days = hours(found)
    assert days["2026-11-26"] == ((540, 1020),)
    assert days["2026-11-27"] == ((540, 720), (780, 900))
    assert days["2026-12-24"] == ((540, 720),)
    assert not {"2026-12-25", "2026-12-31", "2026-05-08", "2026-11-28"} & days.keys()
    assert (min(days), max(days), last_date(found)) == ("2026-01-01", "2027-12-31", "2027-12-31")
    assert found.off == {"2026-05-08": "bridge day", "2026-12-25": ""}
    assert found.weekly["fri"] == ("09:00-12:00", "13:00-15:00")


def test_without_until_it_holds_for_this_year_and_two_more(tmp_path: Path) -> None:
    assert last_date(load(tmp_path, BERLIN.replace("until: 2027-12-31\n", ""))) == "2028-12-31"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: the file is empty"),
        ("a: [", "the file is not YAML"),
        ("- 1", "1: a calendar is a mapping, not"),
        ("calendar: Berlin", "1: calendar can't be 'Berlin' (start with a-z"),
        ("calendar: b\nhuors: 1", "2: unknown key huors (there are calendar, timezone,"),
        ("timezone: Europe/Nowhere", "1: timezone can't be 'Europe/Nowhere'"),
        ("timezone: /etc/passwd", "timezone can't be"),
        ("timezone: 1", "timezone can't be 1"),
        ("hours: 1", "1: hours needs the hours of weekdays"),
        ("hours: {mo: 09:00-17:00}", "mo is no weekday (write mon, or mon-fri)"),
        ("hours: {fri-mon: 09:00-17:00}", "fri-mon is no weekday"),
        ("hours: {mon-fri: 09:00-17:00, fri: 09:00-12:00}", "fri has hours already"),
        ("hours: {mon: 9-17}", "hours can't be '9-17' (write 09:00-17:00"),
        ("hours: {mon: 17:00-09:00}", "hours can't be '17:00-09:00'"),
        ("hours: {mon: 09:00-24:30}", "hours can't be"),
        ("hours: {mon: {a: 1}}", "hours can't be"),
        ("hours: {mon: [09:00-12:00, 11:00-13:00]}", "the hours overlap"),
        ("holidays: 2026-12-25", "holidays must be a list"),
        ("holidays: [2026-02-30]", "a holiday can't be '2026-02-30'"),
        ("holidays: [{date: 2026-12-25, why: x}]", "a holiday can't be"),
        ("holidays: [{country: 1}]", "a holiday can't be"),
        ("holidays: [{name: x}]", "a holiday can't be"),
        ("half_days: [1]", "half_days needs hours by date"),
        ("half_days: {someday: 09:00-12:00}", "someday is no date"),
        ("until: 2025-12-31", "until can't be '2025-12-31' (write a date from 2026-01-01 to 2035-12-31)"),
        ("until: soon", "until can't be 'soon'"),
        ("a: 1\n---\nb: 2", "the file has more than one document"),
        ("a: 1\na: 2", "the key a is given twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(tmp_path, text)
    assert said in str(refused.value)
    assert all(line.startswith(f"{tmp_path}/c.yaml:") for line in str(refused.value).splitlines())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="can't be read"):
        load_calendar(tmp_path / "none.yaml", TODAY)


# A country's holidays -----------------------------------------------------------------------------


def _holidays(country: str, subdiv: str | None, years: range) -> dict[date, str]:
    """What the library gives, as far as these tests need it."""
    if country != "DE":
        raise NotImplementedError
    extra = {date(year, 3, 8): "Women's Day" for year in years if subdiv == "BE"}
    return extra | {date(year, 12, 25): "Christmas" for year in years}


def test_the_holidays_of_a_country_and_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", SimpleNamespace(country_holidays=_holidays))
    text = BERLIN.replace("- {date: 2026-05-08, name: bridge day}", "- {country: DE, subdivision: BE}")
    assert load(tmp_path, text).off == {
        "2026-03-08": "Women's Day",
        "2026-12-25": "",  # what the file says of a date counts
        "2027-03-08": "Women's Day",
        "2027-12-25": "Christmas",
    }
    with pytest.raises(SettingsInvalid, match="the library holidays does not know XX QQ"):
        load(tmp_path, "holidays: [{country: XX, subdivision: QQ}]")
    with pytest.raises(SettingsInvalid, match="the library holidays does not know XX "):
        load(tmp_path, "holidays: [{country: XX}]")


def test_without_the_library_a_country_is_refused_and_dates_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    assert load(tmp_path, BERLIN)
    with pytest.raises(SettingsInvalid, match=r"need the library holidays \(pip install 'agent-mesh\[holidays\]'"):
        load(tmp_path, "holidays: [{country: DE}]")


# Records ------------------------------------------------------------------------------------------


def test_a_version_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = load(tmp_path, BERLIN)
    out = encode_calendar(found, TOPICS)
    record = as_record(out, 0)
    assert (out.key, out.partition) == (f"calendar/berlin/{digest_of(found)}".encode(), 0)
    assert decode_calendar(record) == replace(found, digest=digest_of(found))
    assert (calendar_version_of(record), decode_calendar_activation(record)) == (digest_of(found), None)


def test_an_activation_is_read_back_as_it_was() -> None:
    out = encode_calendar_activation(
        "c", "sha256:1", topics=TOPICS, activation_id="id", by="ops", at_ms=7, reason="new"
    )
    record = as_record(out, 0)
    assert decode_calendar_activation(record) == CalendarActivation(
        id="id", calendar="c", version="sha256:1", by="ops", at_ms=record.timestamp_ms, reason="new"
    )
    assert decode_calendar(record) is None


@pytest.mark.parametrize("days", [[[1]], [[1, 2]], [[1, 5, 4]], [[1, 5, 5]], [[]], [["x"]]])
def test_days_that_make_no_sense_are_refused(tmp_path: Path, days: Any) -> None:
    document = document_of(load(tmp_path, BERLIN)) | {"days": days}
    record = _stored(document)
    with pytest.raises(MalformedRecord, match=r"topics/schemas/calendar.json has the form"):
        decode_calendar(record)


def test_a_version_under_another_digest_is_refused(tmp_path: Path) -> None:
    out = encode_calendar(load(tmp_path, BERLIN), TOPICS)
    with pytest.raises(MalformedRecord, match="is not what its key says"):
        decode_calendar(as_record(replace(out, key=b"calendar/berlin/sha256:1"), 0))


def _stored(document: Any) -> Any:
    key = f"calendar/berlin/{digest(document)}".encode()
    return as_record(OutRecord(TOPICS.people, key, orjson.dumps(document), partition=0), 0)


# What a version changes ---------------------------------------------------------------------------


def test_a_plan_names_the_days_that_change_from_now_on(tmp_path: Path) -> None:
    before = load(tmp_path, BERLIN)
    text = BERLIN.replace("2026-12-25", "2026-12-28").replace("2026-12-24: 09:00-12:00", "2026-12-26: 10:00-11:00")
    after = load(tmp_path, text.replace("- 2026-12-28", "- {date: 2026-12-28, name: Closed}"))
    plan = calendar_plan(before, after, before.from_ms + 300 * DAY_MS)
    assert plan.changes == (
        DayChange(date="2026-12-24", change="changed", before=("09:00-12:00",), after=("09:00-17:00",)),
        DayChange(date="2026-12-25", change="new", after=("09:00-12:00", "13:00-15:00")),
        DayChange(date="2026-12-26", change="new", after=("10:00-11:00",)),
        DayChange(date="2026-12-28", change="gone", before=("09:00-17:00",), why="Closed"),
    )
    assert (plan.is_new, plan.zone_before) == (False, "")
    assert calendar_plan(before, replace(after, zone="Europe/Paris"), before.until_ms).zone_before == "Europe/Berlin"
    assert calendar_plan(None, after, 0).is_new


@pytest.mark.parametrize(
    ("left_ms", "said"),
    [
        (90 * DAY_MS, ""),
        (90 * DAY_MS - 1, "the calendar berlin ends in 89 days, on 2027-12-31"),
        (DAY_MS, "the calendar berlin ends in 1 day, on 2027-12-31"),
        (0, "the calendar berlin ended on 2027-12-31"),
    ],
)
def test_an_end_that_is_near_is_warned_of(tmp_path: Path, left_ms: int, said: str) -> None:
    found = load(tmp_path, BERLIN)
    assert why_near(found, found.until_ms - left_ms) == said

"""Working time: instants by a calendar, and hours that stay what they are when clocks change."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.codec.calendar_days import Hours, midnight_ms, working_days
from mesh.core.calendars import (
    MINUTE_MS,
    Calendar,
    CalendarActivation,
    CalendarTimeline,
    CalendarUnread,
    WorkingDay,
    WorkingTime,
    instant_of,
)

HOUR_MS = 60 * MINUTE_MS
NINE_TO_FIVE: Hours = ((9 * 60, 17 * 60),)


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def calendar_of(zone: str, first: str, last: str, hours: Hours = NINE_TO_FIVE, *, weekend: bool = False) -> Calendar:
    """Hours from Monday to Friday (`weekend`: every day), from the first to the last date."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    info = ZoneInfo(zone)
    return Calendar(
        name="c",
        zone=zone,
        from_ms=midnight_ms(info, start),
        until_ms=midnight_ms(info, end + timedelta(days=1)),
        days=tuple(working_days(info, ((day, hours if weekend or day.weekday() < 5 else ()) for day in days))),
    )


BERLIN = calendar_of("Europe/Berlin", "2026-11-01", "2026-12-31")


@pytest.mark.parametrize(
    ("asked", "hours", "then"),
    [
        ("2026-11-26 10:00", 4, "2026-11-26 14:00"),
        ("2026-11-27 15:00", 4, "2026-11-30 11:00"),  # over a weekend
        ("2026-11-27 09:00", 8, "2026-11-27 17:00"),  # exactly a day ends with it, not with the next
        ("2026-11-27 17:00", 1, "2026-11-30 10:00"),
        ("2026-11-28 12:00", 1, "2026-11-30 10:00"),
        ("2026-11-25 16:00", 16, "2026-11-27 16:00"),
    ],
)
def test_working_hours_go_on_where_work_does(asked: str, hours: int, then: str) -> None:
    assert BERLIN.after_working(ms(asked, "Europe/Berlin"), hours * HOUR_MS) == ms(then, "Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-11-26 08:59", "2026-11-26 09:00"),
        ("2026-11-26 12:00", "2026-11-26 12:00"),
        ("2026-11-26 16:59", "2026-11-26 16:59"),
        ("2026-11-27 17:00", "2026-11-30 09:00"),  # an end is not within the hours
        ("2026-10-31 12:00", None),  # before the calendar begins, and behind its end
        ("2026-12-31 17:00", None),
    ],
)
def test_hours_begin_at_once_within_them_and_else_with_the_next(at: str, opens: str | None) -> None:
    found = BERLIN.opens_at(ms(at, "Europe/Berlin"))
    assert found == (None if opens is None else ms(opens, "Europe/Berlin"))


def test_hours_begin_again_after_a_break() -> None:
    halves = calendar_of("UTC", "2026-11-02", "2026-11-02", ((9 * 60, 12 * 60), (13 * 60, 15 * 60)))
    assert halves.opens_at(ms("2026-11-02 12:00")) == ms("2026-11-02 13:00")


@pytest.mark.parametrize(
    ("asked", "days", "then"),
    [
        ("2026-11-26 08:00", 1, "2026-11-27 17:00"),  # the day itself does not count
        ("2026-11-26 23:59", 1, "2026-11-27 17:00"),
        ("2026-11-27 10:00", 1, "2026-11-30 17:00"),
        ("2026-11-28 10:00", 1, "2026-11-30 17:00"),
        ("2026-11-28 10:00", 3, "2026-12-02 17:00"),
    ],
)
def test_working_days_end_with_the_hours_of_the_last_of_them(asked: str, days: int, then: str) -> None:
    assert BERLIN.after_days(ms(asked, "Europe/Berlin"), days) == ms(then, "Europe/Berlin")


def test_hours_stay_what_they_are_when_clocks_change() -> None:
    spring = calendar_of("Europe/Berlin", "2026-03-26", "2026-03-31")
    autumn = calendar_of("Europe/Berlin", "2026-10-22", "2026-10-27")
    assert spring.after_working(ms("2026-03-27 16:00", "Europe/Berlin"), 2 * HOUR_MS) == ms("2026-03-30 08:00")
    assert autumn.after_working(ms("2026-10-23 16:00", "Europe/Berlin"), 2 * HOUR_MS) == ms("2026-10-26 09:00")


def test_an_hour_that_the_wall_never_shows_is_none_and_one_that_it_shows_twice_is_two() -> None:
    night: Hours = ((60, 240),)  # 01:00-04:00
    [spring] = calendar_of("Europe/Berlin", "2026-03-29", "2026-03-29", night, weekend=True).days
    [autumn] = calendar_of("Europe/Berlin", "2026-10-25", "2026-10-25", night, weekend=True).days
    assert [sum(end - start for start, end in day.hours) for day in (spring, autumn)] == [2 * HOUR_MS, 4 * HOUR_MS]


def test_only_the_hours_of_the_day_are_cut_where_clocks_change_at_midnight() -> None:
    # in Santiago the clocks go from 24:00 to 01:00 in spring: the day has no midnight
    [day] = calendar_of("America/Santiago", "2026-09-06", "2026-09-06", ((0, 120),), weekend=True).days
    assert (day.hours[0][1] - day.hours[0][0], day.begins_ms) == (HOUR_MS, ms("2026-09-06 04:00"))


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Asia/Kolkata", "Asia/Kathmandu"])
def test_zones_that_are_no_whole_hours_from_utc(zone: str) -> None:
    found = calendar_of(zone, "2026-04-02", "2026-04-08")
    assert found.after_working(ms("2026-04-03 16:30", zone), HOUR_MS) == ms("2026-04-06 09:30", zone)


def _minutes(zone: ZoneInfo, hours: Hours, start_ms: int, end_ms: int) -> Iterator[int]:
    """The minutes in which the clock on the wall shows working hours, one after the other."""
    for at_ms in range(start_ms, end_ms, MINUTE_MS):
        wall = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
        if any(start <= wall.hour * 60 + wall.minute < end for start, end in hours):
            yield at_ms


@given(
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "Africa/Cairo"]),
    st.integers(0, 360),
    st.lists(st.integers(0, 1440), min_size=2, max_size=6, unique=True).filter(lambda edges: len(edges) % 2 == 0),
    st.integers(0, 3 * 1440),
    st.integers(1, 2000),
)
def test_working_time_is_what_a_count_of_minutes_gives(
    zone: str, day: int, edges: list[int], asked: int, minutes: int
) -> None:
    info, ordered = ZoneInfo(zone), sorted(edges)
    hours = tuple(zip(ordered[::2], ordered[1::2], strict=True))
    first = date(2026, 1, 1) + timedelta(days=day)
    found = calendar_of(zone, first.isoformat(), (first + timedelta(days=3)).isoformat(), hours, weekend=True)
    at_ms = found.from_ms + asked * MINUTE_MS
    counted = list(_minutes(info, hours, at_ms, found.until_ms))
    then = counted[minutes - 1] + MINUTE_MS if len(counted) >= minutes else None
    assert found.after_working(at_ms, minutes * MINUTE_MS) == then
    assert found.opens_at(at_ms) == (counted[0] if counted else None)
    # an instant never lies outside the hours, and more time is never over earlier
    if then is not None:
        assert any(start < then <= end for one in found.days for start, end in one.hours)
        earlier = found.after_working(at_ms, minutes * MINUTE_MS - 1)
        assert earlier is not None
        assert earlier < then


def test_nothing_is_known_beyond_the_horizon_and_the_message_says_what_to_do() -> None:
    known = {"c": BERLIN}
    far = WorkingTime(calendar="c", ms=1_000 * HOUR_MS)
    found, problem = instant_of(far, known, ms("2026-12-01"))
    assert found is None
    assert "ends at 2026-12-31 23:00 UTC, before 1000 working hours are over" in problem
    assert "`mesh calendars apply FILE` with a longer one, then retry" in problem
    for time in (far, WorkingTime(calendar="c", days=1)):
        assert "begins at 2026-10-31 23:00 UTC" in instant_of(time, known, ms("2026-10-01"))[1]
    assert instant_of(WorkingTime(calendar="c", days=30), known, ms("2026-12-01"))[0] is None


def test_a_calendar_that_nobody_applied_and_one_that_nobody_looked_up() -> None:
    found, problem = instant_of(WorkingTime(calendar="x", days=1), {}, 0)
    assert (found, "no calendar x is in effect" in problem) == (None, True)
    with pytest.raises(CalendarUnread) as raised:
        instant_of(WorkingTime(calendar="x", days=1), None, 0)
    assert raised.value.name == "x"


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (WorkingTime(calendar="c", ms=90 * MINUTE_MS), "1.5 working hours"),
        (WorkingTime(calendar="c", days=1), "1 working day"),
        (WorkingTime(calendar="c", days=2), "2 working days"),
    ],
)
def test_working_time_in_words(time: WorkingTime, said: str) -> None:
    assert str(time) == said


def test_every_version_holds_two_seconds_after_also_the_first() -> None:
    timeline = CalendarTimeline()
    assert (timeline.at("a", 5), timeline.latest("a"), timeline.all("a")) == (None, None, [])
    for number, (name, at_ms) in enumerate([("a", 10_000), ("b", 20_000), ("a", 30_000)]):
        timeline.add(CalendarActivation(id=str(number), calendar=name, version=f"v{number}", by="ops", at_ms=at_ms))
    in_effect = [
        placed.activation.version for at in (11_999, 12_000, 31_999, 32_000) if (placed := timeline.at("a", at))
    ]
    assert in_effect == ["v0", "v0", "v2"]
    assert [placed.since_ms for placed in timeline.all("a")] == [12_000, 32_000]
    latest = timeline.latest("b")
    assert latest is not None
    assert (latest.activation.version, list(timeline.names())) == ("v1", ["a", "b"])


def test_a_day_ends_with_its_last_hours() -> None:
    assert WorkingDay(begins_ms=0, hours=((1, 2), (5, 9))).ends_ms == 9

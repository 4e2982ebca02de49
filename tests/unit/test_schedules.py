"""Schedules: which times they name, on which clocks, and what is not a schedule."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mesh.core.schedules import (
    NoSuchZone,
    Schedule,
    ScheduleError,
    check_schedule,
    fired_event,
    last_time,
    next_time,
    rfc3339,
)

BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    """Milliseconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def after(cron: str, text: str, timezone: str = BERLIN) -> str:
    return rfc3339(next_time(Schedule(cron=cron, timezone=timezone), at(text)))


def test_the_next_time_is_on_the_clocks_of_its_zone() -> None:
    assert after("0 9 * * 1-5", "2026-11-24T07:00:00") == "2026-11-24T08:00:00Z"
    assert after("0 9 * * 1-5", "2026-07-24T06:00:00") == "2026-07-24T07:00:00Z"
    assert after("0 9 * * 1-5", "2026-11-27T08:00:00") == "2026-11-30T08:00:00Z"  # Friday to Monday
    assert after("0 9 * * *", "2026-11-24T07:00:00", "UTC") == "2026-11-24T09:00:00Z"


def test_a_time_is_never_its_own_next_one_nor_one_before() -> None:
    every = Schedule(cron="* * * * *")
    assert next_time(every, at("2026-11-24T07:00:00")) == at("2026-11-24T07:01:00")
    assert next_time(every, at("2026-11-24T07:00:00") - 1) == at("2026-11-24T07:00:00")
    assert next_time(every, at("2026-11-24T07:00:00") + 1) == at("2026-11-24T07:01:00")


def test_a_time_that_clocks_leap_over_is_the_first_after_the_leap() -> None:
    assert after("30 2 * * *", "2026-03-28T12:00:00") == "2026-03-29T01:00:00Z"  # 03:00 in Berlin
    assert after("30 2 * * *", "2026-03-29T01:00:00") == "2026-03-30T00:30:00Z"


def test_a_time_of_day_that_comes_twice_counts_once_at_its_first() -> None:
    assert after("30 2 * * *", "2026-10-24T12:00:00") == "2026-10-25T00:30:00Z"
    assert after("30 2 * * *", "2026-10-25T00:30:00") == "2026-10-26T01:30:00Z"
    # within the second 02 o'clock
    assert after("30 2 * * *", "2026-10-25T01:10:00") == "2026-10-26T01:30:00Z"


def test_what_runs_every_hour_keeps_going_while_clocks_are_changed() -> None:
    now, times = at("2026-10-24T23:00:00"), []
    for _ in range(3):
        now = next_time(Schedule(cron="0 * * * *", timezone=BERLIN), now)
        times.append(rfc3339(now))
    assert times == ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]


def starts(cron: str, since: str, until: str, timezone: str = BERLIN) -> list[str]:
    now, found, end = at(since), list[str](), at(until)
    while (now := next_time(Schedule(cron=cron, timezone=timezone), now)) <= end:
        found.append(rfc3339(now)[11:16])
    return found


# Each line: spellings of one set of times.
SPELLINGS = [
    ["*/15 2 * * *", "0,15,30,45 2 * * *", "0-59/15 2-2 * * *"],
    ["30 * * * *", "30 0-23 * * *", "30 */1 * * *", "30 0-11,12-23 * * *"],
    ["* 2 * * *", "0-59 2 * * *", "*/1 2 * * *"],
    ["*/20 * * * *", "0,20,40 0-23 * * *"],
    ["5 */2 * * *", "5 0,2,4,6,8,10,12,14,16,18,20,22 * * *"],
]


@pytest.mark.parametrize("spellings", SPELLINGS, ids=lambda spellings: spellings[0])
@pytest.mark.parametrize(
    ("timezone", "day"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("Australia/Lord_Howe", "2026-04-05"),  # half an hour back
        ("Australia/Lord_Howe", "2026-10-04"),  # half an hour forward
        ("America/Sao_Paulo", "2018-11-04"),  # midnight is skipped
        pytest.param("Pacific/Apia", "2011-12-30", marks=pytest.mark.deep),  # a whole day is skipped
    ],
)
def test_spelling_does_not_decide_what_happens_when_clocks_change(
    spellings: list[str], timezone: str, day: str
) -> None:
    middle = datetime.fromisoformat(day)
    since, until = (str(middle + timedelta(days=days)) for days in (-2, 2))
    found = [starts(cron, since, until, timezone) for cron in spellings]
    assert found[0], "it starts at least once in these four days"
    assert all(times == found[0] for times in found)


def test_all_times_of_one_gap_give_one_start() -> None:
    night = ("2026-03-28T12:00:00", "2026-03-29T12:00:00")
    assert starts("*/15 2 * * *", *night) == ["01:00"]
    assert starts("*/15 2,3 * * *", *night) == ["01:00", "01:15", "01:30", "01:45"]
    assert starts("30 * * * *", *night) == starts("30 * * * *", *night, "UTC")


def test_every_hour_comes_twice_when_clocks_go_back_and_other_hours_once() -> None:
    night = ("2026-10-24T22:00:00", "2026-10-25T03:00:00")
    assert starts("30 0-23 * * *", *night) == ["22:30", "23:30", "00:30", "01:30", "02:30"]
    assert starts("*/30 2 * * *", *night) == ["00:00", "00:30"]
    assert starts("*/30 2 * * *", "2026-10-25T01:05:00", "2026-10-25T03:00:00") == []


def test_a_step_beyond_its_range_is_refused() -> None:
    for cron in ("*/90 * * * *", "0 */36 * * *", "0 0 */31 * *", "0 0 1 */12 *", "0-10/11 * * * *", "0,50/10 * * * *"):
        with pytest.raises(ScheduleError, match="steps beyond its range"):
            check_schedule(Schedule(cron=cron))
    for cron in ("*/59 * * * *", "0-10/10 * * * *", "0 */23 * * *", "0 0 L * MON#1", "50/9 * * * *"):
        check_schedule(Schedule(cron=cron))


@pytest.mark.parametrize(
    ("cron", "due", "now", "last"),
    [
        ("* * * * *", "2026-11-24T07:00:00", "2026-11-24T07:00:30", "2026-11-24T07:00:00"),
        ("* * * * *", "2026-11-24T07:00:00", "2026-12-24T07:00:30", "2026-12-24T07:00:00"),
        ("0 9 * * *", "2026-11-24T09:00:00", "2026-11-24T09:00:00", "2026-11-24T09:00:00"),
        ("0 9 * * *", "2026-11-24T09:00:00", "2026-11-25T08:59:59", "2026-11-24T09:00:00"),
        ("0 9 * * *", "2026-11-24T09:00:00", "2026-11-27T10:30:00", "2026-11-27T09:00:00"),
        ("0 0 1 1 *", "2020-01-01T00:00:00", "2026-11-24T00:00:00", "2026-01-01T00:00:00"),
    ],
)
def test_of_the_times_that_were_missed_the_last_is_found(cron: str, due: str, now: str, last: str) -> None:
    assert rfc3339(last_time(Schedule(cron=cron), at(due), at(now))) == f"{last}Z"


def test_a_due_time_that_other_rules_of_the_zone_gave_is_still_found() -> None:
    """The zone's rules are a table that changes. What the old ones gave still holds."""
    due = at("2026-11-24T09:07:00")
    assert last_time(Schedule(cron="0 9 * * *"), due, due + 1) == due


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("0 9 * *", "a schedule has five fields"),
        ("@daily", "a schedule has five fields"),
        ("0 0 9 * * *", "a schedule has five fields"),
        ("61 * * * *", "Bad minute"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("0 0 * 2 MON#5,TUE#5,WED#5", ""),
    ],
)
def test_what_is_no_schedule_is_refused(cron: str, problem: str) -> None:
    if not problem:
        check_schedule(Schedule(cron=cron))  # a leap year has one
        return
    with pytest.raises(ScheduleError, match=problem):
        check_schedule(Schedule(cron=cron))


@pytest.mark.parametrize("timezone", ["Europe/Berln", "../etc/passwd", "", "Europe"])
def test_a_zone_that_is_not_known_is_refused(timezone: str) -> None:
    with pytest.raises(NoSuchZone, match="there is no time zone"):
        check_schedule(Schedule(cron="* * * * *", timezone=timezone))


def test_a_day_that_never_comes_is_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cronsim looks fifty years ahead, and then says that there is nothing."""
    monkeypatch.setattr("mesh.core.schedules.CronSim", lambda *_: iter(()))
    with pytest.raises(ScheduleError, match="there is no such day"):
        check_schedule(Schedule(cron="0 0 29 2 *"))


def test_the_event_says_when_and_how_late() -> None:
    due = int(datetime(2026, 11, 24, 9, tzinfo=ZoneInfo(BERLIN)).timestamp()) * 1000
    event = fired_event("daily", due, 90)
    assert (event["id"], event["source"], event["type"]) == (
        "2026-11-24T08:00:00Z",
        "/mesh/schedules/daily",
        "mesh.schedule.fired",
    )
    assert event["data"] == {"scheduled_at": "2026-11-24T08:00:00Z", "late_s": 90}

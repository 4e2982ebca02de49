"""`mesh calendars` on SQLite: what people read, what programs read, and the exit code."""

import asyncio
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.codec.calendars import encode_calendar_activation
from mesh.codec.people import digest_of, encode_people, encode_people_activation
from mesh.core.people import Person, people_of
from mesh.core.topics import Topics
from mesh.ports import OutRecord
from mesh.services.topic_plan import topic_specs

TOPICS = Topics()
NEXT = datetime.now(UTC).year + 1  # a calendar holds for it, and nothing of it is over
BERLIN = f"""\
calendar: berlin
timezone: Europe/Berlin
hours: {{mon-sun: 09:00-17:00}}
holidays: [{{date: {NEXT}-12-25, name: Christmas}}]
"""
ROUTE = """\
route: pay
on: {type: t}
steps:
  review:
    approval:
      {ask: Pay?, payload: 1, role: boss, deadline: {working: 16h, calendar: berlin}, on_expiry: reject}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MESH_BY", "ops")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(BERLIN)
    (tmp_path / "pay.yaml").write_text(ROUTE)
    asyncio.run(_send(tmp_path))
    return tmp_path


async def _send(folder: Path, *records: OutRecord) -> None:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    await broker.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
    if records:
        assert not await broker.send(records)
    await broker.close()


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(mesh, arguments)
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result


def call_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code).stdout)


def apply(*more: str) -> Any:
    return call_json("calendars", "apply", "c.yaml", "--yes", *more)


def test_a_calendar_is_planned_applied_and_shown(folder: Path) -> None:
    assert "no calendar was ever applied" in call("calendars").stderr
    assert "no calendar was ever applied" in call("calendars", "show").stderr
    assert "+ berlin  a new calendar, in Europe/Berlin" in call("calendars", "plan", "c.yaml").stdout
    first = apply("--reason", "begin")
    assert (first["applied"], first["unchanged"]) == (True, False)
    assert apply() | {"applied": False, "unchanged": True, "activation": None} == apply()
    [found] = call_json("calendars")["calendars"]
    assert (found["calendar"], found["version"], found["ends_soon"]) == ("berlin", first["version"], False)
    shown = call("calendars", "show", "berlin").stdout
    assert "mon  09:00-17:00" in shown
    assert f"off  {NEXT}-12-25  Christmas" in shown
    assert "applied by ops: begin; in effect for what the broker takes at " in shown
    assert "berlin     Europe/Berlin" in call("calendars").stdout
    assert call_json("calendars", "show", "berlin")["hours"]["sun"] == ["09:00-17:00"]
    assert call("calendars", "show").stdout == shown
    (folder / "c.yaml").write_text(
        BERLIN.replace("12-25, name: Christmas", "12-26") + f"half_days: {{{NEXT}-12-24: 09:00-12:00}}"
    )
    told = call("calendars", "plan", "c.yaml").stdout
    assert f"+ {NEXT}-12-25  09:00-17:00, was off" in told
    assert f"- {NEXT}-12-26  off, was 09:00-17:00" in told
    assert f"~ {NEXT}-12-24  09:00-12:00, was 09:00-17:00" in told
    assert apply()["activation"]["in_effect_from"] is not None


def test_many_days_are_counted(folder: Path) -> None:
    apply()
    (folder / "c.yaml").write_text(BERLIN.replace("09:00", "10:00").replace("Berlin", "Paris"))
    told = call("calendars", "plan", "c.yaml")
    assert "more days" in told.stderr
    assert "~ the zone is Europe/Paris, and was Europe/Berlin" in told.stdout


def test_nothing_is_applied_without_consent(folder: Path) -> None:
    assert "it needs --yes" in call("calendars", "apply", "c.yaml", code=2).stderr
    assert call_json("calendars")["total"] == 0


def test_when_an_amount_of_working_time_is_over(folder: Path) -> None:
    apply()
    at = ("--from", f"{NEXT}-12-24T15:00:00Z")  # four in the afternoon in Berlin, before a holiday
    told = call("calendars", "next", "berlin", "2h", *at)
    assert told.stdout == f"{date(NEXT, 12, 26):%a} {NEXT}-12-26 10:00 Europe/Berlin\n"
    assert f"2 working hours from {NEXT}-12-24T15:00:00.000Z on are over at {NEXT}-12-26T09:00:00.000Z" in told.stderr
    assert call_json("calendars", "next", "berlin", "--days", "1", *at)["at"] == f"{NEXT}-12-26T16:00:00.000Z"
    for wrong in (["berlin"], ["berlin", "soon"], ["berlin", "2h", "--days", "1"]):
        assert "say how much" in call("calendars", "next", *wrong, code=2).stderr
    assert "no calendar nope was applied" in call("calendars", "next", "nope", "2h", code=3).stderr
    ended = call("calendars", "next", "berlin", "2h", "--from", "2099-01-01", code=2).stderr
    assert "before 2 working hours are over: `mesh calendars apply FILE` with a longer one" in ended


def test_a_calendar_that_can_not_be_read_is_named(folder: Path) -> None:
    lost = encode_calendar_activation("lost", "sha256:9", topics=TOPICS, activation_id="x", by="ops", at_ms=1)
    asyncio.run(_send(folder, lost))
    assert "version sha256:9 is not there" in call("calendars").stdout
    assert "the calendar lost can't be read here" in call("calendars", "show", "lost").stderr
    assert call_json("calendars", "show", "lost")["problem"] == "version sha256:9 is not there"
    assert "no calendar lost is in effect" in call("calendars", "next", "lost", "2h", code=2).stderr


def test_routes_check_knows_the_calendars_where_it_can_look(folder: Path) -> None:
    def codes(*more: str, code: int = 0) -> list[tuple[str, str]]:
        found = call_json("routes", "check", "pay.yaml", *more, code=code)["findings"]
        return [(one["severity"], one["code"]) for one in found if "calendar" in one["code"]]

    assert codes() == [("warning", "calendar_unchecked")]
    assert codes("--online", code=1) == [("error", "unknown_calendar")]
    apply()
    assert codes("--online") == []


def test_status_warns_of_calendars_that_are_missing_or_end_soon(folder: Path) -> None:
    call("routes", "apply", "pay.yaml", "--force", "--no-wait")
    ana = people_of([Person(id="ana", roles=frozenset({"boss"}))])
    version = digest_of(ana)
    active = encode_people_activation(version, topics=TOPICS, activation_id="p", by="ops", at_ms=1)
    asyncio.run(_send(folder, encode_people(ana, TOPICS), active))

    def told() -> list[str]:
        return [one["what"] for one in call_json("status")["stuck"] if "calendar" in one["what"]]

    missing = "no calendar berlin is in effect, and review of route pay asks by it: that would be an incident"
    assert told() == [missing]
    (folder / "c.yaml").write_text(BERLIN + f"until: {NEXT - 1}-01-02\n")
    apply()
    [near] = told()
    assert near.startswith("the calendar berlin end")
    assert f"warning: {near}" in call("calendars").stderr

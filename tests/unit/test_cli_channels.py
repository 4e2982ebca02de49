"""`mesh people channels` and `mesh notices`, on a mesh on SQLite."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.codec.channels import Channel, daily_time, decode_channel, encode_channel
from mesh.codec.notices import Notice, decode_notice, encode_notice, is_about
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, OperatorError
from mesh.ports import Broker, OutRecord, Record
from mesh.services.channels import ChannelReader
from mesh.services.topic_plan import topic_specs

TOPICS = Topics()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MESH_BY", "ops")
    monkeypatch.setenv("COLUMNS", "200")
    in_mesh(tmp_path, lambda broker: broker.create_topics(topic_specs(TOPICS, partitions=1, agents=[])))
    return tmp_path


def in_mesh(folder: Path, work: Callable[[Broker], Awaitable[object]]) -> object:
    async def run() -> object:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(run())


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(mesh, arguments)
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result


def apply(folder: Path, text: str) -> None:
    (folder / "people.yaml").write_text(text)
    call("people", "apply", str(folder / "people.yaml"), "--yes", "--force")


def known(folder: Path) -> dict[str, Channel]:
    async def read(broker: Broker) -> dict[str, Channel]:
        reader = ChannelReader(broker, TOPICS)
        await reader.start()
        await reader.close()
        return reader.channels

    found = in_mesh(folder, read)
    assert isinstance(found, dict)
    return found


def test_addresses_are_set_one_by_one_and_taken_away(folder: Path) -> None:
    apply(folder, "people: {ana: {roles: [boss], names: ['ana@example.org']}, ben: {roles: [boss]}}\n")
    assert "Nobody has an address" in call("people", "channels").stderr
    call(
        "people", "channels", "set", "Ana@example.org", "--email", "ana@example.org", "--digest", "08:00@Europe/Berlin"
    )
    said = call("people", "channels", "set", "ana", "--slack", "https://hooks.example.org/T0/secret")
    assert "secret" not in said.stdout
    assert known(folder) == {
        "ana": Channel(
            email="ana@example.org", digest="08:00@Europe/Berlin", slack="https://hooks.example.org/T0/secret"
        )
    }
    [row] = json.loads(call("people", "channels", "--json").stdout)["channels"]
    assert row == {
        "person": "ana",
        "webhook": None,
        "slack": "https://hooks.example.org",
        "email": "ana@example.org",
        "digest": "08:00@Europe/Berlin",
        "hours": None,
    }
    call("people", "channels", "unset", "ana", "--digest")
    assert known(folder)["ana"].digest == ""
    apply(folder, "boss: ben\n")
    assert "no longer among the people, and told nothing: ana" in call("people", "channels").stderr
    call("people", "channels", "unset", "ana")
    assert known(folder) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to set"),
        (["--webhook", "ftp://x/"], "is no URL"),
        (["--webhook", "https://user:pass@x/"], "is no URL"),
        (["--slack", "https://x/ y"], "is no URL"),
        (["--slack", "https://[x"], "is no URL"),
        (["--webhook", "https://x/" + "y" * 2_000], "longer than"),
        (["--email", "ana"], "is no e-mail address"),
        (["--email", "a@b\nBcc: c@d"], "is no e-mail address"),
        (["--digest", "25:00@UTC"], "is no time of a day"),
        (["--digest", "08:00@Mars/Olympus"], "a time zone that nobody knows"),
        (["--digest", "08:00@../../etc/passwd"], "a time zone that nobody knows"),
    ],
)
def test_what_is_no_address_is_refused_and_nothing_is_written(options: list[str], message: str, folder: Path) -> None:
    apply(folder, "boss: ana\n")
    assert message in call("people", "channels", "set", "ana", *options, code=2).stderr
    assert known(folder) == {}


def test_nobody_else_can_have_an_address(folder: Path) -> None:
    said = call("people", "channels", "set", "dan", "--email", "d@x", code=3).stderr
    assert "no version of the people was ever applied" in said
    apply(folder, "boss: ana\n")
    said = call("people", "channels", "set", "dan", "--email", "d@x", code=3).stderr
    assert "there is nobody named 'dan'" in said
    call("people", "channels", "unset", "dan", code=3)


def test_hours_are_those_of_a_calendar_that_was_applied(folder: Path) -> None:
    apply(folder, "boss: ana\n")
    said = call("people", "channels", "set", "ana", "--hours", "office", code=3).stderr
    assert "there is no calendar 'office'" in said
    (folder / "office.yaml").write_text("calendar: office\ntimezone: UTC\nhours: {mon-fri: 09:00-17:00}\n")
    call("calendars", "apply", str(folder / "office.yaml"), "--yes")
    assert (
        "the hours of office" in call("people", "channels", "set", "ana", "--hours", "office", "--email", "a@x").stdout
    )
    assert json.loads(call("people", "channels", "--json").stdout)["channels"][0]["hours"] == "office"
    call("people", "channels", "unset", "ana", "--hours")
    assert known(folder)["ana"] == Channel(email="a@x")


def as_record(out: OutRecord, at_ms: int = 1) -> Record:
    return Record(out.topic, out.partition or 0, 0, at_ms, out.key, out.value, out.headers)


def test_an_address_that_does_not_hold_is_malformed_and_takes_the_older_one_away(folder: Path) -> None:
    record = encode_channel("ana", Channel(email="a@b"), topics=TOPICS, record_id="r", at_ms=1)
    assert decode_channel(as_record(record)) == Channel(email="a@b")
    for value in (b"{", b'{"email": "x"}', b'{"webhook": 1}', b'{"digest": "x"}'):
        bad = OutRecord(record.topic, record.key, value, record.headers, 0)
        with pytest.raises(MalformedRecord, match="the addresses"):
            decode_channel(as_record(bad))
    in_mesh(folder, lambda broker: broker.send([record, bad]))
    assert known(folder) == {}


def test_a_digest_comes_at_its_local_time_also_when_the_clocks_change() -> None:
    berlin = daily_time("08:00@Europe/Berlin")
    times = [rfc3339(berlin.next(parse_rfc3339(f"2026-{day}T12:00:00Z"))) for day in ("03-27", "03-28", "03-29")]
    assert times == ["2026-03-28T07:00:00.000Z", "2026-03-29T06:00:00.000Z", "2026-03-30T06:00:00.000Z"]
    at_ms = parse_rfc3339(times[0])
    assert berlin.last(at_ms)[1] == at_ms
    assert berlin.last(at_ms - 1)[1] == at_ms - 86_400_000
    with pytest.raises(OperatorError):
        daily_time("8:00@UTC")


NOTICE = Notice(
    id="pay:k/r/review/asked/1/ana",
    what="asked",
    number=1,
    person="ana",
    channel="email",
    at="2026-01-01T00:00:00.000Z",
    approval_id="pay:k/r/review",
    question="Pay?",
)


def test_notices_are_listed_as_they_became_and_the_undelivered_are_counted(folder: Path) -> None:
    lost = replace(NOTICE, status="undelivered", reason="the receiver answered 503", attempts=35)
    other = replace(NOTICE, id="pay:k/r/review/asked/1/ben", person="ben")
    said = [NOTICE, other, lost, replace(other, status="sent", attempts=1)]
    records = [encode_notice(one, topics=TOPICS, at_ms=SystemClock().now_ms()) for one in said]
    junk = OutRecord(TOPICS.notices, b"k", b"{", (), 0)
    in_mesh(folder, lambda broker: broker.send([*records, junk]))
    found = json.loads(call("notices", "--json").stdout)
    assert {one["person"]: one["status"] for one in found["notices"]} == {"ana": "undelivered", "ben": "sent"}
    [one] = json.loads(call("notices", "list", "--undelivered", "--json").stdout)["notices"]
    assert (one["id"], one["attempts"], one["reason"]) == (lost.id, 35, "the receiver answered 503")
    assert "the receiver answered 503" in call("notices", "--person", "ana", "--since", "1h").stdout
    assert "1 of 2 are shown" in call("notices", "--limit", "1").stderr
    assert "No notices" in call("notices", "--approval", "x").stderr
    assert "1 undelivered in the last day" in call("status").stdout
    assert json.loads(call("status", "--json").stdout)["notices_undelivered"] == 1


def test_the_status_of_a_notice_is_in_its_headers_and_a_wrong_time_is_malformed() -> None:
    record = as_record(encode_notice(NOTICE, topics=TOPICS, at_ms=1))
    assert decode_notice(record) == NOTICE
    assert is_about(record, "due")
    assert not is_about(record, "sent")
    with pytest.raises(MalformedRecord, match="not a notice"):
        decode_notice(as_record(encode_notice(replace(NOTICE, at="soon"), topics=TOPICS, at_ms=1)))

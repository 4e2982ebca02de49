"""What the SQLite broker promises beside the contract.

The file, its readers, busy neighbours, retention, compaction, nudges.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from mesh.adapters.sqlite import SqliteBroker, readers, schema
from mesh.adapters.sqlite import broker as adapter
from mesh.adapters.sqlite.nudge import folder_of
from mesh.adapters.sqlite.schema import Durability
from mesh.errors import BrokerUnavailable, FileDamaged, OperatorError, RecordTooLarge
from mesh.ports import OutRecord, Record, TopicPartition, TopicSpec
from mesh.settings import load_settings
from mesh.wiring import open_broker

GENEROUS_S = 60.0
AT = TopicPartition("t", 0)


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "mesh.db"


@pytest.fixture
async def broker(file: Path, clock: Clock) -> AsyncIterator[SqliteBroker]:
    broker = await SqliteBroker.open(file, client_id="test", now_ms=clock)
    yield broker
    await broker.close()


async def _all(broker: SqliteBroker, place: TopicPartition = AT) -> list[Record]:
    reader = await broker.reader()
    reader.assign({place: 0})
    records: list[Record] = []
    while got := await reader.poll(max_records=7, timeout_s=0.0):
        records += got
    return records


def _out(value: bytes | None, key: bytes | None = None) -> OutRecord:
    return OutRecord("t", key, value, partition=0)


async def test_topics_and_records_are_there_after_opening_again(file: Path) -> None:
    for n in range(3):
        broker = await SqliteBroker.open(file, client_id=f"{n}", durability="full")
        await broker.create_topics([TopicSpec("t", 2, config={"retention.ms": "60000"})])
        await broker.send([_out(b"%d" % n)])
        assert (await broker.topics())["t"].config == {"retention.ms": "60000"}
        assert [record.value for record in await _all(broker)] == [b"%d" % m for m in range(n + 1)]
        await broker.close()


async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"file/mesh\.db"):
        await SqliteBroker.open(tmp_path / "file" / "mesh.db", client_id="test")


async def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my notes " * 1000)
    with pytest.raises(FileDamaged, match=r"notes\.txt"):
        await SqliteBroker.open(file, client_id="test")
    assert file.read_text() == "my notes " * 1000


async def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(OperatorError, match="another program"):
        await SqliteBroker.open(file, client_id="test")
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


async def test_a_file_of_a_newer_version_is_refused(file: Path) -> None:
    await (await SqliteBroker.open(file, client_id="test")).close()
    with closing(sqlite3.connect(file)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(OperatorError, match="newer agent-mesh"):
        await SqliteBroker.open(file, client_id="test")


async def test_a_read_only_connection_reads_while_others_write(broker: SqliteBroker, file: Path) -> None:
    await broker.create_topics([TopicSpec("t", 1)])
    query = await SqliteBroker.open(file, client_id="query", read_only=True)
    reader = await query.reader()
    reader.assign({AT: 0})
    for n in range(5):
        await broker.send([_out(b"%d" % n)])
        async with asyncio.timeout(GENEROUS_S):
            assert [record.offset for record in await reader.poll(max_records=9, timeout_s=GENEROUS_S)] == [n]
    with pytest.raises(OperatorError, match="only be read"):
        await query.send([_out(b"x")])
    await query.close()


async def test_a_read_only_connection_to_no_file_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"mesh\.db"):
        await SqliteBroker.open(tmp_path / "mesh.db", client_id="query", read_only=True)
    assert not (tmp_path / "mesh.db").exists()


async def test_a_write_waits_for_a_busy_file_and_calls_keep_their_order(broker: SqliteBroker, file: Path) -> None:
    await broker.create_topics([TopicSpec("t", 1)])
    other = apsw.Connection(str(file))
    other.execute("BEGIN IMMEDIATE")
    sending = [asyncio.create_task(broker.send([_out(b"%d" % n)])) for n in range(5)]
    await asyncio.sleep(0)
    assert await _all(broker) == []  # the loop is free, and readers are, too
    other.execute("ROLLBACK")
    sending.append(asyncio.create_task(broker.send([_out(b"5")])))
    async with asyncio.timeout(GENEROUS_S):
        await asyncio.gather(*sending)
    assert [record.value for record in await _all(broker)] == [b"%d" % n for n in range(6)]
    other.close()


async def test_a_file_that_stays_busy_is_an_error_that_says_so(file: Path) -> None:
    broker = await SqliteBroker.open(file, client_id="test", busy_timeout_s=0.05)
    await broker.create_topics([TopicSpec("t", 1)])
    other = apsw.Connection(str(file))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailable, match="another process has held"):
        await broker.send([_out(b"x")])
    other.close()
    assert not await broker.send([_out(b"y")])
    assert [record.value for record in await _all(broker)] == [b"y"]
    await broker.close()


async def test_a_closed_connection_says_so(file: Path) -> None:
    broker = await SqliteBroker.open(file, client_id="test")
    await broker.close()
    await broker.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await broker.topics()


async def test_time_stamps_do_not_fall_when_the_clock_does(broker: SqliteBroker, clock: Clock) -> None:
    await broker.create_topics([TopicSpec("t", 1)])
    for ms in (500, 900, 100, 950):
        clock.ms = ms
        await broker.send([_out(b"x")])
    assert [record.timestamp_ms for record in await _all(broker)] == [500, 900, 900, 950]
    assert await broker.offsets_at([AT], 900) == {AT: 1}
    assert await broker.offsets_at([AT], 901) == {AT: 3}


async def test_offsets_at_finds_a_time_in_a_long_partition_with_large_and_small_chunks(
    broker: SqliteBroker, clock: Clock
) -> None:
    await broker.create_topics([TopicSpec("t", 1)])
    for n in range(60):
        clock.ms = 1000 + 10 * (n // 2)
        await broker.send([_out(b"x")] * (1 + (n % 7) * 100))
    records = await _all(broker)
    assert [record.offset for record in records] == list(range(len(records)))
    for ms in range(995, 1300, 5):
        first = next((record.offset for record in records if record.timestamp_ms >= ms), len(records))
        assert await broker.offsets_at([AT], ms) == {AT: first}


async def test_a_decision_that_is_too_large_is_refused_whole(broker: SqliteBroker) -> None:
    await broker.create_topics([TopicSpec("t", 1)])
    with pytest.raises(RecordTooLarge):
        await broker.append(AT, 0, [_out(b"small"), _out(bytes(broker.max_record_bytes + 1))], [])
    assert await broker.end_offsets([AT]) == {AT: 0}


async def test_retention_drops_the_old_and_never_the_last(broker: SqliteBroker, clock: Clock) -> None:
    await broker.create_topics([TopicSpec("t", 1, config={"retention.ms": "1000"}), TopicSpec("kept", 1)])
    for _ in range(250):
        await broker.send([_out(b"old"), OutRecord("kept", None, b"old")])
    clock.ms += 2000
    await broker.send([_out(b"new")] * 3)
    assert await broker.clean() == 250
    assert [record.offset for record in await _all(broker)] == [250, 251, 252]
    assert len(await _all(broker, TopicPartition("kept", 0))) == 250
    clock.ms += 2000
    assert await broker.clean() == 0
    assert await broker.end_offsets([AT]) == {AT: 253}


async def test_compaction_keeps_the_last_record_of_each_key(broker: SqliteBroker, clock: Clock) -> None:
    await broker.create_topics([TopicSpec("t", 1, config={"cleanup.policy": "compact", "delete.retention.ms": "1000"})])
    await broker.send([_out(b"%d" % n, key=b"%d" % (n % 3)) for n in range(300)])
    await broker.send([_out(b"alone", key=b"9"), _out(None, key=b"1")])
    await broker.clean()
    assert [(r.key, r.value) for r in await _all(broker)] == [
        *((b"0", b"297"), (b"2", b"299")),
        *((b"9", b"alone"), (b"1", None)),
    ]
    clock.ms += 2000
    await broker.clean()
    assert (await _all(broker))[-1].key == b"1", "the last record stays, for the next offset is derived from it"
    await broker.send([_out(b"new", key=b"5")])
    await broker.clean()
    assert [(r.offset, r.key) for r in await _all(broker)] == [(297, b"0"), (299, b"2"), (300, b"9"), (302, b"5")]


async def test_nudges_work_where_the_path_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "POLL_S", 10 * GENEROUS_S)
    file = tmp_path / ("a" * 60) / ("b" * 60) / "mesh.db"
    one, other = [await SqliteBroker.open(file, client_id="test") for _ in range(2)]
    assert not folder_of(file).is_relative_to(tmp_path)
    await one.create_topics([TopicSpec("t", 1)])
    reader = await other.reader()
    reader.assign({AT: 0})
    for n in range(3):
        polling = asyncio.create_task(reader.poll(max_records=9, timeout_s=10 * GENEROUS_S))
        await asyncio.sleep(0)
        await one.send([_out(b"x")])
        async with asyncio.timeout(GENEROUS_S):
            assert [record.offset for record in await polling] == [n]
    await one.close()
    await other.close()
    assert not list(folder_of(file).iterdir())
    folder_of(file).rmdir()


async def test_readers_find_records_by_polling_when_the_sockets_are_gone(broker: SqliteBroker, file: Path) -> None:
    await broker.create_topics([TopicSpec("t", 1)])
    other = await SqliteBroker.open(file, client_id="other")
    reader = await other.reader()
    reader.assign({AT: 0})
    for socket in folder_of(file).iterdir():
        socket.unlink()
    polling = asyncio.create_task(reader.poll(max_records=9, timeout_s=GENEROUS_S))
    await asyncio.sleep(0)
    await broker.send([_out(b"x")])
    async with asyncio.timeout(GENEROUS_S):
        assert len(await polling) == 1
    await other.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
async def test_the_setting_says_whether_a_commit_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, synchronous: int
) -> None:
    opened: list[apsw.Connection] = []

    def seen(*arguments: Any, **options: Any) -> apsw.Connection:
        opened.append(schema.connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(adapter, "connect", seen)
    settings = load_settings(durability=durability)
    broker = await open_broker(f"sqlite://{tmp_path}/mesh.db", client_id="test", settings=settings)
    assert opened[0].pragma("synchronous") == synchronous
    await broker.close()

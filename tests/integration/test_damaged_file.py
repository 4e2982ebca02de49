"""A damaged broker file is an error of its own kind.

Nobody writes to the file until it is restored.
"""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mesh.adapters.sqlite import SqliteBroker
from mesh.errors import FileDamaged
from mesh.ports import OutRecord, Reader, TopicPartition, TopicSpec

AT = TopicPartition("t", 0)
_PAGE = 8192


async def _filled(file: Path) -> None:
    broker = await SqliteBroker.open(file, client_id="test", durability="normal")
    await broker.create_topics([TopicSpec("t", 1), TopicSpec("u", 1)])
    for n in range(400):
        await broker.send([OutRecord("t", None, b"%d" % n * 100, partition=0)])
    await broker.close()


async def _read_all(file: Path) -> None:
    broker = await SqliteBroker.open(file, client_id="test", read_only=True)
    try:
        reader = await broker.reader()
        reader.assign({AT: 0})
        await _to_the_end(reader)
    finally:
        await broker.close()


async def _to_the_end(reader: Reader) -> None:
    while await reader.poll(max_records=100, timeout_s=0.0):
        pass


async def _send(file: Path) -> None:
    broker = await SqliteBroker.open(file, client_id="test")
    try:
        await broker.send([OutRecord("u", None, b"x", partition=0)])
    finally:
        await broker.close()


def _header(file: Path) -> None:
    _overwrite(file, 0, b"\x5a" * 64)


def _all_but_the_first_page(file: Path) -> None:
    _overwrite(file, _PAGE, b"\x5a" * (file.stat().st_size - _PAGE))


def _one_page_of_records(file: Path) -> None:
    """A leaf of the table of records, from the end, so that the roots stay whole."""
    with closing(sqlite3.connect(file)) as db:
        [root] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'chunk'").fetchone()
    whole = file.read_bytes()
    leaves = [n for n in range(root, len(whole) // _PAGE) if whole[n * _PAGE] == 0x0D]
    _overwrite(file, leaves[1] * _PAGE, b"\x5a" * _PAGE)


def _cut(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def _a_records_bytes(file: Path) -> None:
    """SQLite finds nothing wrong with it; the mesh can't read it."""
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE chunk SET payload = x'c1c1' WHERE id = 200")


def _overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


DAMAGES = [_header, _all_but_the_first_page, _one_page_of_records, _cut, _a_records_bytes]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_told_as_such_and_nobody_writes_until_the_file_is_restored(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "mesh.db"
    await _filled(file)
    whole = file.read_bytes()
    damage(file)
    harmed = file.read_bytes()
    with pytest.raises(FileDamaged, match="restore the file from a copy"):
        await _read_all(file)
    with pytest.raises(FileDamaged, match=r"mesh\.db is damaged"):
        await _send(file)
    assert file.read_bytes() == harmed
    for ending in ("-wal", "-shm"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
    file.write_bytes(whole)
    await _read_all(file)
    await _send(file)
    assert not file.with_name("mesh.db.damaged").exists()


async def test_a_connection_that_met_the_damage_writes_no_more(tmp_path: Path) -> None:
    file = tmp_path / "mesh.db"
    await _filled(file)
    broker = await SqliteBroker.open(file, client_id="test")
    await broker.topics()
    _a_records_bytes(file)
    reader = await broker.reader()
    reader.assign({AT: 150})
    with pytest.raises(FileDamaged):
        await _to_the_end(reader)
    with pytest.raises(FileDamaged):
        await broker.send([OutRecord("u", None, b"x", partition=0)])
    await broker.close()


def test_a_command_ends_with_an_exit_code_that_is_not_try_again(tmp_path: Path) -> None:
    file = tmp_path / "mesh.db"
    asyncio.run(_filled(file))
    _header(file)
    for command in (["status"], ["publish", "--type", "t", "--source", "/s"]):
        done = subprocess.run(
            [sys.executable, "-m", "mesh", *command, "--json", "--broker", f"sqlite://{file}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        error = json.loads(done.stderr)["error"]
        assert (done.returncode, error["kind"], error["exit_code"]) == (7, "FileDamaged", 7)
        assert "restore" in error["message"]


async def test_the_brokers_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "mesh.db"
    broker = await SqliteBroker.open(file, client_id="test")
    await broker.create_topics([TopicSpec("t", 1)])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("mesh.db*")}  # noqa: ASYNC240 - a test
    await broker.close()
    assert modes == {"mesh.db": 0o600, "mesh.db-wal": 0o600, "mesh.db-shm": 0o600}

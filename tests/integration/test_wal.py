"""The write-ahead log is moved into the file beside the commits, and stays small."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from mesh.adapters.sqlite import SqliteBroker, store
from mesh.adapters.sqlite_files import Checkpointer
from mesh.ports import OutRecord, TopicPartition, TopicSpec

GENEROUS_S = 60.0
_MB = 1 << 20


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not condition():  # noqa: ASYNC110 - the file says nothing when it grows
            await asyncio.sleep(0.01)


async def _send(broker: SqliteBroker, megabytes: int) -> None:
    for _ in range(megabytes):
        assert not await broker.send([OutRecord("t", None, bytes(_MB - 1_000), partition=0)])


async def test_the_log_is_moved_while_the_file_is_open(tmp_path: Path) -> None:
    file = tmp_path / "mesh.db"
    broker = await SqliteBroker.open(file, client_id="test")
    await broker.create_topics([TopicSpec("t", 1)])
    await _send(broker, 20)
    await _until(lambda: file.stat().st_size > 15 * _MB)
    assert await broker.end_offsets([TopicPartition("t", 0)]) == {TopicPartition("t", 0): 20}
    await broker.close()


async def test_the_log_begins_anew_though_nobody_ever_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_WAL_PAGES", 200)
    broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test")
    await broker.create_topics([TopicSpec("t", 1)])
    checkpointer = broker._store._checkpointer
    assert checkpointer is not None
    longest = 0
    async with asyncio.timeout(GENEROUS_S):
        while checkpointer._moved >= longest:
            longest = checkpointer._moved
            await _send(broker, 1)
    await broker.close()


async def test_a_commit_does_not_fail_because_the_log_could_not_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        """A connection whose disk fails just then."""

        def set_wal_hook(self, hook: Callable[[object, str, int], int]) -> None:
            self.hook = hook

        def wal_checkpoint(self, mode: int) -> tuple[int, int]:
            raise apsw.IOError("disk I/O error")

    connection = Broken()
    checkpointer = Checkpointer(connection, tmp_path / "mesh.db", pages=2_000)  # type: ignore[arg-type]
    assert connection.hook(connection, "main", 1_000_000) == apsw.SQLITE_OK
    checkpointer.close()


async def test_a_file_that_can_not_be_opened_again_is_told(tmp_path: Path) -> None:
    connection = apsw.Connection(":memory:")
    checkpointer = Checkpointer(connection, tmp_path / "gone" / "mesh.db", pages=2_000)
    with capture_logs() as logs:
        assert checkpointer._committed(connection, "main", 3_000) == apsw.SQLITE_OK
        checkpointer.close()
    assert [log["event"] for log in logs] == ["write_ahead_log_not_moved"]
    connection.close()

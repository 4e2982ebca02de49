"""Several real processes on one file.

They are killed in the middle, stopped past their lease, and woken by nudges.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mesh_processes import freeze_between_transactions

from mesh.adapters.sqlite import SqliteBroker, readers, subscription
from mesh.ports import Committed, OutRecord, Record, TopicPartition, TopicSpec

_WORKER = Path(__file__).with_name("sqlite_worker.py")
_ROOT = Path(__file__).parents[2]
GENEROUS_S = 60.0
LOG = TopicPartition("log", 0)
TASKS = [TopicPartition("tasks", p) for p in range(4)]
RESULT = TopicPartition("results", 0)


class Member:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.share: set[TopicPartition] = set()
        self.lost: list[TopicPartition] = []

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self.share |= set(partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.share -= set(partitions)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mesh.db"


@pytest.fixture
async def broker(file: Path) -> AsyncIterator[SqliteBroker]:
    broker = await SqliteBroker.open(file, client_id="test")
    await broker.create_topics([TopicSpec("log", 1), TopicSpec("tasks", 4), TopicSpec("results", 1)])
    yield broker
    await broker.close()


@asynccontextmanager
async def _worker(mode: str, file: Path, session_s: float = 10.0) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, _WORKER, mode, file, str(session_s)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: asyncio.subprocess.Process, is_it: Callable[[str], bool]) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(GENEROUS_S):
        while line := (await process.stdout.readline()).decode():
            if is_it(line.strip()):
                return line.strip()
    raise AssertionError("the worker ended without saying it")


async def _read(
    broker: SqliteBroker, places: Sequence[TopicPartition], until: Callable[[list[Record]], bool]
) -> list[Record]:
    reader = await broker.reader()
    reader.assign(dict.fromkeys(places, 0))
    records: list[Record] = []
    async with asyncio.timeout(GENEROUS_S):
        while not until(records):
            records += await reader.poll(max_records=1000, timeout_s=0.2)
    await reader.close()
    return records


def _values(records: Sequence[Record]) -> list[int]:
    return [int(record.value or b"") for record in records]


async def test_two_appenders_and_kill_9_leave_a_log_without_gaps_and_one_effect_for_each_decision(
    broker: SqliteBroker, file: Path
) -> None:
    for _ in range(3):
        async with _worker("append", file) as one, _worker("append", file) as other:
            for process in (one, other):
                await _line(process, lambda line: line.startswith("appended"))
            one.kill()
            await one.wait()
            await _line(other, lambda line: line.startswith("appended"))
            other.kill()
    ends = await broker.end_offsets([LOG, *TASKS])
    decisions = await _read(broker, [LOG], lambda records: len(records) == ends[LOG])
    assert [record.offset for record in decisions] == list(range(ends[LOG]))
    made = [record for record in decisions if record.value != b"claim"]
    assert _values(made) == [record.offset for record in made]
    effects = await _read(broker, TASKS, lambda records: len(records) == sum(ends[place] for place in TASKS))
    assert sorted(_values(effects)) == _values(made)


async def test_every_task_is_done_although_a_worker_is_killed_in_the_middle(broker: SqliteBroker, file: Path) -> None:
    async with _worker("work", file, 600.0) as one, _worker("work", file, 600.0) as other:
        for process in (one, other):
            await _line(process, lambda line: line.startswith("assigned"))
        await broker.send([OutRecord("tasks", None, b"%d" % n, partition=n % 4) for n in range(400)])
        await _line(one, lambda line: line.startswith("done"))
        one.kill()
        results = await _read(broker, [RESULT], lambda records: len(set(_values(records))) == 400)
    assert set(_values(results)) == set(range(400))


async def test_a_killed_process_share_is_taken_over_long_before_its_lease_ends(
    broker: SqliteBroker, file: Path
) -> None:
    member = Member()
    held = await broker.subscribe("workers", ["tasks"], member, member="test", session_timeout_s=600.0)
    async with _worker("work", file, 600.0) as worker:
        await _line(worker, lambda line: line.startswith("assigned"))
        await _until(lambda: len(member.share) == 2)
        worker.kill()
        await _until(lambda: held.assignment() == frozenset(TASKS))


async def test_a_member_stopped_past_its_lease_loses_its_share_without_a_word_and_joins_anew(
    broker: SqliteBroker, file: Path
) -> None:
    member = Member()
    held = await broker.subscribe("workers", ["tasks"], member, member="test", session_timeout_s=600.0)
    async with _worker("work", file, 0.5) as worker:
        await _line(worker, lambda line: line.startswith("assigned"))
        await _until(lambda: len(member.share) == 2)
        await asyncio.to_thread(freeze_between_transactions, worker.pid, file)
        await _until(lambda: held.assignment() == frozenset(TASKS))
        worker.send_signal(signal.SIGCONT)
        said = await _line(worker, lambda line: line.startswith(("assigned", "revoked")))
        assert said.startswith("assigned")
        await _until(lambda: len(held.assignment()) == 2)
        await held.close()  # what it had while the worker was stopped is not lost, either
        await broker.send([OutRecord("tasks", None, b"7", partition=p) for p in range(4)])
        await _read(broker, [RESULT], lambda records: len(records) == 4)


async def test_readers_in_two_processes_wake_each_other_without_polling(
    broker: SqliteBroker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "POLL_S", 10 * GENEROUS_S)
    monkeypatch.setattr(subscription, "POLL_S", 10 * GENEROUS_S)
    reader = await broker.reader()
    reader.assign({RESULT: 0})
    async with _worker("answer", file) as worker:
        await _line(worker, lambda line: line == "ready")
        async with asyncio.timeout(GENEROUS_S):
            for n in range(20):
                await broker.send([OutRecord("tasks", None, b"%d" % n, partition=0)])
                assert _values(await reader.poll(max_records=10, timeout_s=10 * GENEROUS_S)) == [n]


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)

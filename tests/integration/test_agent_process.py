"""An agent as a process of its own, on one SQLite file: it works, and a signal drains it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.adapters.sqlite import SqliteBroker
from mesh.codec.cards import decode_card
from mesh.codec.tasks import decode_result, encode_task
from mesh.core.effects import SendTask
from mesh.core.inputs import ResultReceived
from mesh.core.topics import Topics
from mesh.ports import Record, TopicPartition, TopicSpec

ROOT = Path(__file__).parents[2]
TOPICS = Topics()
GENEROUS_S = 60.0

AGENT = """
import asyncio, sys
from pathlib import Path

import uvloop

from mesh import Context, agent
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.core.topics import Topics
from mesh.services.agent_runtime.runtime import run_agents
from mesh.services.agent_runtime.settings import AgentSettings


@agent("worker", concurrency=2)
async def worker(value: str, ctx: Context) -> str:
    if value == "wait":
        (Path(sys.argv[2]) / "begun").touch()
        while not (Path(sys.argv[2]) / "go-on").exists():
            await asyncio.sleep(0.01)
    return value.upper()


@agent("plain-worker")
def plain(value: str) -> str:
    return value[::-1]


async def main() -> None:
    broker = await SqliteBroker.open(Path(sys.argv[1]), client_id="worker")
    settings = AgentSettings(session_timeout_s=5.0)
    try:
        await run_agents(
            broker, [worker, plain], topics=Topics(), clock=SystemClock(), instance="process", settings=settings
        )
    finally:
        await broker.close()


uvloop.run(main())
"""


def task(agent: str, number: int, value: str) -> SendTask:
    return SendTask(
        workflow_id=f"test:{number}",
        run_id="00000001",
        route="test",
        step="step",
        task_id=f"test:{number}/00000001/step",
        attempt=1,
        agent=agent,
        input=value,
        at_ms=0,
        due_at_ms=4_000_000_000_000,
        traceparent="",
    )


class Mesh:
    def __init__(self, broker: SqliteBroker) -> None:
        self.broker = broker

    async def send(self, *effects: SendTask) -> None:
        assert not await self.broker.send([encode_task(e, topics=TOPICS, reply_partition=0) for e in effects])

    async def read(self, topic: str, count: int) -> list[Record]:
        """The topic's records, as soon as there are `count`."""
        reader = await self.broker.reader()
        reader.assign({TopicPartition(topic, 0): 0})
        records: list[Record] = []
        try:
            async with asyncio.timeout(GENEROUS_S):
                while len(records) < count:
                    records += await reader.poll(max_records=1000, timeout_s=1.0)
        finally:
            await reader.close()
        return records

    async def results(self, count: int) -> list[ResultReceived]:
        return [decode_result(record) for record in await self.read(TOPICS.results, count)]


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test")
    names = (TOPICS.results, TOPICS.agents, TOPICS.dlq)
    await broker.create_topics([TopicSpec(name, 1) for name in names])
    await broker.create_topics([TopicSpec(TOPICS.tasks(name), 4) for name in ("worker", "plain-worker")])
    yield Mesh(broker)
    await broker.close()


@asynccontextmanager
async def agent_process(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    script = tmp_path / "worker.py"
    script.write_text(AGENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path / "mesh.db"), str(tmp_path), env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def wait_for_file(path: Path) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.02)


async def test_two_agents_of_one_process_answer_tasks(mesh: Mesh, tmp_path: Path) -> None:
    async with agent_process(tmp_path):
        await mesh.send(*(task("worker", n, f"a{n}") for n in range(50)))
        await mesh.send(*(task("plain-worker", n, f"b{n}") for n in range(50, 60)))
        outputs = sorted(result.output for result in await mesh.results(60))
        cards = [decode_card(record) for record in await mesh.read(TOPICS.agents, 4)]
    assert outputs == sorted([f"A{n}" for n in range(50)] + [f"b{n}"[::-1] for n in range(50, 60)])
    assert {card.name for card in cards} == {"worker", "plain-worker"}


async def test_a_signal_lets_the_handler_end_sends_its_result_and_withdraws_the_card(
    mesh: Mesh, tmp_path: Path
) -> None:
    async with agent_process(tmp_path) as process:
        await mesh.send(task("worker", 1, "wait"))
        await wait_for_file(tmp_path / "begun")
        process.send_signal(signal.SIGTERM)
        (tmp_path / "go-on").touch()
        async with asyncio.timeout(GENEROUS_S):
            assert await process.wait() == 0
    (result,) = await mesh.results(1)
    assert result.output == "WAIT"
    cards = [decode_card(record) for record in await mesh.read(TOPICS.agents, 6)]
    assert {card.name for card in cards if card.stopped and not card.registration} == {"worker", "plain-worker"}
    committed = await mesh.broker.committed(
        TOPICS.agent_group("worker"), [TopicPartition(TOPICS.tasks("worker"), n) for n in range(4)]
    )
    assert sum(position.offset for position in committed.values() if position is not None) == 1


async def test_a_killed_agents_task_is_done_by_the_next_one(mesh: Mesh, tmp_path: Path) -> None:
    async with agent_process(tmp_path) as process:
        await mesh.send(task("worker", 1, "wait"), *(task("worker", n, "x") for n in range(2, 10)))
        await wait_for_file(tmp_path / "begun")
        await mesh.results(8)
        process.kill()
        await process.wait()
    (tmp_path / "go-on").touch()
    async with agent_process(tmp_path):
        count, wanted = 9, {f"test:{n}" for n in range(1, 10)}
        while {result.workflow_id for result in await mesh.results(count)} != wanted:
            count += 1  # one was done again: the kill came before its commit

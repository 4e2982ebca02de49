"""Whatever is killed, every workflow ends rightly.

The processes and brokers are real, and hundreds of workflows are in flight.

Each scenario does one thing to a running mesh. Then the checker reads everything from the start:
nothing is lost, duplicated, reordered or phantom; each comment is in the outbox once; and the log,
folded here, gives the state that the routers themselves left.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from log_checker import Evidence, check_inputs, check_outbox, checkpointed, gather
from mesh_processes import MeshProcesses, Process, mesh_processes

from infra.kafka.kafka import KafkaProcess
from mesh.codec.log import decode_log_record
from mesh.core.events import OwnerChanged
from mesh.ports import TopicPartition

pytestmark = pytest.mark.slow

WORKFLOWS = 300
LATER = 60
SETTLED_S = 4.0  # beyond every session and pause of these tests
AGENTS = ("first", "second", "publisher")
ROUTE = """\
route: fault
on: {type: test.fault}
key: ${{ event.subject }}
steps:
  first:  {agent: first, input: "${{ event.data }}", timeout: 10s, retry: {attempts: 20, backoff: 200ms}}
  second: {needs: first, agent: second, input: "${{ steps.first }}", timeout: 10s, retry: {attempts: 20, backoff: 200ms}}
  publish:
    needs: second
    agent: publisher
    input: {repository: octo/repo, number: "${{ steps.second.n }}", reply: {body: "${{ steps.second.text }}", labels: []}}
    timeout: 20s
    retry: {attempts: 20, backoff: 200ms}
"""

Scenario = Callable[["Running"], Awaitable[None]]


class Running:
    """A mesh with its router, its agents, and a flood of events under way."""

    def __init__(self, mesh: MeshProcesses, kafka: KafkaProcess | None, **env: str) -> None:
        self.mesh, self.kafka, self.env = mesh, kafka, env
        self.published = 0
        self.router = mesh.router(**env)
        self.agents = self.start_agents()

    def start_agents(self) -> list[Process]:
        return [self.mesh.agent(module, **self.env) for module in ("fault_agents", "agents.issue_triage.publisher")]

    async def publish(self, count: int = WORKFLOWS) -> None:
        first = self.published + 1
        self.published += count
        client = await self.mesh.client()
        async with client:
            await client.publish_all(
                [
                    {
                        "type": "test.fault",
                        "source": "/faults",
                        "id": str(n),
                        "subject": str(n),
                        "data": {"n": n, "text": "x" * 300},
                    }
                    for n in range(first, first + count)
                ]
            )

    async def wait_ended(self, count: int) -> None:
        await self.mesh.wait_outcomes(count)

    async def wait_owners(self, count: int) -> None:
        """Wait until `count` owners have claimed log partition 0, one after the other."""
        broker = await self.mesh.open_broker()
        reader = await broker.reader()
        reader.assign({TopicPartition(self.mesh.topics.log, 0): 0})
        seen = 0

        async def enough() -> bool:
            nonlocal seen
            records = await reader.poll(max_records=1000, timeout_s=0.2)
            seen += sum(isinstance(decode_log_record(record), OwnerChanged) for record in records)
            return seen >= count

        try:
            await self.mesh.wait_until(f"{count} owners", enough)
        finally:
            await broker.close()

    async def wait_settled(self) -> None:
        """Wait until two routers that know of each other leave each other alone.

        That is, until no partition changes its owner for a while.
        """
        broker = await self.mesh.open_broker()
        partitions = [TopicPartition(self.mesh.topics.log, p) for p in range(16)]
        last: tuple[float, object] = (time.monotonic(), None)

        async def settled() -> bool:
            nonlocal last
            ends = dict(await broker.end_offsets(partitions))
            if ends != last[1]:
                last = (time.monotonic(), ends)
            return time.monotonic() - last[0] > SETTLED_S

        try:
            await self.mesh.wait_until("nothing more is written to the log", settled)
        finally:
            await broker.close()

    async def stop_all(self) -> None:
        for process in self.mesh.processes:
            if process.is_alive:
                assert process.stop() == 0, process.text()[-3000:]


async def kill_router(run: Running) -> None:
    await run.wait_ended(WORKFLOWS // 10)
    run.router.kill()
    run.mesh.router()


async def kill_agents(run: Running) -> None:
    await run.wait_ended(WORKFLOWS // 10)
    for agent in run.agents:
        agent.kill()
    run.start_agents()


async def kill_router_and_agents(run: Running) -> None:
    await run.wait_ended(WORKFLOWS // 10)
    for process in (run.router, *run.agents):
        process.kill()
    run.mesh.router()
    run.start_agents()


async def freeze_router_until_deposed(run: Running) -> None:
    """Another router takes over, and the first wakes and finds itself deposed.

    Work comes in between and after.
    """
    await run.wait_ended(WORKFLOWS // 10)
    run.mesh.freeze(run.router)
    run.mesh.router("second-router")
    await run.wait_owners(2)
    await run.wait_ended(WORKFLOWS // 2)
    run.router.thaw()
    await run.publish(LATER)
    await run.wait_ended(run.published)
    await run.wait_settled()


async def two_routers_at_once(run: Running) -> None:
    """Two routers start at the same moment, while the one before them is dead.

    They share the partitions or fight for them.
    """
    await run.wait_ended(WORKFLOWS // 10)
    run.router.kill()
    run.mesh.router("left")
    run.mesh.router("right")


async def rolling_restart(run: Running) -> None:
    await run.wait_ended(WORKFLOWS // 10)
    run.mesh.router("new-router")
    assert run.router.stop() == 0, run.router.text()[-3000:]
    for old in run.agents:
        assert old.stop() == 0, old.text()[-3000:]
    run.start_agents()


async def kill_broker(run: Running) -> None:
    await run.wait_ended(WORKFLOWS // 10)
    assert run.kafka is not None
    await asyncio.to_thread(run.kafka.kill)
    await asyncio.to_thread(run.kafka.restart)


SCENARIOS: list[Scenario] = [
    kill_router,
    kill_agents,
    kill_router_and_agents,
    freeze_router_until_deposed,
    two_routers_at_once,
    rolling_restart,
]


async def check(run: Running) -> Evidence:
    broker = await run.mesh.open_broker()
    try:
        evidence = await gather(broker, run.mesh.topics)
    finally:
        await broker.close()
    check_inputs(evidence, [f"fault:{n}" for n in range(1, run.published + 1)])
    check_outbox(evidence, run.mesh.folder / "outbox.jsonl", run.published)
    live, folded = checkpointed(run.mesh.folder / "data"), evidence.workflows()
    evidence.expect(
        live == folded, f"the routers' state is not the log's: {sum(live.get(k) != v for k, v in folded.items())}"
    )
    return evidence


async def survive(run: Running, scenario: Scenario) -> None:
    await run.publish()
    await scenario(run)
    await run.wait_ended(run.published)
    await run.stop_all()
    evidence = await check(run)
    assert evidence.findings == [], "\n".join(evidence.findings[:20]) + "\n" + run.mesh.logs()


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Running]:
    with mesh_processes(f"sqlite://{tmp_path}/mesh.db", tmp_path) as mesh:
        yield await _running(mesh, None)


@pytest.fixture
async def on_kafka(kafka: KafkaProcess, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[Running]:
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path, prefix=kafka_prefix) as mesh:
        yield await _running(mesh, None)


async def _running(mesh: MeshProcesses, kafka: KafkaProcess | None, **env: str) -> Running:
    (mesh.routes / "fault.yaml").write_text(ROUTE)
    await mesh.make_topics(*AGENTS)
    return Running(mesh, kafka, **env)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_nothing_is_lost_or_doubled_on_sqlite(on_sqlite: Running, scenario: Scenario) -> None:
    await survive(on_sqlite, scenario)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_nothing_is_lost_or_doubled_on_kafka(on_kafka: Running, scenario: Scenario) -> None:
    await survive(on_kafka, scenario)


async def test_nothing_is_lost_when_the_kafka_broker_is_killed(
    new_kafka: Callable[[], KafkaProcess], tmp_path: Path
) -> None:
    kafka = new_kafka()
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path) as mesh:
        await survive(await _running(mesh, kafka), kill_broker)


async def test_processes_whose_kafka_broker_is_gone_stop_gracefully(
    new_kafka: Callable[[], KafkaProcess], tmp_path: Path
) -> None:
    kafka = new_kafka()
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path) as mesh:
        run = await _running(mesh, kafka, MESH_REQUEST_TIMEOUT_S="2", MESH_DRAIN_TIMEOUT_S="2")
        await run.publish()
        await run.wait_ended(WORKFLOWS // 10)
        kafka.kill()
        codes = await asyncio.gather(*(asyncio.to_thread(process.stop) for process in mesh.processes))
        assert codes == [0, 0, 0], mesh.logs()

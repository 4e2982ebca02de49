"""Handlers that take longer than the broker waits, and agents that stop in the middle.

Replicas come and go under load. Nothing is lost, and nothing runs twice.
"""

import os
import signal
import time
from collections import Counter

import pytest
from log_checker import check_inputs, gather
from mesh_processes import MeshProcesses, Process

pytestmark = pytest.mark.slow

ROUTE = """\
route: slow
on: {type: test.slow}
key: ${{ event.subject }}
steps:
  work: {agent: slow, input: "${{ event.data }}", timeout: 5m}
"""
PATIENCE_S = 1.0  # of the agents' Kafka clients, as slow_agents sets it
LONG, STOPPED, LOAD = range(6), range(6, 8), range(8, 108)


class Slow:
    """The slow agents, and what they have written down."""

    def __init__(self, mesh: MeshProcesses) -> None:
        self.mesh = mesh
        self.release = mesh.folder / "release"

    def start(self, **env: str) -> Process:
        # no replica is killed here, and a busy machine must not make one look dead
        steady = {"MESH_SESSION_TIMEOUT_S": "60", "MESH_DRAIN_TIMEOUT_S": "60"}
        return self.mesh.agent("slow_agents", SLOW_FOLDER=str(self.mesh.folder), **steady, **env)

    def notes(self) -> list[list[str]]:
        """`begin` or `end`, and the attempt, in order."""
        file = self.mesh.folder / "slow.log"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    async def wait_begun(self, count: int) -> None:
        async def begun() -> bool:
            return sum(what == "begin" for what, _ in self.notes()) >= count

        await self.mesh.wait_until(f"{count} tasks begun", begun)

    async def publish(self, numbers: range) -> None:
        async with await self.mesh.client() as client:
            await client.publish_all(
                [{"type": "test.slow", "source": "/slow", "subject": str(n), "data": {"n": n}} for n in numbers]
            )


async def test_long_handlers_stops_and_replicas_lose_nothing_and_run_nothing_twice(mesh: MeshProcesses) -> None:
    (mesh.routes / "slow.yaml").write_text(ROUTE)
    await mesh.make_topics("slow")
    router, slow = mesh.router(), Slow(mesh)
    first = slow.start()
    await outlives_the_patience_of_the_broker(slow, first)
    await stops_in_the_middle(slow, first)
    agents = await replicas_come_and_go(slow)
    for process in (*agents, router):
        assert process.stop() == 0, process.text()[-3000:]

    begun = Counter(attempt for what, attempt in slow.notes() if what == "begin")
    assert begun == Counter(attempt for what, attempt in slow.notes() if what == "end")
    assert set(begun.values()) == {1}, [attempt for attempt, count in begun.items() if count > 1]
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    check_inputs(evidence, [f"slow:{n}" for n in (*LONG, *STOPPED, *LOAD)])
    assert evidence.findings == []


async def outlives_the_patience_of_the_broker(slow: Slow, agent: Process) -> None:
    """With all hands busy for long, the member stays in its group, and nobody gets its tasks."""
    await slow.publish(LONG)
    await slow.wait_begun(2)
    until = time.monotonic() + 3 * PATIENCE_S

    async def long_enough() -> bool:
        return time.monotonic() > until

    await slow.mesh.wait_until("more than the broker's patience", long_enough)
    slow.release.touch()
    await slow.mesh.wait_outcomes(len(LONG))
    assert "partitions_revoked" not in agent.text()


async def stops_in_the_middle(slow: Slow, agent: Process) -> None:
    """SIGTERM: what runs is finished and its result sent; then it goes."""
    slow.release.unlink()
    await slow.publish(STOPPED)
    await slow.wait_begun(len(LONG) + len(STOPPED))
    os.kill(agent.pid, signal.SIGTERM)

    async def draining() -> bool:
        return "agent_drains" in agent.text()

    await slow.mesh.wait_until("the drain", draining)
    slow.release.touch()

    async def gone() -> bool:
        return not agent.is_alive

    await slow.mesh.wait_until("the agent's end", gone)
    assert '"abandoned": 0' in agent.text().splitlines()[-1]
    await slow.mesh.wait_outcomes(len(LONG) + len(STOPPED))


async def replicas_come_and_go(slow: Slow) -> list[Process]:
    """One more under load, and then one less; those that are left."""
    leaving = slow.start(SLOW_S="0.05")
    leaving.wait_started()
    before = len(LONG) + len(STOPPED)
    await slow.publish(LOAD)
    await slow.wait_begun(before + 10)
    staying = slow.start(SLOW_S="0.05")

    async def shares() -> bool:
        return "partitions_assigned" in staying.text()

    await slow.mesh.wait_until("the new replica's share", shares)
    assert leaving.stop() == 0, leaving.text()[-3000:]
    await slow.mesh.wait_outcomes(before + len(LOAD))
    return [staying]

"""Agents die over a task, and replicas are stopped and go on.

The processes are real, and are really killed and stopped.
"""

import asyncio
from collections import Counter

import pytest
from log_checker import gather
from mesh_processes import MeshProcesses, Process

from mesh.core.events import Decision, TaskFailed

pytestmark = pytest.mark.slow

ROUTE = """\
route: job
on: {type: test.job}
key: ${{ event.subject }}
steps:
  work:
    agent: deadly
    input: "${{ event.subject }}"
    timeout: 20m
    retry: {attempts: 2, backoff: 100ms, jitter: 0}
"""
MOST_BEGINS = 3


async def test_a_task_that_kills_its_agent_is_given_up_and_its_neighbours_come_to_their_end(
    mesh: MeshProcesses,
) -> None:
    await prepared(mesh)
    neighbours = [f"neighbour-{n}" for n in range(6)]
    router, agents = mesh.router(), [deadly(mesh)]
    await publish(mesh, *neighbours[:3], "killer", *neighbours[3:])
    keeper = asyncio.create_task(keep_alive(mesh, agents))
    try:
        outcomes = await mesh.wait_outcomes(len(neighbours))
        incidents = await wait_incidents(mesh, 1)
    finally:
        keeper.cancel()
    assert {name: one.status for name, one in outcomes.items()} == {f"job:{n}": "completed" for n in neighbours}
    assert "agent_died: 3 processes of agent deadly died" in incidents[0]
    begins = begun(mesh)
    assert begins["killer"] <= MOST_BEGINS
    assert all(begins[name] <= MOST_BEGINS for name in neighbours), begins
    status = await mesh.json("status")
    assert any("deadly" in one["what"] and "job:killer" in one["what"] for one in status["stuck"]), status["stuck"]
    assert agents[-1].stop() == 0
    assert router.stop() == 0
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []
    died = deaths([decision for _, _, decision in evidence.promises.effective], "job:killer")
    assert len(set(died)) == MOST_BEGINS, "each by another life of the process"


async def test_what_a_killed_replica_had_in_its_hands_goes_to_the_other_and_nothing_is_used_up(
    mesh: MeshProcesses,
) -> None:
    await prepared(mesh)
    router, first = mesh.router(), deadly(mesh)
    await publish(mesh, *(f"slow-{n}" for n in range(3)))
    await wait_begun(mesh, 3)
    first.kill()
    second = deadly(mesh)
    await wait_begun(mesh, 6)
    (mesh.folder / "release").touch()
    outcomes = await mesh.wait_outcomes(3)
    assert {one.status for one in outcomes.values()} == {"completed"}
    assert set(begun(mesh).values()) == {2}
    assert second.stop() == 0
    assert router.stop() == 0


async def test_a_task_of_a_cancelled_workflow_is_not_begun(mesh: MeshProcesses) -> None:
    await prepared(mesh)
    router = mesh.router()
    await publish(mesh, "one", "two", "killer")
    await wait_steps(mesh, 3)
    for name in ("job:one", "job:killer"):
        await mesh.cli("workflow", "cancel", name, "--reason", "not wanted")
    outcomes = await mesh.wait_outcomes(2)
    assert {one.status for one in outcomes.values()} == {"cancelled"}
    agent = deadly(mesh)
    await mesh.wait_outcomes(3)
    assert begun(mesh) == {"two": 1}
    assert agent.stop() == 0
    assert router.stop() == 0


async def test_a_handler_is_cut_short_when_its_workflow_is_cancelled(mesh: MeshProcesses) -> None:
    await prepared(mesh)
    router, agent = mesh.router(), deadly(mesh)
    await publish(mesh, "slow")
    await wait_begun(mesh, 1)
    await mesh.cli("workflow", "cancel", "job:slow", "--reason", "not wanted")

    async def is_withdrawn() -> bool:
        return '"task_withdrawn"' in agent.text()

    await mesh.wait_until("the handler is cut short", is_withdrawn)
    assert agent.stop() == 0
    assert router.stop() == 0


async def test_a_replica_that_was_stopped_does_no_finished_task_again(mesh: MeshProcesses) -> None:
    await prepared(mesh)
    router, stopped = mesh.router(), deadly(mesh)
    other = deadly(mesh)

    async def shared() -> bool:
        return bool(shares(stopped)) and bool(shares(other)) and len(shares(other)[-1]) < len(shares(stopped)[0])

    await mesh.wait_until("both have partitions", shared)
    mesh.freeze(stopped)
    names = [f"quick-{n}" for n in range(40)]
    await publish(mesh, *names)
    await mesh.wait_outcomes(len(names))
    stopped.thaw()
    await wait_share(mesh, stopped)
    await publish(mesh, *(f"late-{n}" for n in range(20)))
    await mesh.wait_outcomes(len(names) + 20)
    again = {name: count for name, count in begun(mesh).items() if count > 1}
    assert again == {}
    for process in (stopped, other, router):
        assert process.stop() == 0, process.text()[-3000:]


# What the tests do --------------------------------------------------------------------------------


async def prepared(mesh: MeshProcesses) -> None:
    (mesh.routes / "job.yaml").write_text(ROUTE)
    await mesh.make_topics("deadly")


def deadly(mesh: MeshProcesses) -> Process:
    process = mesh.agent("deadly_agents", DEADLY_FOLDER=str(mesh.folder))
    process.wait_started()
    return process


async def keep_alive(mesh: MeshProcesses, agents: list[Process]) -> None:
    """As a supervisor does: start another one whenever it has died."""
    while True:
        if not agents[-1].is_alive:
            agents.append(await asyncio.to_thread(deadly, mesh))
        await asyncio.sleep(0.05)


async def publish(mesh: MeshProcesses, *subjects: str) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.job", "source": "/jobs", "subject": name, "data": {}} for name in subjects]
        )


def begun(mesh: MeshProcesses) -> Counter[str]:
    """How often each task was begun, by its subject."""
    file = mesh.folder / "begun.txt"
    return Counter(line.split()[0] for line in file.read_text().splitlines()) if file.exists() else Counter()


async def wait_begun(mesh: MeshProcesses, count: int) -> None:
    async def enough() -> bool:
        return begun(mesh).total() >= count

    await mesh.wait_until(f"{count} begins", enough)


async def wait_steps(mesh: MeshProcesses, count: int) -> None:
    async def enough() -> bool:
        return bool((await mesh.json("status"))["steps"]["running"] == count)

    await mesh.wait_until(f"{count} tasks are out", enough)


async def wait_incidents(mesh: MeshProcesses, count: int) -> list[str]:
    async def enough() -> list[str] | None:
        found = [one["what"] for one in (await mesh.json("status"))["stuck"] if "agent_died" in one["what"]]
        return found if len(found) >= count else None

    return await mesh.wait_until(f"{count} incidents", enough)


def shares(process: Process) -> list[str]:
    """What this process was given, each time; a line each."""
    return [
        line.partition('"partitions":')[2] for line in process.text().splitlines() if '"partitions_assigned"' in line
    ]


async def wait_share(mesh: MeshProcesses, process: Process) -> None:
    """The replica that was away has taken part again."""

    async def again() -> bool:
        return len(shares(process)) >= 2 or '"membership_confirmed"' in process.text()

    await mesh.wait_until("the stopped replica is back", again)


def deaths(decisions: list[Decision], workflow: str) -> tuple[str, ...]:
    """The processes that died over the task of this workflow."""
    failed = [
        event
        for decision in decisions
        if decision.workflow_id == workflow
        for event in decision.events
        if isinstance(event, TaskFailed)
    ]
    return failed[-1].deaths if failed else ()

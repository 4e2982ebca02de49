"""An agent is stopped in the middle of a task and falls silent.

Another one does the task, long before the first one's group or time-out would bring that about.
"""

import json

import pytest
from log_checker import gather, read_topic
from mesh_processes import MeshProcesses, Process

from mesh.codec.tasks import decode_reply
from mesh.core.events import Decision, TaskFailed, TaskSucceeded
from mesh.core.inputs import SignReceived
from mesh.ports import Record

pytestmark = pytest.mark.slow

HEARTBEAT_S = 2
ROUTE = f"""\
route: slow
on: {{type: test.slow}}
key: ${{{{ event.subject }}}}
steps:
  work:
    agent: slow
    input: "${{{{ event.data }}}}"
    timeout: 20m
    start_timeout: 3s  # the next attempt may lie on a partition of the one that is stopped
    heartbeat: {HEARTBEAT_S}s
    retry: {{attempts: 100, backoff: 100ms, factor: 1}}
"""
SESSION_S = 300  # the group must not be what finds out


async def test_the_task_of_a_stopped_agent_is_done_by_the_other_once_its_heartbeat_is_missed(
    mesh: MeshProcesses,
) -> None:
    (mesh.routes / "slow.yaml").write_text(ROUTE)
    await mesh.make_topics("slow")
    router, agents = mesh.router(), await two_agents(mesh)
    async with await mesh.client() as client:
        await client.publish_all([{"type": "test.slow", "source": "/slow", "subject": "1", "data": {"n": 1}}])
    first = await begun(mesh, 0)
    stopped, other = (agents[name] for name in sorted(agents, key=lambda name: name != first.agent_instance))
    mesh.freeze(stopped)
    shares = assigned(other)
    second = await begun(mesh, first.attempt)
    assert second.agent_instance == name_of(agents, other)
    (mesh.folder / "release").touch()
    outcomes = await mesh.wait_outcomes(1)
    assert outcomes["slow:1"].status == "completed"
    assert assigned(other) == shares  # the group has not noticed
    stopped.thaw()
    for process in (*agents.values(), router):
        assert process.stop() == 0, process.text()[-3000:]

    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
        heard = [
            sign for sign in signs(await read_topic(broker, mesh.topics.results)) if sign[1].attempt == first.attempt
        ]
    assert evidence.findings == []
    decisions = [decision for _, _, decision in evidence.promises.effective]
    (silence,) = (one for one in decisions if failed(one, first.attempt))
    last_ms = max(speaks_for_ms(record, sign) for record, sign in heard if record.timestamp_ms < silence.at_ms)
    assert silence.cause.at_ms == last_ms + HEARTBEAT_S * 1000
    (done,) = (event for one in decisions for event in one.events if isinstance(event, TaskSucceeded))
    assert done.agent_instance == second.agent_instance


async def two_agents(mesh: MeshProcesses) -> dict[str, Process]:
    """Both hold partitions: by the name of their instance."""
    agents = {}
    for number in (1, 2):
        process = mesh.agent("moody_agents", SLOW_FOLDER=str(mesh.folder), MESH_SESSION_TIMEOUT_S=str(SESSION_S))
        process.wait_started()
        agents[f"moody_agents-{number}"] = process

    async def shared() -> bool:
        return all(any(assigned(process)) for process in agents.values())

    await mesh.wait_until("both have partitions", shared)
    return agents


def assigned(process: Process) -> list[list[int]]:
    """The shares of the slow agent's partitions that this process was ever given."""
    lines = [json.loads(line) for line in process.text().splitlines() if '"partitions_assigned"' in line]
    return [line["partitions"] for line in lines if line["agent"] == "slow"]


def name_of(agents: dict[str, Process], process: Process) -> str:
    return next(name for name, one in agents.items() if one is process)


async def begun(mesh: MeshProcesses, after: int) -> SignReceived:
    """The first sign of an attempt after this one."""
    async with mesh.broker() as broker:

        async def heard() -> SignReceived | None:
            found = signs(await read_topic(broker, mesh.topics.results))
            return next((sign for _, sign in found if sign.attempt > after), None)

        return await mesh.wait_until(f"a sign of an attempt after {after}", heard)


def signs(records: list[Record]) -> list[tuple[Record, SignReceived]]:
    replies = ((record, decode_reply(record)) for record in records)
    return [(record, reply) for record, reply in replies if isinstance(reply, SignReceived)]


def speaks_for_ms(record: Record, sign: SignReceived) -> int:
    """The time at which the agent was certainly alive.

    A first sign says how long ago the work began. By then that is one or two milliseconds on a busy
    machine.
    """
    return record.timestamp_ms if sign.status == "heartbeat" else record.timestamp_ms - int(sign.duration_ms)


def failed(decision: Decision, attempt: int) -> bool:
    return any(
        isinstance(event, TaskFailed) and (event.kind, event.attempt) == ("heartbeat_timeout", attempt)
        for event in decision.events
    )

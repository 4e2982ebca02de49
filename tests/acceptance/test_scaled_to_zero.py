"""Two agents have one capability, and both get work.

One that is killed gets none while the other lives. When both are scaled to zero, tasks wait for the
agents that they were given to.
"""

import pytest
from log_checker import gather, read_topic
from mesh_processes import MeshProcesses, Process

from mesh.codec.log import decode_log_record
from mesh.core.events import Decision, TaskDispatched

pytestmark = pytest.mark.slow

ROUTE = """\
route: translation
on: {type: test.text}
key: ${{ event.subject }}
steps:
  translate: {capability: translate, input: {text: "${{ event.data.text }}", to: de}, timeout: 10m}
output: ${{ steps.translate }}
"""
QUICK = "0.3"  # seconds between renewals of a card


def start_agent(mesh: MeshProcesses, name: str) -> Process:
    return mesh.agent("translating_agent", name=name, TRANSLATOR=name, MESH_CARD_INTERVAL_S=QUICK)


async def publish(mesh: MeshProcesses, subjects: list[str]) -> list[str]:
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"id": one, "type": "test.text", "source": "/texts", "subject": one, "data": {"text": f"text {one}"}}
                for one in subjects
            ]
        )
    return [f"translation:{one}" for one in subjects]


async def wait_dispatched(mesh: MeshProcesses, workflows: list[str]) -> dict[str, TaskDispatched]:
    async with mesh.broker() as broker:

        async def dispatched() -> dict[str, TaskDispatched] | None:
            records = [decode_log_record(record) for record in await read_topic(broker, mesh.topics.log)]
            found = {
                record.workflow_id: event
                for record in records
                if isinstance(record, Decision)
                for event in record.events
                if isinstance(event, TaskDispatched) and record.workflow_id in workflows
            }
            return found if found.keys() == set(workflows) else None

        return await mesh.wait_until("dispatches", dispatched)


async def wait_agents(mesh: MeshProcesses, **alive: int) -> None:
    """Wait until `mesh agents` shows these as registered, and this number of each alive."""

    async def as_wanted() -> bool:
        found = {one["name"]: one for one in (await mesh.json("agents"))["agents"]}
        shown = {name: one["alive"] for name, one in found.items() if one["capabilities"] == ["translate"]}
        return shown == alive

    await mesh.wait_until(f"agents {alive}", as_wanted)


async def test_a_capability_is_served_by_whoever_is_there_and_waits_for_who_is_not(mesh: MeshProcesses) -> None:
    (mesh.routes / "translation.yaml").write_text(ROUTE)
    await mesh.make_topics()
    deepl, llm = start_agent(mesh, "deepl"), start_agent(mesh, "llm")
    await wait_agents(mesh, deepl=1, llm=1)
    router = mesh.router()

    # Load spreads.
    first = await publish(mesh, [f"a{n}" for n in range(20)])
    outcomes = await mesh.wait_outcomes(20)
    assert {outcomes[name].output["by"] for name in first} == {"deepl", "llm"}
    assert all("alive, of 2" in one.reason for one in (await wait_dispatched(mesh, first)).values())

    # Killed: once its card has expired, the other gets all of it. What was given to it before
    # waits.
    deepl.kill()
    await wait_agents(mesh, deepl=0, llm=1)
    batches = 0

    async def all_by_the_other() -> bool:
        nonlocal batches
        batches += 1
        sent = await publish(mesh, [f"b{batches}-{n}" for n in range(10)])
        return {one.agent for one in (await wait_dispatched(mesh, sent)).values()} == {"llm"}

    await mesh.wait_until("the router to notice", all_by_the_other)

    # Both scaled to zero, and a router that has never seen either alive: tasks are dispatched all
    # the same, and say so.
    assert llm.stop() == 0
    assert router.stop() == 0
    await wait_agents(mesh, deepl=0, llm=0)
    mesh.router()
    waiting = await publish(mesh, [f"c{n}" for n in range(8)])
    given = await wait_dispatched(mesh, waiting)
    assert {one.agent for one in given.values()} == {"deepl", "llm"}
    assert all(f"{one.agent}, not alive, of 2" in one.reason for one in given.values())

    # One is started: it does what waits for it. Then the other.
    start_agent(mesh, "deepl")
    own = {name for name, one in given.items() if one.agent == "deepl"}
    everything = 20 + 10 * batches + len(waiting)
    rest = len(waiting) - len(own)
    outcomes = await mesh.wait_outcomes(everything - rest)
    assert own <= outcomes.keys()
    assert not (set(waiting) - own) & outcomes.keys()
    start_agent(mesh, "llm")
    outcomes = await mesh.wait_outcomes(everything)
    assert {one.status for one in outcomes.values()} == {"completed"}
    assert {name: outcomes[name].output["by"] for name in waiting} == {n: one.agent for n, one in given.items()}

    for process in mesh.processes:
        assert not process.is_alive or process.stop() == 0
    async with mesh.broker() as broker:
        assert (await gather(broker, mesh.topics)).findings == []


async def test_an_agent_that_is_forgotten_is_chosen_no_more_and_nobody_left_is_an_incident(mesh: MeshProcesses) -> None:
    (mesh.routes / "translation.yaml").write_text(ROUTE)
    await mesh.make_topics()
    agent = start_agent(mesh, "deepl")
    await wait_agents(mesh, deepl=1)
    assert "stop it first" in (await mesh.cli("agents", "forget", "deepl", code=2)).err
    assert agent.stop() == 0
    await mesh.cli("agents", "forget", "deepl")
    mesh.router()
    [name] = await publish(mesh, ["one"])

    async def stuck() -> str | None:
        incidents = (await mesh.json("status"))["incidents"]
        return str(incidents[0]["message"]) if incidents else None

    assert "no agent is registered for the capability translate" in await mesh.wait_until("an incident", stuck)
    start_agent(mesh, "llm")
    await wait_agents(mesh, llm=1)

    async def retried() -> bool:
        """The router may hear of the registration a moment after we do."""
        await mesh.cli("workflow", "retry", name, code=None)
        return not (await mesh.json("status"))["incidents"]

    await mesh.wait_until("the retry", retried)
    assert (await mesh.wait_outcomes(1))[name].output["by"] == "llm"

"""An input kills every router that reads it.

It is set aside, and all others come to their end.
"""

import sys

import pytest
from log_checker import read_topic
from mesh_processes import MeshProcesses, Process

from mesh.codec.dead_letters import DeadLetter, decode_dead_letter

pytestmark = pytest.mark.slow

LIVES = 6
ROUTE = 'route: order\non: {type: t.order}\nkey: "${{ event.subject }}"\nsteps: {done: {value: 1}}\n'


def router(mesh: MeshProcesses, life: int) -> Process:
    command = [sys.executable, "tests/dying_router.py", "router"]
    process = Process("router", command, mesh.env(MESH_INSTANCE=f"r{life}"), mesh.folder / f"router-{life}.log")
    mesh.processes.append(process)
    return process


async def test_an_event_that_kills_routers_is_set_aside_and_the_rest_goes_on(mesh: MeshProcesses) -> None:
    (mesh.routes / "order.yaml").write_text(ROUTE)
    await mesh.make_topics()
    client = await mesh.client()
    names = ["a", "b", "deadly-1", "c", "d", "deadly-2", "e"]
    # under one key, so that all of them are in one partition, behind each other
    await client.publish_all(
        [{"id": name, "source": "/t", "type": "t.order", "subject": name} for name in names], key="k"
    )
    await client.close()
    deaths, life = 0, router(mesh, 0)

    async def ended() -> bool:
        nonlocal deaths, life
        if not life.is_alive:
            deaths += 1
            assert deaths <= LIVES, mesh.logs()
            life = router(mesh, deaths)
        letters = await letters_of(mesh)
        return len(letters) == 2

    await mesh.wait_until("both are set aside", ended)
    outcomes = await mesh.wait_outcomes(5)
    assert set(outcomes) == {f"order:{name}" for name in names if not name.startswith("deadly")}
    assert [letter.code for letter in await letters_of(mesh)] == ["poison", "poison"]
    assert deaths == 5  # one with all of them under way, and two on each
    assert life.is_alive
    assert life.stop() == 0


async def letters_of(mesh: MeshProcesses) -> list[DeadLetter]:
    async with mesh.broker() as broker:
        return [decode_dead_letter(record) for record in await read_topic(broker, mesh.topics.dlq)]

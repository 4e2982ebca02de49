"""A gateway as a process: what it answered 202 to is on the broker, also when it is killed."""

import asyncio
import json
from typing import Any

import httpx
from mesh_processes import WAIT_S, MeshProcesses, Process

from mesh.ports import TopicPartition

STRUCTURED = {"content-type": "application/cloudevents+json"}
SENDERS = 8


def event(sender: int, number: int) -> dict[str, Any]:
    return {"specversion": "1.0", "id": f"{sender}-{number}", "source": "/s", "type": "t", "data": {"n": number}}


async def address_of(mesh: MeshProcesses, gateway: Process) -> str:
    async def told() -> str | None:
        assert gateway.is_alive, gateway.text()
        for line in gateway.text().splitlines():
            if "gateway_listens" in line:
                return str(json.loads(line)["address"])
        return None

    return await mesh.wait_until("the gateway listens", told)


async def send_until_it_is_gone(address: str, sender: int, accepted: set[str]) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=WAIT_S) as client:
        for number in range(100_000):
            try:
                answer = await client.post("/events", json=event(sender, number), headers=STRUCTURED)
            except httpx.TransportError:
                return
            assert answer.status_code == 202, answer.text
            accepted.add(f"{sender}-{number}")


async def ids_on_the_topic(mesh: MeshProcesses) -> set[str]:
    async with mesh.broker() as broker:
        info = (await broker.topics())[mesh.topics.events]
        partitions = [TopicPartition(mesh.topics.events, number) for number in range(info.partitions)]
        ends, reader = await broker.end_offsets(partitions), await broker.reader()
        reader.assign(dict.fromkeys(partitions, 0))
        found = set[str]()
        while any((reader.position(one) or 0) < ends[one] for one in partitions):
            for record in await reader.poll(max_records=10_000, timeout_s=0.5):
                found.add(dict(record.headers)["ce_id"].decode())
        await reader.close()
        return found


async def test_nothing_that_was_accepted_is_lost_when_the_gateway_is_killed(mesh: MeshProcesses) -> None:
    await mesh.make_topics()
    gateway = mesh.gateway()
    accepted = set[str]()
    sending = [
        asyncio.create_task(send_until_it_is_gone(address, sender, accepted))
        for address in [await address_of(mesh, gateway)]
        for sender in range(SENDERS)
    ]

    async def enough() -> bool:
        for one in sending:
            if one.done():
                one.result()
        return len(accepted) >= 200

    await mesh.wait_until("events are accepted", enough)
    gateway.kill()
    await asyncio.gather(*sending)
    assert accepted <= await ids_on_the_topic(mesh)


async def test_a_stop_ends_what_is_under_way_and_health_says_that_it_was_alive(sqlite_mesh: MeshProcesses) -> None:
    await sqlite_mesh.make_topics()
    gateway = sqlite_mesh.gateway()
    address = await address_of(sqlite_mesh, gateway)
    async with httpx.AsyncClient(base_url=address, timeout=WAIT_S) as client:
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
        assert (await client.post("/events", json=event(0, 0), headers=STRUCTURED)).status_code == 202
    assert gateway.stop() == 0, gateway.text()
    assert await ids_on_the_topic(sqlite_mesh) == {"0-0"}

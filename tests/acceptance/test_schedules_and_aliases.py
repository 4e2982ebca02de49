"""Schedules and aliases on real processes.

There are two routers, and one of them is killed while claims and events are on their way. Each time
starts one workflow, and every event finds its own, whichever comes first.
"""

import pytest
from log_checker import gather
from mesh_processes import MeshProcesses

from mesh.core.events import EventReceived, ScheduleFired

pytestmark = pytest.mark.slow

COUNT = 12
ROUTES = """\
route: payment
on: {type: test.ordered}
key: ${{ event.subject }}
steps:
  charge: {agent: moody, input: "${{ event.data }}", alias: "pay-${{ steps.charge.n }}"}
  settled: {needs: charge, wait: {event: test.settled, alias: charge, key: "${{ event.data.payment }}", timeout: 5m, on_timeout: fail}}
output: ${{ steps.settled.data.payment }}
---
route: minutely
on: {schedule: "* * * * *", timezone: Europe/Berlin}
steps:
  work: {agent: moody, input: {n: "${{ event.data.late_s }}"}}
output: ${{ event.data.scheduled_at }}
"""


def settled(n: int) -> dict[str, object]:
    return {"type": "test.settled", "source": "/bank", "id": f"s{n}", "data": {"payment": f"pay-{n}"}}


async def test_every_event_finds_its_workflow_and_each_time_starts_one_though_a_router_is_killed(
    mesh: MeshProcesses,
) -> None:
    (mesh.routes / "payments.yaml").write_text(ROUTES)
    await mesh.make_topics("moody")
    doomed, agent = mesh.router("doomed"), mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    mesh.router("other")
    doomed.wait_started()
    agent.wait_started()
    orders = [
        {"type": "test.ordered", "source": "/shop", "id": f"e{n}", "subject": str(n), "data": {"n": n}}
        for n in range(COUNT)
    ]
    async with await mesh.client() as client:
        await client.publish_all([settled(n) for n in range(0, COUNT, 2)])  # before their orders
        await client.publish_all(orders)
    await mesh.wait_outcomes(1)
    doomed.kill()
    async with await mesh.client() as client:
        await client.publish_all([settled(n) for n in range(1, COUNT, 2)])
    outcomes = await mesh.wait_outcomes(COUNT + 1)
    while not COUNT <= sum(name.startswith("payment:") for name in outcomes) < len(outcomes):
        outcomes = await mesh.wait_outcomes(len(outcomes) + 1)  # minutes go by beside the payments

    assert {name: one.output for name, one in outcomes.items() if name.startswith("payment:")} == {
        f"payment:{n}": f"pay-{n}" for n in range(COUNT)
    }
    started = {name: one.output for name, one in outcomes.items() if name.startswith("minutely:")}
    assert started == {f"minutely:{time}": time for time in started.values()}
    shown = await mesh.json("workflow", "mesh.schedule:minutely")
    assert shown["workflow"]["plan"]["schedule"] == {"cron": "* * * * *", "timezone": "Europe/Berlin"}
    listed = await mesh.json("workflows", "--all")
    assert "mesh.schedule:minutely" in {row["workflow_id"] for row in listed["workflows"]}
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []
    events = [event for _, _, decision in evidence.promises.effective for event in decision.events]
    assert sum(isinstance(event, EventReceived) for event in events) == COUNT
    times = [event.key for event in events if isinstance(event, ScheduleFired)]
    assert sorted(times) == sorted(set(times))
    assert {time for time in times if f"minutely:{time}" in started} == set(started.values())

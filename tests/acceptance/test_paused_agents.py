"""An agent and a route are paused on real processes, and the router dies while they are."""

from typing import Any

import pytest
from log_checker import gather
from mesh_processes import MeshProcesses

from mesh.core.events import TaskDispatched

pytestmark = pytest.mark.slow

COUNT = 6
ROUTES = """\
route: {name}
on: {{type: test.{name}}}
key: ${{{{ event.subject }}}}
steps:
  draft: {{agent: drafter, input: "${{{{ event.data }}}}"}}
  work: {{needs: draft, agent: moody, input: "${{{{ event.data }}}}"}}
"""


async def test_what_pauses_hold_goes_on_once_although_the_router_died(mesh: MeshProcesses) -> None:
    for name in ("one", "two"):
        (mesh.routes / f"{name}.yaml").write_text(ROUTES.format(name=name))
    await mesh.make_topics("moody", "drafter")
    router = mesh.router("doomed")
    mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder)).wait_started()
    router.wait_started()
    refused = await mesh.cli("agents", "pause", "modoy", "--why", "a slip", code=3)
    assert "mesh agents" in refused.err
    paused = await mesh.json("agents", "pause", "moody", "--why", "its supplier is down")
    assert (paused["status"], paused["partitions"]) == ("accepted", paused["of"])
    await mesh.json("routes", "pause", "two", "--why", "the rules are wrong")

    async with await mesh.client() as client:
        about = [(name, n) for name in ("one", "two") for n in range(COUNT)]
        await client.publish_all(
            [{"type": f"test.{name}", "source": "/t", "subject": str(n), "data": {"n": n}} for name, n in about]
        )

    async def held() -> Any:
        found = (await mesh.json("workflows", "list"))["workflows"]
        steps = (await mesh.json("status"))["steps"]
        return found if len(found) == 2 * COUNT and steps["held"] == COUNT else None

    await mesh.wait_until("all that can be held is held", held)
    router.kill()
    mesh.router("next").wait_started()

    [agent] = [one for one in (await mesh.json("agents"))["agents"] if one["name"] == "moody"]
    assert agent["paused"]["reason"] == "its supplier is down"
    assert "agent moody is paused by" in (await mesh.cli("status", code=None)).out.decode()
    assert "route two is paused by" in (await mesh.cli("routes", "list")).out.decode()
    shown = (await mesh.cli("workflows", "show", "one:0")).out.decode()
    assert "agent moody is paused by" in shown
    assert (await mesh.json("agents", "resume", "moody"))["status"] == "accepted"
    assert {name.partition(":")[0] for name in await mesh.wait_outcomes(COUNT)} == {"one"}
    await mesh.json("routes", "resume", "two")
    outcomes = await mesh.wait_outcomes(2 * COUNT)
    assert {one.status for one in outcomes.values()} == {"completed"}
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []
    sent = [
        event for _, _, one in evidence.promises.effective for event in one.events if isinstance(event, TaskDispatched)
    ]
    assert len(sent) == 4 * COUNT

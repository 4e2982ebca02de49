"""One command for many workflows on real processes: the command dies, and so does the router.

`MESH_BULK_WORKFLOWS=10000` is for the many of docs/operating.md.
"""

import os
from collections import Counter
from typing import Any

import pytest
from log_checker import gather
from mesh_processes import MeshProcesses, Process

from mesh.core.events import CommandAccepted, WorkflowForked

pytestmark = pytest.mark.slow

MANY = int(os.environ.get("MESH_BULK_WORKFLOWS", "2000"))
PATIENCE_S = 60.0 + MANY / 20  # the machine may be busy
FEW = 200  # on Kafka: there the brokers of other tests run, too
ROUTES = """\
route: hasty
on: {type: test.hasty}
key: ${{ event.subject }}
steps:
  work: {agent: moody, input: "${{ event.data }}", retry: {attempts: 1}}
  after: {needs: work, agent: moody, input: "${{ steps.work }}"}
"""


async def incidents(mesh: MeshProcesses, count: int) -> list[dict[str, Any]]:
    async def enough() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = (await mesh.json("incidents"))["causes"]
        return found if sum(cause["workflows"] for cause in found) >= count else None

    return await mesh.wait_until(f"{count} incidents", enough, timeout_s=PATIENCE_S)


async def begin(mesh: MeshProcesses, count: int) -> Process:
    """A router, and as many workflows."""
    (mesh.routes / "hasty.yaml").write_text(ROUTES)
    await mesh.make_topics("moody")
    router = mesh.router("doomed")
    router.wait_started()
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.hasty", "source": "/t", "subject": str(n), "data": {"n": n}} for n in range(count)]
        )
    return router


async def order_and_kill(mesh: MeshProcesses, router: Process, count: int, *order: str) -> Any:
    """Order it of many. When a part is done, the command and the router die. Gives the results."""
    command = mesh.command("order", "workflows", *order, "--why", "it is back", "--yes")

    async def half() -> str | None:
        found = (await mesh.json("operations", "list"))["operations"]
        is_half = found and count // 4 <= found[0]["counts"]["done"]
        return str(found[0]["id"]) if is_half else None

    operation = await mesh.wait_until("a part of it is done", half, timeout_s=PATIENCE_S)
    command.kill()
    router.kill()
    mesh.router("next").wait_started()

    async def finished() -> Any:
        shown = await mesh.json("operations", "show", operation)
        return shown if shown["operation"]["status"] != "running" else None

    shown = await mesh.wait_until("all of it is done", finished, timeout_s=PATIENCE_S)
    assert shown["operation"]["counts"] == {"done": count, "refused": 0, "waiting": 0, "not sent": 0}
    return shown


async def test_a_bulk_retry_is_done_once_although_the_command_and_the_router_die(mesh: MeshProcesses) -> None:
    count = MANY if mesh.broker_url.startswith("sqlite") else FEW
    bad = mesh.agent("moody_agents", SLOW_FOLDER=str(mesh.folder))
    router = await begin(mesh, count)
    [cause] = await incidents(mesh, count)
    bad.stop()
    mesh.agent("moody_agents", name="good", MOOD="good", SLOW_FOLDER=str(mesh.folder)).wait_started()
    preview = await mesh.json("workflows", "retry", "--cause", cause["cause"], "--dry-run")
    assert (preview["total"], preview["kinds"]) == (count, [{"route": "hasty", "step": "work", "workflows": count}])
    await order_and_kill(mesh, router, count, "retry", "--cause", cause["cause"], "--rate", str(max(20, count // 4)))
    outcomes = await mesh.wait_outcomes(count, timeout_s=PATIENCE_S)
    assert {one.status for one in outcomes.values()} == {"completed"}
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []
    # whatever was sent again, each workflow obeyed once
    obeyed = Counter(
        decision.workflow_id
        for _, _, decision in evidence.promises.effective
        for event in decision.events
        if isinstance(event, CommandAccepted)
    )
    assert obeyed == dict.fromkeys(outcomes, 1)


async def test_a_bulk_fork_begins_each_run_once_although_the_command_and_the_router_die(
    sqlite_mesh: MeshProcesses,
) -> None:
    mesh, count = sqlite_mesh, 60
    mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    router = await begin(mesh, count)
    await mesh.wait_outcomes(count)
    order = ("fork", "--route", "hasty", "--status", "completed", "--from", "after")
    shown = await order_and_kill(mesh, router, count, *order, "--rate", "20")
    into = {one["workflow_id"]: one["into"] for one in shown["workflows"]}
    outcomes = await mesh.wait_outcomes(2 * count)
    assert {one.status for one in outcomes.values()} == {"completed"}
    assert outcomes.keys() == into.keys() | set(into.values())
    await mesh.wait_settled()
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []
    noted = [
        (decision.workflow_id, event.into)
        for _, _, decision in evidence.promises.effective
        for event in decision.events
        if isinstance(event, WorkflowForked) and event.into
    ]
    assert sorted(noted) == sorted(into.items())
    # ordered again there is nothing left to do
    again = await mesh.cli("workflows", *order, "--why", "again", "--yes", code=3)
    assert "forked from after before" in again.err

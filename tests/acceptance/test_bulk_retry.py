"""One command for many workflows on real processes: the command dies, and so does the router."""

import os
from collections import Counter
from typing import Any

import pytest
from log_checker import gather
from mesh_processes import MeshProcesses

from mesh.core.events import CommandAccepted

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("MESH_BULK_WORKFLOWS", "2000"))
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

    return await mesh.wait_until(f"{count} incidents", enough)


async def test_a_bulk_retry_is_done_once_although_the_command_and_the_router_die(mesh: MeshProcesses) -> None:
    await retry_all(mesh, COUNT, rate=500)


async def retry_all(mesh: MeshProcesses, count: int, *, rate: int) -> None:
    (mesh.routes / "hasty.yaml").write_text(ROUTES)
    await mesh.make_topics("moody")
    router, bad = mesh.router("doomed"), mesh.agent("moody_agents", SLOW_FOLDER=str(mesh.folder))
    router.wait_started()
    bad.wait_started()
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.hasty", "source": "/t", "subject": str(n), "data": {"n": n}} for n in range(count)]
        )
    [cause] = await incidents(mesh, count)
    bad.stop()
    mesh.agent("moody_agents", name="good", MOOD="good", SLOW_FOLDER=str(mesh.folder)).wait_started()

    preview = await mesh.json("workflows", "retry", "--cause", cause["cause"], "--dry-run")
    assert (preview["total"], preview["kinds"]) == (count, [{"route": "hasty", "step": "work", "workflows": count}])
    order = ["workflows", "retry", "--cause", cause["cause"], "--why", "it is back", "--rate", str(rate), "--yes"]
    command = mesh.command("retry", *order)

    async def half() -> str | None:
        found = (await mesh.json("operations", "list"))["operations"]
        is_half = found and count // 4 <= found[0]["counts"]["done"]
        return str(found[0]["id"]) if is_half else None

    operation = await mesh.wait_until("a part of it is done", half)
    command.kill()
    router.kill()
    mesh.router("next").wait_started()

    async def finished() -> Any:
        shown = await mesh.json("operations", "show", operation)
        return shown if shown["operation"]["status"] != "running" else None

    shown = await mesh.wait_until("all of it is done", finished)
    assert shown["operation"]["counts"] == {"done": count, "refused": 0, "waiting": 0, "not sent": 0}
    outcomes = await mesh.wait_outcomes(count)
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

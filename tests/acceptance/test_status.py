"""`mesh status` on real processes: a dead router shows, and what lives and works does not."""

from typing import Any

import pytest
from mesh_processes import MeshProcesses, Process

pytestmark = pytest.mark.slow

QUICK_CARDS = {"MESH_CARD_INTERVAL_S": "2"}  # a router that is not heard of for 6 s is gone
PATIENCE_MS = 10_000  # of status, before it says that something waits
ROUTE = """\
route: slow
on: {type: test.slow}
key: ${{ event.subject }}
steps:
  work: {agent: slow, input: "${{ event.data }}", timeout: 5m, heartbeat: 30s}
"""
OTHER = ROUTE.replace("timeout: 5m", "timeout: 6m")


async def stuck(mesh: MeshProcesses) -> list[str]:
    return [f"{one['severity']}: {one['what']}" for one in (await mesh.json("status"))["stuck"]]


async def wait_alive(mesh: MeshProcesses, router: Process) -> None:
    """Wait until the router has every partition, and its card says that it lives."""

    async def alive() -> bool:
        status = await mesh.json("status")
        living = {one["instance"] for one in status["routers"] if one["state"] == "alive"}
        return bool(status["partitions"]) and {one["owner"] for one in status["partitions"]} <= living

    router.wait_started()
    await mesh.wait_until("a router that owns all partitions", alive)


async def test_a_router_that_is_killed_shows_although_nothing_is_unread(mesh: MeshProcesses) -> None:
    (mesh.routes / "slow.yaml").write_text(ROUTE)
    await mesh.make_topics("slow")
    router = mesh.router(**QUICK_CARDS)
    await wait_alive(mesh, router)
    assert await stuck(mesh) == []

    router.kill()

    async def seen() -> bool:
        return any("no router is alive: router-0" in one for one in await stuck(mesh))

    await mesh.wait_until("that the death is seen", seen)
    [one] = await stuck(mesh)
    assert one.startswith("error: ")

    second = mesh.router(**QUICK_CARDS)
    await wait_alive(mesh, second)
    assert await stuck(mesh) == []
    assert second.stop() == 0, second.text()[-3000:]
    [stopped] = await stuck(mesh)
    assert stopped.startswith("warning: no router is alive: router-1 stopped ")


async def test_another_router_takes_over_and_the_dead_one_is_no_alarm(sqlite_mesh: MeshProcesses) -> None:
    mesh = sqlite_mesh
    (mesh.routes / "slow.yaml").write_text(ROUTE)
    await mesh.make_topics("slow")
    first, second = mesh.router(**QUICK_CARDS), mesh.router(**QUICK_CARDS)
    await wait_alive(mesh, first)
    second.wait_started()
    first.kill()

    async def taken_over() -> bool:
        return {one["owner"] for one in (await mesh.json("status"))["partitions"]} == {"router-1"}

    await mesh.wait_until("that the other router owns all partitions", taken_over)
    await wait_alive(mesh, second)
    assert await stuck(mesh) == []


async def test_a_long_task_with_signs_of_life_and_a_cancelled_one_beside_it_are_not_stuck(
    sqlite_mesh: MeshProcesses,
) -> None:
    mesh = sqlite_mesh
    (mesh.routes / "slow.yaml").write_text(ROUTE)
    await mesh.make_topics("slow")
    router, agent = mesh.router(), mesh.agent("slow_agents", SLOW_FOLDER=str(mesh.folder))
    router.wait_started()
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.slow", "source": "/s", "subject": str(n), "data": {"n": n}} for n in range(2)]
        )

    async def running(count: int) -> bool:
        return bool((await mesh.json("status"))["steps"]["running"] == count)

    await mesh.wait_until("both are under way", lambda: running(2))
    await mesh.cli("workflows", "cancel", "slow:1", "--reason", "not wanted")
    said: list[Any] = []

    async def has_taken_long() -> bool:
        status = await mesh.json("status")
        said.extend(status["stuck"])
        return await _age_ms(mesh, status) > PATIENCE_MS + 2_000

    await mesh.wait_until("the task has taken long", has_taken_long)
    assert said == []
    (mesh.folder / "release").touch()
    await mesh.wait_outcomes(2)
    assert (router.is_alive, agent.is_alive) == (True, True)
    assert await stuck(mesh) == []


async def _age_ms(mesh: MeshProcesses, status: Any) -> float:
    """For how long the oldest task is under way."""
    from mesh.codec.times import parse_rfc3339  # noqa: PLC0415 - the one place that needs it

    [since] = [one["oldest_running_since"] for one in status["agents"] if one["name"] == "slow"]
    return parse_rfc3339(status["at"]) - parse_rfc3339(since)


async def test_two_routers_with_other_files_are_both_told(sqlite_mesh: MeshProcesses) -> None:
    mesh = sqlite_mesh
    (mesh.routes / "slow.yaml").write_text(ROUTE)
    other = mesh.folder / "other"
    other.mkdir()
    (other / "slow.yaml").write_text(OTHER)
    await mesh.make_topics("slow")
    first = mesh.router()
    first.wait_started()
    second = mesh.router(MESH_ROUTES=str(other))
    second.wait_started()
    assert "file_replaces_active_route" in second.text()
    assert "router router-0" in second.text()

    async def told() -> bool:
        return "route_of_our_files_replaced" in first.text()

    await mesh.wait_until("the first one is told", told)
    assert "router router-1" in first.text()
    assert "file_replaces_active_route" not in first.text()


async def test_a_router_does_not_start_on_routes_that_can_not_work_unless_it_is_forced(
    sqlite_mesh: MeshProcesses,
) -> None:
    mesh = sqlite_mesh
    (mesh.routes / "slow.yaml").write_text(ROUTE + '  more: {needs: work, agent: slow, input: 1, if: "1 / 0 == 1"}\n')
    await mesh.make_topics("slow")
    for command in (("router",), ("dev",)):
        ran = await mesh.cli(*command, code=2)
        assert "slow.yaml:6: step more: its if always fails" in ran.err
        assert "nothing is started" in ran.err
        assert "Traceback" not in ran.err
    forced = mesh._start("forced", ["router", "--force"], {})
    forced.wait_started()
    assert forced.stop() == 0, forced.text()[-3000:]

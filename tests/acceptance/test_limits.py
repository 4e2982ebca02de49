"""Limits on real processes: two routers, one of which is killed, and two processes of each agent.

Never more tasks overlap than a limit, or an agent's card, allows.
"""

from pathlib import Path

import pytest
from log_checker import check_inputs, gather
from mesh_processes import MeshProcesses

pytestmark = pytest.mark.slow

COUNT = 10
ROUTES = """\
route: many
on: {type: test.many}
key: ${{ event.subject }}
limits: {few: {concurrency: 3}}
priority: ${{ event.data.n }}
steps:
  limited: {agent: slow, input: "${{ event.data }}", limit: few, timeout: 5m}
  each:    {for_each: [1, 2], agent: picky, input: {n: "${{ item }}"}, timeout: 5m}
---
route: more
on: {type: test.more}
key: ${{ event.subject }}
limits: {few: {concurrency: 3}}
steps:
  too: {agent: slow, input: "${{ event.data }}", limit: few, timeout: 5m}
"""


def overlap(log: Path) -> tuple[int, int]:
    """How many attempts were under way at once, at the most; and how many there were.

    What a new owner sent again, and an agent did again, is the same attempt: its first end counts.
    """
    under_way, seen, most = set[str](), set[str](), 0
    for line in log.read_text().splitlines():
        what, _, attempt = line.partition(" ")
        if what == "end":
            under_way.discard(attempt)
        elif attempt not in seen:
            under_way.add(attempt)
        seen.add(attempt)
        most = max(most, len(under_way))
    return most, len(seen)


async def test_never_more_tasks_overlap_than_allowed_though_a_router_is_killed(mesh: MeshProcesses) -> None:
    (mesh.routes / "limits.yaml").write_text(ROUTES)
    (mesh.folder / "release").touch()
    await mesh.make_topics("slow", "picky")
    options = {"SLOW_FOLDER": str(mesh.folder), "SLOW_S": "0.1"}

    async def cards() -> bool | None:
        """A router that has not seen an agent's card can't know of its limit."""
        found = await mesh.json("agents")
        return {"slow", "picky"} <= {one["name"] for one in found["agents"]} or None

    agents = [mesh.agent("moody_agents", name=f"agents-{n}", **options) for n in range(2)]
    for agent in agents:
        agent.wait_started()
    await mesh.wait_until("the agents' cards", cards)
    doomed = mesh.router("doomed")
    mesh.router("other")
    doomed.wait_started()
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"type": f"test.{kind}", "source": "/limits", "id": f"{kind}{n}", "subject": str(n), "data": {"n": n}}
                for n in range(COUNT)
                for kind in ("many", "more")
            ]
        )
    await mesh.wait_outcomes(3)
    doomed.kill()
    outcomes = await mesh.wait_outcomes(2 * COUNT)
    assert {one.status for one in outcomes.values()} == {"completed"}
    assert overlap(mesh.folder / "slow.log") == (3, 2 * COUNT)
    assert overlap(mesh.folder / "picky.log") == (2, 2 * COUNT)
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    check_inputs(evidence, [f"{kind}:{n}" for n in range(COUNT) for kind in ("many", "more")])
    assert evidence.findings == []
    assert evidence.promises.counts["slots granted"] >= 4 * COUNT

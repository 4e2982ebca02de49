"""Workflows that call others, on real processes.

There are two routers, and one of them is killed while calls are on their way. Every call counts
once, across partitions.
"""

import pytest
from log_checker import check_inputs, gather
from mesh_processes import MeshProcesses

from mesh.core import ids

pytestmark = pytest.mark.slow

COUNT = 12
ROUTES = """\
route: parent
on: {type: test.parent}
key: ${{ event.subject }}
steps:
  left: {workflow: child, input: {n: "${{ event.data.n }}"}}
  right: {workflow: child, input: {n: "${{ event.data.n + 100 }}"}, timeout: 5m}
  last: {needs: [left, right], agent: moody, input: {n: "${{ steps.left.n + steps.right.n }}"}}
output: ${{ steps.last.n }}
---
route: child
steps:
  work: {agent: moody, input: "${{ event.data }}"}
output: ${{ steps.work }}
"""


def workflows() -> list[str]:
    """All that must come to be: each parent, and the two that it calls."""
    found = []
    for n in range(COUNT):
        parent, run = f"parent:{n}", ids.run_id("/calls", f"e{n}")
        found += [parent, *(f"child:{ids.task_id(parent, run, step)}" for step in ("left", "right"))]
    return found


async def test_each_call_counts_once_though_a_router_is_killed(mesh: MeshProcesses) -> None:
    (mesh.routes / "calls.yaml").write_text(ROUTES)
    await mesh.make_topics("moody")
    doomed, agent = mesh.router("doomed"), mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    mesh.router("other")
    doomed.wait_started()
    agent.wait_started()
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"type": "test.parent", "source": "/calls", "id": f"e{n}", "subject": str(n), "data": {"n": n}}
                for n in range(COUNT)
            ]
        )
    await mesh.wait_outcomes(1)
    doomed.kill()
    outcomes = await mesh.wait_outcomes(3 * COUNT)
    assert {name: one.output for name, one in outcomes.items() if name.startswith("parent:")} == {
        f"parent:{n}": 2 * n + 100 for n in range(COUNT)
    }
    shown = await mesh.json("workflow", "parent:3")
    assert {name: one["status"] for name, one in shown["workflow"]["steps"].items()} == dict.fromkeys(
        ("left", "right", "last"), "succeeded"
    )
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    check_inputs(evidence, workflows())
    assert evidence.findings == []
    assert evidence.promises.counts["calls"] == 2 * COUNT

"""Rules that ran on real processes, looked at with `mesh routes`.

Replayed under the same rules, they decide the same. Under others, the replay shows where they
don't.
"""

from pathlib import Path

import pytest
from mesh_processes import MeshProcesses

pytestmark = pytest.mark.slow

COUNT = 6
ROUTE = """\
route: orders
on: {type: test.order}
key: ${{ event.subject }}
steps:
  work: {agent: moody, input: "${{ event.data }}", retry: {attempts: 2, backoff: 100ms}}
  draft: {needs: work, agent: drafter, input: "${{ steps.work }}", if: steps.work.n > 2}
"""


async def test_recorded_workflows_replay_as_they_ran(sqlite_mesh: MeshProcesses, tmp_path: Path) -> None:
    mesh = sqlite_mesh
    file = mesh.routes / "orders.yaml"
    file.write_text(ROUTE)
    await mesh.make_topics("moody", "drafter")
    mesh.router()
    mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.order", "source": "/shop", "subject": str(n), "data": {"n": n}} for n in range(COUNT)]
        )
    outcomes = await mesh.wait_outcomes(COUNT)
    assert {one.status for one in outcomes.values()} == {"completed"}

    [version] = (await mesh.json("routes", "list"))["versions"]
    assert (version["route"], version["in_use"], version["running"], version["ended"]) == ("orders", True, 0, COUNT)
    assert (await mesh.json("routes", "diff", file))["compared"][0]["changes"] == []
    checked = await mesh.json("routes", "check", file, "--online")
    assert (checked["agents_checked"], checked["findings"]) == (True, [])
    same = await mesh.json("routes", "replay", file, "--since", "1h")
    assert same["counts"] == {"differs": 0, "unknown": 0, "same": COUNT}

    changed = tmp_path / "changed.yaml"
    changed.write_text(ROUTE.replace("n > 2", "n > 1"))
    found = await mesh.json("routes", "replay", changed)
    assert found["counts"] == {"differs": 1, "unknown": 0, "same": COUNT - 1}
    [one] = [one for one in found["workflows"] if one["verdict"] == "differs"]
    assert (one["workflow_id"], one["after"], one["unknown"]) == (
        "orders:2",
        None,
        [{"step": "draft", "why": "it never ran"}],
    )
    [picture] = (await mesh.json("routes", "graph", "orders:2"))["graphs"]
    assert "skipped" in picture["mermaid"]

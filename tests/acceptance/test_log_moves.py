"""A whole mesh moves from Kafka to SQLite with its log, and its workflows go on there."""

from pathlib import Path

import pytest
from mesh_processes import MeshProcesses, mesh_processes

from infra.kafka.kafka import KafkaProcess

COUNT = 3
ROUTE = """\
route: orders
on: {type: test.order}
key: ${{ event.subject }}
steps:
  work: {agent: moody, input: "${{ event.data }}"}
  review: {needs: work, approval: {ask: "Pay?", role: lead, payload: "${{ steps.work }}", deadline: 1h}}
  pay: {needs: review, agent: drafter, input: "${{ steps.review.payload }}"}
"""


@pytest.mark.kafka
async def test_a_mesh_moves_from_kafka_to_sqlite_and_goes_on(
    kafka: KafkaProcess, kafka_prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "log.gz"
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path / "old", prefix=kafka_prefix) as old:
        await begin(old)
        before = await old.json("log", "verify")
        await old.cli("log", "export", file)
    with mesh_processes(f"sqlite://{tmp_path}/mesh.db", tmp_path / "new", prefix=kafka_prefix) as new:
        prepare(new)
        await new.cli("log", "import", file)
        assert (await new.json("log", "verify"))["workflows"] == before["workflows"]
        # the second time there is nothing left to do
        await new.cli("log", "import", file)
        await finish(new)


def prepare(mesh: MeshProcesses) -> None:
    (mesh.routes / "orders.yaml").write_text(ROUTE)
    mesh.approvers.write_text("lead: [ana]\n")


async def begin(mesh: MeshProcesses) -> None:
    """Each workflow waits for an answer, and its task has not been taken by any agent that died."""
    prepare(mesh)
    await mesh.make_topics("moody", "drafter")
    router = mesh.router()
    agent = mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.order", "source": "/shop", "subject": str(n), "data": {"n": n}} for n in range(COUNT)]
        )

    async def asked() -> bool:
        return len((await mesh.json("approvals", "list"))["approvals"]) == COUNT

    await mesh.wait_until("everybody is asked", asked)
    agent.stop()
    router.stop()


async def finish(mesh: MeshProcesses) -> None:
    mesh.router()
    mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    for one in (await mesh.json("approvals", "list"))["approvals"]:
        await mesh.cli("approvals", "approve", one["approval_id"], "--by", "ana")
    outcomes = await mesh.wait_outcomes(COUNT)
    assert {one.status for one in outcomes.values()} == {"completed"}
    # what comes from now on is read from the new topics' begin
    async with await mesh.client() as client:
        await client.publish_all([{"type": "test.order", "source": "/shop", "subject": "new", "data": {"n": 9}}])

    async def asked() -> bool:
        return len((await mesh.json("approvals", "list"))["approvals"]) == 1

    await mesh.wait_until("the new one is asked", asked)

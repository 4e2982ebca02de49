"""A whole mesh moves from Kafka to SQLite with its log, and its workflows go on there."""

from pathlib import Path

import pytest
from mesh_processes import MeshProcesses, Process, mesh_processes

from infra.kafka.kafka import KafkaProcess

COUNT = 2
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
    file, digests = tmp_path / "log.gz", tmp_path / "digests.json"
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path / "old", prefix=kafka_prefix) as old:
        await begin(old)
        digests.write_bytes((await old.cli("log", "verify", "--json")).out)
        await old.cli("log", "export", file)
    with mesh_processes(f"sqlite://{tmp_path}/mesh.db", tmp_path / "new", prefix=kafka_prefix) as new:
        prepare(new)
        await new.cli("log", "import", file)
        await new.cli("log", "verify", "--against", digests)
        await finish(new)


def prepare(mesh: MeshProcesses) -> None:
    (mesh.routes / "orders.yaml").write_text(ROUTE)
    mesh.approvers.write_text("lead: [ana]\n")


async def begin(mesh: MeshProcesses) -> None:
    """Each workflow waits for an answer. Its next agent has never been needed."""
    prepare(mesh)
    await mesh.make_topics("moody", "drafter")
    router, agent = mesh.router(), moody(mesh)
    await publish(mesh, *map(str, range(COUNT)))
    await wait_asked(mesh, COUNT)
    agent.stop()
    # an answer that came twice is decided on, too
    await mesh.wait_settled()
    router.stop()


async def finish(mesh: MeshProcesses) -> None:
    # its routes are in effect from then on
    mesh.router().wait_started()
    for one in await asked(mesh):
        await mesh.cli("approvals", "approve", one["approval_id"], "--by", "ana")
    # tasks for an agent that nobody has started yet wait for it
    await wait_asked(mesh, 0)
    moody(mesh)
    outcomes = await mesh.wait_outcomes(COUNT)
    assert {one.status for one in outcomes.values()} == {"completed"}
    # what comes from now on is read from the new topics' begin
    await publish(mesh, "new")
    await wait_asked(mesh, 1)


def moody(mesh: MeshProcesses) -> Process:
    return mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))


async def publish(mesh: MeshProcesses, *subjects: str) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.order", "source": "/shop", "subject": one, "data": {"n": 1}} for one in subjects]
        )


async def asked(mesh: MeshProcesses) -> list[dict[str, str]]:
    found: list[dict[str, str]] = (await mesh.json("approvals", "list"))["approvals"]
    return found


async def wait_asked(mesh: MeshProcesses, count: int) -> None:
    async def is_so() -> bool:
        return len(await asked(mesh)) == count

    await mesh.wait_until(f"{count} are asked", is_so)

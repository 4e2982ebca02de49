"""People sign their answers: with our commands, and with clients that have none of our code.

An auditor verifies what the log has of it, without a broker.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from mesh_processes import ROOT, MeshProcesses, mesh_processes

from infra.kafka.kafka import KafkaProcess

GENEROUS_S = 120.0
ROUTE = """\
route: pay
on: {type: com.shop.pay}
key: ${{ event.data.order }}
steps:
  review:
    approval: {ask: Pay?, payload: "${{ event.data }}", role: manager, quorum: 2, signed: own}
---
route: order
on: {type: com.shop.order}
key: ${{ event.data.order }}
steps:
  review:
    approval: {ask: Order?, payload: "${{ event.data }}", role: manager, quorum: 2}
"""
PEOPLE = """\
people:
  ana: {names: [ana@example.org], roles: [manager]}
  ben: {roles: [manager]}
"""


async def begin(mesh: MeshProcesses, answers: str = "signed") -> None:
    """A router, and ana and ben with their keys."""
    (mesh.routes / "pay.yaml").write_text(ROUTE)
    mesh.approvers.write_text(PEOPLE)
    await mesh.make_topics()
    mesh.router(MESH_ANSWERS=answers).wait_started()
    await mesh.cli("people", "apply", mesh.approvers, "--yes", "--by", "ops")
    for name in ("ana", "ben"):
        public = (await mesh.cli("approver", "keygen", pem(mesh, name))).out
        await mesh.cli("approver", "add", name, "-", "--by", "ops", stdin=public)


def pem(mesh: MeshProcesses, name: str) -> Path:
    return mesh.folder / f"{name}.pem"


async def ask(mesh: MeshProcesses, order: str, route: str = "pay") -> str:
    kind, data = f"com.shop.{route}", json.dumps({"order": order})
    await mesh.cli("publish", "--type", kind, "--source", "/shop", "--data", data)

    async def is_asked() -> bool:
        listed = (await mesh.cli("approvals", "--json")).json["approvals"]
        return any(one["workflow_id"] == f"{route}:{order}" for one in listed)

    await mesh.wait_until("the question", is_asked)
    return f"{route}:{order}"


async def verified(mesh: MeshProcesses, workflow_id: str) -> dict[str, object]:
    bundle = mesh.folder / "bundle.jsonl"
    bundle.write_bytes((await mesh.cli("log", "export", "--workflow", workflow_id)).out)
    found: dict[str, object] = (await mesh.cli("audit", "verify", bundle, "--json")).json
    return found


async def counted(mesh: MeshProcesses, workflow_id: str, name: str) -> str:
    """Answer until the key is in effect, which takes two seconds. Returns the receipt's code."""

    async def answered() -> str | None:
        ran = await mesh.cli("approve", workflow_id, "--by", name, "--key", pem(mesh, name), "--json", code=None)
        code: str = ran.json["code"]
        return None if code == "key" else code

    return await mesh.wait_until(f"the answer of {name}", answered)


async def test_signed_answers_count_and_an_auditor_can_verify_them(mesh: MeshProcesses) -> None:
    await begin(mesh)
    order = await ask(mesh, "1")
    bare = await mesh.cli("approve", order, "--by", "ana", "--json", code=1)
    assert bare.json["code"] == "unsigned"
    assert await counted(mesh, order, "ana") == "counted"
    assert await counted(mesh, order, "ben") == "accepted"
    found = await verified(mesh, order)
    assert (found["failures"], found["claimed"]) == ([], 0)
    story = (await mesh.cli("approval", order, "--audit", "--json")).json["audit"]
    assert [one["proof"]["signer"] for one in story if one["code"] in {"counted", "accepted"}] == ["ana", "ben"]
    for by, count in (("ana@example.org", 1), ("eve", 0)):
        closed = (await mesh.cli("approvals", "--closed", "--by", by, "--since", "1h", "--json")).json
        assert closed["total"] == count
    status = (await mesh.cli("status", "--json")).json
    assert [one["answers"] for one in status["routers"]] == ["signed"]


@pytest.mark.kafka
async def test_a_bare_client_signs_on_kafka(kafka: KafkaProcess, kafka_prefix: str, tmp_path: Path) -> None:
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path, prefix=kafka_prefix) as mesh:
        await begin(mesh, "unsigned")
        await bare_client(mesh, kafka.bootstrap)
        await votes_in_one_line_each(mesh, kafka.bootstrap)


async def bare_client(mesh: MeshProcesses, bootstrap: str) -> None:
    """The route asks for signatures of the people themselves, whatever the mesh does."""
    order = await ask(mesh, "2")
    assert await counted(mesh, order, "ben") == "counted"

    def bare(who: str, key: str, *more: str) -> dict[str, object]:
        """What the client's receipt says."""
        script = [sys.executable, ROOT / "tests" / "bare_signer.py", bootstrap, mesh.prefix, order, who]
        ran = subprocess.run(
            [*map(str, (*script, pem(mesh, key), *more))],
            capture_output=True,
            text=True,
            timeout=GENEROUS_S,
            check=True,
        )
        found: dict[str, object] = json.loads(ran.stdout)
        return found

    keys = {one["person"]: one["kid"] for one in (await mesh.cli("approver", "--json")).json["keys"]}
    forged = bare("ana", "ben", keys["ana"])
    assert (forged["code"], forged["status"]) == ("signature", "refused")
    assert bare("ana", "ben")["code"] == "key"
    closing = bare("ana@example.org", "ana")
    assert (closing["code"], closing["verdict"], closing["by"]) == ("accepted", "approved", "ana")
    assert (await verified(mesh, order))["failures"] == []


async def votes_in_one_line_each(mesh: MeshProcesses, bootstrap: str) -> None:
    """Two people vote in bare JSON, with what every Kafka user has at hand."""
    order = await ask(mesh, "3", "order")
    asked = (await mesh.cli("approval", order, "--json")).json

    def vote(by: str, decision: str = "approve") -> str:
        said = {"decision": decision, "by": by, "digest": asked["digest"], "answer_id": f"{by} {decision}"}
        return json.dumps({"approval_id": asked["approval_id"], **said})

    await send_bare(bootstrap, f"{mesh.prefix}approvals.responses", [vote("ana"), vote("eve"), vote("ana", "withdraw")])
    await send_bare(bootstrap, f"{mesh.prefix}approvals.responses", [vote("ben"), vote("ana@example.org")])

    async def story() -> list[tuple[str, str]] | None:
        rows = (await mesh.cli("approval", order, "--audit", "--json")).json["audit"]
        found = [(one["by"], one["code"]) for one in rows if one["code"]]
        return found if ("ana", "accepted") in found else None

    assert await mesh.wait_until("the verdict", story) == [
        ("ana", "counted"),
        ("eve", "role"),
        ("ana", "taken_back"),
        ("ben", "counted"),
        ("ana", "accepted"),
    ]


async def send_bare(bootstrap: str, topic: str, lines: list[str]) -> None:
    """Send a record for each line, with kcat where it is installed.

    All have one key, so they keep their order.
    """
    kcat = shutil.which("kcat")
    if kcat is not None:
        command = (kcat, "-P", "-b", bootstrap, "-t", topic, "-k", "votes")
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        await asyncio.wait_for(process.communicate("\n".join(lines).encode()), GENEROUS_S)
        assert process.returncode == 0
        return
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for line in lines:
            await producer.send_and_wait(topic, line.encode(), key=b"votes")
    finally:
        await producer.stop()

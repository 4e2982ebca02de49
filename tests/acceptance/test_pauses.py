"""Workflows that wait for a person.

They survive a full stop of everything and keep their rules. A deadline never beats an answer that
came before it.
"""

import json
import time
from typing import Any

import pytest
from log_checker import gather, read_topic
from mesh_processes import MeshProcesses, Process

from mesh.codec.approvals import Receipt, decode_receipt
from mesh.codec.times import parse_rfc3339
from mesh.ports import OutRecord

pytestmark = pytest.mark.slow

ROUTE = """\
route: {name}
on: {{type: test.{name}}}
key: ${{{{ event.subject }}}}
steps:
  draft: {{agent: drafter, input: "${{{{ event.data }}}}"}}
  review:
    needs: draft
    approval: {{ask: Post it?, payload: "${{{{ steps.draft }}}}", role: maintainer{deadline}}}
output: {{text: "${{{{ {prefix} + steps.review.payload.text }}}}", by: "${{{{ steps.review.by }}}}"}}
"""
DEADLINE_S = 60  # commands before the answer must fit into it, each of which may take 10 s


def write_routes(mesh: MeshProcesses, *, prefix: str) -> None:
    for name, deadline in (("open", ""), ("brief", f", deadline: {DEADLINE_S}s, on_expiry: reject")):
        text = ROUTE.format(name=name, deadline=deadline, prefix=f"'{prefix}'")
        (mesh.routes / f"{name}.yaml").write_text(text)


async def publish(mesh: MeshProcesses, *subjects: str) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"type": f"test.{name}", "source": "/pauses", "subject": number, "data": {"n": int(number)}}
                for name, number in (subject.split(":") for subject in subjects)
            ]
        )


async def wait_asked(mesh: MeshProcesses, *subjects: str) -> dict[str, dict[str, Any]]:
    async def asked() -> dict[str, dict[str, Any]] | None:
        found = {one["workflow_id"]: one for one in (await mesh.json("approvals"))["approvals"]}
        return found if found.keys() >= set(subjects) else None

    return await mesh.wait_until("approvals", asked)


async def answer(mesh: MeshProcesses, approval_id: str, decision: str = "approve") -> None:
    """As a person with kcat does."""
    value = json.dumps({"approval_id": approval_id, "decision": decision, "by": "ana@example.org"}).encode()
    async with mesh.broker() as broker:
        assert not await broker.send([OutRecord(topic=mesh.topics.responses, key=None, value=value)])


async def receipts(mesh: MeshProcesses, count: int) -> dict[str, list[Receipt]]:
    """The receipts that people got, by workflow, once there are `count` of them."""
    async with mesh.broker() as broker:

        async def enough() -> list[Receipt] | None:
            found = [decode_receipt(record) for record in await read_topic(broker, mesh.topics.receipts)]
            return found if len(found) >= count else None

        found = await mesh.wait_until(f"{count} receipts", enough)
    by_workflow: dict[str, list[Receipt]] = {}
    for one in found:
        by_workflow.setdefault(one.approval_id.rsplit("/", 2)[0], []).append(one)
    return by_workflow


def stop_all(mesh: MeshProcesses) -> None:
    for process in mesh.processes:
        if process.is_alive:
            assert process.stop() == 0, process.text()[-3000:]


def start(mesh: MeshProcesses) -> Process:
    """All of it; what is published from here on meets the routes as they are now."""
    mesh.agent("moody_agents", SLOW_FOLDER=str(mesh.folder))
    router = mesh.router()
    router.wait_started()
    return router


async def test_pauses_survive_a_full_stop_keep_their_rules_and_answers_beat_deadlines(mesh: MeshProcesses) -> None:
    write_routes(mesh, prefix="old ")
    mesh.approvers.write_text("maintainer: [ana@example.org]\n")
    await mesh.make_topics("drafter", "moody", "stranger", "slow")
    router = start(mesh)
    await publish(mesh, "open:1", "open:2")
    await wait_asked(mesh, "open:1", "open:2")

    # Routers down over a deadline, the answer already on the broker: it counts. One that comes
    # after it does not, and its sender gets a receipt.
    await publish(mesh, "brief:1", "brief:2", "brief:3")
    brief = await wait_asked(mesh, "brief:1", "brief:2", "brief:3")
    assert router.stop() == 0
    await answer(mesh, brief["brief:1"]["approval_id"])
    await until_past(mesh, max(one["deadline_at"] for one in brief.values() if one["deadline_at"]))
    await answer(mesh, brief["brief:2"]["approval_id"])
    stop_all(mesh)

    # After an edit of the route and a restart, paused workflows keep their old rules; new ones have
    # the new.
    write_routes(mesh, prefix="new ")
    start(mesh)
    outcomes = await mesh.wait_outcomes(3)
    assert {name: one.status for name, one in outcomes.items()} == {
        "brief:1": "completed",
        "brief:2": "rejected",
        "brief:3": "rejected",
    }
    assert outcomes["brief:1"].output == {"text": "old draft 1", "by": "ana@example.org"}
    told = await receipts(mesh, 4)
    assert [(one.status, one.code, one.verdict) for one in told["brief:1"]] == [("accepted", "accepted", "approved")]
    assert [(one.status, one.code, one.verdict) for one in told["brief:3"]] == [("closed", "expired", "rejected")]
    assert {(one.status, one.code) for one in told["brief:2"]} == {("closed", "expired"), ("refused", "late")}
    await answer(mesh, brief["brief:3"]["approval_id"])
    told = await receipts(mesh, 5)
    assert [(one.status, one.code, one.verdict, one.closed) for one in told["brief:3"]] == [
        ("closed", "expired", "rejected", True),
        ("refused", "late", "rejected", True),
    ]

    await publish(mesh, "open:3")
    asked = await wait_asked(mesh, "open:1", "open:2", "open:3")
    for name in ("open:1", "open:2", "open:3"):
        await answer(mesh, asked[name]["approval_id"])
    outcomes = await mesh.wait_outcomes(6)
    texts = {name: one.output["text"] for name, one in outcomes.items() if name.startswith("open")}
    assert texts == {"open:1": "old draft 1", "open:2": "old draft 2", "open:3": "new draft 3"}

    stop_all(mesh)
    async with mesh.broker() as broker:
        assert (await gather(broker, mesh.topics)).findings == []


async def until_past(mesh: MeshProcesses, moment: str) -> None:
    """Wait until the deadline is over, by this machine's clock, which is the broker's."""

    async def past() -> bool:
        return time.time() * 1000 > parse_rfc3339(moment) + 50

    await mesh.wait_until("the deadline", past)

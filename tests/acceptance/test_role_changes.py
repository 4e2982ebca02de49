"""A role is granted and taken away while answers arrive, and each answer is judged by its own time.

Two routers run, answers are of both versions of approvals, and some of them lie unread until every
router has come back.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from log_checker import gather
from mesh_processes import MeshProcesses

from mesh.codec.approvals import Receipt, decode_receipt
from mesh.codec.times import parse_rfc3339
from mesh.core.activation import DELAY_MS
from mesh.ports import OutRecord, Record, TopicPartition

pytestmark = pytest.mark.slow

ROUTE = """\
route: pay
on: {type: test.pay}
key: ${{ event.subject }}
steps:
  review: {approval: {ask: Pay?, payload: "${{ event.data }}", role: finance, quorum: 2}}
  sign: {approval: {ask: Sign?, payload: "${{ event.data }}", role: boss}}
"""
FIRST = "boss: ana\nfinance: [ana, ben]\n"
SECOND = "boss: ben\nfinance: [ben, cem]\npeople: {cem: {names: ['slack:U1']}}\n"


def file_of(mesh: MeshProcesses, text: str) -> Path:
    file = mesh.folder / "people.yaml"
    file.write_text(text)
    return file


async def apply(mesh: MeshProcesses, text: str) -> Any:
    return await mesh.json("people", "apply", file_of(mesh, text), "--yes", "--by", "ops")


async def ask(mesh: MeshProcesses, *subjects: str) -> dict[str, str]:
    """Start a workflow for each subject. Returns the approval ids, by `subject/step`."""
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.pay", "source": "/p", "id": one, "subject": one, "data": {}} for one in subjects]
        )

    async def asked() -> dict[str, str] | None:
        ids = [one["approval_id"] for one in (await mesh.json("approvals"))["approvals"]]
        found = {f"{name.split(':')[1].split('/')[0]}/{name.rpartition('/')[2]}": name for name in ids}
        return found if all(f"{one}/{step}" in found for one in subjects for step in ("review", "sign")) else None

    return await mesh.wait_until("approvals", asked)


async def answer(mesh: MeshProcesses, digests: dict[str, str], *given: tuple[str, str, str]) -> None:
    """Send answers at once: of each its own id, the approval and the person."""
    values = [
        {"answer_id": own, "approval_id": name, "by": by, "decision": "approve", "digest": digests[name]}
        for own, name, by in given
    ]
    async with mesh.broker() as broker:
        assert not await broker.send([OutRecord(mesh.topics.responses, None, json.dumps(v).encode()) for v in values])


async def receipts(mesh: MeshProcesses, count: int) -> dict[str, Receipt]:
    async def found() -> dict[str, Receipt] | None:
        records = await read(mesh, mesh.topics.receipts)
        by_answer = {one.answer_id: one for one in map(decode_receipt, records) if one.answer_id}
        return by_answer if len(by_answer) >= count else None

    return await mesh.wait_until("receipts", found)


async def read(mesh: MeshProcesses, topic: str) -> list[Record]:
    async with mesh.broker() as broker:
        count = (await broker.topics())[topic].partitions
        ends = await broker.end_offsets([TopicPartition(topic, p) for p in range(count)])
        reader, found = await broker.reader(), list[Record]()
        reader.assign(dict.fromkeys(ends, 0))
        while any(reader.position(at) < end for at, end in ends.items()):
            found += await reader.poll(max_records=1_000, timeout_s=1)
        await reader.close()
        return found


async def digests_of(mesh: MeshProcesses) -> dict[str, str]:
    return {one["approval_id"]: one["digest"] for one in (await mesh.json("approvals"))["approvals"]}


async def test_each_answer_is_judged_by_the_people_of_its_own_time(mesh: MeshProcesses) -> None:
    (mesh.routes / "pay.yaml").write_text(ROUTE)
    mesh.approvers.write_text("boss: zoe\nfinance: [zoe, yan]\n")
    await mesh.make_topics()
    routers = [mesh.router(name) for name in ("one", "two")]
    for router in routers:
        router.wait_started()
    ids = await ask(mesh, "a", "b")
    digests = await digests_of(mesh)

    # the file rules until the first version, and is not read after it
    await answer(mesh, digests, ("file-zoe", ids["a/review"], "zoe"), ("file-ana", ids["a/review"], "ana"))
    found = await receipts(mesh, 2)
    assert (found["file-zoe"].code, found["file-ana"].code) == ("counted", "role")
    assert (await apply(mesh, FIRST))["activation"]["in_effect_from"] is None
    mesh.approvers.write_text("boss: eve\nfinance: [eve, mal]\n")

    async def is_ruled() -> bool | None:
        cards = (await mesh.json("status"))["routers"]
        return all((one["people"] or {}).get("version") for one in cards if one["state"] == "alive") or None

    await mesh.wait_until("the topic rules", is_ruled)
    assert "approvers_file_not_read" in routers[0].text()
    await answer(mesh, digests, ("eve", ids["a/review"], "eve"), ("ana", ids["b/review"], "ana"))
    found = await receipts(mesh, 4)
    assert (found["eve"].code, found["ana"].code) == ("role", "counted")

    # all routers are away: answers of before and after the change wait side by side
    for router in routers:
        router.kill()
    await answer(mesh, digests, ("old-boss", ids["a/sign"], "ana"), ("new-boss-early", ids["b/sign"], "ben"))
    since_ms = parse_rfc3339((await apply(mesh, SECOND))["activation"]["in_effect_from"])

    async def is_past() -> bool | None:
        """By the broker's own clock: a record that it takes says what time it is."""
        async with mesh.broker() as broker:
            await broker.send([OutRecord(mesh.topics.events, b"x", b"{}")])
        return (await read(mesh, mesh.topics.events))[-1].timestamp_ms > since_ms + DELAY_MS or None

    await mesh.wait_until("the version holds", is_past)
    late = [("lost", ids["a/review"], "ana"), ("new-boss", ids["b/sign"], "ben"), ("cem", ids["b/review"], "slack:U1")]
    await answer(mesh, digests, *late)
    for name in ("three", "four"):
        mesh.router(name).wait_started()
    found = await receipts(mesh, 9)
    codes = {name: (one.code, one.have, one.by) for name, one in found.items()}
    assert found["old-boss"].verdict == "approved", "ana was the boss when the broker took the answer"
    assert found["new-boss-early"].code == "role", "ben was not the boss yet"
    assert codes["lost"] == ("role", 1, "ana"), "zoe's vote by the file stays counted"
    assert found["new-boss"].verdict == "approved"
    assert (found["cem"].verdict, found["cem"].by) == ("approved", "cem"), "ana's vote of before stays counted"

    shown = await mesh.json("people", "show")
    assert [one["id"] for one in shown["people"]] == ["ben", "cem"]
    for process in mesh.processes[2:]:
        assert process.stop() == 0, process.text()[-3000:]
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []

"""The main job on real parts: the samples of the issue triage come to their right ends.

A router and four agents run as processes of their own. A scripted approver answers through the
responses topic. Afterwards another process folds the log from the broker, and its digests are those
of the states that the stopped router left.
"""

import asyncio
import json
import shutil
from collections import Counter
from hashlib import sha256
from typing import Any

import pytest
from log_checker import checkpointed, gather, read_topic
from mesh_processes import ROOT, MeshProcesses
from ruamel.yaml import YAML

from mesh.codec.approvals import ApprovalRequest, decode_receipt, decode_request
from mesh.codec.github import read_payload, webhook_event
from mesh.core.ids import parse_step_id
from mesh.ports import Broker, OutRecord, TopicPartition
from mesh.services.client import Client

pytestmark = pytest.mark.slow

DESK = ROOT / "agents" / "issue_triage"
MANIFEST: dict[str, Any] = YAML(typ="safe", pure=True).load(DESK / "samples" / "manifest.yaml")
DELIVERIES: list[dict[str, Any]] = MANIFEST["deliveries"]
STARTED = [one for one in DELIVERIES if one["end"] in {"completed", "rejected"}]
REVIEWED = {one["workflow"]: one for one in STARTED if one["review"] != "skipped"}
RAW_KEY, RAW_HEADERS = b"\x00\xff", (("content-type", b"application/cloudevents+json"), ("x-odd", b"\x80\x00"))


async def set_up(mesh: MeshProcesses) -> None:
    shutil.copytree(DESK / "routes", mesh.routes, dirs_exist_ok=True)
    shutil.copy(DESK / "approvers.yaml", mesh.approvers)
    await mesh.make_topics("classifier", "duplicate-finder", "drafter", "publisher")
    mesh.router()
    for name in ("classifier", "duplicate_finder", "drafter", "publisher"):
        mesh.agent(f"agents.issue_triage.{name}", MESH_DEMO_FAULT=MANIFEST["fault"])


def answer_to(request: ApprovalRequest) -> OutRecord:
    """The scripted approver's answer, as any client would send it.

    It is one line of JSON without CloudEvents headers.
    """
    script = REVIEWED[request.workflow_id]
    answer = {
        "approval_id": request.approval_id,
        "decision": "reject" if script["review"] == "reject" else "approve",
        "by": MANIFEST["approver"],
        "reason": script["reason"],
    }
    if script["review"] == "edit":
        answer["payload"] = {**request.payload, **script["edit"]}
    else:
        answer["digest"] = request.digest
    return OutRecord(topic="", key=None, value=json.dumps(answer).encode())


async def approve(mesh: MeshProcesses, broker: Broker) -> dict[str, ApprovalRequest]:
    """Answer every question until all that are expected have been asked.

    Returns the requests by workflow.
    """
    topics, asked = mesh.topics, dict[str, ApprovalRequest]()
    info = (await broker.topics())[topics.requests]
    reader = await broker.reader()
    reader.assign({TopicPartition(topics.requests, p): 0 for p in range(info.partitions)})
    while asked.keys() != REVIEWED.keys():
        for record in await reader.poll(max_records=100, timeout_s=0.5):
            request = decode_request(record)
            if request.workflow_id not in asked:
                asked[request.workflow_id] = request
                bare = answer_to(request)
                assert not await broker.send([OutRecord(topic=topics.responses, key=None, value=bare.value)])
    await reader.close()
    return asked


async def publish(mesh: MeshProcesses, client: Client, broker: Broker) -> None:
    for one in DELIVERIES:
        raw = (DESK / "samples" / one["file"]).read_bytes()
        if one.get("send") == "raw":
            record = OutRecord(topic=mesh.topics.events, key=RAW_KEY, value=raw, headers=RAW_HEADERS)
            assert not await broker.send([record])
            continue
        if "after" in one:
            earlier = next(other for other in DELIVERIES if other["name"] == one["after"])
            await client.wait_outcome(earlier["workflow"], timeout_s=120)
        await client.publish(webhook_event(read_payload(raw), delivery=one["delivery"], raw=raw))


async def test_every_sample_comes_to_its_right_end(mesh: MeshProcesses) -> None:
    await set_up(mesh)
    async with mesh.broker() as broker, await mesh.client() as client, asyncio.TaskGroup() as group:
        approving = group.create_task(approve(mesh, broker))
        await publish(mesh, client, broker)
        outcomes = await mesh.wait_outcomes(len(STARTED))
        asked = await approving

        assert {name: one.status for name, one in outcomes.items()} == {one["workflow"]: one["end"] for one in STARTED}
        assert asked.keys() == REVIEWED.keys()
        check_outbox(mesh, asked)
        await check_receipts(mesh, broker)
        await check_tools(mesh)
        await check_dead_letter(mesh, broker)
        await check_log(mesh, broker)


def check_outbox(mesh: MeshProcesses, asked: dict[str, ApprovalRequest]) -> None:
    """Each completed workflow's reply is there once, edited where it was edited."""
    lines = [json.loads(line) for line in (mesh.folder / "outbox.jsonl").read_bytes().splitlines()]
    posted = {f"issue-triage:{line['repository']}#{line['number']}": line for line in lines}
    assert len(lines) == len(posted)
    assert posted.keys() == {one["workflow"] for one in STARTED if one["end"] == "completed"}
    for one in STARTED:
        if one.get("edit"):
            assert {name: posted[one["workflow"]][name] for name in one["edit"]} == one["edit"]
        elif one["review"] == "approve":
            assert posted[one["workflow"]]["body"] == asked[one["workflow"]].payload["body"]


async def check_receipts(mesh: MeshProcesses, broker: Broker) -> None:
    receipts = [decode_receipt(record) for record in await read_topic(broker, mesh.topics.receipts)]
    verdicts = {"reject": "rejected", "approve": "approved", "edit": "approved"}
    assert {
        parts.workflow_id: (one.status, one.verdict) for one in receipts if (parts := parse_step_id(one.approval_id))
    } == {name: ("accepted", verdicts[one["review"]]) for name, one in REVIEWED.items()}
    assert len(receipts) == len(REVIEWED)


async def check_tools(mesh: MeshProcesses) -> None:
    """What an operator and the upstream team see."""
    status, repeated, unwanted, retried = await asyncio.gather(
        mesh.wait_settled(),
        mesh.json("event", next(one["delivery"] for one in DELIVERIES if one["end"] == "repeated")),
        mesh.json("event", next(one["delivery"] for one in DELIVERIES if one["end"] == "unmatched")),
        mesh.json("workflow", f"lanternworks/ferry#{MANIFEST['fault'].partition(':')[2]}"),
    )
    assert status["events"] == {
        "seen": len(DELIVERIES),
        "waiting": 0,
        "matched": len(STARTED) + 1,
        "unwanted": 1,
        "dead_lettered": 1,
    }
    assert status["workflows"] == dict(Counter(one["end"] for one in STARTED))
    assert (status["dead_letters"], status["incidents"]) == (1, [])
    effects = [touched["effect"] for event in repeated["events"] for touched in event["workflows"]]
    assert sorted(effects) == ["repeated", "started"]
    assert [event["fate"] for event in unwanted["events"]] == ["unwanted"]
    assert retried["workflow"]["steps"]["classify"]["attempt"] == 2


async def check_dead_letter(mesh: MeshProcesses, broker: Broker) -> None:
    """The malformed one is there as it came, to the byte."""
    [letter] = await read_topic(broker, mesh.topics.dlq)
    assert (letter.key, letter.headers[: len(RAW_HEADERS)]) == (RAW_KEY, RAW_HEADERS)
    assert letter.value == (DESK / "samples" / "15-malformed.json").read_bytes()


async def check_log(mesh: MeshProcesses, broker: Broker) -> None:
    """The log, folded from the broker by another process, gives what the router itself had."""
    for process in mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]
    own = {name: "sha256:" + sha256(state).hexdigest() for name, state in checkpointed(mesh.folder / "data").items()}
    assert own.keys() == {one["workflow"] for one in STARTED}
    digests = mesh.folder / "digests.json"
    digests.write_text(json.dumps({"workflows": own}))
    folded = await mesh.json("log", "verify", "--against", digests)
    assert (folded["workflows"], folded["differing"]) == (own, {})
    evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []

"""The three users on real parts, by the command line and by bare records.

Upstream teams publish and ask, approvers answer, operators look and command.
"""

import asyncio
import json
from typing import Any

import pytest
from log_checker import read_topic
from mesh_processes import MeshProcesses

import mesh as public
from mesh.codec.outcomes import decode_outcome
from mesh.core.ids import run_id
from mesh.ports import Header, OutRecord

pytestmark = pytest.mark.slow

ROUTES = {
    "plain": 'steps: {work: {agent: drafter, input: "${{ event.data }}"}}',
    "asking": """\
steps:
  draft: {agent: drafter, input: "${{ event.data }}"}
  review:
    needs: draft
    approval: {ask: Post it?, payload: "${{ steps.draft }}", role: maintainer, deadline: 1h, on_expiry: reject}
output: ${{ steps.review }}
""",
}
CE_BINARY: tuple[Header, ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"binary-1"),
    ("ce_source", b"/kcat"),
    ("ce_type", b"test.plain"),
    ("ce_subject", b"binary"),
    ("content-type", b"application/json"),
)
STRUCTURED: Header = ("content-type", b"application/cloudevents+json; charset=utf-8")
ANA = "ana@example.org"


async def test_upstream_approvers_and_operators_get_what_they_were_promised(mesh: MeshProcesses) -> None:
    for name, rest in ROUTES.items():
        text = f"route: {name}\non: {{type: test.{name}}}\nkey: ${{{{ event.subject }}}}\n{rest}"
        (mesh.routes / f"{name}.yaml").write_text(text)
    mesh.approvers.write_text(f"maintainer: [{ANA}]\nreader: [kim@example.org]\n")
    await mesh.make_topics("drafter")
    mesh.router().wait_started()
    mesh.agent("moody_drafter", name="drafter").wait_started()
    await upstream_with_the_command_line(mesh)
    await upstream_with_any_client(mesh)
    await upstream_with_python(mesh)
    await approvers(mesh)
    await operators(mesh)
    for process in mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]


# Upstream -----------------------------------------------------------------------------------------


async def upstream_with_the_command_line(mesh: MeshProcesses) -> None:
    event = {"id": "file-1", "source": "/cli", "type": "test.plain", "subject": "file", "data": {"n": 1}}
    file = mesh.folder / "event.json"
    file.write_text(json.dumps(event))
    lines = "\n".join(json.dumps({**event, "id": f"line-{n}", "subject": f"line-{n}"}) for n in range(3)).encode()
    options = ["--type", "test.plain", "--source", "/cli", "--id", "option-1", "--subject", "option"]
    published = await asyncio.gather(
        mesh.json("publish", file),
        mesh.cli("publish", "-", "--json", stdin=lines),
        mesh.json("publish", *options, "--data", '{"n": 1}'),
        mesh.json("run", "plain", "--data", '{"n": 7}', "--subject", "run", "--wait"),
        mesh.json("publish", "--type", "test.nobody", "--source", "/cli", "--id", "unwanted-1"),
    )
    assert published[0] == {"published": [{"id": "file-1", "source": "/cli", "type": "test.plain"}]}
    assert [one["id"] for one in published[1].json["published"]] == ["line-0", "line-1", "line-2"]
    ended = published[3]
    # an outcome names its start event
    assert ended.keys() == {
        *("workflow_id", "run_id", "route", "status", "reason", "output", "event_id", "event_source"),
    }
    assert ended["event_id"]
    assert (ended["workflow_id"], ended["status"]) == ("plain:run", "completed")
    assert ended["output"] == {"work": {"n": 7, "text": "draft 7"}}

    [fate] = (await wait_fate(mesh, "option-1", "decided"))["events"]
    assert [(one["workflow_id"], one["effect"]) for one in fate["workflows"]] == [("plain:option", "started")]
    assert fate["workflows"][0]["run_id"] == run_id("/cli", "option-1")
    [fate] = (await wait_fate(mesh, "unwanted-1", "unwanted"))["events"]
    assert {one["route"]: one["matched"] for one in fate["routes"]} == {"plain": False, "asking": False}
    # Published again: it changes nothing, and says so.
    await mesh.json("publish", file)
    again = await mesh.wait_until("the repeat", lambda: fates(mesh, "file-1", 2))
    assert sorted(touched["effect"] for one in again for touched in one["workflows"]) == ["repeated", "started"]
    # The command says what is wrong before it sends anything.
    missing, unknown, wrong = await asyncio.gather(
        mesh.cli("publish", "--type", "test.plain", code=2),
        mesh.cli("event", "no-such-event", "--json", code=3),
        mesh.cli("run", "plan", "--data", "1", "--json", code=3),
    )
    assert "--source" in missing.err
    assert (unknown.error["kind"], wrong.error["kind"]) == ("NotFound", "NotFound")
    assert "plain" in wrong.error["message"]


async def upstream_with_any_client(mesh: MeshProcesses) -> None:
    """As kcat would: a value and headers, no key."""
    structured = {
        "specversion": "1.0",
        "id": "structured-1",
        "source": "/kcat",
        "type": "test.plain",
        "subject": "structured",
    }
    records = [
        OutRecord(topic=mesh.topics.events, key=None, value=b'{"n": 2}', headers=CE_BINARY),
        OutRecord(
            topic=mesh.topics.events,
            key=None,
            value=json.dumps({**structured, "data": {"n": 3}}).encode(),
            headers=(STRUCTURED,),
        ),
    ]
    async with mesh.broker() as broker:
        assert not await broker.send(records)

        async def both_ended() -> dict[str, Any] | None:
            outcomes = [decode_outcome(record) for record in await read_topic(broker, mesh.topics.outcomes)]
            found = {one.run_id: one for one in outcomes}
            ids = [run_id("/kcat", "binary-1"), run_id("/kcat", "structured-1")]
            return {found[run].workflow_id: found[run].output for run in ids} if found.keys() >= set(ids) else None

        assert await mesh.wait_until("both ends", both_ended) == {
            "plain:binary": {"work": {"n": 2, "text": "draft 2"}},
            "plain:structured": {"work": {"n": 3, "text": "draft 3"}},
        }


async def upstream_with_python(mesh: MeshProcesses) -> None:
    async with await public.connect(mesh.broker_url, topic_prefix=mesh.prefix) as client:
        event_id = await client.publish({"type": "test.plain", "source": "/py", "subject": "py", "data": {"n": 4}})
        outcome = await client.wait_outcome(event_id, timeout_s=120)
    assert (outcome.workflow_id, outcome.status) == ("plain:py", "completed")


async def wait_fate(mesh: MeshProcesses, event_id: str, fate: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        found: dict[str, Any] = await mesh.json("event", event_id)
        return found if [one["fate"] for one in found["events"]] == [fate] else None

    return await mesh.wait_until(f"{event_id} is {fate}", reached)


async def fates(mesh: MeshProcesses, event_id: str, count: int) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] = (await mesh.json("event", event_id))["events"]
    return found if len(found) == count and all(one["fate"] == "decided" for one in found) else None


# Approvers ----------------------------------------------------------------------------------------


async def approvers(mesh: MeshProcesses) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"type": "test.asking", "source": "/a", "subject": name, "data": {"n": 5}}
                for name in ("yes", "no", "edit", "bare", "cancel")
            ]
        )

    async def all_asked() -> dict[str, dict[str, Any]] | None:
        found = {one["workflow_id"]: one for one in (await mesh.json("approvals"))["approvals"]}
        return found if len(found) == 5 else None

    asked = await mesh.wait_until("five approvals", all_asked)
    one = asked["asking:yes"]
    assert (one["question"], one["role"], one["step"], one["on_expiry"]) == (
        "Post it?",
        "maintainer",
        "review",
        "reject",
    )
    assert (one["payload"], one["digest"][:7]) == ({"n": 5, "text": "draft 5"}, "sha256:")
    assert one["payload_schema"]["required"] == ["n", "text"]

    refused = await mesh.cli("approve", "asking:yes", "--by", "kim@example.org", "--json", code=1)
    assert (refused.json["status"], refused.json["code"], refused.json["closed"]) == ("refused", "role", False)
    misfit = await mesh.cli("approve", "asking:edit", "--by", ANA, "--payload", '{"n": "five"}', "--json", code=1)
    assert "payload" in misfit.error["message"]
    ambiguous = await mesh.cli("approve", "asking:", "--by", ANA, "--json", code=2)
    assert "asking:no" in ambiguous.error["message"]
    edited = '{"n": 6, "text": "mine"}'
    yes, no, edit = await asyncio.gather(
        mesh.json("approve", "asking:yes", "--by", ANA),
        mesh.json("reject", "asking:no", "--by", ANA, "--reason", "not now"),
        mesh.json("approve", "asking:edit", "--by", ANA, "--payload", edited),
    )
    shape = {"approval_id", "answer_id", "status", "code", "verdict", "closed", "message", "by", "at", "source"}
    assert all(receipt.keys() == shape and receipt["status"] == "accepted" for receipt in (yes, no, edit))
    assert [receipt["verdict"] for receipt in (yes, no, edit)] == ["approved", "rejected", "approved"]
    bare = {"approval_id": asked["asking:bare"]["approval_id"], "decision": "approve", "by": ANA}
    async with mesh.broker() as broker:
        assert not await broker.send(
            [OutRecord(topic=mesh.topics.responses, key=None, value=json.dumps(bare).encode())]
        )
    async with await mesh.client() as client:
        ends = [await client.wait_outcome(f"asking:{name}", timeout_s=120) for name in ("yes", "no", "edit", "bare")]
    assert [end.status for end in ends] == ["completed", "rejected", "completed", "completed"]
    assert "not now" in ends[1].reason
    assert (ends[2].output["edited"], ends[2].output["payload"]) == (True, json.loads(edited))
    closed = await mesh.cli("approve", "asking:yes", "--by", ANA, "--json", code=1)
    assert f"approved by {ANA}" in closed.error["message"]


# Operators ----------------------------------------------------------------------------------------


async def operators(mesh: MeshProcesses) -> None:
    cancelled = await mesh.json("workflow", "cancel", "asking:cancel", "--reason", "test", "--by", "olga")
    assert cancelled.keys() == {
        *("command_id", "command", "workflow_id", "accepted", "code", "message", "workflow_status"),
    }
    assert (cancelled["command"], cancelled["workflow_id"]) == ("cancel", "asking:cancel")
    assert (cancelled["accepted"], cancelled["workflow_status"]) == (True, "cancelled")
    status, listed, shown, agents, letters, refused, unknown = await asyncio.gather(
        mesh.wait_settled(),
        mesh.json("workflows", "--route", "asking"),
        mesh.json("workflow", "asking:edit", "--payloads"),
        mesh.json("agents"),
        mesh.json("dlq", "list"),
        mesh.cli("workflow", "cancel", "asking:cancel", "--reason", "again", "--json", code=1),
        mesh.cli("workflow", "nothing:like:this", "--json", code=3),
    )
    assert status.keys() == {
        *("broker", "at", "routers", "partitions", "ingress", "agents", "workflows", "steps", "events", "dead_letters"),
        *("approvals", "oldest_approval", "incidents", "incidents_total", "notices_undelivered", "stuck"),
    }
    assert status["workflows"] == {"completed": 12, "rejected": 1, "cancelled": 1}
    assert (status["stuck"], status["incidents"], status["oldest_approval"]) == ([], [], None)
    assert all(one["owner"].startswith("router-") for one in status["partitions"])
    assert {one["workflow_id"]: one["status"] for one in listed["workflows"]} == {
        **dict.fromkeys(("asking:yes", "asking:edit", "asking:bare"), "completed"),
        "asking:no": "rejected",
        "asking:cancel": "cancelled",
    }
    assert (shown["workflow"]["workflow_id"], shown["workflow"]["status"]) == ("asking:edit", "completed")
    events = [event["event"] for entry in shown["timeline"] for event in entry["events"]]
    assert events == [
        *("WorkflowStarted.1", "TaskDispatched.1", "TaskSucceeded.1", "ApprovalRequested.1"),
        *("ApprovalClosed.1", "WorkflowEnded.1"),
    ]
    [drafter] = [one for one in agents["agents"] if one["name"] == "drafter"]
    assert (drafter["alive"], drafter["running"], drafter["unread"], len(drafter["replicas"])) == (1, 0, 0, 1)
    assert letters == {"dead_letters": [], "total": 0, "shown": 0, "more": False, "next": None}
    assert (refused.json["accepted"], refused.json["code"]) == (False, "ended")
    assert unknown.error["kind"] == "NotFound"
    # For people: one screen, and a timeline that says why.
    screen, timeline = await asyncio.gather(mesh.cli("status"), mesh.cli("workflow", "asking:edit"))
    assert b"Nothing is stuck." in screen.out
    assert "draft" in timeline.out.decode()
    assert ANA in timeline.out.decode()

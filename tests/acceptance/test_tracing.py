"""One trace from the upstream's event to the end: event, router, agents and answer.

It is put together from what each process exported by itself.
"""

import json
from typing import Any

import pytest
from mesh_processes import MeshProcesses

from mesh.codec.approvals import encode_response
from mesh.core.ids import span_id

pytestmark = pytest.mark.slow

ROUTE = """\
route: traced
on: {type: test.traced}
key: ${{ event.subject }}
steps:
  draft: {agent: drafter, input: "${{ event.data }}"}
  review:
    needs: draft
    approval: {ask: Good?, payload: "${{ steps.draft }}", role: maintainer}
  check: {needs: review, agent: moody, input: "${{ event.data }}", retry: {attempts: 1}, on_exhausted: fail}
"""
TRACE, UPSTREAM = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ANSWERER = f"00-{'1' * 32}-{'2' * 16}-01"


def spans_of(mesh: MeshProcesses) -> list[dict[str, Any]]:
    """What all processes have exported to their consoles, by name."""
    lines = [line for process in mesh.processes for line in process.text().splitlines()]
    return [span for line in lines if line.startswith("{") and "context" in (span := json.loads(line))]


async def test_event_router_agents_and_answer_are_one_trace(sqlite_mesh: MeshProcesses) -> None:
    mesh = sqlite_mesh
    (mesh.routes / "traced.yaml").write_text(ROUTE)
    mesh.approvers.write_text("maintainer: [ana@example.org]\n")
    await mesh.make_topics("drafter", "moody")
    mesh.router(MESH_TRACE_EXPORTER="console")
    mesh.agent("moody_agents", MOOD="bad", SLOW_FOLDER=str(mesh.folder), MESH_TRACE_EXPORTER="console")
    async with await mesh.client() as client:
        await client.publish(
            {
                "type": "test.traced",
                "source": "/traces",
                "subject": "1",
                "data": {"n": 1},
                "traceparent": f"00-{TRACE}-{UPSTREAM}-01",
            }
        )
    approval = await mesh.wait_until("an approval", lambda: open_approval(mesh))
    await answer(mesh, approval)
    outcome = (await mesh.wait_outcomes(1))["traced:1"]
    assert outcome.status == "failed"
    for process in mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]

    spans = spans_of(mesh)
    by_name = {span["name"]: span for span in spans}
    assert len(by_name) == len(spans), sorted(span["name"] for span in spans)
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{TRACE}"}
    run = f"0x{span_id('traced:1', outcome.run_id)}"
    review = by_name["send mesh.approvals.requests"]
    drafting, checking = by_name["send mesh.tasks.drafter"], by_name["send mesh.tasks.moody"]
    assert {name: (span["context"]["span_id"], span["parent_id"]) for name, span in by_name.items()} == {
        "invoke_workflow traced": (run, f"0x{UPSTREAM}"),
        "send mesh.tasks.drafter": (f"0x{span_id(f'traced:1/{outcome.run_id}/draft', '1')}", run),
        "send mesh.approvals.requests": (f"0x{span_id(approval)}", run),
        "send mesh.tasks.moody": (f"0x{span_id(f'traced:1/{outcome.run_id}/check', '1')}", run),
        "invoke_agent drafter": (by_name["invoke_agent drafter"]["context"]["span_id"], drafting["context"]["span_id"]),
        "invoke_agent moody": (by_name["invoke_agent moody"]["context"]["span_id"], checking["context"]["span_id"]),
    }
    statuses = {name: span["status"]["status_code"] for name, span in by_name.items()}
    failed = {"invoke_workflow traced", "send mesh.tasks.moody", "invoke_agent moody"}
    assert {name for name, status in statuses.items() if status == "ERROR"} == failed
    assert review["attributes"]["mesh.approval.verdict"] == "approved"
    assert review["attributes"]["mesh.approval.role"] == "maintainer"
    assert [link["context"]["span_id"] for link in review["links"]] == [f"0x{'2' * 16}"]
    assert not [span for span in spans if "draft 1" in json.dumps(span)]  # no payload anywhere


async def open_approval(mesh: MeshProcesses) -> str | None:
    found: list[dict[str, str]] = (await mesh.json("approvals"))["approvals"]
    return found[0]["approval_id"] if found else None


async def answer(mesh: MeshProcesses, approval_id: str) -> None:
    """A person's answer from a tool that traces, too."""
    response = encode_response(
        topics=mesh.topics,
        approval_id=approval_id,
        decision="approve",
        by="ana@example.org",
        answer_id="answer-1",
        at_ms=0,
        traceparent=ANSWERER,
    )
    async with mesh.broker() as broker:
        assert not await broker.send([response])

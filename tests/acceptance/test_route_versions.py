"""Rules change while everything runs.

Two routers take them up at the same event. Paused workflows keep their rules, and go over to others
when an operator says so.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from log_checker import gather, read_topic
from mesh_processes import MeshProcesses

from mesh.codec.times import parse_rfc3339
from mesh.ports import OutRecord

pytestmark = pytest.mark.slow

ROUTE = """\
route: post
on: {{type: test.post}}
key: ${{{{ event.subject }}}}
steps:
  draft: {{agent: drafter, input: "${{{{ event.data }}}}"}}
  review: {{needs: draft, approval: {{ask: Post it?, payload: "${{{{ steps.draft }}}}", role: maintainer}}}}
{more}output: {{text: "${{{{ '{version} ' + steps.review.payload.text }}}}"}}
"""
MORE = """  sign: {needs: review, agent: drafter, input: {n: 9}}\n"""
RENAMED = """\
route: post
on: {type: test.post}
key: ${{ event.subject }}
steps:
  draft: {agent: drafter, input: "${{ event.data }}"}
  approve: {needs: draft, approval: {ask: Post it?, payload: "${{ steps.draft }}", role: maintainer}}
"""


def version(version: str, more: str = "") -> str:
    return ROUTE.format(version=version, more=more)


async def publish(mesh: MeshProcesses, *numbers: int) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.post", "source": "/v", "id": f"e{n}", "subject": str(n), "data": {"n": n}} for n in numbers]
        )


async def wait_asked(mesh: MeshProcesses, *numbers: int) -> dict[str, str]:
    """Workflow id to approval id."""
    wanted = {f"post:{n}" for n in numbers}

    async def asked() -> dict[str, str] | None:
        found = {one["workflow_id"]: one["approval_id"] for one in (await mesh.json("approvals"))["approvals"]}
        return found if found.keys() >= wanted else None

    return await mesh.wait_until("approvals", asked)


async def approve(mesh: MeshProcesses, approval_ids: list[str]) -> None:
    answers = [{"approval_id": name, "decision": "approve", "by": "ana@example.org"} for name in approval_ids]
    async with mesh.broker() as broker:
        values = [json.dumps(answer).encode() for answer in answers]
        assert not await broker.send([OutRecord(mesh.topics.responses, None, value) for value in values])


async def runs_on(mesh: MeshProcesses) -> dict[str, int]:
    """How many workflows run on each version."""
    return {one["digest"]: one["running"] for one in (await mesh.json("routes", "list"))["versions"]}


def write(mesh: MeshProcesses, text: str) -> Path:
    """The file of the route, which routers read at their start."""
    file = mesh.routes / "post.yaml"
    file.write_text(text)
    return file


async def apply(mesh: MeshProcesses, text: str, *options: str) -> Any:
    return await mesh.json("routes", "apply", write(mesh, text), *options)


async def test_routers_take_up_changed_rules_and_paused_workflows_go_over_on_command(mesh: MeshProcesses) -> None:
    write(mesh, version("first"))
    mesh.approvers.write_text("maintainer: [ana@example.org]\n")
    await mesh.make_topics("drafter", "stranger")
    mesh.agent("moody_drafter")
    await publish(mesh, 0)  # before any router: the first rules hold for it too
    for name in ("one", "two"):
        mesh.router(name).wait_started()
    await publish(mesh, *range(1, 9))
    await wait_asked(mesh, *range(9))

    # Applied while both routers run. It returns once it is in effect: what is published then meets
    # the new rules, whichever router reads it.
    [second] = (await apply(mesh, version("second")))["routes"]
    assert second["change"] == "changed"
    await publish(mesh, *range(10, 18))
    await wait_asked(mesh, *range(10, 18))
    assert await runs_on(mesh) == {second["before"]: 9, second["digest"]: 8}

    # A router that comes back with the old file undoes nothing.
    write(mesh, version("first"))
    mesh.router("three").wait_started()
    assert "route_file_not_active" in mesh.processes[-1].text()
    await publish(mesh, 20)
    asked = await wait_asked(mesh, 20)
    assert await runs_on(mesh) == {second["before"]: 9, second["digest"]: 9}

    # Paused workflows keep their rules, and go over when they are told to: where that fits what
    # they have done.
    applied = await apply(mesh, RENAMED, "--force")
    ran = await mesh.cli("workflows", "migrate", "post:1", "--to", "active", "--json", code=1)
    [refused] = ran.json["workflows"]
    assert (refused["code"], "step review (asking) is not in the new version" in refused["message"]) == ("misfit", True)
    [back] = (await mesh.json("routes", "rollback", "post"))["routes"]
    assert (back["before"], back["digest"]) == (applied["routes"][0]["digest"], second["digest"])
    moved = await mesh.json("workflows", "migrate", "post:1", "post:2", "--to", "active")
    assert [one["verdict"] for one in moved["workflows"]] == ["migrated", "migrated"]

    # A version with one step more, and all that run of the route at once.
    [third] = (await apply(mesh, version("third", MORE)))["routes"]
    moved = await mesh.json(
        "workflows", "migrate", "--route", "post", "--to", third["digest"], "--why", "one more", "--yes"
    )
    assert moved["operation"]["counts"] == {"done": 18, "refused": 0, "waiting": 0, "not sent": 0}
    assert await runs_on(mesh) == {third["before"]: 0, third["digest"]: 18, refused["before"]: 0, refused["to"]: 0}
    await publish(mesh, 30)
    asked = await wait_asked(mesh, 30)
    await approve(mesh, list(asked.values()))
    outcomes = await mesh.wait_outcomes(19)
    assert {one.output["text"].split()[0] for one in outcomes.values()} == {"third"}
    assert "goes over to rules" in (await mesh.cli("workflow", "post:1")).out.decode()

    for process in mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]
    async with mesh.broker() as broker:
        evidence = await gather(broker, mesh.topics)
    assert evidence.findings == []
    assert evidence.promises.counts["versions checked"] == 19


async def test_each_event_meets_the_rules_of_its_own_time_however_late_it_is_read(mesh: MeshProcesses) -> None:
    """Events go on while rules change.

    The broker's own timestamps give each event its version, and no router had to run when the
    events were taken.
    """
    write(mesh, version("first"))
    await mesh.make_topics("drafter")
    router = mesh.router()
    router.wait_started()
    assert router.stop() == 0
    changed = await apply(mesh, version("second"), "--no-wait")
    since_ms = parse_rfc3339(changed["activation"]["in_effect_from"])
    number = 0

    async def late_enough() -> bool:
        nonlocal number
        await publish(mesh, number)
        number += 1
        async with mesh.broker() as broker:
            return max(record.timestamp_ms for record in await read_topic(broker, mesh.topics.events)) >= since_ms

    await mesh.wait_until("an event after the change", late_enough)
    mesh.router(MESH_ROUTES="")  # without files of its own it runs what is applied

    async def all_started() -> dict[str, int] | None:
        found = await runs_on(mesh)
        return found if sum(found.values()) == number else None

    found = await mesh.wait_until("all started", all_started)
    async with mesh.broker() as broker:
        times = [record.timestamp_ms for record in await read_topic(broker, mesh.topics.events)]
        evidence = await gather(broker, mesh.topics)
    later = sum(at_ms >= since_ms for at_ms in times)
    [step] = changed["routes"]
    assert later > 0
    assert found == {step["before"]: number - later, step["digest"]: later}
    assert evidence.promises.findings == []

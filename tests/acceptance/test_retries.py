"""Work that fails until its agent is restarted.

With attempts left it completes by itself. With none left it waits for an operator.
"""

import asyncio
from typing import Any

import pytest
from mesh_processes import MeshProcesses

pytestmark = pytest.mark.slow

COUNT = 5
ROUTES = """\
route: patient
on: {type: test.patient}
key: ${{ event.subject }}
steps:
  work: {agent: moody, input: "${{ event.data }}", retry: {attempts: 1000, backoff: 200ms, factor: 1}}
---
route: hasty
on: {type: test.hasty}
key: ${{ event.subject }}
steps:
  work: {agent: moody, input: "${{ event.data }}", retry: {attempts: 2, backoff: 100ms}}
  after: {needs: work, agent: moody, input: "${{ steps.work }}"}
"""
PATIENT, HASTY = ([f"{route}:{n}" for n in range(COUNT)] for route in ("patient", "hasty"))


async def publish(mesh: MeshProcesses) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [
                {"type": f"test.{route}", "source": "/retries", "subject": str(n), "data": {"n": n}}
                for route in ("patient", "hasty")
                for n in range(COUNT)
            ]
        )


async def incidents(mesh: MeshProcesses, count: int) -> list[dict[str, Any]]:
    async def enough() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = (await mesh.json("status"))["incidents"]
        return found if len(found) >= count else None

    return await mesh.wait_until(f"{count} incidents", enough)


async def test_failing_work_completes_when_its_agent_is_restarted_and_an_operator_retries(mesh: MeshProcesses) -> None:
    for text in ROUTES.split("---\n"):
        (mesh.routes / f"{text.split()[1]}.yaml").write_text(text)
    await mesh.make_topics("moody")
    mesh.router()
    bad = mesh.agent("moody_agents", MOOD="bad", SLOW_FOLDER=str(mesh.folder))
    await publish(mesh)

    found = await incidents(mesh, COUNT)
    assert sorted(one["workflow_id"] for one in found) == HASTY
    assert {(one["step"], one["kind"]) for one in found} == {("work", "exhausted")}
    assert all("not in the mood for" in one["message"] and "attempt 2 of 2" in one["message"] for one in found)
    listed = await mesh.json("workflows", "--status", "incident")
    assert sorted(one["workflow_id"] for one in listed["workflows"]) == HASTY
    stuck = (await mesh.json("status"))["stuck"]
    assert any("5 incidents" in one["what"] and "mesh workflows retry" in one["next"] for one in stuck)

    assert bad.stop() == 0, bad.text()
    mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(mesh.folder))
    outcomes = await mesh.wait_outcomes(COUNT)
    assert {name: one.status for name, one in outcomes.items()} == dict.fromkeys(PATIENT, "completed")

    retried = await asyncio.gather(*(mesh.json("workflow", "retry", name, "--by", "olga") for name in HASTY[1:]))
    assert all(one["accepted"] for one in retried)
    assert (await mesh.cli("workflow", "retry", HASTY[0], "--step", "work")).out.startswith(b"retry")
    outcomes = await mesh.wait_outcomes(2 * COUNT)
    assert {name: one.status for name, one in outcomes.items()} == dict.fromkeys(PATIENT + HASTY, "completed")
    # Nothing is left to retry, and a script can tell.
    refused = await mesh.cli("workflow", "retry", HASTY[0], "--json", code=1)
    assert (refused.json["accepted"], refused.json["code"]) == (False, "ended")
    shown = await mesh.json("workflow", HASTY[1])
    assert shown["workflow"]["steps"]["work"]["attempt"] == 3

"""Notifiers as processes: what is asked reaches real receivers, and nothing is lost when one dies.

A web server that fails at first and a mail server are on loopback. The notifier is killed while
messages wait, and another one goes on with an empty folder of its own.
"""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Collection
from typing import Any

import pytest
from mesh_processes import MeshProcesses
from receivers import Posted, mail_server, web_server

pytestmark = pytest.mark.slow

ROUTE = """\
route: pay
on: {type: test.pay}
key: ${{ event.subject }}
steps:
  review: {approval: {ask: Pay?, payload: "${{ event.data }}", role: finance, quorum: 2, deadline: 3h}}
"""
PEOPLE = "finance: [ana, ben, cem]\n"
SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()


def is_signed(posted: Posted) -> bool:
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return posted.headers["webhook-signature"] == f"v1,{wanted}"


async def publish(mesh: MeshProcesses, *subjects: str) -> None:
    async with await mesh.client() as client:
        await client.publish_all(
            [{"type": "test.pay", "source": "/p", "id": one, "subject": one, "data": {}} for one in subjects]
        )


async def wait_told(mesh: MeshProcesses, what: str, persons: Collection[str], count: int) -> list[Any]:
    """Wait until so many notices of this kind have arrived at each person."""

    async def told() -> list[Any] | None:
        found = (await mesh.json("notices", "list", "--limit", "1000"))["notices"]
        sent = [one for one in found if (one["what"], one["status"]) == (what, "sent")]
        done = all(sum(one["person"] == person for one in sent) >= count for person in persons)
        return found if done else None

    return await mesh.wait_until(f"{count} {what} for {persons}", told)


async def test_what_is_asked_reaches_its_receivers_though_they_fail_and_the_notifier_is_killed(
    mesh: MeshProcesses,
) -> None:
    (mesh.routes / "pay.yaml").write_text(ROUTE)
    await mesh.make_topics()
    mesh.router()
    fails = {"left": 3}
    is_down = False

    def status(_: Posted) -> int:
        fails["left"] -= 1
        return 503 if is_down or fails["left"] >= 0 else 204

    async with web_server(status) as web, mail_server() as mails:
        file = mesh.folder / "people.yaml"
        file.write_text(PEOPLE)
        await mesh.cli("people", "apply", file, "--yes", "--by", "ops")
        await mesh.cli("people", "channels", "set", "ana", "--webhook", f"{web.url}/ana")
        await mesh.cli("people", "channels", "set", "BEN", "--email", "ben@example.org")
        nobody = await mesh.cli("people", "channels", "set", "dan", "--email", "dan@example.org", code=3)
        assert "nobody named 'dan'" in nobody.err
        env = {
            "MESH_WEBHOOK_SECRETS": SECRET,
            "MESH_SMTP_HOST": "127.0.0.1",
            "MESH_SMTP_PORT": str(mails.port),
            "MESH_SMTP_SECURITY": "none",
            "MESH_SMTP_FROM": "mesh@example.org",
        }
        one = mesh.notifier("one", **env)
        first = [f"a{number}" for number in range(5)]
        await publish(mesh, *first)
        await wait_told(mesh, "asked", ["ana", "ben"], 5)
        assert all(is_signed(posted) for posted in (*web.taken, *web.refused))

        # what waits for a receiver that is down outlives the process and its folder
        is_down = True
        taken = len(web.taken)
        await publish(mesh, *(f"b{number}" for number in range(5)))
        await wait_told(mesh, "asked", ["ben"], 10)
        one.kill()
        is_down = False
        two = mesh.notifier("two", **env, MESH_DATA_DIR=str(mesh.folder / "other"))
        await wait_told(mesh, "asked", ["ana", "ben"], 10)
        again = [posted.headers["webhook-id"] for posted in web.taken[taken:]]
        assert len(set(again)) == 5

        approvals = (await mesh.json("approvals"))["approvals"]
        for row in approvals[:3]:
            for person in ("ana", "cem"):
                await mesh.cli("approve", row["approval_id"], "--by", person)
        told = await wait_told(mesh, "closed", ["ana", "ben"], 3)
        assert two.stop() == 0
    assert {row["status"] for row in told} == {"sent"}
    ids = [posted.headers["webhook-id"] for posted in web.taken]
    assert len(ids) == len(set(ids)) == 13
    bodies = [json.loads(posted.body) for posted in web.taken]
    closes = [body["data"] for body in bodies if body["type"] == "mesh.approval.closed"]
    assert {(data["verdict"], data["by"]) for data in closes} == {("approved", "cem")}
    assert all("payload" not in body["data"] for body in bodies)
    text = "\n".join(str(mail.get_payload()) for mail in mails.taken)
    assert all(f"pay:{subject}/" in text for subject in first)
    assert (await mesh.json("status"))["notices_undelivered"] == 0

"""A link in a real notice, opened on a phone: from the message to the receipt without a sign-in.

A router, a console and a notifier run on SQLite, and a web server takes the notice.
"""

import asyncio
import json
import secrets
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from chromium import Browser, chromium_path
from mesh_processes import MeshProcesses, Process
from receivers import web_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium on this machine"),
]

ANA = "ana@example.org"
ROUTE = """\
route: pay
on: {type: test.pay}
key: ${{ event.subject }}
steps:
  review: {approval: {ask: Pay this invoice?, payload: "${{ event.data }}", role: finance, quorum: 1, deadline: 3h}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def start_console(mesh: MeshProcesses, env: dict[str, str]) -> Process:
    """A console on which somebody else than the approver may sign in."""
    command = ["console", "--dev-login", "olga@example.org"]
    found = Process("console", command, mesh.env(**env), mesh.folder / "console.log")
    mesh.processes.append(found)
    return found


def answer_on_a_phone(link: str) -> tuple[str, list[str]]:
    """Open the link, look, and approve: what the page says then, and what the browser says."""
    with Browser(width=390, height=844, phone=True) as phone:
        phone.go(link)
        assert phone.script("document.documentElement.scrollWidth") == 390
        phone.click("button.first")
        phone.wait_text("Your answer")
        address = phone.script("location.href + document.referrer + document.documentElement.outerHTML")
        assert urlsplit(link).query.removeprefix("link=") not in address, "the token is gone"
        assert "4711" in phone.text()
        assert phone.script("document.documentElement.scrollWidth") == 390
        phone.click("button[value=approve]")
        phone.wait_text("Your answer counts. It is approved.")
        return phone.text(), phone.said


async def test_an_approver_answers_by_the_link_of_a_notice_and_a_scanner_uses_nothing_up(
    sqlite_mesh: MeshProcesses,
) -> None:
    mesh, url = sqlite_mesh, f"http://127.0.0.1:{free_port()}"
    env = {
        "MESH_CONSOLE_URL": url,
        "MESH_CONSOLE_ADDRESS": url.removeprefix("http://"),
        "MESH_CONSOLE_LINK_SECRETS": secrets.token_urlsafe(32),
    }
    (mesh.routes / "pay.yaml").write_text(ROUTE)
    await mesh.make_topics()
    mesh.router()
    console = start_console(mesh, env)
    async with web_server() as web:
        people = mesh.folder / "people.yaml"
        people.write_text(f"finance: [{ANA}]\n")
        await mesh.cli("people", "apply", people, "--yes", "--by", "ops")
        await mesh.cli("people", "channels", "set", ANA, "--webhook", f"{web.url}/ana")
        mesh.notifier(**env)
        async with await mesh.client() as client:
            await client.publish({"type": "test.pay", "source": "/p", "subject": "1", "data": {"amount": 4711}})

        async def told() -> str | None:
            return json.loads(web.taken[0].body)["data"]["url"] if web.taken else None

        link = await mesh.wait_until("a notice", told)
    assert link.startswith(f"{url}/a/")

    async def listens() -> bool | None:
        return "sign in" in console.text() or None

    await mesh.wait_until("the console", listens)
    async with httpx.AsyncClient() as scanner:
        for _ in range(2):
            assert (await scanner.get(link)).status_code == 200
        text, said = await asyncio.to_thread(answer_on_a_phone, link)
        assert "You are done" in text
        assert said == []
        assert "This link has been used" in (await scanner.get(link)).text
    [answer] = (await mesh.json("approvals", "list", "--closed"))["approvals"]
    assert (answer["verdict"], answer["closed_by"]) == ("approved", ANA)
    assert urlsplit(link).query.removeprefix("link=") not in mesh.logs()

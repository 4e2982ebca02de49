"""Every page of the console in a real browser: axe finds nothing serious, light and dark.

Also what only a browser shows: a form that comes back, and an order from preview to operation. One
browser does all of it, over a console in this process and a broker in memory.
"""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from chromium import Browser, chromium_path
from console_pages import OPERATOR_NAME, Mesh, approval_id, small_mesh, until
from node_packages import install
from sample_mesh import workflow
from test_console_links import HOUR_MS, LINKS, link_of
from test_console_routes import NEW, OLD, write_routes
from told_mesh import commit_ingress

from mesh.console.pages.routes import short
from mesh.console.sessions import COOKIE
from mesh.inspection.read_model import queries

AXE = Path(__file__).parents[1] / "axe"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOUND = (
    "axe.run(document, {runOnly: %s}).then((found) => JSON.stringify(found.violations"
    ".filter((one) => one.impact === 'serious' || one.impact === 'critical')"
    ".map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 200))])))"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js with npm"),
]


@asynccontextmanager
async def served(mesh: Mesh) -> AsyncIterator[str]:
    """The console's URL, on a port of its own."""
    config = uvicorn.Config(mesh.console.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            mesh.console.stop()
            server.should_exit = True
            await serving


async def paths(mesh: Mesh) -> list[str]:
    """Every page, with what is on it."""
    one, stuck = quote(approval_id(), safe=""), quote(workflow(3), safe="")
    [cause] = await mesh.console.desk.log(queries.causes)
    [letter] = await mesh.console.desk.log(queries.dead_letters)
    operator = mesh.browser(OPERATOR_NAME)
    bulk = await operator.send("/bulk/preview", {"command": "retry", "cause": cause.cause})
    ordered = await operator.send("/bulk", {"id": bulk.headers["location"].partition("id=")[2], "reason": "r"})
    again = await operator.send("/bulk/preview", {"command": "cancel", "cause": cause.cause})
    letters = await operator.send("/letters/preview", {"verb": "discard"})
    found = [again, ordered, letters]
    lists = ["/", "/approvals?for=all", "/approvals?state=closed&for=all", "/workflows", "/workflows?route=none"]
    lists += ["/incidents", "/operations", "/dead-letters", "/agents", "/more", "/nope", "/login"]
    lists += ["/routes", "/route?name=triage", "/route?name=legacy", "/events", "/event?id=delivery-1"]
    lists += ["/event?id=delivery-9", f"/route?name=triage&version={short(NEW.digest)}&compare={short(OLD.digest)}"]
    lists += [f"/approval?id={one}{view}" for view in ("", "&as=json", "&edit=1", "&edit=json")]
    lists += [f"/workflow?id={stuck}", f"/dead-letters?id={quote(letter.id, safe='')}"]
    return lists + [str(one.headers["location"]) for one in found]


def look(browser: Browser, url: str, pages: list[str], axe: str) -> list[str]:
    """What axe finds, with all that can be opened open."""
    faults = []
    for path in pages:
        browser.go(url + path)
        browser.script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        browser.script(f"{axe}; 0")
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.call("Emulation.setEmulatedMedia", {"features": features})
            rules = json.dumps(RULES if scheme == "light" else ["color-contrast"])
            found = json.loads(
                browser.script(FOUND % (rules if scheme == "light" else f"{{type: 'rule', values: {rules}}}"))
            )
            faults += [f"{path}, {scheme}: {one}" for one in found]
    return faults


def edit_and_order(browser: Browser, url: str) -> None:
    """An edit that does not fit comes back as it was; an order goes from preview to operation."""
    browser.go(f"{url}/approval?id={quote(approval_id(), safe='')}&edit=json")
    text = '{"body": "My own <b>text</b>'
    browser.fill("textarea.code", text)
    browser.click("button.first")
    browser.wait_text("not JSON")
    assert browser.script("document.querySelector('textarea.code').value") == text

    browser.go(f"{url}/incidents")
    browser.click("button[value=retry]")
    browser.wait_text("Nothing is sent yet")
    browser.fill("#reason", "the disk is larger")
    browser.click("button.first")
    browser.wait_text("0 of 1 decided")
    assert "the disk is larger" in browser.text()


async def test_every_page_holds_to_axe_and_its_forms_work(tmp_path: Path) -> None:
    axe = (install(AXE) / "axe-core" / "axe.min.js").read_text()
    async with small_mesh(tmp_path, links=LINKS) as mesh, served(mesh) as url:
        await write_routes(mesh)
        await commit_ingress(mesh.broker, 10)
        people = f"maintainer: [ana@example.org, {OPERATOR_NAME}]\n"
        (tmp_path / "approvers.yaml").write_text(people)
        await until(lambda: "maintainer" in mesh.console.desk.staff.reader(OPERATOR_NAME).roles)
        await until(lambda: mesh.console.desk.projector.status is not None)
        pages = await paths(mesh)
        session = mesh.console.desk.sessions.begin(OPERATOR_NAME)

        def drive() -> list[str]:
            with Browser() as browser:
                browser.call("Network.enable")
                browser.call("Network.setCookie", {"name": COOKIE, "value": session, "url": url})
                faults = look(browser, url, [*pages, link_of(mesh)], axe)
                edit_and_order(browser, url)
                # without a session: the page of a link, and what it opens
                browser.go(f"{url}/login")  # a page without a stream, which would lose its session
                browser.call("Network.clearBrowserCookies")
                faults += look(browser, url, [link_of(mesh), link_of(mesh, late_ms=2 * HOUR_MS)], axe)
                browser.go(url + link_of(mesh))
                browser.click("button.first")
                browser.wait_text("Your answer")
                faults += look(browser, "", [browser.script("location.href")], axe)
                said = [one for one in browser.said if not any(code in one for code in ("403", "404", "410", "422"))]
                return faults + said

        assert await asyncio.to_thread(drive) == []

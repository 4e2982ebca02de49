"""People sign in at a console behind TLS, with a provider of another make: all real processes."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import apsw
import httpx
import pytest
from mesh_processes import ROOT, MeshProcesses, Process
from tls import Identity, make_identity, proxy

from mesh.console.sessions import SECURE_COOKIE

pytestmark = pytest.mark.slow

ANA, OLGA, NEW = "ana@example.org", "olga@example.org", "new.bob@example.org"


async def said(mesh: MeshProcesses, process: Process, pattern: str) -> str:
    """The first group of what a process says."""

    async def found() -> str | None:
        assert process.is_alive, process.text()
        match = re.search(pattern, process.text())
        return match[1] if match else None

    return await mesh.wait_until(pattern, found)


class Browser:
    """Follows links as a browser does, and trusts the certificate of this test alone."""

    def __init__(self, url: str, identity: Identity) -> None:
        self.url = url
        self.client = httpx.AsyncClient(verify=identity.client(), follow_redirects=True, base_url=url, timeout=60)

    async def sign_in(self, **form: str) -> httpx.Response:
        """From a page of the console to the provider, its form, and back."""
        asked = await self.client.get("/approvals")
        assert "Authorize Client" in asked.text, asked.text
        assert asked.url.host == "localhost"
        assert not str(asked.url).startswith(self.url)
        return await self.client.post(asked.url, data=form)


@asynccontextmanager
async def console(mesh: MeshProcesses, identity: Identity) -> AsyncIterator[tuple[str, Path]]:
    """A console behind TLS, with the provider that its people sign in with: URL and folder."""
    words = [sys.executable, str(ROOT / "tests" / "oidc_provider.py"), *map(str, identity), ANA, OLGA, NEW]
    provider = Process("provider", words, mesh.env(), mesh.folder / "provider.log")
    mesh.processes.append(provider)
    secret = mesh.folder / "client.secret"
    secret.write_text("what the provider knows of this console\n")
    async with proxy(identity) as front:
        served = mesh.console(
            MESH_CONSOLE_URL=front.url,
            MESH_CONSOLE_OIDC_ISSUER=await said(mesh, provider, r"issuer (\S+)"),
            MESH_CONSOLE_OIDC_CLIENT_ID="mesh-console",
            MESH_CONSOLE_OIDC_CLIENT_SECRET_FILE=str(secret),
            SSL_CERT_FILE=str(identity.certificate),
        )
        front.target = int(await said(mesh, served, r"console at http://[^:]+:(\d+)"))
        yield front.url, mesh.folder / "data"


async def test_people_sign_in_see_what_their_roles_allow_sign_out_and_come_back(
    sqlite_mesh: MeshProcesses, tmp_path: Path
) -> None:
    mesh, identity = sqlite_mesh, make_identity(tmp_path)
    mesh.approvers.write_text(f"finance: [{ANA}]\nmesh.operator: [{OLGA}]\n")
    await mesh.make_topics()
    async with console(mesh, identity) as (url, data), AsyncExitStack() as open_ones:
        ana, olga, new, nobody = (Browser(url, identity) for _ in range(4))
        for browser in (ana, olga, new, nobody):
            await open_ones.enter_async_context(browser.client)
        page = await ana.sign_in(sub=ANA)
        assert (page.status_code, str(page.url)) == (200, f"{url}/approvals"), page.text
        assert ANA in page.text
        [cookie] = [one for one in ana.client.cookies.jar if one.name == SECURE_COOKIE]
        assert cookie.secure
        # roles are the mesh's
        assert (await ana.client.get("/workflows")).status_code == 403
        assert (await olga.sign_in(sub=OLGA)).status_code == 200
        assert (await olga.client.get("/workflows")).status_code == 200
        # whom the provider has not verified, and who says no
        refused = await new.sign_in(sub=NEW)
        assert (refused.status_code, "has not verified" in refused.text) == (403, True)
        denied = await nobody.sign_in(action="deny")
        assert (denied.status_code, "You are not signed in" in denied.text) == (403, True), denied.text

        signed_out = await olga.client.post("/logout", headers={"origin": url})
        assert str(signed_out.url) == f"{url}/login"
        assert (await olga.client.get("/workflows", follow_redirects=False)).status_code == 303
        assert (await olga.sign_in(sub=OLGA)).status_code == 200

        # a session that has ended leads to the provider, and back to the page that was wanted
        [sessions] = data.glob("console/*/*/sessions.sqlite")
        with apsw.Connection(str(sessions)) as db:
            db.execute("UPDATE sessions SET ends_at_ms = 1 WHERE person = ?", (ANA,))
        assert (await ana.client.get("/approvals", follow_redirects=False)).status_code == 303
        again = await ana.sign_in(sub=ANA)
        assert (again.status_code, str(again.url)) == (200, f"{url}/approvals")

"""Signing in at a console with a provider: there, back, and what is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from console_pages import Mesh, approval_id, small_mesh
from joserfc.jwk import OctKey
from openid_provider import CLIENT, ISSUER, SECRET, OpenIdProvider, new_key

from mesh.adapters.system import SystemClock
from mesh.console import app
from mesh.console.listening import listen_on
from mesh.console.oidc.provider import OidcConfig, Provider
from mesh.console.sessions import COOKIE, SECURE_COOKIE
from mesh.errors import SettingsInvalid
from mesh.settings import load_settings
from mesh.web_server import LOOPBACK

ANA = "ana@example.org"
URL = "https://mesh.example"
CONFIG = OidcConfig(issuer=ISSUER, client_id=CLIENT, secret=SECRET, claim="email", url=URL)


class World:
    """A console, its provider, and the browsers between them."""

    def __init__(self, mesh: Mesh, provider: OpenIdProvider) -> None:
        self.mesh, self.provider = mesh, provider

    def browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.mesh.console.app), base_url=URL)

    async def back(self, browser: httpx.AsyncClient, target: str = "/approvals") -> str:
        """Where the provider sends a browser that wanted this page."""
        found = await browser.get("/login/start", params={"next": target})
        assert found.status_code == 303, found.text
        return await self.provider.agree(found.headers["location"])

    async def sign_in(self, browser: httpx.AsyncClient, target: str = "/approvals") -> httpx.Response:
        return await browser.get(await self.back(browser, target))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world_of(tmp_path, monkeypatch, CONFIG) as found:
        yield found


@asynccontextmanager
async def world_of(folder: Path, monkeypatch: pytest.MonkeyPatch, config: OidcConfig) -> AsyncIterator[World]:
    provider = OpenIdProvider(SystemClock().now_ms() // 1_000)
    monkeypatch.setattr(app, "Provider", partial(Provider, transport=provider.transport))
    async with small_mesh(folder, oidc=config, url=URL, hosts=LOOPBACK | {"mesh.example"}) as mesh:
        yield World(mesh, provider)


async def test_a_link_leads_to_the_provider_and_back_to_its_page(world: World) -> None:
    browser = world.browser()
    page = f"/approval?id={approval_id()}"
    found = await browser.get("/approval", params={"id": approval_id()})
    # to the sign-in, from there to the provider, with nothing to click
    found = await browser.get(found.headers["location"])
    assert found.status_code == 303
    found = await browser.get(found.headers["location"])
    asked = parse_qs(urlsplit(found.headers["location"]).query)
    assert asked["scope"] == ["openid email"]
    assert asked["redirect_uri"] == [f"{URL}/login/callback"]
    found = await browser.get(await world.provider.agree(found.headers["location"]))
    assert found.status_code == 303
    assert httpx.URL(found.headers["location"]).params["id"] == approval_id(), page
    assert "Post this reply?" in (await browser.get(found.headers["location"])).text


async def test_the_session_is_a_cookie_that_only_this_host_can_set(world: World) -> None:
    browser = world.browser()
    [session] = [
        one
        for one in (await world.sign_in(browser)).headers.get_list("set-cookie")
        if one.startswith(f"{SECURE_COOKIE}=")
    ]
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in session.split(";")}
    assert "Domain" not in session
    # what a neighbour in the same domain can plant counts for nothing
    name = world.mesh.console.desk.sessions.begin(ANA)
    planted = world.browser()
    assert (await planted.get("/approvals", headers={"cookie": f"{COOKIE}={name}"})).status_code == 303
    assert (await planted.get("/approvals", headers={"cookie": f"{SECURE_COOKIE}={name}"})).status_code == 200
    await browser.post("/logout", headers={"sec-fetch-site": "same-origin"})
    assert (await browser.get("/approvals")).status_code == 303


async def test_after_signing_out_nobody_is_signed_in_by_themself(world: World) -> None:
    found = await world.browser().get("/login")
    assert found.status_code == 200
    assert 'href="/login/start?next=%2F"' in found.text
    assert "code" not in found.text.lower().replace("unicode", "")


async def test_the_development_login_is_not_there(world: World) -> None:
    own = {"sec-fetch-site": "same-origin"}
    found = await world.browser().post("/login", data={"code": world.mesh.console.config.login.code}, headers=own)
    assert found.status_code == 405


TOKENS: list[tuple[dict[str, Any], str]] = [
    ({"nonce": "another"}, "does not hold"),
    ({"nonce": None}, "does not hold"),
    ({"aud": "another"}, "does not hold"),
    ({"aud": [CLIENT, "another"]}, "for another client"),
    ({"aud": [CLIENT, "another"], "azp": "another"}, "for another client"),
    ({"iss": "https://evil.example"}, "does not hold"),
    ({"exp": 1}, "does not hold"),
    ({"iat": None}, "does not hold"),
    ({"sub": None}, "does not hold"),
    ({"email": None}, "no email"),
    ({"email": "  "}, "no email"),
    ({"email": ["ana@example.org"]}, "no email"),
    ({"email_verified": False}, "has not verified"),
    ({"email_verified": None}, "has not verified"),
    ({"email_verified": "yes"}, "has not verified"),
]


async def test_an_id_token_that_does_not_hold_signs_nobody_in(world: World) -> None:
    for claims, said in TOKENS:
        world.provider.claims = claims
        await refused(world, said)
    world.provider.claims = {"aud": [CLIENT, "another"], "azp": CLIENT}
    assert (await world.sign_in(world.browser())).status_code == 303


async def refused(world: World, said: str) -> None:
    browser = world.browser()
    found = await world.sign_in(browser)
    assert (found.status_code, said in found.text) == (403, True), (world.provider.claims, found.text)
    assert SECURE_COOKIE not in browser.cookies


async def test_only_the_providers_own_key_signs(world: World) -> None:
    world.provider.header = {"alg": "none"}
    await refused(world, "does not hold")
    # a secret that everybody can read, with the name of a key that is there
    world.provider.header, world.provider.signer = {"alg": "HS256"}, OctKey.import_key("x" * 32)
    await refused(world, "does not hold")
    world.provider.header, world.provider.signer = {"alg": "HS256", "kid": "shared"}, OctKey.import_key("secret" * 6)
    await refused(world, "does not hold")
    world.provider.header, world.provider.signer = {"alg": "ES256"}, new_key("first")
    await refused(world, "does not hold")


async def test_a_new_key_of_the_provider_is_looked_for_but_not_for_each_sign_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = SystemClock().now_ms()
    async with world_of(tmp_path, monkeypatch, CONFIG) as world:
        monkeypatch.setattr(SystemClock, "now_ms", lambda _: now_ms)
        assert (await world.sign_in(world.browser())).status_code == 303
        world.provider.key = new_key("second")
        await refused(world, "does not hold")
        assert world.provider.asked.count("keys") == 1
        monkeypatch.setattr(SystemClock, "now_ms", lambda _: now_ms + 61_000)
        assert (await world.sign_in(world.browser())).status_code == 303
        assert world.provider.asked.count("keys") == 2
        assert world.provider.asked.count("about") == 1


async def test_who_comes_back_must_be_who_went(world: World) -> None:
    back = await world.back(world.browser())
    # another browser: somebody sends a link that would sign others in as themself
    for cookies in ({}, {"__Host-mesh_login_": "x"}):
        found = await world.browser().get(back, headers={"cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())})
        assert (found.status_code, "has begun no such sign-in" in found.text) == (403, True)
    assert world.provider.asked.count("token") == 0
    browser = world.browser()
    first, second = await world.back(browser, "/approvals?for=me"), await world.back(browser, "/approvals?state=closed")
    assert (await browser.get(first)).headers["location"] == "/approvals?for=me"
    assert (await browser.get(second)).headers["location"] == "/approvals?state=closed"
    # each attempt is for once
    assert (await browser.get(first)).status_code == 403
    for path in ("/login/callback", "/login/callback?state=%ff&code=x", "/login/callback?state=&code=x"):
        assert (await browser.get(path)).status_code == 403


async def test_what_the_provider_refuses_is_said_without_a_trace(world: World) -> None:
    browser = world.browser()
    back = httpx.URL(await world.back(browser))
    denied = back.copy_remove_param("code").copy_set_param("error", "access_denied<script>")
    found = await browser.get(denied)
    assert (found.status_code, "access_denied&lt;script&gt;" in found.text) == (403, True)
    back = httpx.URL(await world.back(browser))
    found = await browser.get(back.copy_set_param("iss", "https://evil.example"))
    assert "another provider has answered" in found.text
    back = httpx.URL(await world.back(browser))
    assert "invalid_grant" in (await browser.get(back.copy_set_param("code", "guess"))).text


async def test_the_sign_in_leads_nowhere_else(world: World) -> None:
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\n", "/" + "x" * 3_000):
        assert (await world.sign_in(world.browser(), target)).headers["location"] == "/"


ABOUT: list[tuple[dict[str, Any], str]] = [
    ({"issuer": "https://evil.example"}, "calls itself"),
    ({"authorization_endpoint": "http://id.example/authorize"}, "no https address"),
    ({"authorization_endpoint": None}, "no https address"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "no https address"),
]


async def test_a_provider_that_is_another_or_not_protected_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (about, said) in enumerate(ABOUT):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with world_of(folder, monkeypatch, CONFIG) as world:
            world.provider.about = about
            found = await world.browser().get("/login/start")
            assert (found.status_code, said in found.text) == (403, True), found.text


async def test_a_person_may_be_known_by_sub_and_the_secret_go_in_the_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = OidcConfig(issuer=ISSUER, client_id=CLIENT, secret=SECRET, claim="sub", url=URL)
    async with world_of(tmp_path, monkeypatch, config) as world:
        world.provider.about = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        world.provider.claims = {"email": None, "email_verified": None}
        browser = world.browser()
        assert (await world.sign_in(browser)).status_code == 303
        assert (await browser.get("/api/v1/me")).json()["name"] == "user-7"


async def test_a_probe_may_ask_by_any_name_and_nobody_else(world: World) -> None:
    by_address = {"host": "10.1.2.3:8300"}
    for path, status in (("/health/live", 200), ("/health/ready", 200), ("/login", 421), ("/api/v1/me", 421)):
        assert (await world.browser().get(path, headers=by_address)).status_code == status


async def test_an_address_for_others_needs_a_provider() -> None:
    with listen_on("0.0.0.0:0", is_chosen=True, is_open=True) as found:
        assert found.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "without MESH_CONSOLE_OIDC_CLIENT_ID"),
        ({"MESH_CONSOLE_OIDC_CLIENT_ID": "c"}, "MESH_CONSOLE_URL is ''"),
        ({"MESH_CONSOLE_OIDC_CLIENT_ID": "c", "MESH_CONSOLE_URL": "http://mesh.example"}, "must begin with https://"),
    ],
)
def test_settings_that_would_sign_in_without_protection_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    monkeypatch.setenv("MESH_CONSOLE_OIDC_ISSUER", ISSUER)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=said):
        load_settings()

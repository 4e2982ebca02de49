"""The way of a browser to the provider and back, as pages of a console.

Owns what the browser keeps on its way: a cookie for each attempt, which holds the state, the nonce
and PKCE's verifier. So the one who comes back is the one who went, a code that somebody else brings
is of no use, and the console remembers nothing of those who never come back.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.console.config import SESSION_S
from mesh.console.desk import Desk, link
from mesh.console.oidc.provider import Attempt, Provider, SignInFailed, new_attempt
from mesh.console.pages.sign_in import local
from mesh.console.parameters import Parameters

_log = structlog.get_logger()

_ATTEMPT_S: Final = 600
_NAMED: Final = 8  # characters of a state in a cookie's name
_MOST: Final = 2_000  # characters of a page's address that is kept


class Login:
    """The pages of signing in with a provider."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def show(self, desk: Desk, request: Request) -> Response:
        """Where people come who are not signed in: with a page in mind, they go on at once."""
        given = Parameters(request.scope["query_string"], ["next"])
        start = link("/login/start", next=local(given["next"] or "/"))
        if given["next"]:
            return RedirectResponse(start, 303)
        return await self._page(desk, request, start)

    async def start(self, desk: Desk, request: Request) -> Response:
        """To the provider."""
        given = Parameters(request.scope["query_string"], ["next"])
        target = local(given["next"] or "/")
        attempt = new_attempt(target if len(target) <= _MOST else "/")
        try:
            answer = RedirectResponse(await self._provider.sign_in_url(attempt), 303)
        except SignInFailed as error:
            return await self._failed(desk, request, error)
        kept = urlsafe_b64encode(msgspec.json.encode(attempt)).decode()
        self._keep(desk, answer, _cookie(desk, attempt.state), kept, _ATTEMPT_S)
        return answer

    async def callback(self, desk: Desk, request: Request) -> Response:
        """Back from the provider."""
        name = _cookie(desk, request.query_params.get("state", ""))
        answer: Response
        try:
            attempt = self._returned(request.query_params, request.cookies.get(name, ""))
            person = await self._provider.person(request.query_params["code"], attempt)
        except SignInFailed as error:
            answer = await self._failed(desk, request, error)
        else:
            _log.info("console_signed_in", person=person)
            answer = RedirectResponse(local(attempt.target), 303)
            self._keep(desk, answer, desk.cookie, desk.sessions.begin(person), SESSION_S)
        answer.delete_cookie(name, secure=desk.is_secure, httponly=True)
        return answer

    def _returned(self, given: Mapping[str, str], cookie: str) -> Attempt:
        """The attempt of a browser that has come back with a code. Raises `SignInFailed`.

        `given`: a provider may add parameters of its own.
        """
        attempt, issuer = _kept(cookie), self._provider.config.issuer
        if attempt is None or not _is_same(attempt.state, given.get("state", "")):
            raise SignInFailed("this browser has begun no such sign-in, or it took too long; sign in again")
        # RFC 9207
        if given.get("iss", issuer) != issuer:
            raise SignInFailed("another provider has answered than the one that was asked")
        if "code" not in given:
            raise SignInFailed(f"the provider says: {given.get('error', 'no code')[:100]}")
        return attempt

    def _keep(self, desk: Desk, answer: Response, name: str, value: str, age_s: int) -> None:
        # lax: the browser comes back from the provider's site, and from links in messages
        answer.set_cookie(name, value, max_age=age_s, httponly=True, samesite="lax", secure=desk.is_secure)

    async def _failed(self, desk: Desk, request: Request, error: SignInFailed) -> Response:
        _log.warning("console_sign_in_failed", error=str(error))
        return await self._page(desk, request, "/login/start", problem=f"You are not signed in: {error}.", status=403)

    async def _page(
        self, desk: Desk, request: Request, start: str, *, problem: str = "", status: int = 200
    ) -> Response:
        return await desk.page(request, None, "login_oidc.html", status=status, start=start, problem=problem)


def _cookie(desk: Desk, state: str) -> str:
    """The cookie of an attempt: several tabs may sign in at a time."""
    named = "".join(one for one in state[:_NAMED] if one.isascii() and (one.isalnum() or one in "-_"))
    return f"{'__Host-' if desk.is_secure else ''}mesh_login_{named}"


def _kept(value: str) -> Attempt | None:
    try:
        return msgspec.json.decode(urlsafe_b64decode(value), type=Attempt)
    except (ValueError, msgspec.DecodeError):
        return None


def _is_same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode("utf-8", "replace"))

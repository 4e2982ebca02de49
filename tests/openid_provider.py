"""An OpenID provider that signs for real: in memory one person, who always agrees; or over HTTP.

Owns the checks that a provider makes of its clients: the secret, the code's one use, PKCE. Over
HTTP (`served`) it asks who signs in, and believes it.
"""

import secrets
import socket
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx
import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

ISSUER = "https://id.example"
CLIENT, SECRET = "mesh-console", "the provider's secret/with: signs"


class OpenIdProvider:
    """`claims`: of the next tokens, in the place of the usual; None: left out.

    `asks`: whether a page asks who signs in.
    """

    def __init__(self, now_s: int, *, issuer: str = ISSUER, asks: bool = False) -> None:
        self.now_s, self.issuer, self.asks = now_s, issuer, asks
        self.claims: dict[str, Any] = {}
        self.about: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "ES256"}
        self.asked: list[str] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.key = new_key("first")
        self.signer: Any = None  # in the place of the key
        routes = [
            Route("/.well-known/openid-configuration", self._about),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
            Route("/jwks", self._jwks),
        ]
        self.app = Starlette(routes=routes)
        self.transport = httpx.ASGITransport(self.app)

    async def agree(self, url: str) -> str:
        """The person signs in at this URL. Where the provider then sends the browser."""
        async with httpx.AsyncClient(transport=self.transport) as client:
            return str((await client.get(url)).headers["location"])

    async def _about(self, _: Request) -> Response:
        self.asked.append("about")
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        known = {"issuer": self.issuer, **{name: f"{self.issuer}/{path}" for name, path in places.items()}}
        return JSONResponse(known | self.about)

    async def _authorize(self, request: Request) -> Response:
        given = dict(request.query_params)
        assert (given["response_type"], given["code_challenge_method"]) == ("code", "S256")
        if self.asks and "email" not in given:
            return HTMLResponse(_who(given))
        code = secrets.token_urlsafe(8)
        self.codes[code] = given
        return RedirectResponse(f"{given['redirect_uri']}?{urlencode({'code': code, 'state': given['state']})}")

    async def _token(self, request: Request) -> Response:
        self.asked.append("token")
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        begun = self.codes.pop(form["code"], None)
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if begun is None or begun["code_challenge"] != challenge or begun["redirect_uri"] != form["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if not self._is_client(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        usual = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "user-7",
            "email": begun.get("email", "ana@example.org"),
            "email_verified": True,
            "nonce": begun["nonce"],
            "iat": self.now_s,
            "exp": self.now_s + 86_400,
        }
        claims = {name: value for name, value in (usual | self.claims).items() if value is not None}
        header = {"kid": self.key.kid} | self.header
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self._sign(header, claims)})

    def _sign(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        if header["alg"] == "none":
            parts = (urlsafe_b64encode(_json(part)).decode().rstrip("=") for part in (header, claims))
            return f"{'.'.join(parts)}."
        return jwt.encode(header, claims, self.signer or self.key, algorithms=[header["alg"]])

    def _is_client(self, request: Request, form: dict[str, str]) -> bool:
        from urllib.parse import unquote  # noqa: PLC0415

        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = b64decode(pair).decode().partition(":")
            return (unquote(name), unquote(secret)) == (CLIENT, SECRET)
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)

    async def _jwks(self, _: Request) -> Response:
        self.asked.append("keys")
        keys = KeySet([self.key]).as_dict(private=False)
        # what this version does not know, and what does not sign, is passed over
        odd = [{"kty": "future", "kid": "odd"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, "no key"]
        return JSONResponse({"keys": [*odd, *keys["keys"]]})


@contextmanager
def served(now_s: int) -> Iterator[OpenIdProvider]:
    """A provider on a port of this machine, in a thread of its own, that asks who signs in."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        provider = OpenIdProvider(now_s, issuer=f"http://127.0.0.1:{listening.getsockname()[1]}", asks=True)
        config = uvicorn.Config(provider.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        try:
            yield provider
        finally:
            server.should_exit = True
            serving.join()


def _who(given: dict[str, str]) -> str:
    """The page that asks who signs in."""
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in given.items()
    )
    head = '<!doctype html><title>Who?</title><link rel="icon" href="data:,">'
    return f'{head}<form>{kept}<label>E-mail <input name="email"></label><button>Sign in</button></form>'


def new_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid})


def _json(value: Any) -> bytes:
    import json  # noqa: PLC0415

    return json.dumps(value).encode()

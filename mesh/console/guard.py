"""What a browser may do: headers of every answer, and requests that no page ever sees.

Owns the rules against other sites. An unsafe method must come from this console's own pages, as the
browser itself says (fetch metadata, else Origin). The header `Host` must be a name of this console,
so that no other name can be pointed at it (DNS rebinding). It must not know any page.
"""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mesh.console.api.answers import problem
from mesh.console.config import FORM_BYTES

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
DEFAULTS: Final = {"referrer-policy": "same-origin", "cache-control": "no-store"}
"""What an answer may say otherwise."""

SAFE: Final = frozenset({"GET", "HEAD"})
API: Final = "/api/"
HEALTH: Final = "/health/"
_DIGITS: Final = 18  # of a length


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in DEFAULTS.items():
                    headers.setdefault(name, value)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        found = self._reason(method, path, headers)
        if found is None:
            return None
        text, status = found
        return problem(status, text) if path.startswith(API) else PlainTextResponse(f"{text}\n", status)

    def _reason(self, method: str, path: str, headers: Headers) -> tuple[str, int] | None:
        """Why this request is refused, and with which status."""
        host = headers.get("host", "").lower()
        # a probe knows a process by its address alone, and learns nothing but whether it is well
        if _name_of(host) not in self._hosts and not path.startswith(HEALTH):
            return "this console is not known by this name", 421
        if method in SAFE:
            return None
        # no browser adds a token by itself, so no other site can make it send one
        if not (path.startswith(API) and "authorization" in headers) and not _is_own(headers, host):
            return "this request comes from another site, and is refused", 403
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or len(length) > _DIGITS:
            return "a form needs a length", 411
        if int(length) > FORM_BYTES:
            return f"a form may have {FORM_BYTES:,} bytes", 413
        return None


def _name_of(host: str) -> str:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == host

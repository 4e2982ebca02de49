"""The console's API and the gateway as schemathesis asks them: in this process, by their documents.

    PYTHONPATH=.:tests/unit python tests/unit/schemathesis_targets.py gateway 100000
    PYTHONPATH=.:tests/unit python tests/unit/schemathesis_targets.py console 10000

Owns how a drawn request gets its answer. schemathesis draws requests of a document, such as it
allows and such as it forbids, and holds the answers against it: no 500, no status, media type,
header or body that the document does not know. Of many requests one in fifty is drawn so. The
others are those that were drawn, damaged: bytes lost, doubled and changed, and bodies and headers
of others.
"""

import asyncio
import hmac
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import httpx
import schemathesis
import structlog
from console_pages import OPERATOR_NAME, URL, small_mesh, until
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_answers import Answers
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from test_gateway import TOKEN, Sending, gateway

from mesh.console.api.document import document as console_document
from mesh.console.api.table import ENDPOINTS
from mesh.gateway.openapi import document as gateway_document

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MOST: Final = 0.9
SECRET: Final = "the secret"
FILE: Final = (
    "senders: {shop: {tokens_file: shop.tokens}}\nwebhooks: {github: {vendor: github, secrets_file: hook.secrets}}\n"
)
Start = Callable[[AsyncExitStack], Coroutine[Any, Any, httpx.AsyncClient]]


class Target:
    """What answers over HTTP, in an event loop that is entered for one request at a time."""

    def __init__(self, document: dict[str, Any], start: Start) -> None:
        self._runner, self._stack = asyncio.Runner(), AsyncExitStack()
        self._client = self._runner.run(start(self._stack))
        schema = schemathesis.openapi.from_dict(document)
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        self.cases = st.one_of([one.as_strategy(generation_mode=mode) for one in operations for mode in modes])
        self._answers = Answers(document)
        self._drawn: list[tuple[str, httpx.Request]] = []
        self.seen: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def check(self, case: Any) -> None:
        """Ask, and hold the answer against the document."""
        request = self._request(case)
        found = self._answer(case.path, request)
        case.validate_response(found, checks=CHECKS)
        self._drawn.append((case.path, request))

    def check_damaged(self, chance: random.Random) -> None:
        """Damage a request that was drawn, ask, and hold the answer against the document."""
        (path, one), (_, other) = chance.choice(self._drawn), chance.choice(self._drawn)
        headers = dict(one.headers)
        taken = chance.choice(list(other.headers.items()))
        match chance.randrange(4):
            case 0:
                headers[taken[0]] = taken[1]
            case 1:
                headers.pop(chance.choice(list(headers)))
            case _:
                pass
        body = damaged(chance, one.content, other.content)
        headers |= {"host": one.headers["host"], "content-length": str(len(body))}
        # most get past the door: what lies behind it is more
        if chance.random() < MOST:
            headers |= {"authorization": self._client.headers["authorization"]}
        url = one.url
        if path.startswith("/webhooks/"):
            headers |= _signed(body) | {"x-github-event": chance.choice(("push", "issues", "ping", "status"))}
            url = url.copy_with(path="/webhooks/github") if chance.random() < MOST else url
        # a body goes with POST alone
        request = httpx.Request(one.method, url, headers=headers, content=body if one.method == "POST" else b"")
        found = self._answer(path, request)
        try:
            assert found.status_code != 500, found.text
            self._answers.check(one.method, path, found)
        except Exception as error:
            error.add_note(f"{request.method} {request.url} {dict(request.headers)} {request.content!r}")
            raise

    def _answer(self, path: str, request: httpx.Request) -> httpx.Response:
        found = self._runner.run(self._client.send(request))
        self.seen[(f"{request.method} {path}", found.status_code)] += 1
        return found

    def _request(self, case: Any) -> httpx.Request:
        given = case.as_transport_kwargs(base_url=str(self._client.base_url))
        names = {"method": "method", "url": "url", "params": "params", "json": "json", "data": "content"}
        known = {names[name]: value for name, value in given.items() if name in names and value is not None}
        # httpx adds those of its own, which a test of our server has no use for
        request = self._client.build_request(**known, headers=_headers(given))
        if case.path.startswith("/webhooks/") and "x-hub-signature-256" not in request.headers:
            request.headers.update(_signed(request.content))
        return request


def _signed(body: bytes) -> dict[str, str]:
    digest = hmac.digest(SECRET.encode(), body, "sha256").hex()
    return {"x-hub-signature-256": f"sha256={digest}", "x-github-event": "push"}


def damaged(chance: random.Random, body: bytes, other: bytes) -> bytes:
    """The body with something lost, doubled, changed, or of another in it."""
    start, end = sorted((chance.randint(0, len(body)), chance.randint(0, len(body))))
    at = chance.randint(0, len(other))
    inside = chance.choice([b"", body[start:end] * 2, other[at:], chance.choice(ODD), chance.randbytes(2)])
    return body[:start] + inside + body[end:]


ODD: Final = (
    b"null",
    b"1e999",
    b'"',
    b"\\u0000",
    b"\\ud800",
    b"[[[[",
    b"{}",
    b"\xff",
    b"-0",
    b"9" * 400,
    b'{"a":1,"a":2}',
)


def _headers(given: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """The drawn ones. A drawn token counts nowhere, so the real one takes its place."""
    drawn = [(str(name), str(value)) for name, value in given["headers"].items()]
    return [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in drawn
        if not (name.lower() == "authorization" and value.startswith("Bearer "))
    ]


async def _gateway(folder: Path, stack: AsyncExitStack) -> httpx.AsyncClient:
    (folder / "shop.tokens").write_text(TOKEN)
    (folder / "hook.secrets").write_text(SECRET)
    (folder / "gateway.yaml").write_text(FILE)
    client = await stack.enter_async_context(gateway(Forgetful(), folder / "gateway.yaml"))
    client.headers["authorization"] = f"Bearer {TOKEN}"
    return client


class Forgetful(Sending):
    """A broker that takes all, and keeps nothing: there may be a hundred thousand."""

    async def send(self, records: Any) -> Any:
        return ()


async def _console(folder: Path, stack: AsyncExitStack) -> httpx.AsyncClient:
    mesh = await stack.enter_async_context(small_mesh(folder, receipt_s=0.0))
    await until(lambda: mesh.console.desk.projector.status is not None)
    secret, _ = mesh.console.desk.tokens.make(OPERATOR_NAME, days=1)
    transport = httpx.ASGITransport(mesh.console.app)
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(transport=transport, base_url=URL, headers=headers)


def targets(name: str, folder: Path) -> Target:
    """The target of this name: gateway or console."""
    if name == "gateway":
        return Target(gateway_document(), partial(_gateway, folder))
    return Target(console_document(ENDPOINTS), partial(_console, folder))


def ask(target: Target, requests: int) -> None:
    """Draw that number of requests.

    The first that is answered wrongly is shown as small as it gets.
    """

    @settings(
        max_examples=requests,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(case=target.cases)
    def each(case: Any) -> None:
        target.check(case)

    each()


def main() -> None:
    name, requests = sys.argv[1], int(sys.argv[2])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, targets(name, Path(folder)) as target:
        ask(target, requests // 50)
        seed = random.randrange(10**9)
        chance = random.Random(seed)
        while target.seen.total() < requests:
            target.check_damaged(chance)
            if target.seen.total() % 1_000 == 0:
                sys.stderr.write(f"\r{target.seen.total():,} (seed {seed}) ")
        for (operation, status), count in sorted(target.seen.items()):
            sys.stdout.write(f"{operation:<40} {status} {count:>8,}\n")
        spent = f"{time.process_time() - began:.0f} s of CPU"
        sys.stdout.write(f"{target.seen.total():,} requests, none answered wrongly; {spent}\n")


if __name__ == "__main__":
    main()

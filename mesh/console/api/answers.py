"""Who asks, errors as RFC 9457 has them, and how a value becomes an answer.

Owns the way of a request to the API. A program shows a token; a page's script has the session. A
request that shows a token is never let in by a cookie.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mesh.codec import exact_json
from mesh.console.api.endpoint import Asking, Endpoint, Given, Told
from mesh.console.desk import Desk, Forbidden
from mesh.console.pages.workflows import forbid_others
from mesh.errors import BrokerError, MeshError, NotFound

_log = structlog.get_logger()

PROBLEM: Final = "application/problem+json"
JSON: Final = "application/json"
USED: Final = "this Idempotency-Key was used for another request; take a fresh one for each"
_BEARER: Final = {"www-authenticate": "Bearer"}
_TRY_AGAIN: Final = {"retry-after": "2"}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong, as RFC 9457 has it. `kind`: the class of the error, for programs.

    `id`: under which the console's log has the details. `receipt`: of an answer that does not
    count.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    kind: str = ""
    id: str = ""
    receipt: Any = None


class Refused(Exception):
    """A request that is not served, and the status that says so."""

    def __init__(
        self, status: int, detail: str, *, kind: str = "", receipt: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind, self.receipt = status, detail, kind, receipt
        self.headers = headers or {}


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """The answer that says what is wrong."""
    # `type` has a default, and is said all the same
    body = {"type": "about:blank"} | msgspec.to_builtins(
        Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)
    )
    return Response(exact_json.encode(body), status, headers, PROBLEM)


def answer(value: Any, status: int = 200) -> Response:
    return Response(exact_json.encode(msgspec.to_builtins(value)), status, media_type=JSON)


def served(desk: Desk, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint as Starlette calls it."""

    async def serve(request: Request) -> Response:
        try:
            value = await endpoint.serve(await _asking(desk, endpoint, request))
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            return _failed(request, error)
        return answer(value.value, value.status) if isinstance(value, Told) else answer(value)

    return serve


async def _asking(desk: Desk, endpoint: Endpoint, request: Request) -> Asking:
    person = person_of(desk, request)
    if person is None:
        raise Refused(401, "sign in, or send the header Authorization: Bearer TOKEN", headers=_BEARER)
    reader = desk.staff.reader(person)
    if endpoint.needs_all:
        forbid_others(reader)
    given = Given(request.scope["query_string"], endpoint.parameters)
    body = None if endpoint.takes is None else await _body(request, endpoint.takes)
    return Asking(desk, reader, given, body, request)


def person_of(desk: Desk, request: Request) -> str | None:
    """Who asks; None: nobody knows."""
    shown = request.headers.get("authorization")
    if shown is None:
        return desk.sessions.person(request.cookies.get(desk.cookie, ""))
    scheme, _, secret = shown.partition(" ")
    return desk.tokens.person(secret.strip()) if scheme.lower() == "bearer" else None


async def _body(request: Request, wanted: Any) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused(415, f"send the body as {JSON}")
    try:
        return msgspec.convert(exact_json.decode(await request.body()), wanted)
    except ClientDisconnect as error:
        raise Refused(400, "the request ended too early") from error
    except (exact_json.JsonRefused, msgspec.ValidationError) as error:
        raise Refused(400, f"the body can't be taken: {error}") from error


def _failed(request: Request, error: Exception) -> Response:
    kind = type(error).__name__
    match error:
        case Refused():
            return problem(error.status, error.detail, kind=error.kind, receipt=error.receipt, headers=error.headers)
        case Forbidden():
            return problem(403, str(error), kind=kind)
        case NotFound():
            return problem(404, str(error), kind=kind)
        case BrokerError():
            return problem(503, str(error), kind=kind, headers=_TRY_AGAIN)
        case MeshError():
            return problem(400, str(error), kind=kind)
        case _:
            number = secrets.token_hex(4)
            _log.error("console_api_failed", id=number, path=request.url.path, exc_info=error)
            return problem(500, "The console made an error. Its log has the details under the id.", id=number)

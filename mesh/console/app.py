"""Which URL is which page, and who may ask for it.

Owns the way of a request: signed in or not, and what becomes of an error. Pages themselves are in
`mesh.console.pages`.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from mesh.console.api.table import routes as api_routes
from mesh.console.config import STREAMS
from mesh.console.desk import Desk, link
from mesh.console.guard import Guard
from mesh.console.hub import TOPICS
from mesh.console.oidc.login import Login
from mesh.console.oidc.provider import Provider
from mesh.console.pages import (
    agents,
    answering,
    approvals,
    commands,
    events,
    incidents,
    letters,
    links,
    operations,
    overview,
    routes,
    sign_in,
    workflow,
    workflows,
)
from mesh.console.parameters import Parameters
from mesh.console.staff import Reader

Page = Callable[[Desk, Request, Reader], Awaitable[Response]]
Open = Callable[[Desk, Request], Awaitable[Response]]

PAGES: Final[dict[str, Page]] = {
    "/": overview.overview,
    "/approvals": approvals.approvals,
    "/approval": approvals.approval,
    "/workflows": workflows.workflows,
    "/workflow": workflow.workflow,
    "/payload": workflow.payload,
    "/incidents": incidents.incidents,
    "/dead-letters": letters.dead_letters,
    "/letters": letters.letters,
    "/bulk": operations.bulk,
    "/operations": operations.operations,
    "/operation": operations.operation,
    "/agents": agents.agents,
    "/routes": routes.routes,
    "/route": routes.route,
    "/events": events.events,
    "/event": events.event,
    "/more": overview.more,
    "/search": workflows.search,
}
ACTIONS: Final[dict[str, Page]] = {
    "/approval": answering.answer,
    "/workflow": commands.command,
    "/bulk/preview": operations.preview,
    "/bulk": operations.order,
    "/operation": operations.stop,
    "/letters/preview": letters.preview,
    "/letters": letters.act,
    "/theme": sign_in.choose_theme,
    "/logout": sign_in.sign_out,
}
OF_GUESTS: Final = frozenset({"/approval", "/live", "/logout"})
"""Where somebody may go who came by a link."""


def make_app(desk: Desk) -> ASGIApp:
    """The application, with its guard around it."""
    places = [
        *_login(desk),
        Route("/a/{ref}", _link(desk), methods=["GET"]),
        Route("/a/{ref}", _open(desk, links.enter), methods=["POST"]),
        Route("/live", _signed_in(desk, _live), methods=["GET"]),
        Route("/static/{name}", _open(desk, _asset), methods=["GET"]),
        Route("/health/live", _open(desk, _alive), methods=["GET"]),
        Route("/health/ready", _open(desk, _ready), methods=["GET"]),
        *(Route(path, _signed_in(desk, page), methods=["GET"]) for path, page in PAGES.items()),
        *(Route(path, _signed_in(desk, page), methods=["POST"]) for path, page in ACTIONS.items()),
        *api_routes(desk),
        Route("/{path:path}", _signed_in(desk, _nothing), methods=["GET"]),
    ]
    return Guard(Starlette(routes=places), desk.config.hosts)


def _login(desk: Desk) -> list[Route]:
    """How people sign in: with a provider, or with the code that the console has printed."""
    if desk.config.oidc is None:
        pages = {"GET": sign_in.show, "POST": sign_in.sign_in}
        return [Route("/login", _open(desk, page), methods=[method]) for method, page in pages.items()]
    login = Login(Provider(desk.config.oidc, desk.clock))
    places = {"/login": login.show, "/login/start": login.start, "/login/callback": login.callback}
    return [Route(path, _open(desk, page), methods=["GET"]) for path, page in places.items()]


def _link(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    """A link of a notice: with a token for everybody, else for those with a session."""
    with_token, without = _open(desk, links.show), _signed_in(desk, links.short)

    async def serve(request: Request) -> Response:
        return await (with_token if links.has_token(desk, request) else without)(request)

    return serve


def _open(desk: Desk, page: Open) -> Callable[[Request], Awaitable[Response]]:
    """For everybody."""

    async def serve(request: Request) -> Response:
        try:
            return await page(desk, request)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            return await desk.failed(request, None, error)

    return serve


def _signed_in(desk: Desk, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """For those with a session; others are asked to sign in, and come back.

    Who came by a link sees its approval, and has to sign in for all else.
    """

    async def serve(request: Request) -> Response:
        reader = desk.reader_of(request)
        if reader is None or (reader.by_link and request.url.path not in OF_GUESTS):
            if request.url.path == "/live":
                return PlainTextResponse("sign in first\n", 401)
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            after = target if request.method == "GET" else _page_of_form(request)
            return RedirectResponse(link("/login", next="" if after == "/" else after), 303)
        # before anything is read: what changes from here on comes with the page's stream
        request.state.mark = desk.hub.mark
        try:
            return await page(desk, request, reader)
        except Exception as error:  # noqa: BLE001 - as above
            return await desk.failed(request, reader, error)

    return serve


def _page_of_form(request: Request) -> str:
    """Where the form was that somebody has sent without a session any more."""
    parts = urlsplit(request.headers.get("referer", ""))
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


async def _live(desk: Desk, request: Request, reader: Reader) -> Response:
    parameters = Parameters(request.scope["query_string"], ["topics", "since"])
    topics = [one for one in parameters["topics"].split(",") if one in TOPICS or one.startswith("workflow:")]
    if not reader.sees_all:
        # which workflows there are is not theirs to know
        topics = [one for one in topics if one in {"approvals", "status"}]
    if desk.hub.streams_of(reader.name) >= STREAMS:
        return PlainTextResponse("too many open tabs: this one is not live\n", 429, headers={"retry-after": "30"})
    since = request.headers.get("last-event-id", "") or parameters["since"]
    stream = desk.hub.stream(reader.name, topics, since)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _asset(desk: Desk, request: Request) -> Response:
    return desk.assets.answer(request.path_params["name"]) or PlainTextResponse("no such file\n", 404)


async def _alive(desk: Desk, request: Request) -> Response:  # noqa: ARG001 - an endpoint's signature
    return PlainTextResponse("alive\n")


async def _ready(desk: Desk, request: Request) -> Response:  # noqa: ARG001 - as above
    late = desk.projector.is_late
    return PlainTextResponse("not ready: the caches are behind\n" if late else "ready\n", 503 if late else 200)


async def _nothing(desk: Desk, request: Request, reader: Reader) -> Response:
    return await desk.problem(request, reader, 404, "Not found", f"The console has no page {request.url.path}.")

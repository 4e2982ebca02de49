"""All endpoints, and their routes."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mesh.console.api import approvals, commands, letters, mesh, operations
from mesh.console.api.answers import answer, problem, served
from mesh.console.api.document import document
from mesh.console.api.endpoint import Endpoint
from mesh.console.desk import Desk

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *mesh.ENDPOINTS,
    *approvals.ENDPOINTS,
    *commands.ENDPOINTS,
    *operations.ENDPOINTS,
    *letters.ENDPOINTS,
)
DOCUMENT: Final = "/api/openapi.json"


def routes(desk: Desk) -> list[Route]:
    """The API's part of the application."""
    return [
        Route(DOCUMENT, _document, methods=["GET"]),
        *(Route(one.path, served(desk, one), methods=[one.method]) for one in ENDPOINTS),
        Route("/api/{path:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]


async def _document(_: Request) -> Response:
    return answer(document(ENDPOINTS))


async def _nothing(request: Request) -> Response:
    methods: list[str] = [one.method for one in ENDPOINTS if one.path == request.url.path]
    methods += ["GET"] if request.url.path == DOCUMENT else []
    if methods:
        allowed = {"allow": ", ".join(methods)}
        return problem(405, f"{request.url.path} takes {' and '.join(methods)}", headers=allowed)
    return problem(404, f"the API has nothing at {request.url.path}; {DOCUMENT} says what it has")

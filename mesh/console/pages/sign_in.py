"""Signing in and out, and the look that a person has chosen.

Owns the sign-in for this machine: who has the code that the console said at its start is the
one person it was started for. `mesh.console.oidc` has the other way.
"""

import secrets
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.console.config import SESSION_S
from mesh.console.desk import THEMES, Desk
from mesh.console.parameters import Parameters
from mesh.console.sessions import COOKIE
from mesh.console.staff import Reader

_YEAR_S: Final = 365 * 86_400


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, each once; what can't be read as text is replaced."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=500)
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def local(target: str) -> str:
    """A path of this console; anything else is the overview, so no link leads away from here."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_ours and "\\" not in target else "/"


async def show(desk: Desk, request: Request) -> Response:
    given = Parameters(request.scope["query_string"], ["next", "code"])
    return await _page(desk, request, given["next"], code=given["code"])


async def _page(
    desk: Desk, request: Request, target: str, *, code: str = "", problem: str = "", status: int = 200
) -> Response:
    name = desk.config.login.name
    return await desk.page(
        request, None, "login.html", status=status, name=name, next=local(target or "/"), code=code, problem=problem
    )


async def sign_in(desk: Desk, request: Request) -> Response:
    given = await form_of(request)
    target = local(given.get("next", "/"))
    if not secrets.compare_digest(given.get("code", "").strip().encode(), desk.config.login.code.encode()):
        problem = "This is not the code. The console prints it when it starts."
        return await _page(desk, request, target, problem=problem, status=403)
    answer = RedirectResponse(target, 303)
    session = desk.sessions.begin(desk.config.login.name)
    answer.set_cookie(
        COOKIE, session, max_age=SESSION_S, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return answer


async def sign_out(desk: Desk, request: Request, reader: Reader) -> Response:  # noqa: ARG001 - a page's signature
    desk.sessions.end(request.cookies.get(desk.cookie, ""))
    answer = RedirectResponse("/login", 303)
    for cookie in (desk.cookie, desk.link_cookie):
        answer.delete_cookie(cookie, secure=desk.is_secure, httponly=True)
    return answer


async def choose_theme(desk: Desk, request: Request, reader: Reader) -> Response:  # noqa: ARG001 - as above
    given = await form_of(request)
    answer = RedirectResponse(local(given.get("next", "/")), 303)
    if given.get("theme") in THEMES:
        answer.set_cookie("theme", given["theme"], max_age=_YEAR_S, samesite="lax", httponly=True)
    return answer

"""Short links of approvals, and what comes of one that carries a token.

Owns the way from a notice to its approval without a sign-in. Mail systems and chats fetch each URL
that they see, so a GET shows a button and no more. Its POST puts the token into a cookie, which
`Desk.reader_of` reads from then on, and leads to the approval under a URL without the token.
"""

from typing import NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.codec.links import LINK, Pass
from mesh.console.desk import Desk, Forbidden, link
from mesh.console.pages.approvals import Known, is_used, known_of
from mesh.console.pages.sign_in import form_of
from mesh.console.parameters import Parameters
from mesh.console.staff import Reader
from mesh.errors import NotFound
from mesh.inspection.read_model import queries
from mesh.inspection.wording.plain import ago


class Refusal(NamedTuple):
    """Why a link does not open its approval. `is_foreign`: somebody else is signed in."""

    status: int
    title: str
    text: str
    is_foreign: bool = False


def has_token(desk: Desk, request: Request) -> bool:
    """Whether it is a link that may need no sign-in."""
    return desk.config.links is not None and bool(request.query_params.get(LINK))


async def short(desk: Desk, request: Request, reader: Reader) -> Response:  # noqa: ARG001 - a page's signature
    """The approval that a short link names."""
    # a token may be there where this console takes none
    Parameters(request.scope["query_string"], [LINK])
    found = await _named(desk, request.path_params["ref"].lower())
    if not found:
        raise NotFound("There is no such approval, or its memory has ended.")
    return RedirectResponse(link("/approval", id=found), 303)


async def show(desk: Desk, request: Request) -> Response:
    """The page of a link with a token: a button."""
    return await _answer(desk, request, Parameters(request.scope["query_string"], [LINK])[LINK])


async def enter(desk: Desk, request: Request) -> Response:
    """Let the person of a link in: to its approval alone."""
    return await _answer(desk, request, (await form_of(request)).get(LINK, ""), enters=True)


async def _answer(desk: Desk, request: Request, token: str, *, enters: bool = False) -> Response:
    ref = request.path_params["ref"].lower()
    found = desk.read_link(ref, token)
    if found is None:
        refusal = Refusal(
            403,
            "This link does not count",
            "It is cut off, or was changed, or the secret of links is another one now. Open the whole link of the "
            "message, or sign in.",
        )
        return await _refused(desk, request, ref, refusal)
    approval_id = await _named(desk, ref) or await _just_asked(desk, ref)
    signed_in = desk.sessions.person(request.cookies.get(desk.cookie, "")) or ""
    if approval_id and signed_in and desk.staff.is_same(signed_in, found.person):
        return _without_token(RedirectResponse(link("/approval", id=approval_id), 303))
    why_not = await _why_not(desk, found, approval_id, signed_in=signed_in)
    if why_not is not None:
        return await _refused(desk, request, ref, why_not)
    if not enters:
        page = await desk.page(
            request, None, "link.html", person=found.person, ref=ref, token=token, ends_at_ms=found.ends_at_ms
        )
        return _without_token(page)
    answer = RedirectResponse(link("/approval", id=approval_id), 303)
    answer.set_cookie(
        desk.link_cookie,
        f"{ref}.{token}",
        max_age=max(1, (found.ends_at_ms - desk.now_ms()) // 1_000),
        httponly=True,
        samesite="lax",
        secure=desk.is_secure,
    )
    return _without_token(answer)


async def _named(desk: Desk, ref: str) -> str:
    """The id of the approval; empty: the caches have none."""

    def found(db: apsw.Connection) -> str | None:
        return queries.approval_with_ref(db, ref)

    return await desk.open(found) or await desk.log(found) or ""


async def _just_asked(desk: Desk, ref: str) -> str:
    """The same of a question that may be newer than the caches: its notice was quicker."""
    await desk.projector.read_inbox()
    return await _named(desk, ref)


# What keeps somebody out --------------------------------------------------------------------------


async def _why_not(desk: Desk, found: Pass, approval_id: str, *, signed_in: str) -> Refusal | None:
    if found.ends_at_ms <= desk.now_ms():
        ended = ago(found.ends_at_ms, desk.now_ms())
        return Refusal(
            410, "This link has ended", f"Its time was over {ended}. The question may still be open: sign in."
        )
    if signed_in:
        text = f"It is for {found.person}, and you are signed in as {signed_in}. Sign out first, then open it again."
        return Refusal(403, "This link is for somebody else", text, is_foreign=True)
    if not approval_id:
        return Refusal(404, "Not found", "There is no such question, or its memory has ended.")
    try:
        known = await known_of(desk, approval_id, desk.staff.guest(found))
    except Forbidden:
        text = f"{found.person} may not answer this question any more. Who grants roles has changed that since."
        return Refusal(403, "This link does not count any more", text)
    return _why_over(desk, known)


def _why_over(desk: Desk, known: Known) -> Refusal | None:
    if is_used(known.used) and known.used is not None:
        when = ago(known.used.at_ms, desk.now_ms())
        text = f"Its answer came {when}. A link takes one answer: sign in to see the question, or to send another one."
        return Refusal(410, "This link has been used", text)
    row = known.row
    if row is not None and row.closed_at_ms is not None:
        by = f" by {row.closed_by}" if row.closed_by else ""
        when = ago(row.closed_at_ms, desk.now_ms())
        text = f"It was {row.verdict or 'withdrawn'}{by}, {when}. Nobody has to answer it any more. Sign in to read it."
        return Refusal(410, "This question is closed", text)
    return None


async def _refused(desk: Desk, request: Request, ref: str, refusal: Refusal) -> Response:
    page = await desk.page(request, None, "link_refused.html", status=refusal.status, refusal=refusal, ref=ref)
    return _without_token(page)


def _without_token(answer: Response) -> Response:
    """So that no other request of the page names the URL, which has the token."""
    answer.headers["referrer-policy"] = "no-referrer"
    return answer

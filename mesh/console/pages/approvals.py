"""Approvals: what waits for people, one of them, and the answer.

Owns what an approver reads and sends. Whether an answer counts is for the workflow's owner to
decide: the page shows its receipt.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.codec.approvals import Receipt
from mesh.codec.links import approval_ref
from mesh.console import words
from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk, Forbidden, link
from mesh.console.pages.sign_in import form_of
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.staff import Reader
from mesh.core.approvals import Terms
from mesh.core.inputs import AnswerKind
from mesh.errors import MeshError, NotFound
from mesh.inspection.inbox import Filters, OpenRow, Waiting, find, givers_of, page_of
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import AnswerRow, ApprovalRow

REASON: Final = 2_000  # characters
ANSWERS_SHOWN: Final = 20
_NEAR: Final = 5


# The list -----------------------------------------------------------------------------------------


async def approvals(desk: Desk, request: Request, reader: Reader) -> Response:
    """What waits for people, the nearest deadline first; or what was decided, the last first."""
    given = Parameters(request.scope["query_string"], ["for", "state", "role", "route", "due", "after"])
    state, whose = given.among("state", ["open", "closed"]) or "open", given.among("for", ["me", "all"])
    is_mine = whose == "me" or not reader.sees_all or not whose
    if whose == "all" and not reader.sees_all:
        raise Forbidden("Only viewers, operators and authors see the approvals of others. Yours are without for=all.")
    if state == "closed":
        by = "" if whose == "all" else reader.name
        closed = await desk.log(
            lambda db: queries.closed_approvals(db, by=by, since_ms=0, limit=PAGE_ROWS, after=given["after"] or None)
        )
        return await desk.page(
            request, reader, "approvals_closed.html", live="approvals", given=given, rows=closed, is_mine=bool(by)
        )
    span, now_ms = given.span_ms("due"), desk.now_ms()
    filters = Filters(
        role=given["role"] or None,
        mine=reader.own.mine if is_mine else None,
        others=reader.own.others if is_mine else (),
        route=given["route"] or None,
        due_before_ms=None if span is None else now_ms + span,
    )
    rows = await desk.open(lambda db: page_of(db, filters, limit=PAGE_ROWS, after=given["after"] or None))
    return await desk.page(
        request,
        reader,
        "approvals.html",
        live="approvals",
        given=given,
        rows=rows,
        groups=_groups(rows, now_ms),
        is_mine=is_mine,
        narrowed=[name for name in ("role", "route", "due") if given[name]],
    )


class Group(NamedTuple):
    title: str
    rows: list[OpenRow]


def _groups(rows: Sequence[OpenRow], now_ms: int) -> list[Group]:
    """By how near the deadline is; a group without rows is left out."""
    groups = [Group("Closes soon", []), Group("Later", []), Group("No deadline", [])]
    for row in rows:
        at_ms = row.deadline_at_ms
        number = 2 if at_ms is None else 0 if at_ms - now_ms < words.NEAR_MS else 1
        groups[number].rows.append(row)
    return [group for group in groups if group.rows]


async def short_link(desk: Desk, request: Request, reader: Reader) -> Response:  # noqa: ARG001 - a page's signature
    """The approval that a short link names."""
    Parameters(request.scope["query_string"], [])
    ref = request.path_params["ref"].lower()
    found = await desk.open(lambda db: _named(db, ref)) or await desk.log(lambda db: _named(db, ref))
    if found is None:
        raise NotFound("There is no such approval, or its memory has ended.")
    return RedirectResponse(link("/approval", id=found), 303)


def _named(db: apsw.Connection, ref: str) -> str | None:
    rows = db.execute("SELECT approval_id FROM approvals")
    return next((name for (name,) in rows if approval_ref(name) == ref), None)


# One approval -------------------------------------------------------------------------------------


class Known(NamedTuple):
    """All that the caches have of one approval. `waiting`: None if it is closed.

    `row`: None if the log is not read that far. `asked`: what was asked, of a closed one.
    """

    waiting: Waiting | None
    row: ApprovalRow | None
    asked: Any
    answers: list[AnswerRow]
    givers: list[str]

    @property
    def role(self) -> str:
        return self.waiting.row.role if self.waiting else self.row.role if self.row else ""

    @property
    def workflow_id(self) -> str:
        return self.waiting.row.workflow_id if self.waiting else self.row.workflow_id if self.row else ""


async def approval(desk: Desk, request: Request, reader: Reader) -> Response:
    """What is asked, on what evidence, and the form to answer it."""
    given = Parameters(request.scope["query_string"], ["id", "answer", "as"])
    given.among("as", ["json"])
    known = await _known(desk, given.needed("id"), reader)
    told = None
    if given["answer"]:
        told = await desk.wait_shown(lambda db: queries.answer(db, given["answer"]))
    return await _page(desk, request, reader, known, as_json=given["as"] == "json", told=told, sent=given["answer"])


async def _known(desk: Desk, approval_id: str, reader: Reader) -> Known:
    """Raises `NotFound`, and `Forbidden` where the person may not see it."""
    waiting, givers = await desk.open(lambda db: (find(db, approval_id), givers_of(db, approval_id, reader.filters)))
    row, asked, answers = await desk.log(
        lambda db: (
            queries.approval(db, approval_id),
            queries.approval_request(db, approval_id),
            queries.answers_of(db, approval_id, limit=ANSWERS_SHOWN),
        )
    )
    if waiting is None and row is None:
        near = await desk.log(lambda db: queries.approvals_containing(db, approval_id, open_only=False, limit=_NEAR))
        hint = f" Near it: {', '.join(near.ids)}." if near.ids and reader.sees_all else ""
        raise NotFound(f"There is no approval {approval_id}, or its memory has ended.{hint}")
    if row is not None and row.closed_at_ms is not None:
        # the log closes it before the topic of what is open does
        waiting = None
    known = Known(waiting, row, asked, answers, givers)
    if not may_see(reader, known):
        raise Forbidden(f"Role {known.role} is asked here, and you ({reader.name}) do not have it.")
    return known


def may_see(reader: Reader, known: Known) -> bool:
    """Approvers see what they may answer or have answered; the console's roles see all."""
    answered = [one.by for one in known.answers] + ([known.row.closed_by] if known.row else [])
    return (
        reader.sees_all or bool(known.givers) or known.role in reader.roles or reader.is_one_of(filter(None, answered))
    )


class Answering(NamedTuple):
    """How the form looks. `cannot`: why the person can't answer; empty: they can."""

    choices: tuple[str, ...]
    rejects: tuple[str, ...]
    cannot: str
    needs_reason: tuple[str, ...]


def _answering(desk: Desk, reader: Reader, known: Known) -> Answering | None:
    if known.waiting is None:
        return None
    terms: Terms | None = known.waiting.request.terms
    choices: tuple[str, ...] = ("approve", "reject")
    rejects: tuple[str, ...] = ("reject",)
    cannot = "" if known.givers else f"Role {known.role} answers this. You are signed in as {reader.name}."
    if terms is not None:
        choices, rejects = terms.choices, terms.rejects
        named = {name: why for name, why in terms.excluded.items() if reader.is_one_of([name])}
        cannot = next((f"You can't answer this: {why}." for why in named.values()), cannot)
        if terms.form is not None:
            cannot = "This asks for a form, which the console can't show yet: mesh approvals approve ID --form."
        elif terms.signed == "own":
            cannot = "This asks for your own signature: mesh approvals approve ID --key FILE."
    if desk.projector.problem:
        cannot = "The broker is away, so nothing can be sent."
    is_always = terms is not None and terms.reason == "required"
    return Answering(choices, rejects, cannot, choices if is_always else rejects)


async def _page(
    desk: Desk,
    request: Request,
    reader: Reader,
    known: Known,
    *,
    status: int = 200,
    as_json: bool = False,
    told: AnswerRow | Receipt | None = None,
    sent: str = "",
    reason: str = "",
    problem: str = "",
) -> Response:
    waiting = known.waiting
    asked = waiting.request if waiting is not None else known.asked
    following = await desk.open(lambda db: page_of(db, reader.filters, limit=_NEAR))
    others = [row for row in following if waiting is None or row.approval_id != waiting.row.approval_id]
    return await desk.page(
        request,
        reader,
        "approval.html",
        status=status,
        # where a form has come back with a text in it, nothing may be fetched over it
        live="" if request.method == "POST" else "approvals",
        known=known,
        row=waiting.row if waiting is not None else known.row,
        asked=asked,
        fields=[] if asked is None else words.fields(asked.payload, getattr(asked, "payload_schema", None)),
        as_json=as_json,
        form=_answering(desk, reader, known),
        deadline=words.due(_deadline_ms(known), desk.now_ms(), getattr(asked, "on_expiry", "")),
        told=told,
        sent=sent,
        reason=reason,
        problem=problem,
        is_signed=desk.staff.key is not None,
        following=others[0].approval_id if others else "",
        left=following.total - (len(following) - len(others)),
    )


def _deadline_ms(known: Known) -> int | None:
    if known.waiting is not None:
        return known.waiting.row.deadline_at_ms
    return None


# The answer ---------------------------------------------------------------------------------------


async def answer(desk: Desk, request: Request, reader: Reader) -> Response:
    """Send the answer, wait for its receipt, and show what came of it."""
    given = await form_of(request)
    approval_id, choice, reason = given.get("id", ""), given.get("choice", ""), given.get("reason", "").strip()
    known = await _known(desk, approval_id, reader)

    async def back(status: int, problem: str, told: Receipt | None = None) -> Response:
        """The form again, with the text that the person has written."""
        again = known if told is None else await _known(desk, approval_id, reader)
        return await _page(desk, request, reader, again, status=status, told=told, reason=reason, problem=problem)

    form = _answering(desk, reader, known)
    if known.row is not None and known.waiting is None and known.row.closed_at_ms is None:
        return await back(409, "The question was asked just now. Send this again in a moment.")
    if form is None:
        return await back(409, "This was answered meanwhile, or its deadline has passed. Your reason is below.")
    if choice not in form.choices:
        raise BadParameter(f"{choice!r} is no answer here; there are {', '.join(form.choices)}")
    if form.cannot:
        return await back(403, form.cannot)
    if not reason and choice in form.needs_reason:
        return await back(422, f"Give a reason: others read why it is {_past(choice)}.")
    if len(reason) > REASON:
        return await back(422, f"The reason has {len(reason):,} characters; {REASON:,} are possible.")
    if not desk.may_answer_now(reader.name):
        return await back(429, "You have sent many answers in the last minute. Wait a moment, then send this again.")
    decision: AnswerKind = "approve" if choice == "approve" else "reject" if choice == "reject" else "choose"
    giver = "" if "" in known.givers or not known.givers else known.givers[0]
    try:
        receipt = await desk.client.answer(
            approval_id,
            decision,
            by=reader.name,
            reason=reason,
            digest=given.get("digest") or None,
            choice=choice if decision == "choose" else "",
            key=desk.staff.key,
            on_behalf=giver,
            timeout_s=desk.config.receipt_s,
        )
    except TimeoutError:
        return await back(
            202, "Sent, not decided yet: no router has answered. It counts when one does; look here again."
        )
    except MeshError as error:
        return await back(503, f"The answer could not be sent: {error}")
    if receipt.status != "accepted":
        return await back(409, "", receipt)
    # so that the page after this one has it
    await desk.wait_shown(lambda db: queries.answer(db, receipt.answer_id))
    return RedirectResponse(link("/approval", id=approval_id, answer=receipt.answer_id), 303)


def _past(choice: str) -> str:
    return {"reject": "rejected", "approve": "approved"}.get(choice, f"answered with {choice}")

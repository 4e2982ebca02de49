"""Approvals: what waits for people, one of them, and the form in which it is edited.

Owns what an approver reads. `mesh.console.pages.answering` takes what they send.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import Response

from mesh.codec.approvals import Receipt
from mesh.codec.open_approvals import OpenRequest
from mesh.console import words
from mesh.console.changes import changes
from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk, Forbidden
from mesh.console.edit_form import Field, fields_of, is_changed
from mesh.console.parameters import Parameters
from mesh.console.rights import Offer, body_of, of_link, offer
from mesh.console.staff import Reader
from mesh.core.approvals import Terms
from mesh.core.events import ApprovalClosed, ApprovalRequested
from mesh.core.voting import may_vote
from mesh.errors import NotFound
from mesh.inspection.inbox import Filters, OpenRow, Waiting, find, givers_of, page_of
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import AnswerRow, ApprovalRow

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
        mine=reader.filters.mine if is_mine else None,
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
    groups = {title: Group(title, []) for title in ("The deadline has passed", "Closes soon", "Later", "No deadline")}
    for row in rows:
        groups[_nearness(row.deadline_at_ms, now_ms)].rows.append(row)
    return [group for group in groups.values() if group.rows]


def _nearness(at_ms: int | None, now_ms: int) -> str:
    if at_ms is None:
        return "No deadline"
    if at_ms <= now_ms:
        return "The deadline has passed"
    return "Closes soon" if at_ms - now_ms < words.NEAR_MS else "Later"


# One approval -------------------------------------------------------------------------------------


class Typed(dict[str, str]):
    """What was typed into a form; empty where it had nothing."""

    def __missing__(self, name: str) -> str:
        return ""


class Known(NamedTuple):
    """All that the caches have of one approval. `waiting`: None if it is closed.

    `row`: None if the log is not read that far. `drafted`: what was asked at first. `asked`: with
    the payload as it was edited last; of a closed one, with what the verdict is about. `used`: the
    answer that the reader's link has taken.
    """

    waiting: Waiting | None
    row: ApprovalRow | None
    asked: ApprovalRequested | OpenRequest | None
    answers: list[AnswerRow]
    givers: list[str]
    offer: Offer | None = None
    drafted: ApprovalRequested | None = None
    verdict: ApprovalClosed | None = None
    used: AnswerRow | None = None

    @property
    def editable(self) -> ApprovalRequested | OpenRequest | None:
        """What an edit is made of: of a closed one the draft, for who was late has edited that."""
        return self.drafted if self.waiting is None else self.waiting.request

    @property
    def editors(self) -> tuple[str, ...]:
        """Who has edited it."""
        if self.waiting is not None:
            standing = self.waiting.standing
            return standing.editors if standing is not None and standing.edition > 1 else ()
        by = (self.verdict.by,) if self.verdict is not None and self.verdict.edited else ()
        return getattr(self.verdict, "editors", by)

    @property
    def terms(self) -> Terms | None:
        """Who may answer, where several do."""
        return getattr(self.asked, "terms", None)

    @property
    def role(self) -> str:
        return self.waiting.row.role if self.waiting else self.row.role if self.row else ""

    @property
    def workflow_id(self) -> str:
        return self.waiting.row.workflow_id if self.waiting else self.row.workflow_id if self.row else ""


async def approval(desk: Desk, request: Request, reader: Reader) -> Response:
    """What is asked, on what evidence, and the form to answer it."""
    given = Parameters(request.scope["query_string"], ["id", "answer", "as", "show", "edit"])
    given.among("as", ["json"])
    given.among("edit", ["1", "json"])
    view = given.among("show", VIEWS)
    known = await known_of(desk, given.needed("id"), reader)
    if given["edit"]:
        return await edit_page(desk, request, reader, known, as_json=given["edit"] == "json")
    told = None
    if given["answer"]:
        told = await desk.wait_shown(lambda db: queries.answer(db, given["answer"]))
    return await page_of_one(
        desk, request, reader, known, view="json" if given["as"] else view, told=told, sent=given["answer"]
    )


async def known_of(desk: Desk, approval_id: str, reader: Reader) -> Known:
    """Raises `NotFound`, and `Forbidden` where the person may not see it."""
    by_link = reader.by_link
    if by_link is not None and not by_link.is_of(approval_id):
        raise Forbidden("The link that you came by is for another question. Sign in to see this one.")
    waiting, givers = await desk.open(lambda db: (find(db, approval_id), givers_of(db, approval_id, reader.filters)))
    row, drafted, answers, verdict, used = await desk.log(
        lambda db: (*_logged(db, approval_id), None if by_link is None else queries.answer(db, by_link.answer_id))
    )
    if waiting is None and row is None:
        near = await desk.log(lambda db: queries.approvals_containing(db, approval_id, open_only=False, limit=_NEAR))
        hint = f" Near it: {', '.join(near.ids)}." if near.ids and reader.sees_all else ""
        raise NotFound(f"There is no approval {approval_id}, or its memory has ended.{hint}")
    if row is not None and row.closed_at_ms is not None:
        # the log closes it before the topic of what is open does
        waiting = None
    found = None if waiting is None else offer(waiting, reader, givers, desk.now_ms())
    if found is not None and by_link is not None:
        found = of_link(found, is_used=is_used(used))
    asked = waiting.request if waiting is not None else queries.as_decided(drafted, verdict)
    known = Known(waiting, row, asked, answers, givers, found, drafted, verdict, used)
    if not may_see(reader, known):
        who = known.role if known.terms is not None else f"Role {known.role}"
        raise Forbidden(f"{who} is asked here, and you ({reader.name}) do not have it.")
    return known


def _logged(
    db: apsw.Connection, approval_id: str
) -> tuple[ApprovalRow | None, ApprovalRequested | None, list[AnswerRow], ApprovalClosed | None]:
    """What the log has of it."""
    row = queries.approval(db, approval_id)
    return (
        row,
        queries.approval_request(db, approval_id),
        queries.answers_of(db, approval_id, limit=ANSWERS_SHOWN),
        None if row is None or row.closed_at_ms is None else queries.approval_verdict(db, row),
    )


def is_used(answer: AnswerRow | None) -> bool:
    """Whether the answer with a link's id has counted, or was judged before."""
    return answer is not None and (answer.status == "accepted" or answer.code == "repeated")


def may_see(reader: Reader, known: Known) -> bool:
    """Approvers see what they may answer, or take part in otherwise, or have answered.

    The console's roles see all.
    """
    answered = [one.by for one in known.answers] + ([known.row.closed_by] if known.row else [])
    is_in = known.role in reader.roles or (known.terms is not None and may_vote(known.terms, body_of(reader)))
    takes_part = known.offer is not None and known.offer.takes_part
    return reader.sees_all or bool(known.givers) or is_in or takes_part or reader.is_one_of(filter(None, answered))


VIEWS: Final = ("edited", "diff", "asked")


def offer_of(desk: Desk, known: Known) -> Offer | None:
    """What the person may do about it now. None: it is not open."""
    if known.offer is None or not desk.projector.problem:
        return known.offer
    return Offer(cannot="The broker is away, so nothing can be sent.")


async def page_of_one(
    desk: Desk,
    request: Request,
    reader: Reader,
    known: Known,
    *,
    status: int = 200,
    view: str = "",
    told: AnswerRow | Receipt | None = None,
    sent: str = "",
    typed: Mapping[str, str] | None = None,
    form_fields: Sequence[Field] | None = None,
    problem: str = "",
) -> Response:
    """The page of one approval. `typed`: what a form that comes back had in it."""
    waiting, found = known.waiting, offer_of(desk, known)
    asked = known.asked
    following, left = await _following(desk, reader, waiting)
    first = known.drafted.payload if known.drafted is not None else asked.payload if asked is not None else None
    fills = fields_of({}, found.form) if found is not None and found.form else []
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
        fields=_read_fields(first if view == "asked" else asked.payload, asked) if asked is not None else [],
        view=view,
        is_edited=asked is not None and is_changed(first, asked.payload),
        changes=changes(first, asked.payload) if view == "diff" and asked is not None else [],
        form=found,
        form_fields=fills if form_fields is None else form_fields,
        can_edit=found is not None and bool(found.edits),
        deadline=words.due(_deadline_ms(known), desk.now_ms(), getattr(asked, "on_expiry", "")),
        told=told,
        said=words.ANSWERED.get(told.code, "Your answer counts.") if told is not None else "",
        sent=sent,
        typed=Typed(typed or {}),
        problem=problem,
        is_signed=(desk.staff.link_key if reader.by_link else desk.staff.key) is not None,
        following=following,
        left=left,
    )


async def _following(desk: Desk, reader: Reader, waiting: Waiting | None) -> tuple[str, int]:
    """The next approval that waits for the person, and how many do."""
    # a link opens its approval alone, and names no other
    if reader.by_link:
        return "", 0
    found = await desk.open(lambda db: page_of(db, reader.filters, limit=_NEAR))
    others = [row for row in found if waiting is None or row.approval_id != waiting.row.approval_id]
    return others[0].approval_id if others else "", found.total - (len(found) - len(others))


def _read_fields(payload: Any, asked: Any) -> list[words.Field]:
    return words.fields(payload, getattr(asked, "payload_schema", None))


def _deadline_ms(known: Known) -> int | None:
    if known.waiting is not None:
        return known.waiting.row.deadline_at_ms
    return None


async def edit_page(
    desk: Desk,
    request: Request,
    reader: Reader,
    known: Known,
    *,
    status: int = 200,
    as_json: bool = False,
    fields: Sequence[Field] | None = None,
    typed: Mapping[str, str] | None = None,
    told: Receipt | None = None,
    problem: str = "",
) -> Response:
    """The form in which the person changes what they approve. `fields`: with what was typed."""
    found = offer_of(desk, known)
    asked = known.editable
    if asked is None or (fields is None and (found is None or not found.edits)):
        why = "It is closed." if found is None else found.cannot or found.no_edit or "You may not edit this."
        raise Forbidden(f"This can't be edited by you now. {why}")
    schema = asked.payload_schema
    shown = fields_of(asked.payload, None if as_json else schema, as_one=as_json) if fields is None else fields
    standing = known.waiting.standing if known.waiting is not None else None
    return await desk.page(
        request,
        reader,
        "approval_edit.html",
        status=status,
        row=known.waiting.row if known.waiting is not None else known.row,
        asked=asked,
        fields=shown,
        # a value without members has but the one field
        is_whole=len(shown) == 1 and not shown[0].name,
        as_json=as_json,
        form=found,
        deadline=words.due(_deadline_ms(known), desk.now_ms(), getattr(asked, "on_expiry", "")),
        votes=standing.votes if standing is not None else (),
        typed=Typed(typed or {}),
        told=told,
        problem=problem,
    )

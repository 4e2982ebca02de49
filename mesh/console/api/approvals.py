"""Approvals for programs: what waits for people, one of them, and the answer.

Owns what an answer needs before it is sent. Whether it counts is for the workflow's owner to
decide: its receipt is the answer.
"""

from typing import Any, Final, NamedTuple

import apsw
import msgspec

from mesh.codec.approvals import Receipt
from mesh.codec.links import approval_link
from mesh.codec.times import rfc3339
from mesh.console.api.answers import USED, Refused
from mesh.console.api.endpoint import PAGED, Asking, Endpoint, Parameter, Told
from mesh.console.desk import Desk, Forbidden
from mesh.console.pages.approvals import Known, may_see
from mesh.console.parameters import BadParameter
from mesh.console.staff import Reader
from mesh.core.events import ApprovalRequested
from mesh.errors import NotFound
from mesh.inspection.documents.approvals import Answer, Approval, Sent, logged_document, open_document
from mesh.inspection.documents.pages import Listed, listed
from mesh.inspection.inbox import Filters, asked_of, find, givers_of, page_of
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import AnswerRow, ApprovalRow

_OF_OPEN: Final = ("role", "route", "due", "asked_before")
_OF_CLOSED: Final = ("by", "since")
_MINUTE: Final = {"retry-after": "60"}
_LONGEST: Final = 20_000  # characters of a reason or a text


async def _list(asking: Asking) -> Listed[Approval]:
    given, reader = asking.given, asking.reader
    if given["for"] == "all" and not reader.sees_all:
        raise Forbidden("Only viewers, operators and authors see the approvals of others: leave out for=all.")
    closed = given["state"] == "closed"
    for name in _OF_OPEN if closed else _OF_CLOSED:
        if given[name]:
            raise BadParameter(f"{name} goes with state={'open' if closed else 'closed'}; leave it out")
    return await (_closed(asking) if closed else _open(asking))


async def _open(asking: Asking) -> Listed[Approval]:
    given, reader, desk = asking.given, asking.reader, asking.desk
    now_ms, span = desk.now_ms(), given.span_ms("due")
    is_mine = given["for"] != "all"
    filters = Filters(
        role=given["role"] or None,
        mine=msgspec.structs.replace(reader.own.mine, is_asked=True) if is_mine else None,
        others=reader.own.others if is_mine else (),
        route=given["route"] or None,
        due_before_ms=None if span is None else now_ms + span,
        asked_before_ms=given.moment_ms("asked_before", now_ms),
    )

    def found(db: Any) -> Listed[Approval]:
        page = page_of(db, filters, limit=given.rows, after=given.after)
        ids = [(row.approval_id, find(db, row.approval_id)) for row in page]
        return listed(
            [
                open_document(one, givers_of(db, name, reader.filters), _url(desk, name))
                for name, one in ids
                if one is not None
            ],
            page,
        )

    return await desk.open(found)


async def _closed(asking: Asking) -> Listed[Approval]:
    given, desk = asking.given, asking.desk
    by = given["by"] or ("" if given["for"] == "all" else asking.reader.name)
    if by != asking.reader.name and not asking.reader.sees_all:
        raise Forbidden("Only viewers, operators and authors see what others have answered: leave out by.")
    since_ms = given.moment_ms("since", desk.now_ms()) or 0
    page = await desk.log(
        lambda db: queries.closed_approvals(db, by=by, since_ms=since_ms, limit=given.rows, after=given.after)
    )
    return listed([logged_document(row, url=_url(desk, row.approval_id)) for row in page], page)


# One ----------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    known: Known
    event: ApprovalRequested | None


async def _one(asking: Asking) -> Approval:
    approval_id = asking.given["id"]
    found = await _look_up(asking.desk, asking.reader, approval_id)
    url = _url(asking.desk, approval_id)
    if found.known.waiting is not None:
        return open_document(found.known.waiting, found.known.givers, url)
    if found.known.row is None:
        raise NotFound(f"There is no approval {approval_id}, or its memory has ended.")
    return logged_document(found.known.row, found.event, url)


async def _look_up(desk: Desk, reader: Reader, approval_id: str) -> _Found:
    """Raises `NotFound`, and `Forbidden` where the person may not see it."""
    waiting, givers, is_asked = await desk.open(
        lambda db: (
            find(db, approval_id),
            givers_of(db, approval_id, reader.filters),
            approval_id in asked_of(db, reader.own.mine),
        )
    )
    row, event, answers = await desk.log(lambda db: _logged(db, approval_id))
    if row is not None and row.closed_at_ms is not None:
        # the log closes it before the topic of what is open does
        waiting = None
    if waiting is None and row is None:
        raise NotFound(f"There is no approval {approval_id}, or its memory has ended.")
    known = Known(waiting, row, event, answers, givers)
    if not is_asked and not may_see(reader, known):
        raise Forbidden(f"Role {known.role} is asked here, and you ({reader.name}) do not have it.")
    return _Found(known, event)


def _logged(
    db: apsw.Connection, approval_id: str
) -> tuple[ApprovalRow | None, ApprovalRequested | None, list[AnswerRow]]:
    """What the log has of it."""
    row = queries.approval(db, approval_id)
    asked = None if row is None else queries.approval_asked(db, row)
    return row, asked, queries.answers_of(db, approval_id, limit=1)


def _url(desk: Desk, approval_id: str) -> str:
    return approval_link(desk.config.url, approval_id) if desk.config.url else ""


# The answer ---------------------------------------------------------------------------------------


async def _answer(asking: Asking) -> Receipt | Told:
    """Send it, and wait for its receipt."""
    given: Answer = asking.body
    desk, reader = asking.desk, asking.reader
    _check(given)
    answer_id = f"answer-key-{asking.once}" if asking.once else ""
    if answer_id and (before := await _before(desk, given, answer_id)) is not None:
        return _checked(before)
    found = await _look_up(desk, reader, given.approval_id)
    waiting = found.known.waiting
    if waiting is None:
        raise Refused(409, f"{given.approval_id} is {_ending(found.known)}. Nothing was sent.", kind="closed")
    terms = waiting.request.terms
    if terms is not None and terms.signed == "own":
        raise Forbidden("This asks for your own signature: mesh approvals approve ID --key FILE, with a broker.")
    if not desk.may_answer_now(reader.name):
        raise Refused(429, "You have sent many answers in the last minute.", headers=_MINUTE)
    try:
        receipt = await desk.client.answer(
            given.approval_id,
            given.decision,
            by=reader.name,
            payload=given.payload,
            reason=given.reason,
            digest=given.digest,
            choice=given.choice,
            form=given.form,
            text=given.text,
            key=desk.staff.key,
            to=given.to,
            question=given.question,
            on_behalf=given.on_behalf or _giver(found.known),
            answer_id=answer_id,
            timeout_s=desk.config.receipt_s,
        )
    except TimeoutError:
        sent = Sent(
            approval_id=given.approval_id,
            message="Sent, not decided yet: no router has answered. It counts when one does; look at the approval again.",
        )
        return Told(value=sent, status=202)
    if answer_id and receipt.status != "accepted":
        # the same may have been sent a moment ago, and counts
        await desk.wait_shown(lambda db: queries.answer(db, answer_id))
        receipt = await _before(desk, given, answer_id) or receipt
    return _checked(receipt)


def _checked(receipt: Receipt) -> Receipt:
    """Raises `Refused` if the answer does not count."""
    if receipt.status != "accepted":
        raise Refused(409, receipt.message or receipt.code, kind=receipt.code, receipt=receipt)
    return receipt


async def _before(desk: Desk, given: Answer, answer_id: str) -> Receipt | None:
    """The receipt of the answer when it came first; None: nothing is decided yet."""
    row = await desk.log(lambda db: queries.answer(db, answer_id))
    if row is None:
        return None
    if row.approval_id != given.approval_id:
        raise Refused(422, USED)
    receipt = await desk.receipt_of(answer_id, row.approval_id, since_ms=row.at_ms)
    if receipt is not None and receipt.status == row.status:
        return receipt
    approval = await desk.log(lambda db: queries.approval(db, row.approval_id))
    is_closed = approval is not None and approval.closed_at_ms is not None
    return Receipt(
        approval_id=row.approval_id,
        answer_id=answer_id,
        status="accepted" if row.status == "accepted" else "refused",
        code=row.code,
        verdict=approval.verdict if approval is not None else "",
        closed=is_closed,
        message=row.message,
        by=row.by,
        at=rfc3339(row.at_ms),
    )


def _check(given: Answer) -> None:
    if given.decision == "reject" and not given.reason:
        raise Refused(422, "give a `reason`: others read why it is rejected")
    if max(map(len, (given.reason, given.text))) > _LONGEST:
        raise Refused(422, f"a reason or a text may have {_LONGEST:,} characters")


def _ending(known: Known) -> str:
    row = known.row
    if row is None or row.closed_at_ms is None:
        return "asked just now, and can be answered in a moment"
    return f"closed: {row.verdict or 'withdrawn'}" + (f" by {row.closed_by}" if row.closed_by else "")


def _giver(known: Known) -> str:
    """For whom they answer who may not answer for themself; empty: for themself."""
    return "" if "" in known.givers or not known.givers else known.givers[0]


_FILTERS: Final = (
    Parameter("for", "me (so without it): what waits for who asks; all: of everybody.", choices=("me", "all")),
    Parameter(
        "state", "open (so without it): the nearest deadline first; closed: the last first.", choices=("open", "closed")
    ),
    Parameter("role", "Of open ones: those that this role may answer."),
    Parameter("route", "Of open ones: those of this route."),
    Parameter("due", "Of open ones: those whose deadline is that near.", "span"),
    Parameter("asked_before", "Of open ones: those asked before that.", "moment"),
    Parameter("by", "Of closed ones: those that this person has answered."),
    Parameter("since", "Of closed ones: those closed since then.", "moment"),
)
_ID: Final = Parameter("id", "The whole id.", "id", is_needed=True)

ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/api/v1/approvals",
        "listApprovals",
        "What waits for people, or was decided.",
        _list,
        Listed[Approval],
        parameters=(*_FILTERS, *PAGED),
    ),
    Endpoint(
        "GET",
        "/api/v1/approval",
        "showApproval",
        "One approval, open or closed.",
        _one,
        Approval,
        parameters=(_ID,),
        refuses={404: "There is none, or its memory has ended."},
    ),
    Endpoint(
        "POST",
        "/api/v1/answers",
        "answer",
        "Answer an approval, and wait for the receipt.",
        _answer,
        Receipt,
        takes=Answer,
        writes=True,
        others={202: (Sent, "It is sent, and no router has decided on it yet.")},
        refuses={
            404: "There is no such approval.",
            409: "The answer does not count; `receipt` says why, if a router has said so.",
            422: "A reason is missing, a text is too long, or the key was used before.",
            429: "The person has sent many answers in the last minute.",
        },
    ),
)

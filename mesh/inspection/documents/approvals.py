"""Approvals, open and closed, and answers to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mesh.codec.open_approvals import OpenNote, OpenRequest, OpenStanding, open_request
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.approvals import Terms
from mesh.core.events import ApprovalRequested
from mesh.core.ids import route_of
from mesh.core.route import OnExpiry
from mesh.inspection.inbox import OpenRow, Waiting
from mesh.inspection.wording.plain import rfc3339_or_none

if TYPE_CHECKING:
    # only for who has the log: it brings the language of expressions
    from mesh.inspection.read_model.queries import ApprovalRow

Decision = Literal["approve", "reject", "choose", "edit", "withdraw", "comment", "ask", "inform", "claim", "release"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What people are asked. `digest`: of the payload as it is now; an answer repeats it."""

    payload: Any
    payload_schema: dict[str, Any] | None
    digest: str
    on_expiry: OnExpiry
    reason: str
    version: int
    terms: Terms | None


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. `verdict` null: it was withdrawn."""

    at: str
    verdict: str | None
    by: str | None
    reason: str


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval. `asked` null: the mesh no longer knows what was asked.

    `for`: for whom the person who reads this may answer; null: for themself. `standing`: the votes
    so far; null: there are none.
    """

    approval_id: str
    workflow_id: str
    route: str
    step: str
    question: str
    role: str
    asked_at: str
    deadline_at: str | None
    asked: Asked | None
    standing: OpenStanding | None = None
    notes: tuple[OpenNote, ...] = ()
    givers: tuple[str | None, ...] = msgspec.field(name="for", default=())
    closed: Closed | None = None
    url: str = ""

    @property
    def row(self) -> OpenRow:
        """As the inbox lists it."""
        return OpenRow(
            approval_id=self.approval_id,
            workflow_id=self.workflow_id,
            route=self.route,
            step=self.step,
            question=self.question,
            role=self.role,
            asked_at_ms=parse_rfc3339(self.asked_at),
            deadline_at_ms=ms_or_none(self.deadline_at),
        )

    @property
    def waiting(self) -> Waiting | None:
        """As the inbox has it; None where it is not known what was asked."""
        asked = self.asked
        if asked is None:
            return None
        request = OpenRequest(
            approval_id=self.approval_id,
            question=self.question,
            payload=asked.payload,
            payload_schema=asked.payload_schema,
            digest=asked.digest,
            role=self.role,
            deadline_at=self.deadline_at,
            on_expiry=asked.on_expiry,
            version=asked.version,
            terms=asked.terms,
            asked_at=self.asked_at,
            reason=asked.reason,
        )
        return Waiting(self.row, request, self.standing, self.notes)

    @property
    def ended(self) -> "ApprovalRow":
        """As the read model has it."""
        from mesh.inspection.read_model.queries import ApprovalRow  # noqa: PLC0415 - as above

        closed = self.closed
        return ApprovalRow(
            approval_id=self.approval_id,
            workflow_id=self.workflow_id,
            step=self.step,
            question=self.question,
            role=self.role,
            asked_at_ms=parse_rfc3339(self.asked_at),
            deadline_at_ms=ms_or_none(self.deadline_at),
            closed_at_ms=None if closed is None else parse_rfc3339(closed.at),
            verdict="" if closed is None else closed.verdict or "",
            closed_by="" if closed is None else closed.by or "",
            reason="" if closed is None else closed.reason,
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's answer, as the API takes it.

    `digest`: that of what the person has read. `payload`: approve this instead. `for`: the person
    who has delegated to who answers. `choice` goes with choose, `text` with comment, ask and
    inform, `to` with ask, `question` with inform.
    """

    approval_id: str
    decision: Decision
    digest: str | None = None
    reason: str = ""
    payload: Any = msgspec.UNSET
    choice: str = ""
    form: Any = None
    text: str = ""
    to: str = ""
    question: int = 0
    on_behalf: str = msgspec.field(name="for", default="")


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The answer is on the broker, and no router has decided on it yet."""

    approval_id: str
    message: str


def open_document(one: Waiting, givers: Sequence[str] = (), url: str = "") -> Approval:
    """What waits for people. `givers`: for whom the reader may answer; empty text: themself."""
    row = one.row
    return Approval(
        approval_id=row.approval_id,
        workflow_id=row.workflow_id,
        route=row.route,
        step=row.step,
        question=row.question,
        role=row.role,
        asked_at=rfc3339(row.asked_at_ms),
        deadline_at=rfc3339_or_none(row.deadline_at_ms),
        asked=_asked(one.request),
        standing=one.standing,
        notes=one.notes,
        givers=tuple(giver or None for giver in givers),
        url=url,
    )


def logged_document(row: "ApprovalRow", event: ApprovalRequested | None = None, url: str = "") -> Approval:
    """An approval as the log has it. `event`: what was asked."""
    return Approval(
        approval_id=row.approval_id,
        workflow_id=row.workflow_id,
        route=route_of(row.workflow_id),
        step=row.step,
        question=row.question,
        role=row.role,
        asked_at=rfc3339(row.asked_at_ms),
        deadline_at=rfc3339_or_none(row.deadline_at_ms),
        asked=None if event is None else _asked(open_request(event, row.asked_at_ms)),
        closed=None if row.closed_at_ms is None else _closed(row, row.closed_at_ms),
        url=url,
    )


def _asked(request: OpenRequest) -> Asked:
    return Asked(
        payload=request.payload,
        payload_schema=request.payload_schema,
        digest=request.digest,
        on_expiry=request.on_expiry,
        reason=request.reason,
        version=request.version,
        terms=request.terms,
    )


def _closed(row: "ApprovalRow", at_ms: int) -> Closed:
    return Closed(at=rfc3339(at_ms), verdict=row.verdict or None, by=row.closed_by or None, reason=row.reason)


def ms_or_none(at: str | None) -> int | None:
    return None if at is None else parse_rfc3339(at)

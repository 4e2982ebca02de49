"""Questions to people, their answers, and the one verdict."""

from typing import Any, Literal

from mesh.core.events.event import LogEvent
from mesh.core.route import OnExpiry

Verdict = Literal["approved", "rejected"]


class ApprovalRequested(LogEvent, tag="ApprovalRequested.1", frozen=True, kw_only=True):
    step: str
    approval_id: str
    question: str
    payload: Any
    digest: str  # of the payload's canonical JSON, "sha256:..."
    role: str
    on_expiry: OnExpiry
    traceparent: str
    reason: str
    deadline_at_ms: int | None = None
    payload_schema: dict[str, Any] | None = None
    round: int = 1
    asked: int = 1  # how often, in this round


class ApprovalClosed(LogEvent, tag="ApprovalClosed.1", frozen=True, kw_only=True):
    """The one verdict of an approval, by a person, or by its deadline (`expired`).

    `on_behalf`: the person for whom a delegate has answered, under `delegation`. Of version 2 the
    votes say it.
    """

    step: str
    approval_id: str
    verdict: Verdict
    payload: Any
    by: str = ""  # empty where it expired
    role: str = ""  # the role that entitled them
    answer_id: str = ""
    reason: str = ""
    edited: bool = False
    expired: bool = False
    on_behalf: str = ""
    delegation: str = ""


class ApprovalReopened(LogEvent, tag="ApprovalReopened.1", frozen=True, kw_only=True):
    """An operator has it asked again, under another id.

    `approval_id`: of the one that is closed, and stays so. `begins_again`: what came after its
    verdict, and has done nothing.
    """

    step: str
    approval_id: str
    by: str
    begins_again: tuple[str, ...] = ()


class ApprovalWithdrawn(LogEvent, tag="ApprovalWithdrawn.1", frozen=True, kw_only=True):
    """Answers are no longer wanted: the workflow ended, or an operator's retry asks again.

    `edition`, `notes`: of version 2, how far the approval had come.
    """

    step: str
    approval_id: str
    reason: str
    edition: int = 0
    notes: int = 0


class AnswerRefused(LogEvent, tag="AnswerRefused.1", frozen=True, kw_only=True):
    """An answer that does not count.

    `code`: unknown, closed, late, delegation, role, digest, schema, too_large, failed. Of one that
    can't be read: malformed, too_large, number, payload, poison, unreadable. `on_behalf`: for whom
    it was sent, if not for the sender.
    """

    approval_id: str
    answer_id: str
    code: str
    message: str
    by: str = ""
    verdict: str = ""  # of the approval, if it is closed
    closed: bool = False
    on_behalf: str = ""

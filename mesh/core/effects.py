"""Effects: what leaves the router because of a decision, as values; `mesh.codec.effects` has their bytes.

`effects` is a pure function of one confirmed decision: it needs no state, route or clock, so a new owner derives the same effects, with the same ids, from the
log alone. Sending one again is harmless: receivers know its id.
"""

from typing import Any, Literal

import msgspec

from mesh.core.events import EndStatus, InputParked
from mesh.core.route import OnExpiry

__all__ = ["AskApproval", "Effect", "PublishOutcome", "SendDeadLetter", "SendReceipt", "SendTask"]


class SendTask(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.tasks.<agent>`. Id: the attempt's."""

    workflow_id: str
    run_id: str
    route: str
    step: str
    task_id: str
    attempt: int
    agent: str
    input: Any
    at_ms: int
    due_at_ms: int
    traceparent: str


class AskApproval(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.approvals.requests`. Id: the approval's."""

    workflow_id: str
    route: str
    step: str
    approval_id: str
    question: str
    payload: Any
    payload_schema: dict[str, Any] | None
    digest: str
    role: str
    on_expiry: OnExpiry
    deadline_at_ms: int | None
    at_ms: int
    traceparent: str


class SendReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.approvals.receipts`. Id: `<approval id>/<answer id or "closed">/receipt`."""

    workflow_id: str
    approval_id: str
    answer_id: str  # empty where no answer caused it (expiry, cancel)
    status: Literal["accepted", "refused", "closed"]  # closed: ended without an answer
    code: str  # accepted, expired, cancelled, or why it was refused
    message: str
    verdict: str  # approved, rejected; empty while it is open
    closed: bool
    by: str
    at_ms: int


class PublishOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.outcomes`, as a CloudEvent of type `mesh.workflow.<status>`. Id: `<workflow id>/<run id>/outcome`."""

    workflow_id: str
    run_id: str
    route: str
    status: EndStatus
    reason: str
    output: Any
    at_ms: int
    traceparent: str


class SendDeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.dlq`, as it came."""

    workflow_id: str
    parked: InputParked
    at_ms: int


Effect = SendTask | AskApproval | SendReceipt | PublishOutcome | SendDeadLetter

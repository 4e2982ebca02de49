"""Which approval an id means.

Owns the order in which an id is understood: an approval's whole id, a workflow's whole id, a part.
If the id names a closed approval, another one is never taken instead: the answer is how it ended.
The commands of `mesh approvals` call it.
"""

import msgspec

from mesh.cli.choice import SHOWN, Among, listed, pick
from mesh.cli.session import Session
from mesh.cli.text.format import ago
from mesh.core.approvals import Asking
from mesh.core.events import ApprovalRequested, ApprovalRequested2
from mesh.errors import NotFound, OperatorError, SenderError
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Found
from mesh.inspection.read_model.queries import ApprovalRow

WHERE = "mesh approvals list"


class Waiting(msgspec.Struct, frozen=True):
    """An approval. `request`: what was asked, with the payload as it is now.

    `asking`: its votes so far, where several people vote and it is open.
    """

    row: ApprovalRow
    request: ApprovalRequested
    asking: Asking | None = None


def with_request(model: ReadModel, row: ApprovalRow) -> Waiting:
    """The approval together with what was asked."""
    request = queries.approval_request(model.db, row.approval_id)
    if request is None:
        raise NotFound(f"the request of {row.approval_id} is not in the read model; try again")
    workflow = queries.workflow_state(model.db, row.workflow_id) if isinstance(request, ApprovalRequested2) else None
    step = workflow.steps.get(row.step) if workflow is not None else None
    if step is None or step.task_id != row.approval_id or step.status != "asking":
        return Waiting(row, request)
    request = msgspec.structs.replace(request, payload=step.input, digest=step.digest)
    return Waiting(row, request, step.asking)


def pick_open(session: Session, model: ReadModel, given: str) -> Waiting:
    """The open approval that an answer to `given` is for.

    Raises `SenderError` if it is closed, `NotFound` if there is none, and `OperatorError` if
    `given` fits several.
    """
    row = _whole(model, given)
    if row is None:
        row = _by_part(session, model, given)
    if row.closed_at_ms is not None:
        raise SenderError(f"{row.approval_id} is closed: {ending(row, session.now_ms())}. Nothing was sent")
    return with_request(model, row)


def pick_any(session: Session, model: ReadModel, given: str) -> Waiting:
    """The approval to show: by a whole id, else an open one before a closed one."""
    row = _whole(model, given)
    if row is None:
        open_ones = queries.approvals_containing(model.db, given, open_only=True, limit=SHOWN)
        row = _row(model, pick(session, given, _among(model, open_only=open_ones.total > 0), changes=False))
    return with_request(model, row)


def ending(row: ApprovalRow, now_ms: int) -> str:
    """How a closed approval ended: the verdict, by whom, when and why."""
    verdict = row.verdict or "withdrawn"
    by = f" by {row.closed_by}" if row.closed_by else ""
    when = "" if row.closed_at_ms is None else f" {ago(row.closed_at_ms, now_ms)}"
    return f"{verdict}{by}{when}" + (f" ({row.reason})" if row.reason else "")


def _whole(model: ReadModel, given: str) -> ApprovalRow | None:
    """The approval with this whole id, or the one of the workflow with this whole id.

    A workflow's is its open approval, else the last one that it had.
    """
    row = queries.approval(model.db, given)
    if row is not None or not queries.has_workflow(model.db, given):
        return row
    own = queries.approvals(model.db, workflow_id=given, limit=SHOWN)
    if len(own) > 1:
        found = Found(own.total, [one.approval_id for one in own])
        raise OperatorError(f"workflow {given} has {own.total:,} open approvals; give the id of one:{listed(found)}")
    if own:
        return own[0]
    closed = queries.last_approval(model.db, given)
    if closed is None:
        raise NotFound(f"workflow {given} has asked nobody; `{WHERE}` lists what waits for a person")
    return closed


def _by_part(session: Session, model: ReadModel, given: str) -> ApprovalRow:
    """The approval whose id contains `given`: an open one, else the only closed one that fits."""
    try:
        return _row(model, pick(session, given, _among(model, open_only=True), changes=True))
    except NotFound:
        closed = queries.approvals_containing(model.db, given, open_only=False, limit=1)
        row = _row(model, closed.ids[0]) if closed.total == 1 else None
        if row is None or row.closed_at_ms is None:
            raise
        return row


def _row(model: ReadModel, approval_id: str) -> ApprovalRow:
    row = queries.approval(model.db, approval_id)
    if row is None:
        raise NotFound(f"{approval_id} is not in the read model; try again")
    return row


def _among(model: ReadModel, *, open_only: bool) -> Among:
    def containing(part: str, limit: int) -> Found:
        return queries.approvals_containing(model.db, part, open_only=open_only, limit=limit)

    kind = "open approval" if open_only else "approval"
    return Among(kind, f"{kind}s", WHERE, lambda _: None, containing)

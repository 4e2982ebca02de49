"""Approvals and their answers."""

from typing import Final

import apsw
import msgspec

from mesh.core.events import ApprovalClosed, ApprovalRequested, ApprovalRequested2, Decision
from mesh.core.json_values import digest
from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.queries.rows import Row, columns_of
from mesh.inspection.read_model.schema import select, select_one


class ApprovalRow(Row, frozen=True, array_like=True):
    approval_id: str
    workflow_id: str
    step: str
    question: str
    role: str
    asked_at_ms: int
    deadline_at_ms: int | None
    closed_at_ms: int | None
    verdict: str
    closed_by: str
    reason: str


_APPROVAL: Final = columns_of(ApprovalRow)
_decode_decision: Final = msgspec.json.Decoder(Decision).decode


class AnswerRow(Row, frozen=True, array_like=True):
    answer_id: str
    approval_id: str
    at_ms: int
    status: str
    code: str
    message: str
    by: str


def approvals(
    db: apsw.Connection,
    *,
    open_only: bool = True,
    role: str | None = None,
    workflow_id: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Page[ApprovalRow]:
    """Approvals, the one that was asked first at the top."""
    filters: dict[str, tuple[str, ...]] = {"closed_at_ms IS NULL" if open_only else "1": ()}
    filters |= {} if role is None else {"role = ?": (role,)}
    filters |= {} if workflow_id is None else {"workflow_id = ?": (workflow_id,)}
    values = tuple(value for values in filters.values() for value in values)
    listing = Listing("approvals", _APPROVAL, ("asked_at_ms", "approval_id"), tuple(filters), values)
    return listing.page(db, ApprovalRow, limit=limit, after=after)


def closed_approvals(
    db: apsw.Connection, *, by: str, since_ms: int, limit: int | None, after: str | None = None
) -> Page[ApprovalRow]:
    """Approvals that are closed since then, the last first.

    `by`: those in which an answer of this person counted; empty: all.
    """
    where, values = ["closed_at_ms IS NOT NULL", "closed_at_ms >= ?"], [since_ms]
    if by:
        where.append(
            "(closed_by = ? OR approval_id IN (SELECT approval_id FROM answers WHERE by = ? AND status = 'accepted'))"
        )
    return Listing(
        table="approvals",
        columns=_APPROVAL,
        order=("closed_at_ms", "approval_id"),
        where=tuple(where),
        values=(*values, *((by, by) if by else ())),
        last_first=True,
    ).page(db, ApprovalRow, limit=limit, after=after)


def approval(db: apsw.Connection, approval_id: str) -> ApprovalRow | None:
    """One approval by its whole id, open or closed."""
    row = select_one(db, f"SELECT {_APPROVAL} FROM approvals WHERE approval_id = ?", approval_id)  # noqa: S608 - constants only
    return ApprovalRow(*row) if row else None


def approval_with_ref(db: apsw.Connection, ref: str) -> str | None:
    """The id of the approval that a short link names. The inbox has such a table too."""
    row = select_one(db, "SELECT approval_id FROM approvals WHERE ref = ?", ref)
    return None if row is None else str(row[0])


def last_approval(db: apsw.Connection, workflow_id: str) -> ApprovalRow | None:
    """The approval that the workflow asked for last, open or closed."""
    sql = f"SELECT {_APPROVAL} FROM approvals WHERE workflow_id = ? ORDER BY asked_at_ms DESC LIMIT 1"  # noqa: S608 - constants only
    row = select_one(db, sql, workflow_id)
    return ApprovalRow(*row) if row else None


def approvals_containing(db: apsw.Connection, part: str, *, open_only: bool, limit: int) -> Found:
    """The ids of approvals that contain `part`, the last asked first.

    An approval's id begins with its workflow's id.
    """
    state = " AND closed_at_ms IS NULL" if open_only else ""
    source = f"FROM approvals WHERE instr(approval_id, ?1){state}"
    return containing(db, "approval_id", source, "asked_at_ms", part=part, limit=limit)


def approval_request(db: apsw.Connection, approval_id: str) -> ApprovalRequested | None:
    """What was asked, with its payload."""
    row = select_one(db, "SELECT request FROM approvals WHERE approval_id = ?", approval_id)
    return msgspec.json.decode(row[0], type=ApprovalRequested | ApprovalRequested2) if row else None


def approval_verdict(db: apsw.Connection, row: ApprovalRow) -> ApprovalClosed | None:
    """The verdict of a closed approval, with the payload that it is about.

    None: it was withdrawn, or the decision is archived.
    """
    sql = "SELECT record FROM decisions WHERE workflow_id = ? AND at_ms = ? ORDER BY log_offset"
    for (record,) in select(db, sql, row.workflow_id, row.closed_at_ms):
        for event in _decode_decision(record).events:
            if isinstance(event, ApprovalClosed) and event.approval_id == row.approval_id:
                return event
    return None


def approval_asked(db: apsw.Connection, row: ApprovalRow) -> ApprovalRequested | None:
    """What is asked; of a closed approval, with the payload that its verdict is about."""
    drafted = approval_request(db, row.approval_id)
    return drafted if row.closed_at_ms is None else as_decided(drafted, approval_verdict(db, row))


def as_decided(drafted: ApprovalRequested | None, verdict: ApprovalClosed | None) -> ApprovalRequested | None:
    """What was asked, with the payload that the verdict is about."""
    if drafted is None or verdict is None:
        return drafted
    decided = digest(verdict.payload)
    # by digests: 1 and true are two values
    if digest(drafted.payload) == decided:
        return drafted
    return msgspec.structs.replace(drafted, payload=verdict.payload, digest=decided)


def answer(db: apsw.Connection, answer_id: str) -> AnswerRow | None:
    sql = f"SELECT {columns_of(AnswerRow)} FROM answers WHERE answer_id = ?"  # noqa: S608 - constants only
    row = select_one(db, sql, answer_id)
    return AnswerRow(*row) if row else None


def answers_of(db: apsw.Connection, approval_id: str, *, limit: int) -> list[AnswerRow]:
    """What became of the answers to an approval, the last first."""
    sql = f"SELECT {columns_of(AnswerRow)} FROM answers WHERE approval_id = ? ORDER BY at_ms DESC, answer_id LIMIT ?"  # noqa: S608 - constants only
    return [AnswerRow(*row) for row in select(db, sql, approval_id, limit)]


def open_requests(db: apsw.Connection, *, limit: int) -> list[tuple[ApprovalRequested, str]]:
    """What open approvals ask, each with its workflow's id, the oldest first."""
    sql = "SELECT request, workflow_id FROM approvals WHERE closed_at_ms IS NULL ORDER BY asked_at_ms, approval_id LIMIT ?"
    kinds = ApprovalRequested | ApprovalRequested2
    return [(msgspec.json.decode(row[0], type=kinds), row[1]) for row in db.execute(sql, (limit,))]


def asked_between(db: apsw.Connection, after_ms: int, until_ms: int) -> tuple[int, int]:
    """How many open approvals were asked in (after, until], and when the first of them was."""
    sql = (
        "SELECT count(*), coalesce(min(asked_at_ms), 0) FROM approvals"
        " WHERE closed_at_ms IS NULL AND asked_at_ms > ? AND asked_at_ms <= ?"
    )
    row = select_one(db, sql, after_ms, until_ms)
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)


def voters(db: apsw.Connection) -> dict[str, list[str]]:
    """Who has sent an answer that counted, by open approval."""
    sql = (
        "SELECT DISTINCT approval_id, by FROM answers WHERE status = 'accepted'"
        " AND approval_id IN (SELECT approval_id FROM approvals WHERE closed_at_ms IS NULL)"
    )
    found: dict[str, list[str]] = {}
    for approval_id, by in db.execute(sql):
        found.setdefault(approval_id, []).append(by)
    return found


def reassigned(db: apsw.Connection) -> frozenset[str]:
    """The workflows of which an operator has reassigned an approval."""
    sql = "SELECT DISTINCT workflow_id FROM commands WHERE command = 'reassign' AND accepted"
    return frozenset(row[0] for row in db.execute(sql))

"""`mesh approvals show ID --audit`: the whole story of one approval, as the log has it.

Owns its rows: who was asked, each edition with its digest and what it changed, every answer with
the broker's time, its code and its proof, the questions that were asked back with what became of
them, and by which rule it closed. It needs the log, so an operator's rights. It shows what the log
says; `mesh audit verify` checks that.
"""

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from mesh.cli.approvals.ids import row_in_log
from mesh.cli.session import Session
from mesh.cli.text.format import printable
from mesh.cli.text.tables import plain_table
from mesh.codec import exact_json
from mesh.codec.times import rfc3339
from mesh.core.effects import effects
from mesh.core.events import (
    AnswerSigned,
    ApprovalClosed2,
    ApprovalRequested,
    ApprovalWithdrawn,
    Decision,
    Event,
    IncidentRaised,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
)
from mesh.core.json_values import text_of
from mesh.core.open_approvals import Note, note_of
from mesh.core.receipts import SendReceipt
from mesh.core.signing import Proof
from mesh.inspection.read_model import queries
from mesh.inspection.wording import words_of

CLAIMED: Final = "claimed"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one decision says of the approval.

    `at_ms`: the broker's time of the answer, or when it was decided. `code`: of the receipt.
    `proof` None: nobody has signed it; `refused_proof`: a signature that did not hold. `note`: a
    comment, a question, or the answer to one. `unanswered`: the questions that had no answer when
    it closed.
    """

    at_ms: int
    what: tuple[str, ...]
    code: str = ""
    by: str = ""
    proof: Proof | None = None
    refused_proof: bool = False
    note: Note | None = None
    unanswered: tuple[int, ...] = ()
    edition: int = 0
    digest: str = ""
    diff: tuple[str, ...] = ()


def audit_of(decisions: Sequence[Decision], approval_id: str) -> list[Row]:
    """The rows of an approval, out of its workflow's decisions."""
    found: list[Row] = []
    payload: Any = None
    open_questions: dict[int, None] = {}
    for decision in decisions:
        events = [event for event in decision.events if getattr(event, "approval_id", "") == approval_id]
        if not events:
            continue
        row = _row(decision, events)
        for event in events:
            if isinstance(event, ApprovalRequested | PayloadEdited):
                edition = event.edition if isinstance(event, PayloadEdited) else 1
                diff = () if edition == 1 else tuple(_diff(payload, event.payload))
                row = msgspec.structs.replace(row, edition=edition, digest=event.digest, diff=diff)
                payload = event.payload
            if isinstance(event, QuestionAsked):
                open_questions[event.question] = None
            elif isinstance(event, QuestionAnswered):
                open_questions.pop(event.question, None)
            elif isinstance(event, _ENDS) and open_questions:
                row = msgspec.structs.replace(row, unanswered=tuple(open_questions))
                open_questions = {}
        found.append(row)
    return found


_ENDS: Final = (ApprovalClosed2, ApprovalWithdrawn, IncidentRaised)
_NOTES: Final = (NoteAdded, QuestionAsked, QuestionAnswered)


def _row(decision: Decision, events: Sequence[Event]) -> Row:
    said = [words for event in events if not isinstance(event, AnswerSigned) and (words := words_of(event, decision))]
    signed = next((event for event in events if isinstance(event, AnswerSigned)), None)
    # what was held has another cause, and a row for each receipt would tell nothing more
    receipt = next((one for one in effects(decision) if isinstance(one, SendReceipt)), None)
    is_answer = decision.cause.kind == "answer"
    rules = tuple(f"by the rule: {one.rule}" for one in events if isinstance(one, ApprovalClosed2) and not one.expired)
    return Row(
        at_ms=decision.cause.at_ms if is_answer else decision.at_ms,
        what=tuple(f"{one.what}{f': {one.why}' if one.why else ''}" for one in said) + rules,
        code=receipt.code if receipt is not None and is_answer else "",
        by=receipt.by if receipt is not None and is_answer else "",
        proof=None if signed is None else signed.proof,
        refused_proof=signed is not None and signed.proof is None,
        note=next((note_of(one) for one in events if isinstance(one, _NOTES)), None),
    )


def _diff(before: Any, after: Any) -> Iterator[str]:
    """What an edition changed, line by line."""
    one, other = (exact_json.encode(value, indent=True).decode().splitlines() for value in (before, after))
    lines = unified_diff(one, other, lineterm="", n=0)
    yield from (line for line in lines if not line.startswith(("---", "+++", "@@")))


async def read_audit(session: Session, given: str) -> tuple[str, list[Row]]:
    """The approval's id, and its rows."""
    async with session.model() as (_, model):
        row = row_in_log(session, model, given)
        entries = queries.decisions_of(model.db, row.workflow_id)
        return row.approval_id, audit_of([entry.decision for entry in entries], row.approval_id)


def show_audit(session: Session, approval_id: str, rows: Sequence[Row]) -> None:
    """Print the story of an approval, for people or as JSON."""
    if session.as_json:
        session.emit({"approval_id": approval_id, "audit": [_document(row) for row in rows]})
        return
    session.show(_table(rows))
    session.note("the log says so; to verify it: mesh log export --workflow ID > FILE, then mesh audit verify FILE")


def _table(rows: Sequence[Row]) -> Table:
    table = plain_table("BROKER TIME", "WHAT", "CODE", "PROOF", whole=["BROKER TIME", "CODE"])
    for row in rows:
        what = Text("\n".join(map(printable, row.what)))
        if row.edition:
            what.append(f"\nedition {row.edition}, {row.digest}", style="dim")
        if row.note is not None and row.note.proposal is not msgspec.UNSET:
            what.append(f"\nproposes {printable(text_of(row.note.proposal))}", style="dim")
        for number in row.unanswered:
            what.append(f"\nquestion {number} has no answer", style="dim")
        for line in row.diff:
            what.append(f"\n{printable(line)}", style="green" if line.startswith("+") else "red")
        table.add_row(rfc3339(row.at_ms), what, row.code, printable(_proof(row)))
    return table


def _proof(row: Row) -> str:
    if row.refused_proof:
        return "does not hold"
    if row.proof is not None:
        return f"{row.proof.how} key of {row.proof.signer}: {row.proof.kid}"
    return CLAIMED if row.by else ""


def _document(row: Row) -> dict[str, Any]:
    return {
        "at": rfc3339(row.at_ms),
        "what": list(row.what),
        "by": row.by or None,
        "code": row.code or None,
        "proof": row.proof,
        "proven": row.proof is not None,
        "note": None if row.note is None else _note(row.note),
        "unanswered": list(row.unanswered),
        "edition": row.edition or None,
        "digest": row.digest or None,
        "diff": list(row.diff),
    }


def _note(note: Note) -> dict[str, Any]:
    """`question`: the number of the question that it is, or answers."""
    about: dict[str, Any] = {"kind": note.kind, "number": note.number, "text": note.text}
    if note.kind != "comment":
        about |= {"question": note.question, "to": note.to or None, "agent": note.agent or None, "failed": note.failed}
    return about if note.proposal is msgspec.UNSET else about | {"proposal": note.proposal}

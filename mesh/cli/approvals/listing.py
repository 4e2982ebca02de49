"""`mesh approvals list | show`: what waits for a person, and what is asked.

Owns how an approval looks on a screen and in JSON. `mesh approvals answer` shows the same card.
"""

from collections.abc import Iterable, Iterator

import click
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mesh.cli.approvals.ids import Waiting, ending, pick_any, with_request
from mesh.cli.options import page_size, paged, show_page
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, printable, readable, rfc3339_or_none, until
from mesh.cli.text.tables import plain_table
from mesh.codec.times import rfc3339
from mesh.core.approvals import Asking, Terms, is_split, standing
from mesh.core.events import ApprovalRequested2
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow

SOON_MS = 3_600_000


@click.command("list", short_help="List what waits for a person.")
@click.option("--role", metavar="ROLE", help="Only those for this role.")
@click.option("--list", "list_only", is_flag=True, hidden=True, help="What this command does anyway.")
@paged
@mesh_command
def list_approvals(
    session: Session,
    *,
    role: str | None,
    list_only: bool,  # noqa: ARG001 - scripts of earlier versions write it
    limit: int | None,
    after: str | None,
) -> None:
    """List the approvals that are open, the oldest first."""
    page, documents = session.run(_list(session, role, limit, after))
    show_page(
        session,
        page,
        "approvals",
        rows=documents,
        table=table,
        nothing="Nothing waits for a person.",
        notes=[
            "see what is asked, payload and all: mesh approvals show ID",
            "answer one: mesh approvals approve ID, mesh approvals reject ID --reason TEXT",
            "answer them one by one, on a terminal: mesh approvals answer",
        ],
    )


async def _list(
    session: Session, role: str | None, limit: int | None, after: str | None
) -> tuple[Page[ApprovalRow], list[dict[str, object]]]:
    async with session.model() as (_, model):
        page = queries.approvals(model.db, role=role, limit=page_size(session, limit), after=after)
        documents = [_document(with_request(model, row)) for row in page] if session.as_json else []
        return page, documents


@click.command("show", short_help="Show one approval: what is asked, or how it ended.")
@click.argument("approval_id", metavar="ID")
@mesh_command
def show_approval(session: Session, *, approval_id: str) -> None:
    """Show one approval, open or closed, with its whole payload.

    ID is an approval's or a workflow's, or any part that fits only one.
    """
    one = session.run(_show(session, approval_id))
    if session.as_json:
        session.emit(_document(one) | _ended(one.row))
        return
    session.show(card(one, session.now_ms()))
    if one.row.closed_at_ms is not None:
        session.show(Text(f"closed: {printable(ending(one.row, session.now_ms()))}", style="yellow"))
    else:
        session.note("answer it: mesh approvals approve ID, mesh approvals reject ID --reason TEXT")


async def _show(session: Session, given: str) -> Waiting:
    async with session.model() as (_, model):
        return pick_any(session, model, given)


def table(rows_: Page[ApprovalRow], now_ms: int) -> Table:
    rows = plain_table("ID", "QUESTION", "ROLE", "ASKED", "DEADLINE", whole=["ROLE", "ASKED"])
    for one in rows_:
        rows.add_row(
            Text(printable(one.approval_id), style="bold"),
            one_line(one.question),
            printable(one.role),
            ago(one.asked_at_ms, now_ms),
            _deadline(one, now_ms),
        )
    return rows


def _deadline(row: ApprovalRow, now_ms: int) -> Text:
    near = row.deadline_at_ms is not None and row.deadline_at_ms - now_ms < SOON_MS
    return Text(until(row.deadline_at_ms, now_ms), style="yellow" if near else "default")


def card(one: Waiting, now_ms: int, *, position: str = "", known: Iterable[tuple[str, str]] = ()) -> Panel:
    """One approval as an approver reads it: the question, its context and the whole payload.

    `known`: what the caller knows besides, as names and values.
    """
    row, request = one.row, one.request
    about = Text()
    about.append(printable(row.question) + "\n", style="bold")
    expiry = {
        "reject": "then it is rejected",
        "approve": "then it is approved",
        "incident": "then an operator is asked",
    }
    deadline = until(row.deadline_at_ms, now_ms)
    facts = [
        *known,
        ("workflow", row.workflow_id),
        ("step", row.step),
        ("role", row.role),
        ("asked", ago(row.asked_at_ms, now_ms)),
        ("why", request.reason),
    ]
    if isinstance(request, ApprovalRequested2) and request.on_expiry != "incident":
        expiry[request.on_expiry] = f"then it comes to {request.terms.expiry_choice}"
    facts.append(
        ("deadline", f"{deadline}, {expiry[request.on_expiry]}" if row.deadline_at_ms is not None else deadline)
    )
    facts += _voting(one)
    for name, value in facts:
        about.append(f"{name:<10}", style="dim")
        about.append(printable(value) + "\n")
    about.append("\n")
    about.append(readable(request.payload))
    return Panel(about, title=position or None, title_align="left", border_style="dim", padding=(1, 2))


def _voting(one: Waiting) -> Iterator[tuple[str, str]]:
    """Where several people vote: who must, who can't, and how the votes are."""
    if one.asking is None:
        return
    terms, votes = one.asking.terms, one.asking.votes
    now = standing(terms, votes)
    yield "wanted", terms.rule
    if terms.choices != Terms(groups=()).choices:
        yield "choices", ", ".join(terms.choices)
    if terms.excluded:
        yield "excluded", ", ".join(f"{name} ({why})" for name, why in terms.excluded.items())
    yield "votes", f"{now.have} of {now.need}" + (", split over choices" if is_split(terms, votes) else "")
    for vote in votes:
        yield "", f"{vote.choice} by {vote.by}" + (f": {vote.reason}" if vote.reason else "")
    if one.asking.edition > 1:
        yield "edition", f"{one.asking.edition}, edited by {', '.join(one.asking.editors)}"


def _votes_document(asking: Asking) -> dict[str, object]:
    now = standing(asking.terms, asking.votes)
    return {
        "terms": asking.terms,
        "edition": asking.edition,
        "have": now.have,
        "need": now.need,
        "votes": [{"by": vote.by, "choice": vote.choice, "reason": vote.reason} for vote in asking.votes],
    }


def _document(one: Waiting) -> dict[str, object]:
    row, request = one.row, one.request
    return {
        "approval_id": row.approval_id,
        "workflow_id": row.workflow_id,
        "step": row.step,
        "question": row.question,
        "payload": request.payload,
        "payload_schema": request.payload_schema,
        "digest": request.digest,
        "role": row.role,
        "asked_at": rfc3339(row.asked_at_ms),
        "deadline_at": rfc3339_or_none(row.deadline_at_ms),
        "on_expiry": request.on_expiry,
        **({} if one.asking is None else _votes_document(one.asking)),
    }


def _ended(row: ApprovalRow) -> dict[str, object]:
    return {
        "closed_at": rfc3339_or_none(row.closed_at_ms),
        "verdict": row.verdict or None,
        "closed_by": row.closed_by or None,
        "closing_reason": row.reason,
    }

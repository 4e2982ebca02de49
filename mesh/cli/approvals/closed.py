"""`mesh approvals --closed`: what was decided, by whom and when, the last first.

Owns that list. It reads the log's read model, so it needs an operator's rights.
"""

from collections.abc import Iterable

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.moments import moment
from mesh.cli.options import page_size, show_page
from mesh.cli.session import Session
from mesh.cli.text.format import ago, one_line, printable, rfc3339_or_none
from mesh.cli.text.tables import plain_table
from mesh.codec.times import rfc3339
from mesh.core.people import id_of
from mesh.inspection.documents.pages import page_of
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow
from mesh.services.people import people_now


def is_by_given() -> bool:
    """Whether `--by` was written, and is not merely who asks."""
    source = click.get_current_context().get_parameter_source("by")
    return source is click.core.ParameterSource.COMMANDLINE


def show_closed(session: Session, *, by: str, since: str | None, limit: int | None, after: str | None) -> None:
    """List approvals that are closed. `by`: those that this person has answered; empty: all."""
    since_ms = 0 if since is None else moment(since, session.now_ms(), "--since")
    page = session.run(_read(session, by, since_ms, limit, after))
    is_chosen = bool(by) or since is not None
    show_page(session, page, "approvals", rows=map(_document, page), table=_table, is_chosen=is_chosen)


async def _read(session: Session, by: str, since_ms: int, limit: int | None, after: str | None) -> Page[ApprovalRow]:
    if session.api is not None:
        size = min(page_size(session, limit), 1_000)
        since = rfc3339(since_ms) if since_ms else ""
        return page_of(
            await session.api.closed(by=by, since=since, limit=size, after=after or ""), lambda one: one.ended
        )
    async with session.model() as (broker, model):
        # the log has people by their ids, whatever name they are asked for under
        person = id_of(await people_now(broker, session.topics, session.now_ms()), by) if by else ""
        return queries.closed_approvals(
            model.db, by=person, since_ms=since_ms, limit=page_size(session, limit), after=after
        )


def _table(rows: Iterable[ApprovalRow], now_ms: int) -> Table:
    table = plain_table("ID", "QUESTION", "VERDICT", "BY", "CLOSED", whole=["VERDICT", "CLOSED"])
    for one in rows:
        table.add_row(
            Text(printable(one.approval_id), style="bold"),
            one_line(one.question),
            one.verdict or "withdrawn",
            printable(one.closed_by),
            ago(one.closed_at_ms or 0, now_ms),
        )
    return table


def _document(one: ApprovalRow) -> dict[str, object]:
    return {
        "approval_id": one.approval_id,
        "workflow_id": one.workflow_id,
        "step": one.step,
        "question": one.question,
        "role": one.role,
        "asked_at": rfc3339(one.asked_at_ms),
        "closed_at": rfc3339_or_none(one.closed_at_ms),
        "verdict": one.verdict or None,
        "closed_by": one.closed_by or None,
        "closing_reason": one.reason,
    }

"""`mesh incidents list | show CAUSE`: what is wrong, how many are alike, and why.

Owns how causes and incidents are named and shown. It changes nothing: `mesh workflows retry | skip
| fail | cancel | migrate` do.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import Among, pick
from mesh.cli.grammar import NounGroup
from mesh.cli.moments import moment
from mesh.cli.options import page_document, page_size, paged, show_page, tell_rest
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, counted, duration, one_line, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.times import rfc3339
from mesh.errors import NotFound
from mesh.inspection.documents.pages import page_of
from mesh.inspection.mesh_status.stuck_work import what_helps
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import CauseRow, IncidentRow, OpenStep, WorkflowRow

Incidents = Mapping[str, Sequence[IncidentRow]]  # by workflow

STEPS_NAMED: Final = 5  # of one workflow in a list; all are counted
_MESSAGE: Final = 100  # characters

_since = click.option(
    "--since", metavar="TIME", help="Only incidents since then: 2h, 7d, 2026-11-20, 2026-11-20T08:00:00Z."
)


@click.group(cls=NounGroup, short_help="List what is wrong: incidents, grouped by cause.")
def incidents() -> None:
    """Incidents: steps that wait for an operator, grouped by what they have in common.

    Without a verb: list.
    """


@incidents.command("list", short_help="List the causes of open incidents, the most frequent first.")
@click.option("--route", metavar="ROUTE", help="Only this route's.")
@click.option("--step", metavar="STEP", help="Only this step's, with all its items.")
@click.option("--agent", metavar="AGENT", help="Only those of this agent's tasks.")
@click.option("--kind", metavar="KIND", help="Only this kind, such as exhausted or expression.")
@_since
@paged
@mesh_command
def list_incidents(
    session: Session, /, *, since: str | None, limit: int | None, after: str | None, **only: str | None
) -> None:
    """List the causes of open incidents, the most frequent first.

    Incidents have one cause if kind, route, step, agent and its version are the same, and their
    messages differ in ids, numbers, times, paths and quoted values alone.
    """
    wanted = {column: value for column, value in only.items() if value is not None}
    since_ms = 0 if since is None else moment(since, session.now_ms(), "--since")
    page, examples = session.run(_list(session, wanted, since_ms, limit, after))
    if session.as_json:
        rows = (_cause_document(row, examples.get(row.cause)) for row in page)
        session.emit(page_document("causes", rows, page))
    elif page:
        session.show(*_causes(page, examples, session.now_ms()))
        tell_rest(session, page)
    elif page.total:
        session.show("No more causes.")
    else:
        session.show("No such incidents." if wanted or since else "No incidents.")


async def _list(
    session: Session, wanted: dict[str, str], since_ms: int, limit: int | None, after: str | None
) -> tuple[Page[CauseRow], dict[str, OpenStep]]:
    """The causes, each with an example."""
    if session.api is not None:
        found_there = await session.api.causes(
            **wanted, since=_since_of(since_ms), limit=_size(session, limit), after=after
        )
        shown = {one.cause: step for one in found_there.items if (step := one.open_step) is not None}
        return page_of(found_there, lambda one: one.row), shown
    async with session.model() as (_, model):
        page = queries.causes(model.db, only=wanted, since_ms=since_ms, limit=page_size(session, limit), after=after)
        found = {row.cause: queries.example(model.db, row.cause) for row in page}
        return page, {cause: one for cause, one in found.items() if one is not None}


@incidents.command("show", short_help="Show a cause, and the workflows that have it.")
@click.argument("part", metavar="CAUSE")
@_since
@paged
@mesh_command
def show(session: Session, *, part: str, since: str | None, limit: int | None, after: str | None) -> None:
    """Show a cause, and the workflows that have it, the oldest incident first.

    CAUSE is as `mesh incidents` has it, or its first digits.
    """
    since_ms = 0 if since is None else moment(since, session.now_ms(), "--since")
    row, one, page = session.run(_show(session, part, since_ms, limit, after))
    if session.as_json:
        document = page_document("incidents", map(incident_document, page), page)
        session.emit({"cause": _cause_document(row, one), **document})
        return
    session.show(*_causes([row], {} if one is None else {row.cause: one}, session.now_ms()), Text())
    show_page(session, page, "incidents", rows=(), table=_incidents)


async def _show(
    session: Session, part: str, since_ms: int, limit: int | None, after: str | None
) -> tuple[CauseRow, OpenStep | None, Page[IncidentRow]]:
    if session.api is not None:
        from mesh.cli.remote.picks import cause_of  # noqa: PLC0415 - only where there is no broker

        cause = await cause_of(session, session.api, part)
        size = _size(session, limit)
        there = await session.api.cause(cause, since=_since_of(since_ms), limit=size, after=after)
        return there.cause.row, there.cause.open_step, page_of(there.incidents, lambda one: one.row)
    async with session.model() as (_, model):
        cause = pick_cause(session, model, part)
        found = queries.causes(model.db, only={"cause": cause}, limit=1)
        if not found:
            raise NotFound(f"no workflow waits because of {cause} any more; `mesh incidents` lists what is open")
        size = page_size(session, limit)
        page = queries.incidents(model.db, cause, since_ms=since_ms, limit=size, after=after)
        return found[0], queries.example(model.db, cause), page


def _since_of(since_ms: int) -> str:
    return rfc3339(since_ms) if since_ms else ""


def _size(session: Session, limit: int | None) -> int:
    """Rows of a page, as far as the console gives them."""
    return min(page_size(session, limit), 1_000)


def pick_cause(session: Session, model: ReadModel, given: str) -> str:
    """The id of the cause that `given` means."""
    among = Among(
        "cause",
        "causes",
        "mesh incidents",
        lambda given: given if queries.has_cause(model.db, given) else None,
        lambda part, limit: queries.causes_containing(model.db, part, limit=limit),
    )
    return pick(session, given, among, changes=False)


# Telling ------------------------------------------------------------------------------------------


def _causes(rows: Sequence[CauseRow], examples: Mapping[str, OpenStep], now_ms: int) -> list[Text]:
    """Each cause on a few lines: how many and since when, where, what, an example, what to do."""
    lines = []
    for number, row in enumerate(rows):
        one = examples.get(row.cause)
        lines += [Text()] if number else []
        lines += [_head(row, now_ms), Text(f"  {_where(row)}", style="bold"), Text(f"  {printable(row.pattern)}")]
        if one is not None:
            lines.append(Text(f"  such as {printable(one.workflow_id)}: {one_line(one.incident_message)}", style="dim"))
            lines.append(Text(f"  next: {printable(what_helps(one))}", style="dim"))
    return lines


def _head(row: CauseRow, now_ms: int) -> Text:
    many = counted(row.incidents, "incident")
    spread = "" if row.workflows == row.incidents else f" in {counted(row.workflows, 'workflow')}"
    last = "" if row.last_ms == row.first_ms else f", the last {ago(row.last_ms, now_ms)}"
    text = Text(row.cause, style="default") + Text(f"  {many}{spread}", style="bold red")
    return text + Text(f"  first {ago(row.first_ms, now_ms)}{last}", style="dim")


def _where(row: CauseRow) -> str:
    """Route, step, agent and kind in one phrase."""
    agent = f", agent {row.agent}" if row.agent else ""
    version = f" {row.agent_version}" if row.agent_version else ""
    return printable(f"{row.route}, step {row.step}{agent}{version}: {row.kind}")


def _incidents(rows: Page[IncidentRow], now_ms: int) -> Table:
    table = plain_table("WORKFLOW", "STEP", "AGE", "MESSAGE", whole=["STEP", "AGE"])
    for row in rows:
        name = Text(printable(row.workflow_id), style="bold")
        table.add_row(name, row.step, duration(now_ms - row.since_ms), Text(one_line(row.message, _MESSAGE)))
    return table


def incident_table(incidents: Incidents, rows: Page[WorkflowRow], now_ms: int) -> Table:
    """Workflows that wait for an operator: which step, why, for how long."""
    whole = ["STEP", "CAUSE", "AGE"]
    table = plain_table("WORKFLOW", "STEP", "CAUSE", "AGE", "MESSAGE", whole=whole)
    for row in rows:
        name = Text(printable(row.workflow_id), style="bold")
        found = incidents.get(row.workflow_id, ())
        for one in found:
            message = Text(one_line(f"{one.kind}: {one.message}", _MESSAGE), style="dim")
            table.add_row(name, one.step, one.cause, duration(now_ms - one.since_ms), message)
            name = Text()
        if row.incidents > len(found):
            table.add_row(name, f"and {row.incidents - len(found):,} more", "", "", "")
    return table


def incident_document(row: IncidentRow) -> dict[str, object]:
    return {
        "workflow_id": row.workflow_id,
        "step": row.step,
        "cause": row.cause,
        "kind": row.kind,
        "message": row.message,
        "since": rfc3339(row.since_ms),
    }


def _cause_document(row: CauseRow, one: OpenStep | None) -> dict[str, object]:
    return {
        "cause": row.cause,
        "kind": row.kind,
        "route": row.route,
        "step": row.step,
        "agent": row.agent or None,
        "agent_version": row.agent_version or None,
        "pattern": row.pattern,
        "incidents": row.incidents,
        "workflows": row.workflows,
        "first_at": rfc3339(row.first_ms),
        "last_at": rfc3339(row.last_ms),
        "example": one
        and {
            "workflow_id": one.workflow_id,
            "step": one.step,
            "message": one.incident_message,
            "since": rfc3339(one.since_ms),
        },
        "next": None if one is None else what_helps(one),
    }

"""`mesh events list | show ID`: which events came, and what became of one.

Owns how events and their fates are shown; `mesh.inspection.event_status` finds the fates.
"""

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import Among, pick
from mesh.cli.grammar import NounGroup
from mesh.cli.options import page_document, page_size, paged, show_page, tell_rest
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, clock_time, one_line, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.times import rfc3339
from mesh.core.matching import Explanation
from mesh.inspection.event_status import EventFate, fate_of
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import EventRow

STYLES = {"waiting": "yellow", "dead_lettered": "red", "decided": "green", "accepted": "green", "unwanted": "dim"}


@click.group(cls=NounGroup, short_help="List events, and tell what became of one.")
def events() -> None:
    """Events that upstream published. Without a verb: list.

    \b
    mesh events                 the last ones
    mesh events show ID         what became of one; also: mesh event ID
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@events.command("list", short_help="List events, the last first.")
@paged
@mesh_command
def list_events(session: Session, *, limit: int | None, after: str | None) -> None:
    """List the events that are on the broker, the last first."""
    page = session.run(_list(session, limit, after))
    show_page(
        session, page, "events", rows=map(_place, page), table=_table, notes=["what became of one: mesh events show ID"]
    )


async def _list(session: Session, limit: int | None, after: str | None) -> Page[EventRow]:
    async with session.model() as (_, model):
        return queries.events(model.db, limit=page_size(session, limit), after=after)


def _table(page: Page[EventRow], now_ms: int) -> Table:
    table = plain_table("ID", "TYPE", "SUBJECT", "SOURCE", "WHEN", whole=["WHEN"])
    for row in page:
        kind = Text(one_line(row.type or row.problem), style="default" if row.type else "red")
        table.add_row(
            Text(printable(row.event_id), style="bold"),
            kind,
            one_line(row.subject),
            one_line(row.source),
            ago(row.at_ms, now_ms),
        )
    return table


@events.command("show", short_help="Tell what became of an event.")
@click.argument("event_id", metavar="ID")
@paged
@mesh_command
def show_event(session: Session, *, event_id: str, limit: int | None, after: str | None) -> None:
    """Tell what became of the event with this ID (the beginning of it is enough), or at this place.

    It waits in the backlog, or started or repeated a workflow, or a step waited for it (or it is
    kept until one does), or no route wanted it (and why), or it is a dead letter (and why). Each
    record of the topic can be asked for by its place, mesh.events/0/17: topic, partition, offset.
    All records with this id are shown: upstream may have sent it more than once.
    """
    page, fates = session.run(_fates(session, event_id, limit, after))
    if session.as_json:
        session.emit(page_document("events", map(_document, fates), page))
        return
    for number, one in enumerate(fates):
        if number:
            session.show("")
        _show(session, one)
    tell_rest(session, page)


async def _fates(
    session: Session, given: str, limit: int | None, after: str | None
) -> tuple[Page[EventRow], list[EventFate]]:
    async with session.model() as (broker, model):
        event_id = pick(session, given, _among(model, session.topics.events), changes=False)
        page = queries.events_by_id(model.db, event_id, limit=page_size(session, limit), after=after)
        return page, [await fate_of(broker, session.topics, model, row) for row in page]


def _among(model: ReadModel, topic: str) -> Among:
    """Choose among events, by the whole id or by its beginning."""
    return Among(
        "event",
        f"events on {topic}",
        "mesh events list",
        lambda given: given if queries.events_by_id(model.db, given, limit=1) else None,
        lambda part, limit: queries.events_beginning(model.db, part, limit=limit),
    )


def _show(session: Session, one: EventFate) -> None:
    row, fate, now_ms = one.event, one.fate, session.now_ms()
    head = Text(printable(row.event_id), style="bold")
    if row.type:
        head.append(f"  {printable(row.type)}", style="cyan")
    if row.subject:
        head.append(f"  {printable(row.subject)}", style="default")
    session.show(head)
    where = f"{row.topic}, partition {row.partition}, offset {row.offset}"
    source = f"from {printable(row.source)}, " if row.source else ""
    session.show(Text(f"  {source}{ago(row.at_ms, now_ms)} ({clock_time(row.at_ms, now_ms)}); {where}", style="dim"))
    line = Text("  ")
    line.append(fate.kind.replace("_", " ").replace("decided", "matched"), style=STYLES[fate.kind])
    line.append(f": {printable(fate.message)}")
    session.show(line)
    for route in fate.routes:
        sign, style = ("+", "green") if route.matched or route.offered else ("-", "dim")
        session.show(Text(f"    {sign} {route.route}: {printable(_reason(route))}", style=style))
    for touched in fate.workflows:
        if touched.reason:
            session.show(Text(f"    {touched.effect}: {printable(touched.reason)}", style="dim"))
        session.show(Text(f"    mesh workflows show '{printable(touched.workflow_id)}'", style="dim"))


def _reason(route: Explanation) -> str:
    return (
        route.reason if not route.offered else f"{route.reason}; a step may wait for it in {', '.join(route.offered)}"
    )


def _place(row: EventRow) -> dict[str, object]:
    return {
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "subject": row.subject,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "at": rfc3339(row.at_ms),
        "problem": row.problem,
    }


def _document(one: EventFate) -> dict[str, object]:
    row, fate = one.event, one.fate
    return _place(row) | {
        "fate": fate.kind,
        "message": fate.message,
        "workflows": [
            {
                "workflow_id": w.workflow_id,
                "run_id": w.run_id,
                "effect": w.effect,
                "reason": w.reason,
                "at": rfc3339(w.at_ms),
            }
            for w in fate.workflows
        ],
        "routes": [
            {"route": r.route, "matched": r.matched, "reason": r.reason, "offered": r.offered} for r in fate.routes
        ],
    }

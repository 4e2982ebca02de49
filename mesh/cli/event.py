"""`mesh event ID`: what became of an event."""

import click
from rich.text import Text

from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, clock_time, printable
from mesh.codec.times import rfc3339
from mesh.core.matching import Explanation
from mesh.errors import NotFound
from mesh.inspection.event_status import EventFate, fate_of
from mesh.inspection.read_model import queries

STYLES = {"waiting": "yellow", "dead_lettered": "red", "decided": "green", "accepted": "green", "unwanted": "dim"}


@click.command(short_help="Tell what became of an event.")
@click.argument("event_id", metavar="ID")
@mesh_command
def event(session: Session, *, event_id: str) -> None:
    """Tell what became of the event with this ID (the beginning of it is enough).

    It waits in the backlog, or started or repeated a workflow, or a step waited for it (or it is
    kept until one does), or no route wanted it (and why), or it is a dead letter (and why). A
    record that is no CloudEvent has its place as id: mesh.events/0/17.
    """
    fates = session.run(_fates(session, event_id))
    if session.as_json:
        session.emit({"events": [_document(one) for one in fates]})
        return
    for number, one in enumerate(fates):
        if number:
            session.show("")
        _show(session, one)


async def _fates(session: Session, event_id: str) -> list[EventFate]:
    async with session.model() as (broker, model):
        rows = queries.events_by_id(model.db, event_id)
        if not rows:
            raise NotFound(
                f"no event has the id {event_id!r} on {session.topics.events}; `mesh publish` prints the ids that it gives"
            )
        return [await fate_of(broker, session.topics, model, row) for row in rows]


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
        session.show(Text(f"    mesh workflow '{printable(touched.workflow_id)}'", style="dim"))


def _reason(route: Explanation) -> str:
    return (
        route.reason if not route.offered else f"{route.reason}; a step may wait for it in {', '.join(route.offered)}"
    )


def _document(one: EventFate) -> dict[str, object]:
    row, fate = one.event, one.fate
    return {
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "subject": row.subject,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "at": rfc3339(row.at_ms),
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

"""`mesh workflows`, `mesh workflow ID`; their commands are in modules of their own."""

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, duration, one_line, printable, rfc3339_or_none
from mesh.cli.text.timeline import SHOWN_LINES, document, entries_at, in_full, rows
from mesh.cli.text.timeline import table as timeline_table
from mesh.cli.text.workflow import header, status_text, waits
from mesh.cli.workflows.commands import cancel, fail, pick_workflow, retry, skip
from mesh.cli.workflows.migrate import migrate
from mesh.codec.state import workflow_document
from mesh.codec.times import rfc3339
from mesh.core.state import Workflow
from mesh.errors import NotFound
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import TimelineEntry, WorkflowRow

STATUSES = ("expected", "running", "completed", "failed", "rejected", "cancelled", "incident")


@click.group(
    invoke_without_command=True,
    short_help="List workflows; move them to another version of their rules.",
    subcommand_metavar="[COMMAND [ARGS]...]",
)
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    help="Only these; `incident`: running ones that wait for an operator; `expected`: no run yet, only events that wait for one.",
)
@click.option("--route", metavar="ROUTE", help="Only this route's.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--all", "built_in", is_flag=True, help="With the mesh's own: schedules, aliases, limiters.")
@mesh_command
def workflows(session: Session, *, status: str | None, route: str | None, limit: int, built_in: bool) -> None:
    """List workflows, the last changed first."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    rows = session.run(_list(session, status, route, limit, built_in=built_in))
    now_ms = session.now_ms()
    if session.as_json:
        session.emit({"workflows": [_row(row) for row in rows]})
    elif not rows:
        session.show("No workflows." if status is None and route is None else "No such workflows.")
    else:
        session.show(_table(rows, now_ms))
        if len(rows) == limit:
            session.note(f"the last {limit}; --limit shows more, --status and --route choose")


workflows.add_command(migrate)


async def _list(
    session: Session, status: str | None, route: str | None, limit: int, *, built_in: bool
) -> list[WorkflowRow]:
    async with session.model() as (_, model):
        return queries.workflows(model.db, status=status, route=route, limit=limit, built_in=built_in)


def _table(rows: list[WorkflowRow], now_ms: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in ("WORKFLOW", "STATUS", "STARTED", "TOOK", "REASON"):
        table.add_column(name, overflow="fold", no_wrap=name in {"STATUS", "STARTED", "TOOK"})
    for row in rows:
        status = status_text(row.status, row.incidents)
        taken = duration(row.ended_at_ms - row.started_at_ms) if row.ended_at_ms is not None else ""
        table.add_row(
            Text(printable(row.workflow_id), style="bold"),
            status,
            ago(row.started_at_ms, now_ms),
            taken,
            Text(one_line(row.reason), style="dim"),
        )
    return table


def _row(row: WorkflowRow) -> dict[str, object]:
    return {
        "workflow_id": row.workflow_id,
        "run_id": row.run_id,
        "route": row.route,
        "status": row.status,
        "incidents": row.incidents,
        "started_at": rfc3339(row.started_at_ms),
        "updated_at": rfc3339(row.updated_at_ms),
        "ended_at": rfc3339_or_none(row.ended_at_ms),
        "reason": row.reason,
        "partition": row.partition,
    }


class WorkflowGroup(click.Group):
    """`mesh workflow ID` shows it: what is no subcommand is an id."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


@click.group(
    cls=WorkflowGroup,
    short_help="Show a workflow's timeline; cancel it; retry, skip or fail its incidents.",
    subcommand_metavar="ID | COMMAND [ARGS]...",
)
def workflow() -> None:
    """`mesh workflow ID` shows a workflow's timeline.

    Any unique part of the id will do, for every command.
    """


for _command in (cancel, retry, skip, fail):
    workflow.add_command(_command)


@workflow.command()
@click.argument("part", metavar="ID")
@click.option(
    "--step",
    metavar="STEP",
    help="Only this step (with each of its items), this item (check[7]), this compensation (hotel.undo).",
)
@click.option("--payloads", is_flag=True, help="With inputs, outputs and what people were asked: 40 lines of each.")
@click.option("--full", is_flag=True, help="The same, and each payload whole.")
@mesh_command
def show(session: Session, *, part: str, step: str | None, payloads: bool, full: bool) -> None:
    """Show a workflow's timeline: when, what, why.

    The items of a for-each are one line, with those that failed by name.
    """
    state, entries, limiters = session.run(_show(session, part))
    if step is not None:
        entries = entries_at(entries, step)
        if not entries:
            raise NotFound(f"nothing has happened yet at {step} of {state.workflow_id}; without --step all is shown")
    if session.as_json:
        shown = [document(entry, payloads=payloads or full, step=step) for entry in entries]
        session.emit({"workflow": workflow_document(state), "timeline": shown})
        return
    now_ms = session.now_ms()
    found = rows(entries, now_ms, step=step)
    session.show(header(state, now_ms), "")
    if payloads or full:
        session.show(*in_full(found, limit=None if full else SHOWN_LINES))
    else:
        session.show(timeline_table(found))
    waiting = waits(state, now_ms, limiters)
    if waiting:
        session.show("", *waiting)


async def _show(session: Session, part: str) -> tuple[Workflow, list[TimelineEntry], dict[str, Workflow]]:
    """The workflow, what happened, and the limiters that its steps are queued at."""
    async with session.model() as (_, model):
        workflow_id = pick_workflow(model, part)
        state = queries.workflow_state(model.db, workflow_id)
        if state is None:
            raise NotFound(f"workflow {workflow_id} is not in the read model; try again")
        asked = sorted({slots[-1].limit for slots in state.slots.values()})
        limiters = {name: found for name in asked if (found := queries.workflow_state(model.db, name)) is not None}
        return state, queries.decisions_of(model.db, workflow_id), limiters

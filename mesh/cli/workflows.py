"""`mesh workflows`, `mesh workflows migrate`, `mesh workflow ID`, `mesh workflow cancel|retry ID`."""

import getpass
import shlex
import sys
from typing import Final, Literal

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.human import ago, duration, one_line, pick, printable, rfc3339_or_none
from mesh.cli.session import Session, mesh_command
from mesh.cli.timeline import SHOWN_LINES, document, header, in_full, standing, status_text, waits
from mesh.cli.timeline import table as timeline_table
from mesh.cli.workflows_migrate import migrate
from mesh.codec.state import workflow_document
from mesh.codec.times import rfc3339
from mesh.core.state import Workflow
from mesh.errors import NotFound
from mesh.services.read_model import ReadModel, queries
from mesh.services.read_model.queries import CommandRow, TimelineEntry, WorkflowRow

__all__ = ["workflow", "workflows"]

SETTLE_S: Final = 10.0  # how long a retry's consequences are waited for; longer ones are told as they stand
STATUSES = ("running", "completed", "failed", "rejected", "cancelled", "incident")


@click.group(
    invoke_without_command=True,
    short_help="List workflows; move them to another version of their rules.",
    subcommand_metavar="[COMMAND [ARGS]...]",
)
@click.option(
    "--status", type=click.Choice(STATUSES), help="Only these; `incident`: running ones that wait for an operator."
)
@click.option("--route", metavar="ROUTE", help="Only this route's.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@mesh_command
def workflows(session: Session, *, status: str | None, route: str | None, limit: int) -> None:
    """List workflows, the last changed first."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    rows = session.run(_list(session, status, route, limit))
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


async def _list(session: Session, status: str | None, route: str | None, limit: int) -> list[WorkflowRow]:
    async with session.model() as (_, model):
        return queries.workflows(model.db, status=status, route=route, limit=limit)


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
    short_help="Show a workflow's timeline; cancel it, retry its incidents.",
    subcommand_metavar="ID | COMMAND [ARGS]...",
)
def workflow() -> None:
    """`mesh workflow ID` shows a workflow's timeline. Any unique part of the id will do, for every command."""


@workflow.command()
@click.argument("part", metavar="ID")
@click.option("--payloads", is_flag=True, help="With inputs, outputs and what people were asked: 40 lines of each.")
@click.option("--full", is_flag=True, help="The same, and each payload whole.")
@mesh_command
def show(session: Session, *, part: str, payloads: bool, full: bool) -> None:
    """Show a workflow's timeline: when, what, why."""
    state, entries = session.run(_show(session, part))
    if session.as_json:
        shown = [document(entry, payloads=payloads or full) for entry in entries]
        session.emit({"workflow": workflow_document(state), "timeline": shown})
        return
    now_ms = session.now_ms()
    session.show(header(state, now_ms), "")
    if payloads or full:
        session.show(*in_full(entries, now_ms, limit=None if full else SHOWN_LINES))
    else:
        session.show(timeline_table(entries, now_ms))
    waiting = waits(state, now_ms)
    if waiting:
        session.show("", *waiting)


async def _show(session: Session, part: str) -> tuple[Workflow, list[TimelineEntry]]:
    async with session.model() as (_, model):
        workflow_id = _pick(model, part)
        state = queries.workflow_state(model.db, workflow_id)
        if state is None:
            raise NotFound(f"workflow {workflow_id} is not in the read model; try again")
        return state, queries.decisions_of(model.db, workflow_id)


def _pick(model: ReadModel, part: str) -> str:
    return pick(part, queries.workflow_ids(model.db, part), what="workflow", where="mesh workflows")


by_option = click.option(
    "--by", metavar="WHO", envvar="MESH_BY", show_envvar=True, help="Who commands; the login name without it."
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the decision.",
)


@workflow.command()
@click.argument("part", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the log.")
@by_option
@timeout_option
@mesh_command
def cancel(session: Session, *, part: str, reason: str, by: str | None, timeout_s: float) -> None:
    """Cancel a running workflow, and wait for the decision. Exits with 1 if it is refused."""
    session.run(_command(session, "cancel", part, by=by, reason=reason, step=None, timeout_s=timeout_s))


@workflow.command()
@click.argument("part", metavar="ID")
@click.option("--step", metavar="STEP", help="Only this step's incident; all of them without it.")
@click.option("--reason", default="", metavar="TEXT")
@by_option
@timeout_option
@mesh_command
def retry(session: Session, *, part: str, step: str | None, reason: str, by: str | None, timeout_s: float) -> None:
    """Try a workflow's incidents again, with all attempts anew. Exits with 1 if it is refused.

    Waits for the decision, then up to 10 seconds for what it leads to, and tells how the workflow stands.
    """
    session.run(_command(session, "retry", part, by=by, reason=reason, step=step, timeout_s=timeout_s))


async def _command(
    session: Session,
    command: Literal["cancel", "retry"],
    part: str,
    *,
    by: str | None,
    reason: str,
    step: str | None,
    timeout_s: float,
) -> None:
    async with session.model(read_only=False) as (broker, model):
        workflow_id = _pick(model, part)
        who = by or getpass.getuser()
        command_id = await session.client(broker).command(command, workflow_id, by=who, reason=reason, step=step)
        row = await model.wait_until(lambda: queries.command(model.db, command_id), timeout_s=timeout_s)
        if row is None:
            raise TimeoutError(
                f"no decision on `{command}` for {workflow_id} after {timeout_s:g} s: the command is on the broker, and a router will "
                "read it (`mesh status` shows whether one is alive)"
            )
        state = queries.workflow_state(model.db, workflow_id)
        if command == "retry" and row.accepted and state is not None:
            await model.wait_until(lambda: _led_to(model, workflow_id), timeout_s=min(timeout_s, SETTLE_S))
            state = queries.workflow_state(model.db, workflow_id)
    _tell(session, row, state)
    if not row.accepted:
        sys.exit(FAILED)


def _led_to(model: ReadModel, workflow_id: str) -> Workflow | None:
    """The workflow, once nothing of it is under way: it has ended, waits for a person, or has an incident again."""
    state = queries.workflow_state(model.db, workflow_id)
    return state if state is not None and not _is_under_way(state) else None


def _is_under_way(state: Workflow) -> bool:
    return state.status == "running" and any(step.status in {"running", "retrying"} for step in state.steps.values())


def _tell(session: Session, row: CommandRow, state: Workflow | None) -> None:
    if session.as_json:
        session.emit(
            {
                "command_id": row.command_id,
                "command": row.command,
                "workflow_id": row.workflow_id,
                "accepted": bool(row.accepted),
                "code": row.code,
                "message": row.message,
                "workflow_status": state.status if state else None,
            }
        )
    elif not row.accepted:
        session.show(
            Text(f"refused ({row.code})", style="bold red") + Text(f"  {printable(row.message)}", style="default")
        )
    else:
        session.show(Text(row.command, style="bold green") + Text(f"  {printable(row.workflow_id)}", style="default"))
        if state is not None:
            now = Text("  it is now: ", style="dim") + standing(state)
            session.show(now + Text(f"  {one_line(state.reason)}", style="dim"), *waits(state, session.now_ms()))
            if row.command == "retry" and _is_under_way(state):
                session.note(f"`mesh workflow {shlex.quote(printable(row.workflow_id))}` shows how it goes on")

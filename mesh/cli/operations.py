"""`mesh operations list | show ID | stop ID`: what was ordered of many workflows at once.

Owns how operations are followed and shown. `mesh workflows retry` and the other verbs in bulk order
them, and routers carry them out.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Final, NamedTuple

import click
from rich.text import Text

from mesh.cli.choice import among_ids, pick
from mesh.cli.exit_codes import FAILED
from mesh.cli.grammar import NounGroup
from mesh.cli.options import by_option, reason_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, counted, one_line, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.operations import Ordered, Stopped, encode_operation
from mesh.codec.times import rfc3339
from mesh.errors import OperatorError, TopicMissing
from mesh.inspection.operations import VERDICTS, Result, Verdict, known, results, standing, tallied
from mesh.inspection.read_model import ReadModel
from mesh.ports import Broker
from mesh.services.operations import Operation, OperationsReader, send

_POLL_S: Final = 0.25
STYLES: Final[dict[Verdict, str]] = {"done": "green", "refused": "red", "waiting": "yellow", "not sent": "yellow"}


class View(NamedTuple):
    """An operation, and what has become of it so far.

    `results`: of each workflow, where they are shown.
    """

    operation: Operation
    ordered: Ordered
    counts: dict[Verdict, int]
    results: Sequence[Result] = ()

    @property
    def standing(self) -> str:
        return standing(self.operation, self.counts)


@click.group(cls=NounGroup, short_help="List what was ordered of many workflows at once.")
def operations() -> None:
    """Bulk operations: what was ordered of many workflows at once. Without a verb: list.

    \b
    mesh workflows retry --cause 3fa2c1 --why "supplier is back"     orders one
    mesh operations show ID                                          what became of each workflow
    mesh operations stop ID                                          sends no further command
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@operations.command("list", short_help="List bulk operations, the last first.")
@mesh_command
def list_operations(session: Session) -> None:
    """List bulk operations, the last first."""
    views = session.run(_all(session))
    if session.as_json:
        session.emit({"operations": [_document(view) for view in views], "total": len(views)})
    elif not views:
        session.show("No operations.")
    else:
        table = plain_table("OPERATION", "COMMAND", "STATUS", "BEGUN", "BY", "WORKFLOWS", "WHY", whole=["OPERATION"])
        for view in views:
            table.add_row(
                Text(view.operation.id, style="bold"),
                view.ordered.command,
                view.standing,
                ago(view.ordered.at_ms, session.now_ms()),
                Text(printable(view.ordered.by)),
                said(view.counts),
                Text(one_line(view.ordered.reason), style="dim"),
            )
        session.show(table)


@operations.command("show", short_help="Show an operation, and what became of each workflow.")
@click.argument("part", metavar="ID")
@mesh_command
def show(session: Session, *, part: str) -> None:
    """Show an operation, and what became of each workflow."""
    tell(session, session.run(_one(session, part)))


@operations.command("stop", short_help="Send no further command of an operation.")
@click.argument("part", metavar="ID")
@by_option("stops it")
@reason_option()
@mesh_command
def stop(session: Session, *, part: str, by: str, reason: str) -> None:
    """Send no further command of an operation.

    What is sent already is decided on as ever. Nothing is undone.
    """
    view = session.run(_stop(session, part, by, reason))
    if session.as_json:
        session.emit(_document(view))
        return
    session.show(Text("stopped", style="bold green") + Text(f"  {view.operation.id}: {said(view.counts)}"))


async def _all(session: Session) -> list[View]:
    async with opened(session) as (_, model, reader):
        return [View(one, ordered, tallied(model.db, one)) for one, ordered in known(reader.operations)]


async def _one(session: Session, part: str) -> View:
    async with opened(session) as (_, model, reader):
        return with_results(model, _view(model, reader, _pick(session, reader, part, changes=False)))


async def _stop(session: Session, part: str, by: str, reason: str) -> View:
    async with opened(session, read_only=False) as (broker, model, reader):
        found = _pick(session, reader, part, changes=True)
        operation = reader.operations[found]
        if operation.stopped is not None:
            raise OperatorError(f"operation {found} was stopped by {printable(operation.stopped.by)} before")
        if not operation.is_to_send:
            raise OperatorError(f"all commands of operation {found} are sent: `mesh operations show {found}`")
        stopped = Stopped(operation=found, by=by, reason=reason, at_ms=session.now_ms())
        await send(broker, [encode_operation(stopped, topics=session.topics)])
        await reader.refresh()
        return _view(model, reader, found)


def _pick(session: Session, reader: OperationsReader, part: str, *, changes: bool) -> str:
    ids = [one.id for one, _ in known(reader.operations)]
    return pick(
        session,
        part,
        among_ids(ids, what="operation", whats="operations", where="mesh operations list"),
        changes=changes,
    )


def _view(model: ReadModel, reader: OperationsReader, operation_id: str) -> View:
    operation = reader.operations[operation_id]
    if operation.ordered is None:
        raise OperatorError(f"operation {operation_id} was never ordered")
    return View(operation, operation.ordered, tallied(model.db, operation))


def with_results(model: ReadModel, view: View) -> View:
    """The same with what became of each workflow."""
    return view._replace(results=results(model.db, view.operation))


@asynccontextmanager
async def opened(
    session: Session, *, read_only: bool = True
) -> AsyncIterator[tuple[Broker, ReadModel, OperationsReader]]:
    """The broker, the read model and the operations, caught up."""
    async with session.model(read_only=read_only) as (broker, model):
        reader = OperationsReader(broker, session.topics, keeps_ids=True)
        try:
            # whose topics were planned by an older version has no operations either
            with suppress(TopicMissing) if read_only else nullcontext():
                await reader.start()
            yield broker, model, reader
        finally:
            await reader.close()


# Following ----------------------------------------------------------------------------------------


async def follow(
    session: Session, model: ReadModel, reader: OperationsReader, operation_id: str, timeout_s: float
) -> View:
    """Wait until everything is decided, or nothing more will be sent. Shows the progress."""
    until = time.monotonic() + timeout_s
    # a thousand lines would hide what matters: a terminal has one that changes
    is_shown = not session.as_json and session.err.is_terminal
    while True:
        await model.catch_up()
        await reader.refresh()
        view = _view(model, reader, operation_id)
        if is_shown:
            click.echo(f"\r\x1b[K{said(view.counts)}", err=True, nl=False)
        if view.standing != "running" or time.monotonic() >= until:
            if is_shown:
                click.echo(err=True)
            return view
        await asyncio.sleep(_POLL_S)


# Telling ------------------------------------------------------------------------------------------


def said(found: dict[Verdict, int]) -> str:
    """`38 done, 2 refused` of the counts that are not 0."""
    return ", ".join(f"{found[verdict]:,} {verdict}" for verdict in VERDICTS if found[verdict]) or "none"


def tell(session: Session, view: View) -> None:
    """Show an operation with each workflow's result."""
    if session.as_json:
        session.emit({"operation": _document(view), "workflows": [_result(one) for one in view.results]})
        return
    ordered, operation = view.ordered, view.operation
    head = Text(f"{ordered.command}", style="bold") + Text(f"  {operation.id}: {view.standing}")
    head.append(f", ordered by {printable(ordered.by)} {ago(ordered.at_ms, session.now_ms())}", style="default")
    session.show(head, Text(f"  {one_line(ordered.reason)}", style="dim"))
    if operation.stopped is not None:
        why = f": {one_line(operation.stopped.reason)}" if operation.stopped.reason else ""
        session.show(Text(f"  stopped by {printable(operation.stopped.by)}{why}", style="yellow"))
    for one in view.results:
        line = Text(f"{one.verdict:<8}", style=STYLES[one.verdict])
        line.append(f"  {printable(one.workflow_id)}", style="bold")
        line.append(f"  into {printable(one.into)}" if one.into and one.verdict == "done" else "", style="default")
        if one.verdict in ("refused", "not sent"):
            line.append(f"  {one.code}: {one_line(one.message)}", style="default")
        session.show(line)
    session.note(f"{counted(len(view.results), 'workflow')}: {said(view.counts)}")


def exit_if_refused(view: View) -> None:
    """Exit with 1 if a workflow's command was refused or not sent."""
    if view.counts["refused"] or view.counts["not sent"]:
        sys.exit(FAILED)


def _result(one: Result) -> dict[str, object]:
    said: dict[str, object] = {
        "workflow_id": one.workflow_id,
        "result": one.verdict,
        "code": one.code,
        "message": one.message,
    }
    return said | ({"into": one.into} if one.into else {})


def _document(view: View) -> dict[str, object]:
    ordered, stopped = view.ordered, view.operation.stopped
    return {
        "id": view.operation.id,
        "command": ordered.command,
        "status": view.standing,
        "by": ordered.by,
        "reason": ordered.reason,
        "at": rfc3339(ordered.at_ms),
        "filter": ordered.filter,
        "rate": ordered.rate,
        "total": ordered.total,
        "sent": view.operation.sent,
        "counts": view.counts,
        "stopped": None
        if stopped is None
        else {"by": stopped.by, "reason": stopped.reason, "at": rfc3339(stopped.at_ms)},
    }

"""`mesh operations list | show ID | stop ID`: what was ordered of many workflows at once.

Owns how operations are followed and shown. `mesh workflows retry` and the other verbs in bulk order
them, and routers carry them out.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

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
from mesh.codec.times import parse_rfc3339
from mesh.errors import OperatorError, TopicMissing
from mesh.inspection.documents.orders import (
    OperationItem,
    StopOrder,
    WorkflowResult,
    operation_document,
    result_document,
)
from mesh.inspection.operations import VERDICTS, Verdict, known, results, tallied
from mesh.inspection.read_model import ReadModel
from mesh.ports import Broker
from mesh.services.operations import Operation, OperationsReader, send

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api

_POLL_S: Final = 0.25
STYLES: Final[dict[Verdict, str]] = {"done": "green", "refused": "red", "waiting": "yellow", "not sent": "yellow"}


class View(NamedTuple):
    """An operation, and what has become of it so far.

    `results`: of each workflow, where they are shown.
    """

    item: OperationItem
    results: Sequence[WorkflowResult] = ()

    @property
    def counts(self) -> dict[Verdict, int]:
        return self.item.counts


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
    items = session.run(_all(session))
    if session.as_json:
        session.emit({"operations": items, "total": len(items)})
    elif not items:
        session.show("No operations.")
    else:
        table = plain_table("OPERATION", "COMMAND", "STATUS", "BEGUN", "BY", "WORKFLOWS", "WHY", whole=["OPERATION"])
        for one in items:
            table.add_row(
                Text(one.id, style="bold"),
                one.command,
                one.status,
                ago(parse_rfc3339(one.at), session.now_ms()),
                Text(printable(one.by)),
                said(one.counts),
                Text(one_line(one.reason), style="dim"),
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
    item = session.run(_stop(session, part, by, reason))
    if session.as_json:
        session.emit(item)
        return
    session.show(Text("stopped", style="bold green") + Text(f"  {item.id}: {said(item.counts)}"))


async def _all(session: Session) -> list[OperationItem]:
    if session.api is not None:
        return await session.api.operations()
    async with opened(session) as (_, model, reader):
        return [_item(model, one, ordered) for one, ordered in known(reader.operations)]


async def _one(session: Session, part: str) -> View:
    if session.api is not None:
        return await at_console(session.api, (await _pick_at_console(session, session.api, part, changes=False)).id)
    async with opened(session) as (_, model, reader):
        return with_results(model, reader, _view(model, reader, _pick(session, known_ids(reader), part, changes=False)))


async def _stop(session: Session, part: str, by: str, reason: str) -> OperationItem:
    if session.api is not None:
        item = await _pick_at_console(session, session.api, part, changes=True)
        _check_stoppable(item)
        return await session.api.stop(StopOrder(operation=item.id, reason=reason))
    async with opened(session, read_only=False) as (broker, model, reader):
        found = _pick(session, known_ids(reader), part, changes=True)
        _check_stoppable(_view(model, reader, found).item)
        stopped = Stopped(operation=found, by=by, reason=reason, at_ms=session.now_ms())
        await send(broker, [encode_operation(stopped, topics=session.topics)])
        await reader.refresh()
        return _view(model, reader, found).item


def _check_stoppable(item: OperationItem) -> None:
    if item.stopped is not None:
        raise OperatorError(f"operation {item.id} was stopped by {printable(item.stopped.by)} before")
    if item.sent >= item.total:
        raise OperatorError(f"all commands of operation {item.id} are sent: `mesh operations show {item.id}`")


async def at_console(api: "Api", operation_id: str) -> View:
    """The operation as the console has it."""
    return View(await api.operation(operation_id), await api.results(operation_id))


async def _pick_at_console(session: Session, api: "Api", part: str, *, changes: bool) -> OperationItem:
    items = {one.id: one for one in await api.operations()}
    return items[_pick(session, list(items), part, changes=changes)]


def known_ids(reader: OperationsReader) -> list[str]:
    return [one.id for one, _ in known(reader.operations)]


def _pick(session: Session, ids: Sequence[str], part: str, *, changes: bool) -> str:
    among = among_ids(ids, what="operation", whats="operations", where="mesh operations list")
    return pick(session, part, among, changes=changes)


def _view(model: ReadModel, reader: OperationsReader, operation_id: str) -> View:
    operation = reader.operations[operation_id]
    if operation.ordered is None:
        raise OperatorError(f"operation {operation_id} was never ordered")
    return View(_item(model, operation, operation.ordered))


def _item(model: ReadModel, one: Operation, ordered: Ordered) -> OperationItem:
    return operation_document(one, ordered, tallied(model.db, one))


def with_results(model: ReadModel, reader: OperationsReader, view: View) -> View:
    """The same with what became of each workflow."""
    found = results(model.db, reader.operations[view.item.id])
    return view._replace(results=list(map(result_document, found)))


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


async def follow(session: Session, look: Callable[[], Awaitable[View]], timeout_s: float) -> View:
    """Look until everything is decided, or nothing more will be sent. Shows the progress."""
    until = time.monotonic() + timeout_s
    # a thousand lines would hide what matters: a terminal has one that changes
    is_shown = not session.as_json and session.err.is_terminal
    while True:
        view = await look()
        if is_shown:
            click.echo(f"\r\x1b[K{said(view.counts)}", err=True, nl=False)
        if view.item.status != "running" or time.monotonic() >= until:
            if is_shown:
                click.echo(err=True)
            return view
        await asyncio.sleep(_POLL_S)


async def look(model: ReadModel, reader: OperationsReader, operation_id: str) -> View:
    """The operation as of now."""
    await model.catch_up()
    await reader.refresh()
    return _view(model, reader, operation_id)


async def look_at_console(api: "Api", operation_id: str) -> View:
    """The same at the console, without a look at each workflow."""
    return View(await api.operation(operation_id))


# Telling ------------------------------------------------------------------------------------------


def said(found: dict[Verdict, int]) -> str:
    """`38 done, 2 refused` of the counts that are not 0."""
    return ", ".join(f"{found[verdict]:,} {verdict}" for verdict in VERDICTS if found[verdict]) or "none"


def tell(session: Session, view: View) -> None:
    """Show an operation with each workflow's result."""
    if session.as_json:
        session.emit({"operation": view.item, "workflows": view.results})
        return
    item = view.item
    head = Text(f"{item.command}", style="bold") + Text(f"  {item.id}: {item.status}")
    head.append(f", ordered by {printable(item.by)} {ago(parse_rfc3339(item.at), session.now_ms())}", style="default")
    session.show(head, Text(f"  {one_line(item.reason)}", style="dim"))
    if item.stopped is not None:
        why = f": {one_line(item.stopped.reason)}" if item.stopped.reason else ""
        session.show(Text(f"  stopped by {printable(item.stopped.by)}{why}", style="yellow"))
    for one in view.results:
        line = Text(f"{one.result:<8}", style=STYLES[one.result])
        line.append(f"  {printable(one.workflow_id)}", style="bold")
        line.append(f"  into {printable(one.into)}" if one.into and one.result == "done" else "", style="default")
        if one.result in ("refused", "not sent"):
            line.append(f"  {one.code}: {one_line(one.message)}", style="default")
        session.show(line)
    session.note(f"{counted(len(view.results), 'workflow')}: {said(view.counts)}")


def exit_if_refused(view: View) -> None:
    """Exit with 1 if a workflow's command was refused or not sent."""
    if view.counts["refused"] or view.counts["not sent"]:
        sys.exit(FAILED)

"""`mesh workflows cancel | retry | skip | fail ID`: what an operator orders, and what became of it.

Owns how a command is sent, and how long its consequences are waited for. The workflow's owner
decides whether it is accepted.
"""

import shlex
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any, Final, NamedTuple, NotRequired, TypedDict, Unpack

import click
import msgspec
from rich.text import Text

from mesh.cli.choice import pick_workflow
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, printable
from mesh.cli.text.workflow import standing, waits
from mesh.core.inputs import Command
from mesh.core.state import Workflow
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import CommandRow

# how long to wait for a command's consequences; then the state so far is shown
SETTLE_S: Final = 10.0
OPEN: Final = frozenset({"running", "expected"})  # statuses of workflows that have not ended
AT_WORK: Final = frozenset({"running", "retrying"})  # statuses that move by themselves, and soon


class _Order(NamedTuple):
    """What is ordered, and by whom."""

    command: Command
    part: str
    by: str
    reason: str
    timeout_s: float
    step: str | None = None
    input: Any = msgspec.UNSET


class _Given(TypedDict):
    """What the command line gives to each command; `step` only to those about incidents."""

    part: str
    by: str
    reason: str
    timeout_s: float
    step: NotRequired[str | None]


_id = click.argument("part", metavar="ID")
_step = click.option(
    "--step",
    metavar="STEP",
    help="Only this step's incident (check), this item's (check[7]), this compensation's (hotel.undo); all of them without it.",
)
_author = (by_option("commands"), timeout_option("How long to wait for the decision."), mesh_command)


def _with(*decorators: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One decorator for several: the first is the outermost, as it would be on lines."""
    return lambda function: reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)


_cancels = _with(_id, reason_option(required=True), *_author)
_about_incidents = _with(_id, _step, reason_option(), *_author)


@click.command(short_help="Cancel a running workflow.")
@_cancels
def cancel(session: Session, **given: Unpack[_Given]) -> None:
    """Cancel a running workflow, and wait for the decision. Exits with 1 if it is refused.

    What it did is undone first, where its route says how; a second cancel ends it as it is.
    """
    _run(session, _Order("cancel", **given))


@click.command(short_help="Try the incidents of a workflow again.")
@click.option(
    "--input",
    "new_input",
    metavar="JSON|@FILE",
    help="The input of the one step that is tried again; without it, what it had, or what the corrected route makes.",
)
@_about_incidents
def retry(session: Session, *, new_input: str | None, **given: Unpack[_Given]) -> None:
    """Try a workflow's incidents again, with all attempts; a loop asks its condition again.

    With --step of a closed approval: ask it again, as long as nothing was done because of its
    verdict.

    Exits with 1 if it is refused.

    Waits for the decision, then up to 10 seconds for what it leads to, and shows
    the workflow's state.
    """
    value = msgspec.UNSET if new_input is None else json_option(new_input, "--input")
    _run(session, _Order("retry", input=value, **given))


@click.command(short_help="Go on without the steps that have an incident.")
@_about_incidents
def skip(session: Session, **given: Unpack[_Given]) -> None:
    """Go on without the steps that have an incident: those who need them run.

    Exits with 1 if it is refused.

    An item counts as failed, and its for-each goes on. Waits as `retry` does.
    """
    _run(session, _Order("skip", **given))


@click.command(short_help="End a workflow that has an incident as failed.")
@_about_incidents
def fail(session: Session, **given: Unpack[_Given]) -> None:
    """End a workflow that has an incident as failed.

    Exits with 1 if it is refused.

    What it did is undone first, where its route says how. A compensation that has the incident is
    left as it is, and the rest is undone. Waits as `retry` does.
    """
    _run(session, _Order("fail", **given))


def _run(session: Session, order: _Order) -> None:
    row, state = session.run(_order(session, order))
    if session.as_json:
        session.emit(_document(row, state))
    else:
        _tell(session, row, state)
    if not row.accepted:
        sys.exit(FAILED)


async def _order(session: Session, order: _Order) -> tuple[CommandRow, Workflow | None]:
    """Send the command, and wait for the decision and for what follows from it."""
    async with session.model(read_only=False) as (broker, model):
        workflow_id = pick_workflow(session, model, order.part, changes=True)
        state = queries.workflow_state(model.db, workflow_id)
        if state is not None and state.status not in OPEN:
            return _ended(state, order, session.now_ms()), state
        command_id = await session.client(broker).command(
            order.command, workflow_id, by=order.by, reason=order.reason, step=order.step, input=order.input
        )
        what = f"`{order.command}` for {workflow_id}"
        row = await decision_on(model, command_id, what, timeout_s=order.timeout_s)
        if order.command != "cancel" and row.accepted:
            await model.wait_until(lambda: _led_to(model, workflow_id), timeout_s=min(order.timeout_s, SETTLE_S))
        return row, queries.workflow_state(model.db, workflow_id)


async def decision_on(model: ReadModel, command_id: str, what: str, *, timeout_s: float) -> CommandRow:
    """Wait for the decision on a command. Raises `TimeoutError`, which calls the command `what`."""
    row = await model.wait_until(lambda: queries.command(model.db, command_id), timeout_s=timeout_s)
    if row is None:
        raise TimeoutError(
            f"no decision on {what} after {timeout_s:g} s: the command is on the broker, and a router will read it "
            "(`mesh status` shows whether one is alive)"
        )
    return row


def _ended(state: Workflow, order: _Order, now_ms: int) -> CommandRow:
    """The answer to a command for a workflow that has ended.

    It is what the owner would say, but nothing is sent: the end is in the log already.
    """
    when = "" if state.ended_at_ms is None else f" {ago(state.ended_at_ms, now_ms)}"
    why = f" ({state.reason})" if state.reason else ""
    return CommandRow(
        command_id="",
        workflow_id=state.workflow_id,
        at_ms=now_ms,
        command=order.command,
        by=order.by,
        accepted=0,
        code="ended",
        message=f"{state.workflow_id} has ended: {state.status}{when}{why}. Nothing was sent",
    )


def _led_to(model: ReadModel, workflow_id: str) -> Workflow | None:
    """The workflow, once nothing of it is under way; else None.

    It has ended, waits for a person or an event, or has an incident again.
    """
    state = queries.workflow_state(model.db, workflow_id)
    return state if state is not None and not _is_under_way(state) else None


def _is_under_way(state: Workflow) -> bool:
    return state.status == "running" and any(step.status in AT_WORK for step in state.steps.values())


def _document(row: CommandRow, state: Workflow | None) -> dict[str, object]:
    return {
        "command_id": row.command_id or None,
        "command": row.command,
        "workflow_id": row.workflow_id,
        "accepted": bool(row.accepted),
        "code": row.code,
        "message": row.message,
        "workflow_status": state.status if state else None,
    }


def _tell(session: Session, row: CommandRow, state: Workflow | None) -> None:
    if not row.accepted:
        refused = Text(f"refused ({row.code})", style="bold red")
        session.show(refused + Text(f"  {printable(row.message)}", style="default"))
        return
    session.show(Text(row.command, style="bold green") + Text(f"  {printable(row.workflow_id)}", style="default"))
    if state is None:
        return
    now = Text("  it is now: ", style="dim") + standing(state)
    session.show(now + Text(f"  {one_line(state.reason)}", style="dim"), *waits(state, session.now_ms()))
    if row.command != "cancel" and _is_under_way(state):
        session.note(f"`mesh workflows show {shlex.quote(printable(row.workflow_id))}` shows how it goes on")

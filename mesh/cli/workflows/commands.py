"""`mesh workflows cancel | retry | skip | fail | complete | pause | resume ID`: operators' orders.

With a filter instead of an ID they are for many workflows: `mesh.cli.workflows.bulk` does that.

Owns how a command is sent, and how long its consequences are waited for. The workflow's owner
decides whether it is accepted.
"""

import asyncio
import shlex
import sys
import time
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Unpack

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
from mesh.cli.workflows.bulk import BulkOptions, Wanted, in_bulk, is_bulk, run_bulk
from mesh.codec.commands import CommandReceipt
from mesh.core.inputs import Command
from mesh.core.receipts import Place
from mesh.core.state import Workflow
from mesh.inspection.documents.orders import Obeyed
from mesh.inspection.documents.orders import Order as OrderDocument
from mesh.inspection.read_model import ReadModel, queries

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api

_POLL_S: Final = 0.25  # of a console, which is asked until nothing is under way
# how long to wait for a command's consequences; then the state so far is shown
SETTLE_S: Final = 10.0
OPEN: Final = frozenset({"running", "expected"})  # statuses of workflows that have not ended
_OF_WHOLES: Final[frozenset[Command]] = frozenset({"cancel", "pause", "resume"})  # of no step
_MEANT: Final[dict[Command, str]] = {
    "cancel": "running",
    "pause": "running",
    "resume": "paused",
    "complete": "running",
}
"""The status of the workflows that a verb in bulk is for; else those with an incident."""
_AT_ONCE: Final = frozenset({"cancel", "pause"})  # nothing that they lead to is waited for
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
    output: Any = msgspec.UNSET


class _Given(BulkOptions):
    """What the command line gives to each command."""

    part: str | None
    by: str
    reason: str
    timeout_s: float
    step: str | None


_id = click.argument("part", metavar="[ID]", required=False)
_step = click.option(
    "--step",
    metavar="STEP",
    help="Only this step's incident (check), this item's (check[7]), this compensation's (hotel.undo); all of them without it.",
)
_author = (by_option("commands"), timeout_option("How long to wait for the receipt."), mesh_command)


def _with(*decorators: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One decorator for several: the first is the outermost, as it would be on lines."""
    return lambda function: reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)


_at_step = click.option(
    "--step", metavar="STEP", help="Of many: only those in which this step is under way, or has an incident."
)
_cancels = _with(_id, _at_step, reason_option(required=True), in_bulk, *_author)
_about_incidents = _with(_id, _step, reason_option(), in_bulk, *_author)


@click.command(short_help="Cancel a running workflow.")
@_cancels
def cancel(session: Session, **given: Unpack[_Given]) -> None:
    """Cancel a running workflow, and wait for the decision. Exits with 1 if it is refused.

    What it did is undone first, where its route says how; a second cancel ends it as it is.
    """
    _run(session, "cancel", given)


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
    _run(session, "retry", given, value)


@click.command(short_help="Go on without the steps that have an incident.")
@_about_incidents
def skip(session: Session, **given: Unpack[_Given]) -> None:
    """Go on without the steps that have an incident: those who need them run.

    Exits with 1 if it is refused.

    An item counts as failed, and its for-each goes on. Waits as `retry` does.
    """
    _run(session, "skip", given)


@click.command(short_help="End a workflow that has an incident as failed.")
@_about_incidents
def fail(session: Session, **given: Unpack[_Given]) -> None:
    """End a workflow that has an incident as failed.

    Exits with 1 if it is refused.

    What it did is undone first, where its route says how. A compensation that has the incident is
    left as it is, and the rest is undone. Waits as `retry` does.
    """
    _run(session, "fail", given)


@click.command(short_help="Give the output of a step by hand.")
@_id
@click.argument("place", metavar="[STEP]", required=False)
@click.option("--step", metavar="STEP", help="Of many: the step. It is under way there, or has an incident.")
@click.option("--output", required=True, metavar="JSON|@FILE", help="The output, as the step's agent would give it.")
@_with(reason_option(required=True), in_bulk, *_author)
def complete(session: Session, *, place: str | None, output: str, **given: Unpack[_Given]) -> None:
    """Give the output of a step by hand: of a task or a call under way, or with an incident.

    Exits with 1 if it is refused, for example if it is not what the agent's card promises.

    It counts as the agent's result would, and what the agent sends later does not. Waits as `retry`
    does.

    \b
    mesh workflows complete shop:413 charge --output @receipt.json --why "paid by phone"
    mesh workflows complete --step charge --cause 3fa2c1 --output @receipt.json --why "by phone"
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    if place is not None and given["step"] is not None:
        raise click.UsageError("STEP and --step say the same: with an ID give STEP, for many --step")
    given["step"] = place or given["step"]
    if given["step"] is None:
        raise click.UsageError("which step? ID and STEP for one workflow, or --step and a filter for many")
    _run(session, "complete", given, output=json_option(output, "--output"))


@click.command(short_help="Hold a workflow: nothing new is sent or begun until it resumes.")
@_cancels
def pause(session: Session, **given: Unpack[_Given]) -> None:
    """Hold a workflow: nothing new of it is sent or begun until it resumes.

    Exits with 1 if it is refused.

    Results, answers and events that come still count, and deadlines and time-outs run on. Retries,
    next steps, further items of a list and compensations wait. A workflow that it has called is
    another workflow, and goes on.
    """
    _run(session, "pause", given)


@click.command(short_help="Let a paused workflow go on.")
@_with(_id, _at_step, reason_option(), in_bulk, *_author)
def resume(session: Session, **given: Unpack[_Given]) -> None:
    """Let a paused workflow go on: all that was held acts at once.

    Exits with 1 if it is refused.
    """
    _run(session, "resume", given)


def _run(
    session: Session,
    command: Command,
    given: _Given,
    value: Any = msgspec.UNSET,
    output: Any = msgspec.UNSET,
) -> None:
    part, step = given["part"], given["step"]
    is_whole = command in _OF_WHOLES
    about = (given["by"], given["reason"], given["timeout_s"], step, value, output)
    if is_bulk(given, part, step):
        at = None if is_whole else step
        run_bulk(session, Wanted(command, _MEANT.get(command, "incident"), *about, at=at), given)
        return
    if is_whole and step is not None:
        raise click.UsageError(f"--step goes with a filter: `{command}` is for a workflow as a whole")
    _run_one(session, _Order(command, part or "", *about))


def _run_one(session: Session, order: _Order) -> None:
    receipt, state = session.run(_order(session, order))
    if session.as_json:
        session.emit(_document(receipt, state))
    else:
        _tell(session, receipt, state)
    if receipt.status == "refused":
        sys.exit(FAILED)


async def _order(session: Session, order: _Order) -> tuple[CommandReceipt, Workflow | None]:
    """Send the command, and wait for its receipt and for what follows from it."""
    if session.api is not None:
        return await _order_at_console(session, session.api, order)
    async with session.model(read_only=False) as (broker, model):
        workflow_id = pick_workflow(session, model, order.part, changes=True)
        state = queries.workflow_state(model.db, workflow_id)
        if state is not None and state.status not in OPEN:
            return _ended(state, order, session.now_ms()), state
        receipt = await session.client(broker).order(
            order.command,
            workflow_id,
            by=order.by,
            reason=order.reason,
            step=order.step,
            input=order.input,
            output=order.output,
            timeout_s=order.timeout_s,
        )
        # the decision is in the log before its receipt is sent
        await model.catch_up()
        if order.command not in _AT_ONCE and receipt.status == "accepted":
            await model.wait_until(lambda: _led_to(model, workflow_id), timeout_s=min(order.timeout_s, SETTLE_S))
        return receipt, queries.workflow_state(model.db, workflow_id)


async def _order_at_console(session: Session, api: "Api", order: _Order) -> tuple[CommandReceipt, Workflow | None]:
    """The same in the name of the token's person."""
    from mesh.cli.remote.picks import workflow_of  # noqa: PLC0415 - only where there is no broker

    state = (await workflow_of(session, api, order.part, changes=True)).state
    if state.status not in OPEN:
        return _ended(state, order, session.now_ms()), state
    given = {
        "command": order.command,
        "workflow_id": state.workflow_id,
        "reason": order.reason,
        "step": order.step,
        "input": order.input,
        "output": order.output,
    }
    found = await api.command(OrderDocument(**given))
    until = time.monotonic() + min(order.timeout_s, SETTLE_S)
    while True:
        state = (await api.workflow(state.workflow_id)).state
        is_awaited = found.accepted and order.command not in _AT_ONCE and _is_under_way(state)
        if not is_awaited or time.monotonic() >= until:
            return _receipt(found), state
        await asyncio.sleep(_POLL_S)


def _receipt(found: Obeyed) -> CommandReceipt:
    return CommandReceipt(
        command_id=found.command_id,
        workflow_id=found.workflow_id,
        command=found.command,
        by=found.by,
        status="accepted" if found.accepted else "refused",
        code=found.code,
        source=Place(topic="", partition=-1, offset=-1),
        message=found.message,
        at=found.at,
    )


def _ended(state: Workflow, order: _Order, now_ms: int) -> CommandReceipt:
    """The answer to a command for a workflow that has ended.

    It is what the owner would say, but nothing is sent: the end is in the log already.
    """
    when = "" if state.ended_at_ms is None else f" {ago(state.ended_at_ms, now_ms)}"
    why = f" ({state.reason})" if state.reason else ""
    return CommandReceipt(
        command_id="",
        workflow_id=state.workflow_id,
        command=order.command,
        by=order.by,
        status="refused",
        code="ended",
        source=Place(topic="", partition=-1, offset=-1),
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


def _document(receipt: CommandReceipt, state: Workflow | None) -> dict[str, object]:
    return {
        "command_id": receipt.command_id or None,
        "command": receipt.command,
        "workflow_id": receipt.workflow_id,
        "accepted": receipt.status == "accepted",
        "code": receipt.code,
        "message": receipt.message,
        "workflow_status": state.status if state else None,
    }


def _tell(session: Session, receipt: CommandReceipt, state: Workflow | None) -> None:
    if receipt.status == "refused":
        refused = Text(f"refused ({receipt.code})", style="bold red")
        session.show(refused + Text(f"  {printable(receipt.message)}", style="default"))
        return
    said = Text(receipt.command, style="bold green")
    session.show(said + Text(f"  {printable(receipt.workflow_id)}", style="default"))
    if state is None:
        return
    now = Text("  it is now: ", style="dim") + standing(state)
    session.show(now + Text(f"  {one_line(state.reason)}", style="dim"), *waits(state, session.now_ms()))
    if receipt.command not in _AT_ONCE and _is_under_way(state):
        session.note(f"`mesh workflows show {shlex.quote(printable(receipt.workflow_id))}` shows how it goes on")

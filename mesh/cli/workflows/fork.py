"""`mesh workflows fork ID --from STEP`: a new run that goes on from a step of another one.

Owns which results the new run keeps: it reads them from the log, because a workflow that has ended
holds none. The owner of the new run decides, and then the other workflow's owner notes it.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click
import msgspec
from rich.text import Text

from mesh.cli.choice import among_digests, pick, pick_workflow
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.codec.commands import CommandReceipt, encode_command
from mesh.core import ids
from mesh.core.events import CompensationStarted, WorkflowEnded, WorkflowStarted
from mesh.core.evolve import evolve
from mesh.core.forks import Fork, kept_results
from mesh.core.state import Workflow
from mesh.errors import NotFound, OperatorError
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import TimelineEntry
from mesh.inspection.route_versions import read_stored
from mesh.ports import Broker

_MARK: Final = "~"  # between the other's key and what makes the new one's its own


class _Order(NamedTuple):
    """What is ordered, by whom and why. `to`: the version if one is named; `value`: an input."""

    step: str
    by: str
    reason: str
    timeout_s: float
    to: str | None = None
    value: Any = msgspec.UNSET


class _Plan(NamedTuple):
    """The new id, the version's digest, and what is kept of the other run."""

    workflow_id: str
    digest: str
    fork: Fork


@click.command(short_help="Begin a new run from a step of another one.")
@click.argument("part", metavar="ID")
@click.option("--from", "step", required=True, metavar="STEP", help="The step from which it goes on.")
@click.option(
    "--input", "given", metavar="JSON|@FILE", help="The step's input; without it, what the route makes of the results."
)
@click.option("--to", metavar="DIGEST", help="The version of the route; without it, that of the other run.")
@click.option("--dry-run", is_flag=True, help="Show what it would keep, and do nothing.")
@reason_option(required=True)
@by_option("commands")
@timeout_option("How long to wait for the receipts.")
@mesh_command
def fork(
    session: Session,
    *,
    part: str,
    step: str,
    given: str | None,
    to: str | None,
    dry_run: bool,
    reason: str,
    by: str,
    timeout_s: float,
) -> None:
    """Begin a new run from a step of another one, running or ended, which stays as it is.

    The new run has ids of its own, and the other's results of all steps but STEP and those that
    need it. Each of the two says where the other is. What the other run did is not undone by the
    new one. Events for the other's key do not come to the new run.

    \b
    mesh workflows fork shop:413 --from charge --why "the price was wrong"
    mesh workflows fork shop:413 --from charge --input @order.json --why "the price was wrong"
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    value = msgspec.UNSET if given is None else json_option(given, "--input")
    order = _Order(step, by, reason, timeout_s, to, value)
    plan, receipt = session.run(_fork(session, part, order, dry_run=dry_run))
    _tell(session, plan, step, receipt)
    if receipt is not None and receipt.status == "refused":
        sys.exit(FAILED)


async def _fork(session: Session, part: str, order: _Order, *, dry_run: bool) -> tuple[_Plan, CommandReceipt | None]:
    async with session.model(read_only=dry_run) as (broker, model):
        other = pick_workflow(session, model, part, changes=not dry_run)
        plan = await _plan(session, broker, queries.decisions_of(model.db, other), other, order)
        if dry_run:
            return plan, None
        receipt = await _send(session, broker, plan.workflow_id, plan.fork, order._replace(to=plan.digest))
        if receipt.status == "accepted":
            told = order._replace(to=None, value=msgspec.UNSET)
            await _send(session, broker, other, Fork(into=plan.workflow_id), told)
        return plan, receipt


async def _plan(session: Session, broker: Broker, entries: Sequence[TimelineEntry], other: str, order: _Order) -> _Plan:
    step, to = order.step, order.to
    started, state = _last_run(entries, other)
    stored = await read_stored(broker, session.topics)
    digest = state.digest
    if to is not None:
        digest = pick(session, to, among_digests([one.digest for one in stored.versions]), changes=True)
    route = next((one.route for one in stored.versions if one.digest == digest), None)
    if route is None:
        raise NotFound(f"version {digest[7:19]} of {state.route} can't be read here: name another with --to")
    if step not in route.steps:
        raise OperatorError(f"route {route.name} has no step {step}: {', '.join(route.steps)}")
    kept = kept_results(route, step, state.steps)
    workflow_id = ids.workflow_id(route.name, f"{state.key}{_MARK}{session.fresh_id()[:8]}")
    about = Fork(of=other, run_id=state.run_id, event=started.cloud_event, steps=kept)
    return _Plan(workflow_id, digest, about)


def _last_run(entries: Sequence[TimelineEntry], other: str) -> tuple[WorkflowStarted, Workflow]:
    """The start of the newest run, and its state before it ended or was undone."""
    started: WorkflowStarted | None = None
    state: Workflow | None = None
    is_over = False
    for entry in entries:
        for event in entry.decision.events:
            if isinstance(event, WorkflowStarted):
                started, is_over = event, False
            is_over = is_over or isinstance(event, CompensationStarted | WorkflowEnded)
            if not is_over:
                state = evolve(state, event, workflow_id=other, at_ms=entry.decision.at_ms)
    if started is None or state is None:
        raise NotFound(f"{other} has had no run: there is nothing to fork")
    return started, state


async def _send(session: Session, broker: Broker, workflow_id: str, about: Fork, order: _Order) -> CommandReceipt:
    client, command_id = session.client(broker), f"command-{session.fresh_id()}"
    starts = await client.command_position()
    record = encode_command(
        topics=session.topics,
        command="fork",
        workflow_id=workflow_id,
        by=order.by,
        command_id=command_id,
        at_ms=session.now_ms(),
        reason=order.reason,
        step=order.step,
        to=order.to or "",
        input=order.value,
        fork=about,
    )
    failures = await broker.send([record])
    if failures:
        raise OperatorError(f"the command to fork could not be sent: {failures[0].message}")
    found = await client.command_receipts([command_id], starts, timeout_s=order.timeout_s)
    if command_id not in found:
        raise TimeoutError(
            f"no receipt for the command to {workflow_id} after {order.timeout_s:g} s: it is on the broker, and a router "
            "will read it (`mesh status` shows whether one is alive)"
        )
    return found[command_id]


def _tell(session: Session, plan: _Plan, step: str, receipt: CommandReceipt | None) -> None:
    kept = list(plan.fork.steps)
    if session.as_json:
        session.emit(
            {
                "dry_run": receipt is None,
                "workflow_id": plan.workflow_id if receipt is not None else None,
                "of": plan.fork.of,
                "of_run_id": plan.fork.run_id,
                "from": step,
                "kept": kept,
                "accepted": receipt is not None and receipt.status == "accepted",
                "code": receipt.code if receipt is not None else "",
                "message": receipt.message if receipt is not None else "",
            }
        )
        return
    if receipt is not None and receipt.status == "refused":
        session.show(Text(f"refused ({receipt.code})", style="bold red") + Text(f"  {printable(receipt.message)}"))
        return
    head = Text("fork", style="bold green") + Text(f"  {printable(plan.fork.of)}, from {printable(step)}")
    head.append(f" into {printable(plan.workflow_id)}" if receipt is not None else "", style="bold")
    session.show(head, Text(f"  keeps the results of: {', '.join(map(printable, kept)) or 'no step'}", style="dim"))
    if receipt is None:
        session.note("this was a dry run, nothing is sent")

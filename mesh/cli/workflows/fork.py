"""`mesh workflows fork [ID] --from STEP`: new runs that go on from a step of others.

With a filter instead of an ID it is one operation for many workflows (`mesh.cli.workflows.bulk`).

Owns which runs are forked, and what is shown. `mesh.inspection.forking` reads what each new run
keeps. The owner of the new run decides, and has the other workflow note it.
"""

import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Unpack

import click
import msgspec
from rich.text import Text

from mesh.cli.choice import among_digests, pick, pick_workflow
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.cli.workflows.bulk import BulkOptions, Refined, Wanted, in_bulk, is_bulk, run_bulk
from mesh.core.forks import PlannedFork
from mesh.core.route import Route
from mesh.errors import OperatorError
from mesh.inspection.documents.orders import Forked, ForkOrder, forked_document
from mesh.inspection.forking import LastRun, last_run, mark_of, planned
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import WorkflowRow
from mesh.inspection.route_versions import read_stored
from mesh.ports import Broker

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api

_MARK_DIGITS: Final = 8


class _Order(NamedTuple):
    """What is ordered, by whom and why. `to`: the version if one is named; `value`: an input."""

    step: str
    by: str
    reason: str
    timeout_s: float
    to: str | None = None
    value: Any = msgspec.UNSET


@click.command(short_help="Begin a new run from a step of another one.")
@click.argument("part", metavar="[ID]", required=False)
@click.option("--from", "origin", required=True, metavar="STEP", help="The step from which it goes on.")
@click.option(
    "--input", "given", metavar="JSON|@FILE", help="The step's input; without it, what the route makes of the results."
)
@click.option("--to", metavar="DIGEST", help="The version of the route; without it, that of the other run.")
@click.option("--step", metavar="STEP", help="Of many: only those in which this step is under way, or has an incident.")
@reason_option(required=True)
@in_bulk
@by_option("commands")
@timeout_option("How long to wait for the receipts.")
@mesh_command
def fork(
    session: Session,
    *,
    part: str | None,
    origin: str,
    given: str | None,
    to: str | None,
    step: str | None,
    reason: str,
    by: str,
    timeout_s: float,
    **options: Unpack[BulkOptions],
) -> None:
    """Begin a new run from a step of another one, running or ended, which stays as it is.

    The new run has ids of its own, and the other's results of all steps but STEP and those that
    need it. Each of the two says where the other is. What the other run did is not undone by the
    new one. Events for the other's key do not come to the new run.

    With a filter instead of an ID it is one operation, as the other verbs are. It leaves out what
    is such a fork itself. The same fork of the same run has the same id: ordered twice, it begins
    once. By its ID a workflow is forked as often as you like.

    \b
    mesh workflows fork shop:413 --from charge --why "the price was wrong"
    mesh workflows fork shop:413 --from charge --input @order.json --why "the price was wrong"
    mesh workflows fork --route shop --status failed --from charge --why "the bank was down"
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    value = msgspec.UNSET if given is None else json_option(given, "--input")
    order = _Order(origin, by, reason, timeout_s, to, value)
    # of an ID a dry run makes sense here
    if is_bulk({**options, "dry_run": options["dry_run"] and part is None}, part, step):
        refine = partial(_refined, session, order)
        wanted = Wanted("fork", None, by, reason, timeout_s, step, value, at=origin, refine=refine)
        run_bulk(session, wanted, options)
        return
    if step is not None:
        raise click.UsageError("--step goes with a filter; --from is the step from which it goes on")
    found = session.run(_fork(session, part or "", order, dry_run=options["dry_run"]))
    _tell(session, found)
    if not found.accepted and not found.dry_run:
        sys.exit(FAILED)


# One --------------------------------------------------------------------------------------------


async def _fork(session: Session, part: str, order: _Order, *, dry_run: bool) -> Forked:
    if session.api is not None:
        return await _fork_at_console(session, session.api, part, order, dry_run=dry_run)
    async with session.model(read_only=dry_run) as (broker, model):
        other = pick_workflow(session, model, part, changes=not dry_run)
        versions, to = await _versions(session, broker, order.to)
        mark = session.fresh_id()[:_MARK_DIGITS]
        plan = planned(_last_run(model, other), order.step, versions, to=to, mark=mark)
        if dry_run:
            return forked_document(plan, order.step, None)
        receipt = await session.client(broker).order(
            "fork",
            plan.into,
            by=order.by,
            reason=order.reason,
            step=order.step,
            to=plan.to,
            input=order.value,
            fork=plan.fork,
            timeout_s=order.timeout_s,
        )
        return forked_document(plan, order.step, receipt)


async def _fork_at_console(session: Session, api: "Api", part: str, order: _Order, *, dry_run: bool) -> Forked:
    """The same in the name of the token's person."""
    from mesh.cli.remote.picks import workflow_of  # noqa: PLC0415 - only where there is no broker

    state = (await workflow_of(session, api, part, changes=not dry_run)).state
    given = ForkOrder(
        of=state.workflow_id,
        step=order.step,
        reason=order.reason,
        input=order.value,
        to=order.to or "",
        dry_run=dry_run,
    )
    return await api.fork(given)


async def _versions(session: Session, broker: Broker, to: str | None) -> tuple[dict[str, Route | None], str]:
    """The stored versions, and the digest of the one that is named; empty if none is."""
    stored = await read_stored(broker, session.topics)
    digests = [one.digest for one in stored.versions]
    digest = "" if to is None else pick(session, to, among_digests(digests), changes=True)
    return {one.digest: one.route for one in stored.versions}, digest


def _last_run(model: ReadModel, workflow_id: str) -> LastRun:
    return last_run((entry.decision for entry in queries.decisions_of(model.db, workflow_id)), workflow_id)


# Many -------------------------------------------------------------------------------------------


async def _refined(
    session: Session, order: _Order, broker: Broker, model: ReadModel, rows: list[WorkflowRow]
) -> Refined:
    """Which of them are forked, and how each."""
    versions, to = await _versions(session, broker, order.to)
    plans = {row.workflow_id: _plan(model, row, order, versions, to) for row in rows}
    forks = {name: plan for name, plan in plans.items() if isinstance(plan, PlannedFork)}
    left_out = Counter(plan for plan in plans.values() if isinstance(plan, str))
    return Refined([row for row in rows if row.workflow_id in forks], forks=forks, left_out=left_out)


def _plan(
    model: ReadModel, row: WorkflowRow, order: _Order, versions: dict[str, Route | None], to: str
) -> PlannedFork | str:
    """The fork, or why there is none."""
    if not row.run_id:
        return "no run yet"
    run, step = _last_run(model, row.workflow_id), order.step
    if run.state.origin is not None and run.state.origin.step == step:
        return f"a fork from {step} itself"
    try:
        plan = planned(run, step, versions, to=to, mark=mark_of(run, step, to=to, task_input=order.value))
    except OperatorError as error:
        return str(error)
    return f"forked from {step} before" if plan.into in run.forked_into else plan


# Telling ----------------------------------------------------------------------------------------


def _tell(session: Session, found: Forked) -> None:
    if session.as_json:
        session.emit(found)
        return
    if not found.accepted and not found.dry_run:
        session.show(Text(f"refused ({found.code})", style="bold red") + Text(f"  {printable(found.message)}"))
        return
    head = Text("fork", style="bold green") + Text(f"  {printable(found.of)}, from {printable(found.step)}")
    head.append(f" into {printable(found.workflow_id)}" if found.workflow_id else "", style="bold")
    kept = ", ".join(map(printable, found.kept)) or "no step"
    session.show(head, Text(f"  keeps the results of: {kept}", style="dim"))
    if found.dry_run:
        session.note("this was a dry run, nothing is sent")

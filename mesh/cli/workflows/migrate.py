"""`mesh workflows migrate`: move running workflows to another version of their route.

Owns which workflows are moved, and what is shown. The owners of the workflows decide, one by one,
and this shows each verdict. Many by a filter are an operation (`mesh.cli.workflows.bulk`).
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Literal, Unpack

import click
import msgspec
from msgspec.structs import replace
from rich.text import Text

from mesh.cli.choice import among_digests, pick, pick_workflow
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.routes.versions import short
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.cli.workflows.bulk import BulkOptions, Refined, Wanted, filter_of, in_bulk, is_bulk, run_bulk
from mesh.codec.commands import CommandReceipt
from mesh.core.decide import decide
from mesh.core.events import ApprovalRequested, CommandRefused, Event, TaskDispatched
from mesh.core.inputs import CommandGiven
from mesh.core.route import Route
from mesh.core.state import Directory, Workflow
from mesh.errors import NotFound, OperatorError
from mesh.inspection.assumed_calendars import assumed_calendars
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import WorkflowRow
from mesh.inspection.route_versions import Stored, read_stored
from mesh.ports import Broker
from mesh.services.client import Client

_NAMED: Final = 3  # workflows that a message names
AT_ONCE: Final = 200  # commands sent at once
ACTIVE: Final = "active"
Kind = Literal["migrated", "already", "refused", "undecided"]
STYLES: Final[dict[Kind, str]] = {"migrated": "green", "already": "dim", "refused": "red", "undecided": "yellow"}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one workflow, or in a dry run would become of it.

    `undecided`: no decision came in time. `acts`: what begins at once, in a dry run.
    """

    workflow_id: str
    verdict: Kind
    before: str
    to: str
    code: str = ""
    message: str = ""
    command_id: str | None = None
    acts: tuple[str, ...] = ()


@click.command(short_help="Move running workflows to another version of their route.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--step", metavar="STEP", help="Of many: only those in which this step is under way, or has an incident.")
@click.option(
    "--to",
    required=True,
    metavar="DIGEST|active",
    help="The version's digest, as `mesh routes list` prints it; active: the active one.",
)
@reason_option()
@in_bulk
@by_option("commands")
@timeout_option("How long to wait for the receipts.")
@mesh_command
def migrate(
    session: Session,
    *,
    ids: tuple[str, ...],
    step: str | None,
    to: str,
    reason: str,
    by: str,
    timeout_s: float,
    **given: Unpack[BulkOptions],
) -> None:
    """Move running workflows to another version of their route.

    They are decided by it from then on. What has begun must fit it; what has not may differ freely.
    Exits with 1 if any is refused.

    With a filter instead of IDs it is one operation, as the other verbs are. A dry run says of each
    workflow what would be decided.

    \b
    mesh workflows migrate --route issue-triage --to active --dry-run
    mesh workflows migrate --route issue-triage --to active --why "the new prices"
    mesh workflows migrate shop:413 shop:414 --to 77ab21c09d12
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    # of IDs a dry run makes sense here
    options: BulkOptions = {**given, "dry_run": given["dry_run"] and not ids}
    is_many = is_bulk(options, ids[0] if ids else None, step)
    if is_many and not given["dry_run"]:
        wanted = Wanted("migrate", "running", by, reason, timeout_s, step, refine=partial(_refined, session, to))
        run_bulk(session, wanted, given)
        return
    verdicts = session.run(
        _rehearse(session, ids, given, step=step, to=to, by=by)
        if given["dry_run"]
        else _migrate(session, ids, to, by=by, reason=reason, timeout_s=timeout_s)
    )
    _tell(session, verdicts, dry_run=given["dry_run"])
    undecided = [one for one in verdicts if one.verdict == "undecided"]
    if undecided:
        raise TimeoutError(
            f"no receipt on {session.topics.command_receipts} for {counted(len(undecided), 'command')} to migrate "
            f"({_few(undecided)}) after {timeout_s:g} s: they are on the broker, and a router will read them "
            "(`mesh status` shows whether one is alive)"
        )
    if any(one.verdict == "refused" for one in verdicts):
        sys.exit(FAILED)


async def _migrate(
    session: Session, ids: Sequence[str], to: str, *, by: str, reason: str, timeout_s: float
) -> list[Verdict]:
    async with session.model(read_only=False) as (broker, model):
        stored = await read_stored(broker, session.topics)
        chosen = _named(session, model, ids, changes=True)
        targets = _targets(session, stored, {one.route for one in chosen}, to, changes=True)
        going = [workflow for workflow in chosen if workflow.digest != targets[workflow.route]]
        client = session.client(broker)
        starts = await client.command_position()
        sent = await _send(client, going, targets, by=by, reason=reason)
        receipts = await client.command_receipts(sent.values(), starts, timeout_s=timeout_s)
    return [
        _verdict(workflow, targets[workflow.route], sent.get(workflow.workflow_id), receipts) for workflow in chosen
    ]


async def _rehearse(
    session: Session, ids: Sequence[str], given: BulkOptions, *, step: str | None, to: str, by: str
) -> list[Verdict]:
    """What would be decided on each, by the same rules, on the states that the log gives so far."""
    async with session.model() as (broker, model):
        stored = await read_stored(broker, session.topics)
        chosen = _named(session, model, ids, changes=False) if ids else _found(session, model, given, step)
        targets = _targets(session, stored, {one.route for one in chosen}, to, changes=False)
    return [_rehearsed(workflow, targets[workflow.route], stored, by, session.now_ms()) for workflow in chosen]


async def _refined(session: Session, to: str, broker: Broker, _: ReadModel, rows: list[WorkflowRow]) -> Refined:
    """The workflows that are not on their target yet, and the target by route."""
    stored = await read_stored(broker, session.topics)
    targets = _targets(session, stored, {row.route for row in rows}, to, changes=True)
    going = [row for row in rows if row.digest != targets[row.route]]
    already = len(rows) - len(going)
    return Refined(going, targets, left_out={"on that version already": already} if already else {})


def _named(session: Session, model: ReadModel, parts: Sequence[str], *, changes: bool) -> list[Workflow]:
    """The workflows with these ids, whatever their status is, so that each id gets an answer."""
    names = [pick_workflow(session, model, part, changes=changes) for part in parts]
    return _states(model, dict.fromkeys(names))


def _found(session: Session, model: ReadModel, given: BulkOptions, step: str | None) -> list[Workflow]:
    found = filter_of(session, model, given, step, status="running")
    page = found.page(model)
    if not page:
        raise NotFound(found.why_none(model))
    return _states(model, [row.workflow_id for row in page])


def _states(model: ReadModel, names: Iterable[str]) -> list[Workflow]:
    states = (queries.workflow_state(model.db, name) for name in names)
    return [state for state in states if state is not None]


def _targets(session: Session, stored: Stored, routes: Collection[str], to: str, *, changes: bool) -> dict[str, str]:
    return {name: _target(session, stored, name, to, changes=changes) for name in routes}


def _target(session: Session, stored: Stored, route: str, to: str, *, changes: bool) -> str:
    """The digest of the version to move to."""
    if to == ACTIVE:
        digest = stored.digests().get(route)
        if digest is None:
            raise NotFound(f"no version of {route} is active: name one with --to DIGEST (`mesh routes list`)")
        return digest
    digest = pick(session, to, among_digests([version.digest for version in stored.versions]), changes=changes)
    if not stored.timeline.is_empty and digest not in stored.timeline.digests():
        raise OperatorError(
            f"version {short(digest)} was never active, and events that its steps wait for would not be looked for: make it active first (`mesh routes apply`)"
        )
    return digest


async def _send(
    client: Client, going: Sequence[Workflow], targets: Mapping[str, str], *, by: str, reason: str
) -> dict[str, str]:
    """Send all the commands. Returns their ids by workflow."""
    sent: dict[str, str] = {}
    for start in range(0, len(going), AT_ONCE):
        some = going[start : start + AT_ONCE]
        found = await asyncio.gather(
            *(client.command("migrate", one.workflow_id, by=by, reason=reason, to=targets[one.route]) for one in some)
        )
        sent.update(zip((one.workflow_id for one in some), found, strict=True))
    return sent


def _standing(workflow: Workflow, to: str) -> Verdict:
    """The verdict before anything is decided."""
    verdict = Verdict(workflow_id=workflow.workflow_id, verdict="undecided", before=workflow.digest, to=to)
    if workflow.digest != to:
        return verdict
    return replace(verdict, verdict="already", code="already", message="it runs on that version already")


def _verdict(workflow: Workflow, to: str, command: str | None, receipts: Mapping[str, CommandReceipt]) -> Verdict:
    verdict = replace(_standing(workflow, to), command_id=command)
    receipt = receipts.get(command) if command is not None else None
    if receipt is None:
        return verdict
    is_accepted = receipt.status == "accepted"
    return replace(
        verdict, verdict="migrated" if is_accepted else "refused", code=receipt.code, message=receipt.message
    )


def _rehearsed(workflow: Workflow, to: str, stored: Stored, by: str, now_ms: int) -> Verdict:
    """What the owner would decide, by the same rules, on the state that the log gives so far."""
    routes: dict[str, Route | None] = {version.digest: version.route for version in stored.versions}
    verdict, old = _standing(workflow, to), routes.get(workflow.digest)
    if verdict.verdict == "already":
        return verdict
    if old is None:
        return replace(verdict, verdict="refused", code="no_version", message="its own version can't be read here")
    given = CommandGiven(
        workflow_id=workflow.workflow_id,
        source_topic="",
        source_partition=0,
        source_offset=0,
        source_at_ms=now_ms,
        command_id="",
        command="migrate",
        by=by,
        to=to,
    )
    target = routes.get(to)
    assumed = assumed_calendars([] if target is None else [target], now_ms)
    directory = Directory(knows_all_roles=False, calendars=assumed)
    events = decide(workflow, given, route=old, directory=directory, now_ms=now_ms, target=target).events
    for event in events:
        if isinstance(event, CommandRefused):
            return replace(verdict, verdict="refused", code=event.code, message=event.message)
    return replace(verdict, verdict="migrated", acts=tuple(text for event in events if (text := _act(event))))


def _act(event: Event) -> str:
    match event:
        case TaskDispatched():
            return f"{event.step} to {event.agent}"
        case ApprovalRequested():
            return f"{event.step} asks {event.role}"
        case _:
            return ""


def _few(verdicts: Sequence[Verdict]) -> str:
    """The first workflows by their ids, and how many more there are."""
    named = ", ".join(printable(one.workflow_id) for one in verdicts[:_NAMED])
    return named + (f" and {len(verdicts) - _NAMED} more" if len(verdicts) > _NAMED else "")


# Telling ------------------------------------------------------------------------------------------


def _tell(session: Session, verdicts: Sequence[Verdict], *, dry_run: bool) -> None:
    counts = Counter(one.verdict for one in verdicts)
    if session.as_json:
        session.emit({"dry_run": dry_run, "counts": {name: counts[name] for name in STYLES}, "workflows": verdicts})
        return
    for one in verdicts:
        line = Text(f"{one.verdict:<9}", style=STYLES[one.verdict])
        line.append(f"  {printable(one.workflow_id)}", style="bold")
        if one.verdict in {"migrated", "undecided"}:
            line.append(f"  {short(one.before)} -> {short(one.to)}", style="dim")
        line.append(f"  {printable(one.message)}" if one.message else "", style="default")
        line.append(f"  then: {', '.join(map(printable, one.acts))}" if one.acts else "", style="dim")
        session.show(line)
    said = ", ".join(f"{counts[name]} {name}" for name in STYLES if counts[name])
    session.note(
        f"{counted(len(verdicts), 'workflow')}: {said}" + ("; this was a dry run, nothing is sent" if dry_run else "")
    )

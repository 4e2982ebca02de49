"""`mesh workflows migrate`: move running workflows to another version of their route.

Owns which workflows are moved, and what is shown. The owners of the workflows decide, one by one,
and this shows each verdict.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal

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
from mesh.codec.commands import CommandReceipt
from mesh.core.decide import decide
from mesh.core.events import ApprovalRequested, CommandRefused, Event, TaskDispatched
from mesh.core.inputs import CommandGiven
from mesh.core.route import Route
from mesh.core.state import Directory, Workflow
from mesh.errors import NotFound, OperatorError
from mesh.inspection.assumed_calendars import assumed_calendars
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.route_versions import Stored, read_stored
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
@click.option("--route", metavar="ROUTE", help="All running workflows of this route, instead of IDs.")
@click.option(
    "--to",
    required=True,
    metavar="DIGEST|active",
    help="The version's digest, as `mesh routes list` prints it; active: the active one.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be decided, as far as the log is known here.")
@reason_option()
@by_option("commands")
@timeout_option("How long to wait for the receipts.")
@mesh_command
def migrate(
    session: Session,
    *,
    ids: tuple[str, ...],
    route: str | None,
    to: str,
    dry_run: bool,
    reason: str,
    by: str,
    timeout_s: float,
) -> None:
    """Move running workflows to another version of their route.

    They are decided by it from then on. What has begun must fit it; what has not may differ freely.
    Exits with 1 if any is refused.

    \b
    mesh workflows migrate --route issue-triage --to active --dry-run
    mesh workflows migrate shop:413 shop:414 --to 77ab21c09d12
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    if bool(ids) == (route is not None):
        raise click.UsageError("give the workflows' IDs, or --route for all that run")
    verdicts = session.run(
        _migrate(session, ids, route, to, dry_run=dry_run, reason=reason, by=by, timeout_s=timeout_s)
    )
    _tell(session, verdicts, dry_run=dry_run)
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
    session: Session,
    ids: Sequence[str],
    route: str | None,
    to: str,
    *,
    dry_run: bool,
    reason: str,
    by: str,
    timeout_s: float,
) -> list[Verdict]:
    async with session.model(read_only=dry_run) as (broker, model):
        stored = await read_stored(broker, session.topics)
        chosen = _chosen(session, model, ids, route, changes=not dry_run)
        changes = not dry_run
        targets = {name: _target(session, stored, name, to, changes=changes) for name in {one.route for one in chosen}}
        if dry_run:
            return [_rehearsed(workflow, targets[workflow.route], stored, by, session.now_ms()) for workflow in chosen]
        going = [workflow for workflow in chosen if workflow.digest != targets[workflow.route]]
        client = session.client(broker)
        starts = await client.command_position()
        sent = await _send(client, going, targets, by=by, reason=reason)
        receipts = await client.command_receipts(sent.values(), starts, timeout_s=timeout_s)
    return [
        _verdict(workflow, targets[workflow.route], sent.get(workflow.workflow_id), receipts) for workflow in chosen
    ]


def _chosen(
    session: Session, model: ReadModel, parts: Sequence[str], route: str | None, *, changes: bool
) -> list[Workflow]:
    """The workflows to move: those with these ids, or all running ones of a route.

    An id is taken whatever the workflow's status is, so that each id gets an answer.
    """
    if route is None:
        names = [pick_workflow(session, model, part, changes=changes) for part in parts]
    else:
        names = [row.workflow_id for row in queries.workflows(model.db, status="running", route=route)]
        if not names:
            raise NotFound(
                f"no workflow of route {route} is running: `mesh workflows --route {route}` lists those that were"
            )
    states = (queries.workflow_state(model.db, name) for name in dict.fromkeys(names))
    return [state for state in states if state is not None]


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

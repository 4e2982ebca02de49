"""`mesh routes apply`, `mesh routes rollback`: make other versions of routes active.

Owns what changes for each route, and how it is shown. `mesh.services.definitions` stores and
activates. Running routers take the versions up by themselves.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import click
import msgspec
from rich.text import Text

from mesh.cli.choice import among_digests, pick
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option
from mesh.cli.routes.check import cards_of_modules, finding_line, look_online, roles_of, summary_of
from mesh.cli.routes.versions import change_line, notes_on, short
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted
from mesh.codec.route_file import load_routes
from mesh.codec.times import rfc3339
from mesh.core.activation import DELAY_MS, FROM_THE_BEGINNING, SLACK_MS, Placed, RouteChange
from mesh.core.route import Route
from mesh.errors import NotFound, OperatorError
from mesh.inspection.checks.report import Report, check
from mesh.inspection.route_versions import Change, changes
from mesh.ports import Broker
from mesh.services.definitions import DefinitionsReader, activate

SIGNS: Final = {"new": ("+", "green"), "changed": ("~", "yellow"), "withdrawn": ("-", "red"), "unchanged": ("=", "dim")}

dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would change.")
wait_option = click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until it is in effect, some two seconds."
)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one route.

    `before`: the version active until now. `digest`: the version active from then on. None: none.
    """

    route: str
    change: Literal["new", "changed", "withdrawn", "unchanged"]
    digest: str | None
    before: str | None
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


class Order(NamedTuple):
    """Which versions somebody wants to be active, who wants it, and why.

    It has the routes themselves, because they may have to be stored first.
    """

    routes: Sequence[Route]
    withdraw: Sequence[str]
    by: str
    reason: str
    dry_run: bool
    wait: bool


class Done(NamedTuple):
    steps: list[Step]
    placed: Placed | None  # None: nothing was sent
    took_s: float = 0.0


@click.command(short_help="Make the versions in files active.")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--withdraw", multiple=True, metavar="ROUTE", help="This route starts nothing any more; repeatable.")
@dry_run_option
@click.option("--agents", multiple=True, metavar="MODULE", help="Check against the agents of this module too.")
@click.option(
    "--approvers", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Check roles against this file."
)
@click.option("--force", is_flag=True, help="Also where the check finds errors, as long as the files can be read.")
@by_option("does it")
@reason_option()
@wait_option
@mesh_command
def apply(
    session: Session,
    *,
    files: tuple[Path, ...],
    withdraw: tuple[str, ...],
    dry_run: bool,
    agents: tuple[str, ...],
    approvers: Path | None,
    force: bool,
    by: str,
    reason: str,
    wait: bool,
) -> None:
    """Make the versions in route FILES (or folders of them) active, all at once.

    Only what is new or changed is made active, after a check as `mesh routes check` does it.
    Running routers take the versions up without a restart. Workflows that run now end under the
    version they started with. Exits with 1 if the check finds errors.

    \b
    mesh routes apply routes/ --dry-run
    mesh routes apply --withdraw old-route
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    if not files and not withdraw:
        raise click.UsageError("give route files or folders to apply, or --withdraw ROUTE")
    report = session.run(_check(session, files, agents, approvers)) if files else None
    if report is not None and not session.as_json:
        for finding in report.findings:
            session.err.print(finding_line(finding), soft_wrap=True)
    if report is not None and report.count("error") and not force:
        if session.as_json:
            session.emit({**_document(Done([], None), dry_run=dry_run), "findings": report.findings})
        session.note(f"{summary_of(report)}. Nothing is applied")
        sys.exit(FAILED)
    routes = [one.route for one in load_routes(files)] if files else []
    both = sorted({route.name for route in routes} & set(withdraw))
    if both:
        raise click.UsageError(f"{both[0]} is in the files and withdrawn; choose one")
    order = Order(routes, withdraw, by, reason, dry_run, wait)
    done = session.run(_apply(session, order))
    _tell(session, done, order, findings=report.findings if report is not None else ())


async def _check(session: Session, files: Sequence[Path], modules: Sequence[str], approvers: Path | None) -> Report:
    """Check the files, against all agents that have or had a card, and the routers' roles."""
    found = await look_online(session)
    known = found.agents | cards_of_modules(session, tuple(modules))
    roles = found.roles if approvers is None else roles_of(approvers, found.roles)
    return check(
        files,
        agents=known or None,
        roles=roles,
        conflicts=found.conflicts,
        calendars=found.calendars,
        answers=session.settings.least_answer,
    )


async def _apply(session: Session, order: Order) -> Done:
    async with session.broker() as broker:
        known = DefinitionsReader(broker, session.topics)
        try:
            await known.start()
            return await _carry_out(session, broker, known, order)
        finally:
            await known.close()


async def _carry_out(session: Session, broker: Broker, known: DefinitionsReader, order: Order) -> Done:
    active = known.timeline.latest()
    for name in order.withdraw:
        if name not in active:
            raise NotFound(f"no route {name} was ever active: `mesh routes list` lists those that are")
    steps = [_step(known, active.get(route.name), route) for route in order.routes]
    steps += [_withdrawal(name, active[name]) for name in order.withdraw]
    wanted = {step.route: step.digest for step in steps if step.change != "unchanged"}
    if not wanted or order.dry_run:
        return Done(steps, None)
    began = time.monotonic()
    placed = await activate(
        known,
        broker,
        session.topics,
        routes=[route for route in order.routes if route.name in wanted],
        digests={name: None for name, digest in wanted.items() if digest is None},
        activation_id=session.fresh_id(),
        by=order.by,
        at_ms=session.now_ms(),
        reason=order.reason,
    )
    took_s = time.monotonic() - began
    # An activation takes effect `DELAY_MS` after the broker took it.
    if order.wait and placed.since_ms != FROM_THE_BEGINNING:
        await asyncio.sleep(DELAY_MS / 1000)
    return Done(steps, placed, took_s)


def _step(known: DefinitionsReader, now: RouteChange | None, route: Route) -> Step:
    before = now.digest if now is not None else None
    if before is None:
        return Step(route=route.name, change="new", digest=route.digest, before=None)
    if before == route.digest:
        return Step(route=route.name, change="unchanged", digest=route.digest, before=before)
    old = known.get(before)
    found = tuple(changes(old.definition, route.definition)) if old is not None else ()
    notes = tuple(notes_on(found))
    return Step(route=route.name, change="changed", digest=route.digest, before=before, changes=found, notes=notes)


def _withdrawal(name: str, now: RouteChange) -> Step:
    if now.digest is None:
        return Step(route=name, change="unchanged", digest=None, before=None)
    return Step(route=name, change="withdrawn", digest=None, before=now.digest)


# Going back ---------------------------------------------------------------------------------------


@click.command(short_help="Make an earlier version of a route active again.")
@click.argument("name", metavar="ROUTE")
@click.argument("digest", metavar="[DIGEST]", required=False)
@dry_run_option
@by_option("does it")
@reason_option()
@wait_option
@mesh_command
def rollback(
    session: Session, *, name: str, digest: str | None, dry_run: bool, by: str, reason: str, wait: bool
) -> None:
    """Make the version of ROUTE active that was active before the present one.

    With DIGEST: the stored version with this digest, as `mesh routes list` prints it. Twice in a
    row is there and back again. A route that is withdrawn gets the version that it had.
    """
    done, order = session.run(_rollback(session, name, digest, Order([], (), by, reason, dry_run, wait)))
    _tell(session, done, order, findings=())


async def _rollback(session: Session, name: str, digest: str | None, order: Order) -> tuple[Done, Order]:
    async with session.broker() as broker:
        known = DefinitionsReader(broker, session.topics)
        try:
            await known.start()
            target = (
                _named(session, known, name, digest, changes=not order.dry_run)
                if digest is not None
                else _before(known, name)
            )
            route = known.get(target)
            if route is None:
                raise OperatorError(
                    f"version {short(target)} of {name} can't be used: {known.versions[target].problem}"
                )
            order = order._replace(routes=[route])
            return await _carry_out(session, broker, known, order), order
        finally:
            await known.close()


def _before(known: DefinitionsReader, name: str) -> str:
    history = known.timeline.history(name)
    if not history:
        raise NotFound(f"no route {name} was ever active: `mesh routes list` lists those that are")
    now = history[-1].digest
    for change in reversed(history[:-1]):
        if change.digest not in {None, now}:
            return str(change.digest)
    raise NotFound(f"no other version of {name} was active before {short(now or '')}. {_stored(known, name)}")


def _named(session: Session, known: DefinitionsReader, name: str, digest: str, *, changes: bool) -> str:
    of_name = [version.digest for version in known.versions.values() if version.name == name]
    if not any(digest in one for one in of_name):
        raise NotFound(f"route {name} has no version {digest}. {_stored(known, name)}")
    return pick(session, digest, among_digests(of_name), changes=changes)


def _stored(known: DefinitionsReader, name: str) -> str:
    """The stored versions of a route, as a hint in an error message."""
    active = known.timeline.latest().get(name)
    now = active.digest if active is not None else None
    found = sorted((v for v in known.versions.values() if v.name == name), key=lambda version: version.stored_at_ms)
    if not found:
        return "No version of it is stored"
    lines = (
        f"\n  {short(v.digest)}, stored {_time(v.stored_at_ms)}{', active' if v.digest == now else ''}" for v in found
    )
    return "Stored are:" + "".join(lines)


# Telling ------------------------------------------------------------------------------------------


def _tell(session: Session, done: Done, order: Order, *, findings: Sequence[Any]) -> None:
    if session.as_json:
        session.emit({**_document(done, dry_run=order.dry_run), "findings": findings})
        return
    for step in done.steps:
        for line in _lines(step):
            session.show(line)
    if done.placed is not None:
        session.show(_effect(done.placed))
        if done.took_s > SLACK_MS / 1000:
            session.note(
                f"the broker took {done.took_s:.1f} s to take it: events of about that time may have met either version"
            )
    elif order.dry_run and any(step.change != "unchanged" for step in done.steps):
        session.note("this was a dry run: nothing is applied")
    else:
        session.note(f"{counted(len(done.steps), 'route')}, nothing to change")


def _lines(step: Step) -> Iterator[Text]:
    sign, style = SIGNS[step.change]
    line = Text(f"{sign} {step.route}  {step.change}", style=style)
    versions = [short(digest) for digest in (step.before, step.digest) if digest is not None]
    line.append("  " + " -> ".join(dict.fromkeys(versions)), style="dim")
    yield line
    for change in step.changes:
        yield Text("  ") + change_line(change)
    for note in step.notes:
        yield Text(f"    note: {note}", style="dim")


def _effect(placed: Placed) -> Text:
    if placed.since_ms == FROM_THE_BEGINNING:
        return Text("In effect from the beginning: nothing was active here before.", style="green")
    return Text(f"In effect for events that the broker takes at {_time(placed.since_ms)} or later.", style="green")


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")


def _document(done: Done, *, dry_run: bool) -> dict[str, Any]:
    placed = done.placed
    activation = None
    if placed is not None:
        since = None if placed.since_ms == FROM_THE_BEGINNING else rfc3339(placed.since_ms)
        activation = {
            "id": placed.activation.id,
            "by": placed.activation.by,
            "reason": placed.activation.reason,
            "at": rfc3339(placed.activation.at_ms),
            "in_effect_from": since,
        }
    return {"applied": placed is not None, "dry_run": dry_run, "activation": activation, "routes": done.steps}

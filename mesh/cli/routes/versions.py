"""`mesh routes list | show | diff`: the stored versions, what runs on each, and how two differ.

Owns how versions are named and shown; `mesh.inspection.route_versions` reads and compares them. The
other commands of `mesh routes` call it.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import click
import msgspec
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import DIGITS, among_digests, pick
from mesh.cli.exit_codes import FAILED
from mesh.cli.pausing import pause_document
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, duration, one_line, printable, rfc3339_or_none
from mesh.cli.text.tables import plain_table
from mesh.cli.text.workflow import paused_line
from mesh.codec import exact_json
from mesh.codec.route_file import SUFFIXES, load_routes
from mesh.codec.times import rfc3339
from mesh.core.activation import FROM_THE_BEGINNING, RouteChange
from mesh.core.pauses import kind_of, name_of
from mesh.core.route import Route
from mesh.core.state import Pause
from mesh.errors import NotFound, OperatorError
from mesh.inspection.read_model import queries
from mesh.inspection.route_versions import Change, Use, as_yaml, changes, uses
from mesh.inspection.route_versions import read_stored as read_definitions
from mesh.routes.expressions.paths import path_text
from mesh.services.definitions import Version

SIGNS: Final = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


class Stored(NamedTuple):
    """What the broker has stored.

    `versions`: the oldest of each route first. `used`: what runs on a version, by digest.
    `current`: the active version of each route. `changed`: the last change of each route. `paused`:
    the routes that an operator holds, by name.
    """

    versions: list[Version]
    used: Mapping[str, Use]
    current: Mapping[str, Version]
    changed: Mapping[str, RouteChange]
    paused: Mapping[str, Pause] = MappingProxyType({})


NOTHING: Final = Stored([], {}, {}, {})


async def read_stored(session: Session) -> Stored:
    async with session.model() as (broker, model):
        found = await read_definitions(broker, session.topics)
        used = uses(model.db)
        paused = {name_of(row.target): row.pause for row in queries.pauses(model.db) if kind_of(row.target) == "route"}
    by_digest = {version.digest: version for version in found.versions}
    current = {name: by_digest[digest] for name, digest in found.digests().items() if digest in by_digest}
    return Stored(found.versions, used, current, found.timeline.latest(), paused)


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:DIGITS]


def is_file(text: str) -> bool:
    """Whether somebody who writes this text means a file or a folder."""
    return Path(text).suffix in SUFFIXES or Path(text).exists()


def version_of(session: Session, text: str, stored: Stored) -> Version:
    """The version that a text means: a digest, a unique part of one, or a route's name.

    A route's name means its active version.
    """
    if text in stored.current:
        return stored.current[text]
    digests = {version.digest: version for version in stored.versions}
    try:
        return digests[pick(session, text, among_digests(list(digests)), changes=False)]
    except NotFound as error:
        raise NotFound(
            f"{text!r} is not a file, a route or a version's digest; `mesh routes list` lists what is stored"
        ) from error


@click.command("list", short_help="List the stored versions of every route.")
@click.option("--route", metavar="ROUTE", help="Only this route's.")
@mesh_command
def list_routes(session: Session, *, route: str | None) -> None:
    """List the stored versions of every route, the newest last.

    Also tells how many workflows run on each. * marks the active one.
    """
    stored = session.run(read_stored(session))
    versions = [version for version in stored.versions if route in {None, version.name}]
    if session.as_json:
        session.emit({"versions": [_document(version, stored) for version in versions]})
    elif not versions:
        session.show(
            "No such route is stored."
            if stored.versions
            else "No routes are stored: `mesh routes apply FOLDER` stores some, and so does a router that starts with --routes."
        )
    else:
        now_ms, named = session.now_ms(), {version.name for version in versions}
        session.show(_table(versions, stored, now_ms))
        for name, pause in stored.paused.items():
            if name in named:
                session.show(Text(f"route {printable(name)} is ").append_text(paused_line(pause, now_ms)))


def _table(versions: list[Version], stored: Stored, now_ms: int) -> Table:
    facts = ("VERSION", "STORED", "ACTIVE", "RUNNING", "ENDED", "LAST START")
    rows = plain_table("ROUTE", *facts, whole=facts, numbers=["RUNNING", "ENDED"])
    for version in versions:
        use = stored.used.get(version.digest, Use())
        is_current = stored.current.get(version.name) is version
        digest = Text(short(version.digest) + (" *" if is_current else ""), style="green" if is_current else "default")
        rows.add_row(
            Text(printable(version.name), style="bold"),
            digest if version.route else Text(f"{short(version.digest)} unreadable", style="red"),
            ago(version.stored_at_ms, now_ms),
            _active(version, stored, now_ms),
            Text(f"{use.running:,}", style="cyan" if use.running else "dim"),
            Text(f"{use.ended:,}", style="default" if use.ended else "dim"),
            "never" if use.last_started_at_ms is None else ago(use.last_started_at_ms, now_ms),
        )
    return rows


def _active(version: Version, stored: Stored, now_ms: int) -> Text:
    """Since when the version is active; or that its route is withdrawn."""
    change = stored.changed.get(version.name)
    if change is None or change.digest not in {None, version.digest}:
        return Text()
    if version.name in stored.paused:
        return Text("paused", style="yellow")
    if change.digest is None:
        return Text("withdrawn", style="yellow")
    if change.since_ms == FROM_THE_BEGINNING:
        return Text("from the start", style="green")
    if change.since_ms > now_ms:
        return Text(f"in {duration(change.since_ms - now_ms)}", style="yellow")
    return Text(ago(change.since_ms, now_ms), style="green")


def _document(version: Version, stored: Stored) -> dict[str, object]:
    use = stored.used.get(version.digest, Use())
    is_current = stored.current.get(version.name) is version
    change = stored.changed.get(version.name) if is_current else None
    return {
        "route": version.name,
        "digest": version.digest,
        "stored_at": rfc3339(version.stored_at_ms),
        "in_use": is_current,
        "active_since": rfc3339(change.since_ms) if change and change.since_ms != FROM_THE_BEGINNING else None,
        "activated_by": change.activation.by if change else None,
        "running": use.running,
        "ended": use.ended,
        "last_started_at": rfc3339_or_none(use.last_started_at_ms),
        "paused": pause_document(stored.paused.get(version.name)),
        "problem": version.problem,
    }


@click.command(short_help="Print a stored version.")
@click.argument("which", metavar="DIGEST|ROUTE")
@mesh_command
def show(session: Session, *, which: str) -> None:
    """Print a stored version as a route file.

    It is chosen by any unique part of its digest; a route's name means its active version.
    """
    stored = session.run(read_stored(session))
    version = version_of(session, which, stored)
    if version.route is None:
        raise OperatorError(version.problem)
    if session.as_json:
        session.emit(_document(version, stored) | {"definition": version.route.definition})
        return
    use = stored.used.get(version.digest, Use())
    session.note(
        f"{version.digest}, stored {ago(version.stored_at_ms, session.now_ms())}; {use.running} running, {use.ended} ended"
    )
    click.echo(as_yaml(version.route.definition), nl=False)


# Differences --------------------------------------------------------------------------------------


class Side(NamedTuple):
    label: str
    route: Route


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    route: str
    before: str
    after: str
    before_digest: str
    after_digest: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


@click.command(short_help="Compare two versions, or a file with what runs.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@mesh_command
def diff(session: Session, *, first: str, second: str | None) -> None:
    """Compare versions A and B, or the active version with A.

    Each is a file, a route's name (its active version) or a digest. Exits with 1 if they differ.

    \b
    mesh routes diff routes/triage.yaml          what applying this file would change
    mesh routes diff 9c1e04 77ab21               two stored versions
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    offline = second is not None and is_file(first) and is_file(second)
    stored = NOTHING if offline else session.run(read_stored(session))
    found = [_compared(before, after) for before, after in _pairs(session, first, second, stored)]
    if session.as_json:
        session.emit({"compared": found})
    else:
        for one in found:
            for line in _shown(one):
                session.show(line)
    if any(one.changes for one in found):
        sys.exit(FAILED)


def _pairs(session: Session, first: str, second: str | None, stored: Stored) -> list[tuple[Side, Side]]:
    afters = _sides(session, second or first, stored)
    if second is None:
        return [(_current(after, stored), after) for after in afters]
    befores = _sides(session, first, stored)
    if len(befores) == len(afters) == 1:
        return [(befores[0], afters[0])]
    by_name = {side.route.name: side for side in befores}
    pairs = [(by_name[after.route.name], after) for after in afters if after.route.name in by_name]
    if not pairs:
        raise OperatorError(f"{first} and {second} have no route of one name to compare")
    return pairs


def _sides(session: Session, text: str, stored: Stored) -> list[Side]:
    if is_file(text):
        return [Side(str(one.file), one.route) for one in load_routes([Path(text)])]
    version = version_of(session, text, stored)
    if version.route is None:
        raise OperatorError(version.problem)
    return [Side(short(version.digest), version.route)]


def _current(after: Side, stored: Stored) -> Side:
    version = stored.current.get(after.route.name)
    if version is None:
        raise NotFound(f"no version of route {after.route.name} is active: it is new")
    if version.route is None:
        raise OperatorError(version.problem)
    return Side(f"{short(version.digest)} (active)", version.route)


def _compared(before: Side, after: Side) -> Compared:
    found = tuple(changes(before.route.definition, after.route.definition))
    return Compared(
        route=after.route.name,
        before=before.label,
        after=after.label,
        before_digest=before.route.digest,
        after_digest=after.route.digest,
        changes=found,
        notes=tuple(notes_on(found)),
    )


def notes_on(found: tuple[Change, ...]) -> Iterator[str]:
    """What a change of these parts means, beyond what it says."""
    touched = {change.path[0] for change in found if change.path}
    if "key" in touched:
        yield "another key gives other workflow ids: an event about something that has a workflow already may start a second one"
    if "on" in touched:
        yield "other events will start it, from when it is in effect"
    if found:
        yield "workflows that run now end under the version they started with"


def _shown(one: Compared) -> Iterator[Text]:
    head = Text(one.route, style="bold")
    head.append(f"  {printable(one.before)} -> {printable(one.after)}", style="dim")
    if not one.changes:
        head.append("  no difference", style="green")
    yield head
    for change in one.changes:
        yield change_line(change)
    for note in one.notes:
        yield Text(f"  note: {note}", style="dim")


def change_line(change: Change) -> Text:
    sign, style = SIGNS[change.kind]
    line = Text(f"  {sign} {printable(path_text(change.path))}", style=style)
    if change.kind == "changed":
        line.append(f"  {_value(change.before)} -> {_value(change.after)}", style="default")
    else:
        line.append(f"  {_value(change.after if change.kind == 'added' else change.before)}", style="default")
    return line


def _value(value: Any) -> str:
    return one_line(value if isinstance(value, str) else exact_json.encode(value).decode(), 200)

"""`mesh people plan | apply | show`: who has which role, on a topic that operators write.

Owns what is asked before a version is applied, and how people and changes are shown.
`mesh.inspection.people_changes` compares, `mesh.services.people` stores and activates. Running
routers take a version up by themselves.
"""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.channels import channels
from mesh.cli.exit_codes import FAILED
from mesh.cli.grammar import ShowGroup
from mesh.cli.moments import moment
from mesh.cli.options import by_option, reason_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.cli.text.tables import plain_table
from mesh.codec.approvers_file import load_people
from mesh.codec.people import digest_of
from mesh.codec.times import rfc3339
from mesh.core.activation import FROM_THE_BEGINNING
from mesh.core.people import People, Person
from mesh.core.people_versions import PlacedPeople
from mesh.inspection.mesh_status.look import roles_asked
from mesh.inspection.people_changes import PeoplePlan, PersonChange, people_plan
from mesh.inspection.route_versions import active_routes
from mesh.inspection.router_roles import roles_by_files
from mesh.ports import Broker
from mesh.services.people import PeopleReader, activate_people

SIGNS: Final = {"new": ("+", "green"), "changed": ("~", "yellow"), "gone": ("-", "red")}
_FILE_RULES: Final = "no version was ever applied: each router reads its own approvers' file (MESH_APPROVERS)"
_DIGITS: Final = 19  # of a digest, with sha256:

file_argument = click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))


class Planned(NamedTuple):
    """A version that somebody wants, against the last that was activated (None: there is none)."""

    people: People
    digest: str
    last: PlacedPeople | None
    plan: PeoplePlan

    @property
    def is_unchanged(self) -> bool:
        return self.last is not None and self.last.activation.people == self.digest


@click.group(cls=ShowGroup, short_help="Show who has which role; plan and apply changes.")
def people() -> None:
    """Who has which role. Without a verb: show.

    The people are versions on the topic approvals.people. An answer is judged by the version in
    effect when the broker took it.

    \b
    mesh people plan approvers.yaml       who would gain or lose what
    mesh people apply approvers.yaml      make it so; running routers take it up
    mesh people show --at 7d              who had which role a week ago
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


people.add_command(channels)


@people.command(short_help="Show what a file would change.")
@file_argument
@mesh_command
def plan(session: Session, *, file: Path) -> None:
    """Show who would gain or lose what by FILE, and which roles nobody would have.

    Exits with 1 if `mesh people apply` would refuse it.
    """
    planned = session.run(_plan(session, load_people(file)))
    is_refused = bool(planned.plan.refused or planned.plan.lost)
    if session.as_json:
        session.emit(_document(planned, None))
    else:
        _show_plan(session, planned)
        _tell_refusal(session, planned.plan)
    if is_refused:
        sys.exit(FAILED)


@people.command(short_help="Make the people and roles in a file hold.")
@file_argument
@click.option("--force", is_flag=True, help="Also where a role loses its last person that an active route asks for.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@by_option("does it")
@reason_option()
@mesh_command
def apply(session: Session, *, file: Path, force: bool, yes: bool, by: str, reason: str) -> None:
    """Make the people and roles in FILE hold for answers from about two seconds on.

    FILE has the form of approvers.yaml: roles with the people who have them, or people with their
    names and roles. It is the whole of it: who is not in the file has no role any more. Once a
    version was applied, routers no longer read their approvers' file.
    """
    planned = session.run(_plan(session, load_people(file)))
    if not session.as_json:
        _show_plan(session, planned)
    if planned.is_unchanged:
        _tell_applied(session, planned, None)
        return
    if planned.plan.refused or (planned.plan.lost and not force):
        if session.as_json:
            session.emit(_document(planned, None))
        _tell_refusal(session, planned.plan)
        session.note("Nothing is applied")
        sys.exit(FAILED)
    if not yes:
        session.confirm_apply()
    placed, other = session.run(_apply(session, planned, by, reason))
    _tell_applied(session, planned, placed)
    if other is not None:
        session.note(
            f"{other.activation.by} applied version {_short(other.activation.people)} at the same time, and the one"
            " above took its place: mesh people plan FILE shows what of it is gone"
        )


@people.command(short_help="Show who has which role.")
@click.option("--at", "at", metavar="WHEN", help="As of then: 2h (ago), 7d, 2026-11-20 or 2026-11-20T08:00:00Z.")
@mesh_command
def show(session: Session, *, at: str | None) -> None:
    """Show the people with their names and roles, by the version in effect."""
    at_ms = session.now_ms() if at is None else moment(at, session.now_ms(), "--at")
    placed, found, last = session.run(_read(session, at_ms))
    if session.as_json:
        session.emit(_shown_document(session, placed, found, last))
    elif placed is None or found is None:
        session.note(_FILE_RULES)
    else:
        session.show(_table(found), Text(_said_of(placed), style="dim"))
        if last is not None and last != placed:
            session.note(f"version {_short(last.activation.people)} of {last.activation.by} holds {_since(last)}")


# Reading and writing ------------------------------------------------------------------------------


async def _plan(session: Session, wanted: People) -> Planned:
    async with session.broker() as broker:
        known = PeopleReader(broker, session.topics)
        try:
            await known.start()
            return await _planned(session, broker, known, wanted)
        finally:
            await known.close()


async def _planned(session: Session, broker: Broker, known: PeopleReader, wanted: People) -> Planned:
    last = known.timeline.latest()
    before = known.people_of(last) or People()
    asked = roles_asked(await active_routes(broker, session.topics, session.now_ms()))
    earlier = [one.people for one in known.versions.values() if one.people is not None]
    # before the first version, routers say which roles somebody has by their files
    by_files = None if last is not None else await roles_by_files(broker, session.topics, session.now_ms())
    held = before.held_roles if last is not None else by_files or frozenset()
    plan = people_plan(before, wanted, held=held, asked=asked, earlier=earlier)
    return Planned(wanted, digest_of(wanted), last, plan)


async def _apply(session: Session, planned: Planned, by: str, reason: str) -> tuple[PlacedPeople, PlacedPeople | None]:
    """The activation, and another that somebody made since the plan."""
    async with session.broker() as broker:
        known = PeopleReader(broker, session.topics)
        try:
            await known.start()
            placed = await activate_people(
                known,
                broker,
                session.topics,
                planned.people,
                activation_id=session.fresh_id(),
                by=by,
                at_ms=session.now_ms(),
                reason=reason,
            )
            everything = known.timeline.all()
            at = everything.index(placed)
            before = everything[at - 1] if at else None
            return placed, before if before != planned.last else None
        finally:
            await known.close()


async def _read(session: Session, at_ms: int) -> tuple[PlacedPeople | None, People | None, PlacedPeople | None]:
    async with session.broker(read_only=True) as broker:
        known = PeopleReader(broker, session.topics)
        try:
            await known.start()
            return known.timeline.at(at_ms), known.people_at(at_ms), known.timeline.latest()
        finally:
            await known.close()


# Telling ------------------------------------------------------------------------------------------


def _show_plan(session: Session, planned: Planned) -> None:
    for change in planned.plan.changes:
        session.show(_line(change))
    for role in planned.plan.emptied:
        session.show(Text(f"! nobody has the role {printable(role)} any more", style="yellow"))
    for asked in planned.plan.unheld:
        where = f"{printable(asked.step)} of route {printable(asked.route)} asks for it"
        session.show(Text(f"! nobody has the role {printable(asked.role)}: {where}", style="yellow"))


def _line(change: PersonChange) -> Text:
    sign, style = SIGNS[change.change]
    line = Text(f"{sign} {printable(change.person)}", style=style)
    for what, names in (
        ("gets", change.roles_given),
        ("loses", change.roles_taken),
        ("is also", change.names_given),
        ("is no longer", change.names_taken),
    ):
        if names:
            line.append(f"  {what} {', '.join(map(printable, names))}", style="default")
    return line


def _tell_refusal(session: Session, plan: PeoplePlan) -> None:
    for why in plan.refused:
        session.note(f"refused: {printable(why)}")
    for asked in plan.lost:
        session.note(
            f"refused: the role {printable(asked.role)} would lose its last person, and {printable(asked.step)} of route"
            f" {printable(asked.route)} asks for it; give it to somebody, or say --force"
        )


def _tell_applied(session: Session, planned: Planned, placed: PlacedPeople | None) -> None:
    if session.as_json:
        session.emit(_document(planned, placed))
    elif placed is None:
        session.note(f"{len(planned.people.persons):,} people, nothing to change")
    elif placed.since_ms == FROM_THE_BEGINNING:
        session.show(
            Text("In effect at once, also for answers that wait unread: nothing was applied before.", style="green")
        )
        session.note("routers no longer read their approvers' files")
    else:
        session.show(Text(f"In effect {_since(placed)}.", style="green"))


def _since(placed: PlacedPeople) -> str:
    if placed.since_ms == FROM_THE_BEGINNING:
        return "from the beginning"
    return in_effect_from(placed.since_ms)


def in_effect_from(since_ms: int) -> str:
    """Which answers what is on the topic holds for."""
    at = datetime.fromtimestamp(since_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")
    return f"for answers that the broker takes at {at} or later"


def _said_of(placed: PlacedPeople) -> str:
    one = placed.activation
    why = f": {printable(one.reason)}" if one.reason else ""
    return f"version {_short(one.people)}, applied by {printable(one.by)}{why}; in effect {_since(placed)}"


def _short(digest: str) -> str:
    return digest[:_DIGITS]


def _table(found: People) -> Table:
    table = plain_table("PERSON", "ALSO", "ROLES", whole=["PERSON"])
    for person in _sorted(found):
        names, roles = ", ".join(map(printable, person.names)), ", ".join(map(printable, sorted(person.roles)))
        table.add_row(Text(printable(person.id), style="bold"), Text(names, style="dim"), Text(roles))
    return table


def _sorted(found: People) -> Iterator[Person]:
    yield from sorted(found.persons.values(), key=lambda person: person.id)


def _placed_document(placed: PlacedPeople | None) -> dict[str, Any] | None:
    if placed is None:
        return None
    one = placed.activation
    since = None if placed.since_ms == FROM_THE_BEGINNING else rfc3339(placed.since_ms)
    return {
        "id": one.id,
        "version": one.people,
        "by": one.by,
        "reason": one.reason,
        "at": rfc3339(one.at_ms),
        "in_effect_from": since,
    }


def _document(planned: Planned, placed: PlacedPeople | None) -> dict[str, Any]:
    return {
        "applied": placed is not None,
        "unchanged": planned.is_unchanged,
        "version": planned.digest,
        "activation": _placed_document(placed),
        "changes": planned.plan.changes,
        "roles_emptied": planned.plan.emptied,
        "roles_unheld": planned.plan.unheld,
        "roles_lost": planned.plan.lost,
        "refused": planned.plan.refused,
    }


def _shown_document(
    session: Session, placed: PlacedPeople | None, found: People | None, last: PlacedPeople | None
) -> dict[str, Any]:
    people = (
        []
        if found is None
        else [{"id": person.id, "names": person.names, "roles": sorted(person.roles)} for person in _sorted(found)]
    )
    return {
        "source": "file" if placed is None else session.topics.people,
        "activation": _placed_document(placed),
        "next": _placed_document(last) if last != placed else None,
        "people": people,
        "total": len(people),
    }

"""`mesh absences list | add | end`: who is away, so that nobody reminds them.

An absence takes no right: who is away may answer all the same. `mesh.cli.personal` has the two ways
to say it.
"""

from typing import Any

import click
from rich.text import Text

from mesh.cli.approvals.commands import answers
from mesh.cli.grammar import NounGroup
from mesh.cli.moments import later_moment
from mesh.cli.options import reason_option
from mesh.cli.personal import people_now, people_topic, person_id, say, show_receipt, write
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.cli.text.tables import plain_table
from mesh.codec.approvals import Personal
from mesh.codec.times import rfc3339
from mesh.core.delegations import Absence, KnownDelegation
from mesh.core.people import person_of

person_option = click.option("--person", metavar="PERSON", help="Who is away, if not you: for those who grant roles.")


@click.group(cls=NounGroup, short_help="Say who is away, and until when.")
def absences() -> None:
    """Absences: whom nobody has to remind. Without a verb: list.

    \b
    mesh absences add --until 2026-12-24      also: mesh absent --until 2026-12-24
    mesh absences end                         you are back
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@absences.command(short_help="Say that you are away.")
@click.option("--until", required=True, metavar="WHEN", help="When you are back: 14d from now, 2026-12-24, or a time.")
@click.option("--start", metavar="WHEN", help="When it begins; now without it.")
@person_option
@reason_option()
@answers
def add(
    session: Session,
    /,
    *,
    until: str,
    start: str | None,
    person: str | None,
    by: str,
    reason: str,
    timeout_s: float,
) -> None:
    """Say that you are away until then, in the place of what you have said before.

    It takes no right from you and gives none to anybody: `mesh delegate` does that.
    """
    now_ms = session.now_ms()
    start_ms = now_ms if start is None else later_moment(start, now_ms, "--start")
    until_ms = later_moment(until, now_ms, "--until")
    if until_ms <= max(start_ms, now_ms):
        raise click.BadParameter("it ends before it begins", param_hint="--until")
    _say(session, Personal(start_ms=start_ms, until_ms=until_ms), person, by=by, reason=reason, timeout_s=timeout_s)


@absences.command(short_help="Say that you are back.")
@person_option
@reason_option()
@answers
def end(session: Session, /, *, person: str | None, by: str, reason: str, timeout_s: float) -> None:
    """Say that you are back."""
    _say(session, Personal(until_ms=session.now_ms()), person, by=by, reason=reason, timeout_s=timeout_s)


def _say(session: Session, said: Personal, person: str | None, *, by: str, reason: str, timeout_s: float) -> None:
    if person is None:
        show_receipt(session, session.run(say(session, "absent", said, by=by, reason=reason, timeout_s=timeout_s)))
        return
    written = session.run(_write(session, said, person, by, reason))
    if session.as_json:
        session.emit(_document(written, ()))
    elif written.holds_at(written.start_ms):
        session.show(Text(f"{printable(written.person)} is away until {rfc3339(written.until_ms)}.", style="green"))
    else:
        session.show(Text(f"{printable(written.person)} is back.", style="green"))


async def _write(session: Session, said: Personal, person: str, by: str, reason: str) -> Absence:
    async with people_topic(session, read_only=False) as (broker, reader):
        now_ms = session.now_ms()
        name = person_id(session, people_now(reader, now_ms), person)
        start_ms = said.start_ms or said.until_ms
        absence = Absence(person=name, start_ms=start_ms, until_ms=said.until_ms, said_ms=now_ms, by=by, reason=reason)
        await write(session, broker, reader, absence)
        return absence


@absences.command("list", short_help="List who is away.")
@mesh_command
def list_absences(session: Session) -> None:
    """List who is away or will be, and who may answer for them."""
    now_ms = session.now_ms()
    found, delegations = session.run(_read(session))
    rows = [one for one in found if one.holds_at(max(one.start_ms, now_ms))]
    if session.as_json:
        session.emit({"absences": [_document(one, delegations) for one in rows], "total": len(rows)})
    elif not rows:
        session.show("Nobody is away. `mesh absences add --until 14d` says that you are.")
    else:
        table = plain_table("PERSON", "START", "UNTIL", "DELEGATES", "WHY", whole=["PERSON"])
        for one in rows:
            times = rfc3339(one.start_ms), rfc3339(one.until_ms)
            cells = (", ".join(_delegates(one, delegations)) or "nobody", one.reason)
            table.add_row(printable(one.person), *times, *map(printable, cells))
        session.show(table)


async def _read(session: Session) -> tuple[list[Absence], tuple[KnownDelegation, ...]]:
    async with people_topic(session, read_only=True) as (_, reader):
        found = sorted(reader.delegations.absences(), key=lambda one: (one.start_ms, one.person))
        return found, reader.delegations.all()


def _delegates(absence: Absence, delegations: tuple[KnownDelegation, ...]) -> list[str]:
    """Who may answer for the person at some time of the absence."""
    person = person_of(absence.person)
    own = [
        one.delegation
        for one in delegations
        if person_of(one.delegation.giver) == person and one.is_under_way(absence.start_ms)
    ]
    return list(dict.fromkeys(one.to for one in own if one.start_ms < absence.until_ms))


def _document(one: Absence, delegations: tuple[KnownDelegation, ...]) -> dict[str, Any]:
    return {
        "person": one.person,
        "start": rfc3339(one.start_ms),
        "until": rfc3339(one.until_ms),
        "delegates": _delegates(one, delegations),
        "by": one.by,
        "reason": one.reason,
    }

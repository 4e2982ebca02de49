"""`mesh delegations list | add | end`: who may answer for whom, and until when.

Owns what is asked before it is said, and how delegations are shown. `mesh.cli.personal` has the two
ways to say it; routers judge what a person says of themself.
"""

from secrets import token_hex
from typing import Any, Literal

import click
from rich.text import Text

from mesh.cli.approvals.commands import answers
from mesh.cli.grammar import NounGroup
from mesh.cli.moments import later_moment
from mesh.cli.options import reason_option
from mesh.cli.people import in_effect_from
from mesh.cli.personal import people_now, people_topic, person_id, say, show_receipt, write
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.cli.text.tables import plain_table
from mesh.codec.approvals import Personal
from mesh.codec.times import rfc3339
from mesh.core.delegations import Delegation, DelegationEnd, KnownDelegation, why_invalid
from mesh.core.people import id_of, person_of
from mesh.errors import NotFound, OperatorError

State = Literal["in force", "later", "ended", "over"]

from_option = click.option(
    "--from", "giver", metavar="PERSON", help="Whose it is, if not yours: for those who grant roles."
)


@click.group(cls=NounGroup, short_help="Say who may answer for whom, and until when.")
def delegations() -> None:
    """Delegations: while you are away, somebody answers for you. Without a verb: list.

    \b
    mesh delegations add --to ana@example.org --until 14d     also: mesh delegate --to ...
    mesh delegations end ID                                   it never comes back
    mesh approve ID --for ben@example.org                     ana answers for ben
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@delegations.command(short_help="Let somebody answer for you.")
@click.option("--to", required=True, metavar="PERSON", help="Who may answer for you.")
@click.option(
    "--until", required=True, metavar="WHEN", help="Its end: 14d from now, 2026-12-24, or a time. 90d at most."
)
@click.option("--start", metavar="WHEN", help="Its beginning; from now on without it.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="Only by this role of yours.")
@click.option("--route", "routes", multiple=True, metavar="ROUTE", help="Only in this route.")
@from_option
@reason_option()
@answers
def add(
    session: Session,
    /,
    *,
    to: str,
    until: str,
    start: str | None,
    roles: tuple[str, ...],
    routes: tuple[str, ...],
    giver: str | None,
    by: str,
    reason: str,
    timeout_s: float,
) -> None:
    """Let PERSON answer for you until then, and wait for the receipt.

    It is said in an answer, so it needs no more rights than answering. It covers all that you may,
    or the roles and routes that you name, and never passes on what others have delegated to you.
    """
    now_ms = session.now_ms()
    until_ms = later_moment(until, now_ms, "--until")
    start_ms = 0 if start is None else later_moment(start, now_ms, "--start")
    if giver is None:
        said = Personal(start_ms=start_ms, until_ms=until_ms, roles=roles, routes=routes)
        receipt = session.run(say(session, "delegate", said, by=by, to=to, reason=reason, timeout_s=timeout_s))
        show_receipt(session, receipt)
        return
    one = Delegation(
        id=f"o-{token_hex(8)}",
        giver=giver,
        to=to,
        start_ms=start_ms or now_ms,
        until_ms=until_ms,
        roles=roles,
        routes=routes,
        by=by,
        reason=reason,
        # who grants roles may let anybody answer, so this counts as much as the person's own key
        signed="own",
    )
    _show_written(session, session.run(_add(session, one)))


async def _add(session: Session, asked: Delegation) -> KnownDelegation:
    async with people_topic(session, read_only=False) as (broker, reader):
        people = people_now(reader, session.now_ms())
        giver, to = (person_id(session, people, name) for name in (asked.giver, asked.to))
        if person_of(giver) == person_of(to):
            raise OperatorError(f"{giver} can't delegate to themself")
        if why := why_invalid(asked):
            raise OperatorError(f"{giver} can't delegate to {to} so: {why}")
        await write(session, broker, reader, _named(asked, giver, to))
        return _written(reader.delegations.get(asked.id), asked.id)


def _named(one: Delegation, giver: str, to: str) -> Delegation:
    return Delegation(**{**{name: getattr(one, name) for name in one.__struct_fields__}, "giver": giver, "to": to})


def _written(known: KnownDelegation | None, delegation_id: str) -> KnownDelegation:
    if known is None:
        raise NotFound(f"{delegation_id} is on its way, and can't be read back yet: `mesh delegations` shows it")
    return known


def _show_written(session: Session, known: KnownDelegation) -> None:
    if session.as_json:
        session.emit(document(known, session.now_ms()))
        return
    one = known.delegation
    is_ended = known.ended_ms is not None
    what = "has ended" if is_ended else f"lets {one.to} answer for {one.giver} until {rfc3339(one.until_ms)}"
    since = in_effect_from(known.from_ms if known.ended_ms is None else known.ended_ms)
    session.show(Text(f"The delegation {one.id} {printable(what)}, {since}.", style="green"))


@delegations.command(short_help="End a delegation.")
@click.argument("delegation_id", metavar="ID")
@from_option
@reason_option()
@answers
def end(session: Session, /, *, delegation_id: str, giver: str | None, by: str, reason: str, timeout_s: float) -> None:
    """End the delegation ID, and wait for the receipt. Votes that were given under it stay.

    `mesh delegations` lists the ids. One that has ended never comes back.
    """
    if giver is None:
        said = Personal(delegation=delegation_id)
        show_receipt(session, session.run(say(session, "end", said, by=by, reason=reason, timeout_s=timeout_s)))
        return
    _show_written(session, session.run(_end(session, DelegationEnd(id=delegation_id, by=by, reason=reason), giver)))


async def _end(session: Session, asked: DelegationEnd, giver: str) -> KnownDelegation:
    async with people_topic(session, read_only=False) as (broker, reader):
        known, people = reader.delegations.get(asked.id), people_now(reader, session.now_ms())
        if known is None or person_of(known.delegation.giver) != person_of(id_of(people, giver)):
            raise NotFound(f"{giver} has no delegation {asked.id}: `mesh delegations` lists them")
        if known.end is not None:
            raise OperatorError(f"the delegation {asked.id} has ended")
        await write(session, broker, reader, asked)
        return _written(reader.delegations.get(asked.id), asked.id)


@delegations.command("list", short_help="List delegations.")
@click.option("--person", metavar="PERSON", help="Only those from or to PERSON.")
@click.option("--all", "is_all", is_flag=True, help="Those that are over or have ended, too.")
@mesh_command
def list_delegations(session: Session, *, person: str | None, is_all: bool) -> None:
    """List the delegations that are in force, or will be."""
    now_ms = session.now_ms()
    found = [
        one for one in session.run(_read(session, person)) if is_all or state_of(one, now_ms) in {"in force", "later"}
    ]
    if session.as_json:
        session.emit({"delegations": [document(one, now_ms) for one in found], "total": len(found)})
    elif not found:
        session.show("No delegations. `mesh delegations add --to PERSON --until 14d` makes one.")
    else:
        table = plain_table("ID", "FROM", "TO", "COVERS", "START", "UNTIL", "STATE", whole=["ID", "STATE"])
        for known in found:
            one = known.delegation
            covers = ", ".join((*(f"role {role}" for role in one.roles), *(f"route {name}" for name in one.routes)))
            cells = (one.giver, one.to, covers or "all")
            state = state_of(known, now_ms)
            times = rfc3339(one.start_ms), rfc3339(one.until_ms)
            table.add_row(one.id, *map(printable, cells), *times, state)
        session.show(table)


async def _read(session: Session, person: str | None) -> list[KnownDelegation]:
    async with people_topic(session, read_only=True) as (_, reader):
        people = people_now(reader, session.now_ms())
        wanted = None if person is None else person_of(id_of(people, person))
        return [
            one
            for one in reader.delegations.all()
            if wanted is None or wanted in {person_of(one.delegation.giver), person_of(one.delegation.to)}
        ]


def state_of(known: KnownDelegation, now_ms: int) -> State:
    if known.ended_ms is not None and known.ended_ms <= now_ms:
        return "ended"
    if known.delegation.until_ms <= now_ms:
        return "over"
    return "in force" if known.is_in_force(now_ms) else "later"


def document(known: KnownDelegation, now_ms: int) -> dict[str, Any]:
    one, ended = known.delegation, known.end
    return {
        "id": one.id,
        "from": one.giver,
        "to": one.to,
        "start": rfc3339(one.start_ms),
        "until": rfc3339(one.until_ms),
        "roles": list(one.roles),
        "routes": list(one.routes),
        "state": state_of(known, now_ms),
        "signed": one.signed,
        "by": one.by,
        "reason": one.reason,
        "in_effect_from": rfc3339(known.from_ms),
        "ended": None
        if ended is None or known.ended_ms is None
        else {"by": ended.by, "reason": ended.reason, "in_effect_from": rfc3339(known.ended_ms)},
    }

"""`mesh approver keygen | add | revoke | list`: whose key signs whose answers.

Owns what is asked before a key's record is written, and how keys are shown. A private key stays in
its file. `mesh.codec.approver_keys` has the records, `mesh.services.people` writes and reads them.
"""

import sys
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.text import Text

from mesh.cli.grammar import NounGroup
from mesh.cli.moments import moment
from mesh.cli.options import by_option, reason_option
from mesh.cli.people import in_effect_from
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.approver_keys import JwkInvalid, encode_key, encode_revocation, public_x, thumbprint
from mesh.codec.signing_keys import make_key
from mesh.codec.times import rfc3339
from mesh.core.approver_keys import KnownKey, SpeaksFor
from mesh.errors import NotFound, OperatorError
from mesh.services.people import PeopleReader, write_key

_STDIN: Final = "-"


@click.group(cls=NounGroup, short_help="Make keys, and say whose key signs answers.")
def approver() -> None:
    """Keys with which people sign their answers. Without a verb: list.

    \b
    mesh approver keygen ana.pem > ana.jwk     make a key; the public half is printed
    mesh approver add ana@example.org ana.jwk  who grants roles: answers with it are hers
    mesh approver revoke KID --since 2h        ... and nothing that it signs counts any more
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@approver.command(short_help="Make a key, and print its public half.")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--passphrase", "is_asked", is_flag=True, help="Ask for a passphrase, which the key needs each time.")
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the passphrase from a file.",
)
def keygen(*, file: Path, is_asked: bool, passphrase_file: Path | None) -> None:
    """Make a key of Ed25519, keep it in FILE, and print the public half as a JWK.

    Only you may read FILE (mode 0600). Nobody else ever needs it: give the public half to who
    grants roles, who runs `mesh approver add`.
    """
    passphrase: str | None = None
    if passphrase_file is not None:
        passphrase = passphrase_file.read_text().rstrip("\r\n")
    elif is_asked:
        passphrase = click.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True)
    if passphrase == "":
        raise OperatorError("the passphrase is empty: give one, or leave the option out")
    key = make_key(file, passphrase)
    click.echo(orjson.dumps(key.public_jwk).decode())
    click.echo(f"the private key is in {file}; the key's id is {key.kid}", err=True)


@approver.command(short_help="Let a person, or a gateway, sign with a key.")
@click.argument("person", metavar="PERSON")
@click.argument("jwk", metavar="JWK|FILE|-")
@click.option("--speaks-for-role", "roles", multiple=True, metavar="ROLE", help="A gateway: it names people with ROLE.")
@click.option("--speaks-for", "people", multiple=True, metavar="NAME", help="A gateway: it names this person.")
@click.option("--route", "routes", multiple=True, metavar="ROUTE", help="A gateway: in this route alone.")
@by_option("does it")
@reason_option()
@mesh_command
def add(
    session: Session,
    *,
    person: str,
    jwk: str,
    roles: tuple[str, ...],
    people: tuple[str, ...],
    routes: tuple[str, ...],
    by: str,
    reason: str,
) -> None:
    """Take answers that are signed with the key JWK for those of PERSON, from 2 seconds on.

    JWK is the public key, a file that holds it, or - for standard input. A key that speaks for
    others is a gateway's (a console, a chat bot): it signs as itself and names its person.
    """
    try:
        x = public_x(_text_of(jwk))
    except JwkInvalid as error:
        raise OperatorError(f"the key is not taken: {error}") from error
    if routes and not (roles or people):
        raise click.UsageError("--route goes with --speaks-for-role or --speaks-for")
    scope = SpeaksFor(roles=roles, people=people, routes=routes) if roles or people else None
    known = session.run(_add(session, x, person, scope, by=by, reason=reason))
    if session.as_json:
        session.emit(_document(known))
        return
    whose = f"the gateway {known.key.person}" if scope else known.key.person
    session.show(
        Text(f"The key {known.key.kid} is {printable(whose)}'s, {in_effect_from(known.from_ms)}.", style="green")
    )


async def _add(session: Session, x: str, person: str, scope: SpeaksFor | None, *, by: str, reason: str) -> KnownKey:
    kid = thumbprint(x)
    async with session.broker() as broker:
        reader = PeopleReader(broker, session.topics)
        try:
            await reader.start()
            if (there := reader.keys.get(kid)) is not None:
                was = "was revoked, and never comes back: make a new one" if there.revocation else "is there already"
                raise OperatorError(f"the key {kid} of {there.key.person} {was}")
            people = reader.people_at(session.now_ms())
            one = None if people is None else people.named(person)
            if scope is None and people is not None and one is None:
                raise NotFound(
                    f"nobody is called {person!r} on {session.topics.people}: `mesh people` shows who is there"
                )
            if scope is not None and one is not None:
                raise OperatorError(f"{person!r} is a person's name; give the gateway a name of its own")
            name = person if one is None else one.id
            record = encode_key(
                x, topics=session.topics, person=name, by=by, at_ms=session.now_ms(), reason=reason, speaks_for=scope
            )
            return await write_key(reader, broker, record, kid)
        finally:
            await reader.close()


@approver.command(short_help="End a key: nothing that it signs counts any more.")
@click.argument("kid", metavar="KID")
@click.option(
    "--since", metavar="WHEN", help="From when on it is distrusted: 2h (ago), 7d, 2026-11-20 or 2026-11-20T08:00:00Z."
)
@by_option("does it")
@reason_option(required=True)
@mesh_command
def revoke(session: Session, *, kid: str, since: str | None, by: str, reason: str) -> None:
    """End the key KID for answers that the broker takes 2 seconds from now, or later.

    It undoes no verdict. With --since, `mesh audit verify` lists what was counted from then on; of
    what is open, `mesh approvals void` takes a vote back. A key that was revoked never comes back.
    """
    since_ms = None if since is None else moment(since, session.now_ms(), "--since")
    known = session.run(_revoke(session, kid, since_ms, by=by, reason=reason))
    if session.as_json:
        session.emit(_document(known))
    else:
        session.show(
            Text(f"The key {kid} of {printable(known.key.person)} is revoked, {in_effect_from(known.until_ms or 0)}.")
        )


async def _revoke(session: Session, kid: str, since_ms: int | None, *, by: str, reason: str) -> KnownKey:
    async with session.broker() as broker:
        reader = PeopleReader(broker, session.topics)
        try:
            await reader.start()
            there = reader.keys.get(kid)
            if there is None:
                raise NotFound(f"there is no key {kid}: `mesh approver list` shows those that are there")
            if there.revocation is not None:
                raise OperatorError(f"the key {kid} was revoked {ago(there.revocation.at_ms, session.now_ms())}")
            now_ms = session.now_ms()
            record = encode_revocation(
                kid, topics=session.topics, by=by, at_ms=now_ms, reason=reason, since_ms=since_ms
            )
            return await write_key(reader, broker, record, kid)
        finally:
            await reader.close()


@approver.command("list", short_help="List keys, and whose they are.")
@mesh_command
def list_keys(session: Session) -> None:
    """List all keys, those that were revoked too."""
    found = session.run(_read(session))
    if session.as_json:
        session.emit({"keys": [_document(one) for one in found], "total": len(found)})
    elif not found:
        session.show("No keys. `mesh approver keygen FILE` makes one.")
    else:
        table = plain_table("KID", "SIGNS AS", "SPEAKS FOR", "SINCE", "REVOKED", whole=["KID"])
        for one in found:
            ended = "" if one.revocation is None else f"{rfc3339(one.revocation.at_ms)} {one.revocation.reason}"
            scope = "" if one.key.speaks_for is None else _scope(one.key.speaks_for)
            table.add_row(
                one.key.kid, *map(printable, (one.key.person, scope)), rfc3339(one.key.at_ms), printable(ended)
            )
        session.show(table)


async def _read(session: Session) -> list[KnownKey]:
    async with session.broker(read_only=True) as broker:
        reader = PeopleReader(broker, session.topics)
        try:
            await reader.start()
            return list(reader.keys.all())
        finally:
            await reader.close()


def _scope(scope: SpeaksFor) -> str:
    who = [*(f"role {role}" for role in scope.roles), *scope.people]
    return ", ".join(who) + (f" in {', '.join(scope.routes)}" if scope.routes else "")


def _text_of(jwk: str) -> str:
    if jwk == _STDIN:
        return sys.stdin.read()
    if jwk.lstrip().startswith("{"):
        return jwk
    try:
        return Path(jwk).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"the key {jwk} can't be read: {type(error).__name__}") from error


def _document(one: KnownKey) -> dict[str, Any]:
    key, end = one.key, one.revocation
    found: dict[str, Any] = {
        "kid": key.kid,
        "person": key.person,
        "by": key.by,
        "reason": key.reason,
        "at": rfc3339(key.at_ms),
        "in_effect_from": rfc3339(one.from_ms),
        "speaks_for": key.speaks_for,
        "revoked": None,
    }
    if end is not None and one.until_ms is not None:
        since = None if end.since_ms is None else rfc3339(end.since_ms)
        found["revoked"] = {
            "by": end.by,
            "reason": end.reason,
            "at": rfc3339(end.at_ms),
            "in_effect_from": rfc3339(one.until_ms),
            "since": since,
        }
    return found

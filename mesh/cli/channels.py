"""`mesh people channels`: where the notifier tells people what waits for them.

Owns what is asked of an address before it is written. `mesh.codec.channels` has the record.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from msgspec.structs import replace
from rich.text import Text

from mesh.cli.grammar import NounGroup
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.cli.text.tables import plain_table
from mesh.codec.channels import Channel, check_channel, encode_channel
from mesh.core.people import People
from mesh.errors import NotFound, OperatorError
from mesh.ports import Broker
from mesh.services.calendars import read_calendars
from mesh.services.channels import ChannelReader
from mesh.services.people import PeopleReader

person_argument = click.argument("person", metavar="PERSON")
_OPTIONS = ("webhook", "slack", "email", "digest", "hours")


@click.group(cls=NounGroup, short_help="Show and set where people are told what waits.")
def channels() -> None:
    """Where `mesh notifier` tells people what waits for their approval. Without a verb: list.

    \b
    mesh people channels set ana@example.org --email ana@example.org
    mesh people channels set ben@example.org --slack URL --digest 08:00@Europe/Berlin
    mesh people channels set ben@example.org --hours berlin
    mesh people channels unset ben@example.org --digest
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@channels.command("list", short_help="List the addresses of people.")
@mesh_command
def list_channels(session: Session) -> None:
    """List the addresses of people. Of URLs the host alone is shown: they may be secrets."""
    known, people = session.run(_read(session))
    rows = [(person, known[person]) for person in sorted(known)]
    if session.as_json:
        session.emit({"channels": [_document(person, channel) for person, channel in rows], "total": len(rows)})
    elif not rows:
        session.note("Nobody has an address: mesh people channels set PERSON --email ADDRESS")
    else:
        table = plain_table("PERSON", "WEBHOOK", "SLACK", "EMAIL", "DIGEST", "HOURS", whole=["PERSON"])
        for person, one in rows:
            cells = (_host(one.webhook), _host(one.slack), one.email, one.digest, one.hours)
            is_known = people is None or person in people.persons
            name = Text(printable(person), style="bold" if is_known else "yellow")
            table.add_row(name, *map(printable, cells))
        session.show(table)
        if people is not None and (gone := [person for person, _ in rows if person not in people.persons]):
            session.note(f"no longer among the people, and told nothing: {', '.join(gone)}")


@channels.command("set", short_help="Set addresses of a person.")
@person_argument
@click.option("--webhook", metavar="URL", help="Where programs take messages (Standard Webhooks).")
@click.option("--slack", metavar="URL", help="An incoming webhook of Slack, or of what is compatible.")
@click.option("--email", metavar="ADDRESS", help="An e-mail address.")
@click.option("--digest", metavar="TIME@ZONE", help="One message a day instead of reminders: 08:00@Europe/Berlin.")
@click.option("--hours", metavar="CALENDAR", help="Hold back what is not new outside the hours of this calendar.")
@mesh_command
def set_channels(session: Session, /, *, person: str, **given: str | None) -> None:
    """Set addresses of PERSON. What is not given stays as it is.

    PERSON is the id or a further name. The URL of a Slack webhook is on the topic of people, which
    approvers can read: anybody who has it can write to that channel of Slack.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise OperatorError("nothing to set: give --webhook, --slack, --email, --digest or --hours")
    _tell(session, *session.run(_change(session, person, wanted)))


@channels.command("unset", short_help="Take addresses of a person away.")
@person_argument
@click.option("--webhook", is_flag=True, help="The webhook.")
@click.option("--slack", is_flag=True, help="The Slack webhook.")
@click.option("--email", is_flag=True, help="The e-mail address.")
@click.option("--digest", is_flag=True, help="The digest: there are reminders again.")
@click.option("--hours", is_flag=True, help="The hours: from now on all notices go out at once.")
@mesh_command
def unset(session: Session, /, *, person: str, **chosen: bool) -> None:
    """Take addresses of PERSON away; all of them, if none is chosen."""
    names = [name for name, is_chosen in chosen.items() if is_chosen] or list(_OPTIONS)
    _tell(session, *session.run(_change(session, person, dict.fromkeys(names, ""))))


async def _change(session: Session, name: str, wanted: Mapping[str, str]) -> tuple[str, Channel]:
    """The person's id and new addresses. Raises `NotFound`, `OperatorError`."""
    check_channel(replace(Channel(), **wanted))
    async with session.broker() as broker:
        known, people = await _known(session, broker)
        if (hours := wanted.get("hours", "")) and hours not in await _calendars(session, broker):
            raise NotFound(
                f"there is no calendar {hours!r}: mesh calendars shows all, mesh calendars apply FILE adds one"
            )
        person = people.named(name) if people is not None else None
        # somebody who has gone may still have an address to take away
        own_id = person.id if person is not None else name
        if person is None and (name not in known or any(wanted.values())):
            raise NotFound(_nobody(name, people))
        channel = replace(known.get(own_id, Channel()), **wanted)
        record = encode_channel(
            own_id,
            channel if channel != Channel() else None,
            topics=session.topics,
            record_id=session.fresh_id(),
            at_ms=session.now_ms(),
        )
        failures = await broker.send([record])
        if failures:
            raise OperatorError(f"the addresses of {own_id} could not be stored: {failures[0].message}")
        return own_id, channel


async def _calendars(session: Session, broker: Broker) -> Iterable[str]:
    return (await read_calendars(broker, session.topics)).timeline.names()


def _nobody(name: str, people: People | None) -> str:
    if people is None:
        return "no version of the people was ever applied, so nobody can have an address: mesh people apply FILE"
    return f"there is nobody named {name!r}; mesh people show lists all"


async def _read(session: Session) -> tuple[dict[str, Channel], People | None]:
    async with session.broker(read_only=True) as broker:
        return await _known(session, broker)


async def _known(session: Session, broker: Broker) -> tuple[dict[str, Channel], People | None]:
    people, known = PeopleReader(broker, session.topics), ChannelReader(broker, session.topics)
    try:
        await people.start()
        await known.start()
        # not those in effect: who was added a moment ago may have an address too
        return known.channels, people.people_of(people.timeline.latest())
    finally:
        await people.close()
        await known.close()


def _tell(session: Session, person: str, channel: Channel) -> None:
    if session.as_json:
        session.emit(_document(person, channel))
        return
    parts = [f"{kind} {address if kind == 'email' else _host(address)}" for kind, address in channel.addresses()]
    parts += [f"a digest at {channel.digest}"] if channel.digest else []
    parts += [f"the hours of {channel.hours}"] if channel.hours else []
    said = ", ".join(parts) if channel.addresses() else "no address"
    session.show(Text(f"{printable(person)}: {printable(said)}", style="green"))


def _host(url: str) -> str:
    return "/".join(url.split("/")[:3])


def _document(person: str, channel: Channel) -> dict[str, Any]:
    return {
        "person": person,
        "webhook": _host(channel.webhook) or None,
        "slack": _host(channel.slack) or None,
        "email": channel.email or None,
        "digest": channel.digest or None,
        "hours": channel.hours or None,
    }

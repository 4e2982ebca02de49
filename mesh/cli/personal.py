"""What `mesh delegations` and `mesh absences` share: two ways to say the same.

Owns both ways. A person says it of themself in an answer, as every approver may, and a router puts
it on the people's topic. Who may write that topic (who grants roles) says it of anybody, and writes
the record. What is read back is the same.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.text import Text

from mesh.cli.approvals.commands import verdict
from mesh.cli.exit_codes import FAILED
from mesh.cli.session import Session
from mesh.cli.text.format import printable
from mesh.codec.approvals import Personal, Receipt
from mesh.core.delegations import PersonalRecord
from mesh.core.inputs import PersonalKind
from mesh.core.people import People
from mesh.errors import NotFound, UnknownFormat
from mesh.ports import Broker
from mesh.services.people import PeopleReader, write_personal


@asynccontextmanager
async def people_topic(session: Session, *, read_only: bool) -> AsyncIterator[tuple[Broker, PeopleReader]]:
    """The broker, and all that is on the people's topic."""
    async with session.broker(read_only=read_only) as broker:
        reader = PeopleReader(broker, session.topics)
        try:
            await reader.start()
            yield broker, reader
        finally:
            await reader.close()


def people_now(reader: PeopleReader, now_ms: int) -> People | None:
    """The people in effect, as far as they can be read here."""
    try:
        return reader.people_at(now_ms)
    except UnknownFormat:
        return None


def person_id(session: Session, people: People | None, name: str) -> str:
    """The id of a person, for who writes the topic. Raises `NotFound` where nobody has the name."""
    one = None if people is None else people.named(name)
    if people is not None and one is None:
        raise NotFound(f"nobody is called {name!r} on {session.topics.people}: `mesh people` shows who is there")
    return name if one is None else one.id


async def say(
    session: Session,
    decision: PersonalKind,
    personal: Personal,
    *,
    by: str,
    to: str = "",
    reason: str = "",
    timeout_s: float,
) -> Receipt:
    """Say it of oneself, in an answer."""
    async with session.broker() as broker:
        client, key = session.client(broker), session.signing_key()
        return await client.say(decision, by=by, personal=personal, to=to, reason=reason, key=key, timeout_s=timeout_s)


async def write(session: Session, broker: Broker, reader: PeopleReader, record: PersonalRecord) -> None:
    """Say it of somebody else, as who grants roles."""
    await write_personal(reader, broker, record, session.now_ms())


def show_receipt(session: Session, receipt: Receipt) -> None:
    """Show what became of it. Ends the process with an exit code of its own if it is refused."""
    if session.as_json:
        session.emit(receipt)
    elif receipt.status == "accepted":
        session.show(Text(f"{receipt.code}, in effect in 2 seconds", style="bold green"))
        session.show(printable(receipt.message))
    else:
        session.show(verdict(receipt))
    if receipt.status != "accepted":
        sys.exit(FAILED)

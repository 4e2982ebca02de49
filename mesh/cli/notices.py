"""`mesh notices`: what people were told of approvals, and what could not be delivered.

Owns how it is shown; `mesh.inspection.notices` reads the topic.
"""

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.grammar import NounGroup
from mesh.cli.moments import moment
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.notices import Notice
from mesh.codec.times import rfc3339
from mesh.inspection.notices import Told, told_since

_STYLES = {"sent": "green", "due": "yellow", "undelivered": "red", "dropped": "dim"}
_DAY_MS = 86_400_000


@click.group(cls=NounGroup, short_help="List what people were told of approvals.")
def notices() -> None:
    """What `mesh notifier` told people of approvals. Without a verb: list."""


@notices.command("list", short_help="List notices, the last first.")
@click.option("--undelivered", is_flag=True, help="Only those that could not be delivered.")
@click.option("--person", metavar="PERSON", help="Only those to this person, by id.")
@click.option("--approval", metavar="ID", help="Only those of this approval.")
@click.option("--since", metavar="WHEN", help="Since then: 2h (ago), 7d, 2026-11-20 (else the last day).")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many to list.")
@mesh_command
def list_notices(
    session: Session, *, undelivered: bool, person: str | None, approval: str | None, since: str | None, limit: int
) -> None:
    """List what people were told, the last first; one line for each address.

    `due`: it is still to be sent. `undelivered`: it was tried for a day, or can't be sent at all.
    `dropped`: it was no longer true, for instance because the person had voted meanwhile.
    """
    now_ms = session.now_ms()
    since_ms = now_ms - _DAY_MS if since is None else moment(since, now_ms, "--since")
    found = session.run(_read(session, since_ms))
    wanted = [
        one
        for one in found
        if (not undelivered or one.notice.status == "undelivered")
        and person in (None, one.notice.person)
        and approval in (None, one.notice.approval_id)
    ]
    shown = wanted[:limit]
    if session.as_json:
        session.emit({"notices": [_document(one) for one in shown], "total": len(wanted)})
    elif not wanted:
        session.note("No notices. Is a notifier running (mesh notifier), and has somebody an address?")
    else:
        session.show(_table(shown, now_ms))
        if len(shown) < len(wanted):
            session.note(f"{len(shown):,} of {len(wanted):,} are shown; --limit N shows more")


async def _read(session: Session, since_ms: int) -> list[Told]:
    async with session.broker(read_only=True) as broker:
        return await told_since(broker, session.topics, since_ms)


def _table(shown: list[Told], now_ms: int) -> Table:
    table = plain_table("WHEN", "PERSON", "BY", "WHAT", "STATUS", "QUESTION", whole=["WHEN", "PERSON", "BY", "WHAT"])
    for recorded_ms, one in shown:
        status = Text(one.status, style=_STYLES[one.status])
        about = f"{one_line(one.question, 80)}{f' ({one_line(one.reason, 120)})' if one.reason else ''}"
        table.add_row(ago(recorded_ms, now_ms), printable(one.person), one.channel, one.what, status, printable(about))
    return table


def _document(told: Told) -> dict[str, object]:
    one: Notice = told.notice
    return {
        "id": one.id,
        "approval_id": one.approval_id or None,
        "what": one.what,
        "person": one.person,
        "channel": one.channel,
        "status": one.status,
        "at": one.at,
        "recorded_at": rfc3339(told.recorded_ms),
        "attempts": one.attempts,
        "message": one.message or one.id,
        "reason": one.reason or None,
    }

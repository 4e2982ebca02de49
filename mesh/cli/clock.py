"""`mesh clock`: partitions whose clock has jumped, and an operator's word that it is right."""

import getpass
import sys
from functools import partial
from typing import Final

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.grammar import NounGroup
from mesh.cli.options import timeout_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import duration
from mesh.codec.times import rfc3339
from mesh.core.clock import ClockHold
from mesh.core.ids import clock_of
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import CommandRow, PartitionRow

_RELEASED: Final = "released: deadlines go by the broker's clock again"


@click.group(cls=NounGroup, short_help="Show clocks that jumped, and release deadlines.")
def clock() -> None:
    """Show the partitions whose clock has jumped: their deadlines go on by what really passes."""


@clock.command("list", short_help="List the partitions whose clock has jumped.")
@mesh_command
def list_held(session: Session) -> None:
    """List the partitions whose clock has jumped."""
    rows = session.run(_held(session))
    if session.as_json:
        session.emit({"held": [_document(row, row.hold) for row in rows if row.hold is not None]})
        return
    for row in rows:
        if row.hold is not None:
            session.show(Text(_told(row, row.hold)))
    session.note("set the clock right, or `mesh clock release` if it is" if rows else "no clock is held")


@clock.command(short_help="Let deadlines go by the broker's clock again.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the log.")
@click.option(
    "--by", metavar="WHO", envvar="MESH_BY", show_envvar=True, help="Who commands; the login name without it."
)
@timeout_option("How long to wait for the decision.")
@mesh_command
def release(session: Session, *, reason: str, by: str | None, timeout_s: float) -> None:
    """Let deadlines go by the broker's clock again, in all partitions that hold them.

    The clock must be right: what is past by it then expires at once.
    """
    rows = session.run(_release(session, by or getpass.getuser(), reason, timeout_s))
    if session.as_json:
        session.emit({"released": [row.workflow_id for row in rows if row.accepted]})
    else:
        session.show(
            Text(f"{_RELEASED}, in {len(rows)} partitions" if rows else "no clock is held: nothing to release")
        )
    if not all(row.accepted for row in rows):
        sys.exit(FAILED)


async def _held(session: Session) -> list[PartitionRow]:
    async with session.model() as (_, model):
        return [row for row in queries.partitions(model.db) if row.hold is not None]


async def _release(session: Session, by: str, reason: str, timeout_s: float) -> list[CommandRow]:
    async with session.model(read_only=False) as (broker, model):
        client, found = session.client(broker), list[CommandRow]()
        info = (await broker.topics()).get(session.topics.inbox)
        count = 1 if info is None else info.partitions
        for row in queries.partitions(model.db):
            if row.hold is None:
                continue
            name = clock_of(row.partition, count)
            command_id = await client.command("release", name, by=by, reason=reason)
            decided = await model.wait_until(partial(queries.command, model.db, command_id), timeout_s=timeout_s)
            if decided is None:
                raise TimeoutError(
                    f"no decision on `release` for partition {row.partition} after {timeout_s:g} s: the command is on the "
                    "broker, and a router will read it (`mesh status` shows whether one is alive)"
                )
            found.append(decided)
        return found


def _told(row: PartitionRow, hold: ClockHold) -> str:
    way = "ahead of" if hold.ahead_ms > 0 else "behind"
    return f"partition {row.partition}: the clock is {duration(abs(hold.ahead_ms))} {way} its time, since {rfc3339(hold.since_ms)}"


def _document(row: PartitionRow, hold: ClockHold) -> dict[str, object]:
    return {"partition": row.partition, "ahead_s": hold.ahead_ms / 1_000, "since": rfc3339(hold.since_ms)}

"""`mesh clock`: partitions whose clock has jumped, and an operator's word that it is right."""

import sys
from typing import Final

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.grammar import NounGroup
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, duration, printable
from mesh.codec.commands import CommandReceipt
from mesh.codec.times import rfc3339
from mesh.core.clock import ClockHold
from mesh.core.ids import clock_of
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import PartitionRow

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
@reason_option(required=True)
@by_option("commands")
@timeout_option("How long to wait for the receipt.")
@mesh_command
def release(session: Session, *, reason: str, by: str, timeout_s: float) -> None:
    """Let deadlines go by the broker's clock again, in all partitions that hold them.

    The clock must be right: what is past by it then expires at once.
    """
    rows = session.run(_release(session, by, reason, timeout_s))
    if session.as_json:
        session.emit({"released": [row.workflow_id for row in rows if row.status == "accepted"]})
    else:
        session.show(Text(_outcome(rows)))
    if not all(row.status == "accepted" for row in rows):
        sys.exit(FAILED)


async def _held(session: Session) -> list[PartitionRow]:
    async with session.model() as (_, model):
        return [row for row in queries.partitions(model.db) if row.hold is not None]


async def _release(session: Session, by: str, reason: str, timeout_s: float) -> list[CommandReceipt]:
    async with session.model(read_only=False) as (broker, model):
        client, found = session.client(broker), list[CommandReceipt]()
        info = (await broker.topics()).get(session.topics.inbox)
        count = 1 if info is None else info.partitions
        for row in queries.partitions(model.db):
            if row.hold is None:
                continue
            name = clock_of(row.partition, count)
            found.append(await client.order("release", name, by=by, reason=reason, timeout_s=timeout_s))
        return found


def _outcome(rows: list[CommandReceipt]) -> str:
    """What became of the releases, one line for each refusal."""
    if not rows:
        return "no clock is held: nothing to release"
    refused = [row for row in rows if row.status != "accepted"]
    released = len(rows) - len(refused)
    lines = [f"{_RELEASED}, in {counted(released, 'partition')}"] if released else []
    lines += [f"refused ({row.code})  {row.workflow_id}: {row.message}" for row in refused]
    return "\n".join(map(printable, lines))


def _told(row: PartitionRow, hold: ClockHold) -> str:
    way = "ahead of" if hold.ahead_ms > 0 else "behind"
    return f"partition {row.partition}: the clock is {duration(abs(hold.ahead_ms))} {way} its time, since {rfc3339(hold.since_ms)}"


def _document(row: PartitionRow, hold: ClockHold) -> dict[str, object]:
    return {"partition": row.partition, "ahead_s": hold.ahead_ms / 1_000, "since": rfc3339(hold.since_ms)}

"""`mesh agents pause | resume NAME` and `mesh routes pause | resume NAME`.

Owns how the command is sent, and how long it is waited for until it is in effect everywhere.
"""

import asyncio
import sys
import time
from typing import Final, NamedTuple

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.codec.commands import CommandReceipt
from mesh.codec.times import rfc3339
from mesh.core import ids
from mesh.core.inputs import Command
from mesh.core.pauses import Kind, name_of, target_of, words
from mesh.core.state import Pause
from mesh.errors import NotFound
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.route_versions import read_stored
from mesh.ports import Broker

_LOOK_S: Final = 0.2
_HELD: Final = {
    "agent": "no task goes out to it until it resumes; what is out goes on, and its results count",
    "route": "nothing of its workflows is sent or begun until it resumes; events still start workflows, which wait",
}


class _Order(NamedTuple):
    command: Command
    target: str
    by: str
    reason: str
    timeout_s: float


class _Ordered(NamedTuple):
    """The receipt, and in how many of the partitions it is in effect."""

    receipt: CommandReceipt
    in_effect: int
    partitions: int


def pause_command(kind: Kind) -> click.Command:
    @click.command("pause", short_help=f"Hold {_a(kind)}: nothing is dispatched until it resumes.")
    @click.argument("name", metavar="NAME")
    @reason_option(required=True)
    @by_option("commands")
    @timeout_option("How long to wait until it is in effect.")
    @mesh_command
    def pause(session: Session, *, name: str, reason: str, by: str, timeout_s: float) -> None:
        _run(session, _Order("pause", target_of(kind, name), by, reason, timeout_s))

    pause.help = f"Hold the {kind} NAME (its whole name): {_HELD[kind]}.\n\nExits with 1 if it is refused."
    return pause


def resume_command(kind: Kind) -> click.Command:
    @click.command("resume", short_help=f"Let {_a(kind)} that is paused go on.")
    @click.argument("name", metavar="NAME")
    @reason_option()
    @by_option("commands")
    @timeout_option("How long to wait until it is in effect.")
    @mesh_command
    def resume(session: Session, *, name: str, reason: str, by: str, timeout_s: float) -> None:
        _run(session, _Order("resume", target_of(kind, name), by, reason, timeout_s))

    resume.help = (
        f"Let the {kind} NAME (its whole name) go on: what was held goes on, up to 200 workflows a second in each "
        "partition.\n\nExits with 1 if it is refused."
    )
    return resume


def pause_document(pause: Pause | None) -> dict[str, str] | None:
    """Who holds it, since when and why, in JSON."""
    return None if pause is None else {"by": pause.by, "since": rfc3339(pause.at_ms), "reason": pause.reason}


def _a(kind: Kind) -> str:
    return "an agent" if kind == "agent" else "a route"


def _run(session: Session, order: _Order) -> None:
    receipt, count, partitions = session.run(_send(session, order))
    command, target = order.command, order.target
    if session.as_json:
        document = {"target": target, "command": command, "status": receipt.status, "code": receipt.code}
        session.emit(document | {"message": receipt.message, "partitions": count, "of": partitions})
    elif receipt.status == "refused":
        session.show(Text(printable(f"refused ({receipt.code}): {receipt.message}"), style="yellow"))
    else:
        done = "is paused" if command == "pause" else "goes on"
        where = "" if count == partitions else f" in {count} of {partitions} partitions so far: `mesh status` has more"
        session.show(Text(printable(f"{words(target)} {done}{where}")))
    if receipt.status == "refused":
        sys.exit(FAILED)


async def _send(session: Session, order: _Order) -> _Ordered:
    command, target = order.command, order.target
    async with session.model(read_only=False) as (broker, model):
        if command == "pause":
            await _check_known(session, broker, model, target)
        end_s = time.monotonic() + order.timeout_s
        client = session.client(broker)
        receipt = await client.order(
            command, ids.PAUSES, by=order.by, reason=order.reason, target=target, timeout_s=order.timeout_s
        )
        info = (await broker.topics()).get(session.topics.log)
        partitions = 1 if info is None else info.partitions
        await model.catch_up()
        while (count := _in_effect(model, command, target, partitions)) < partitions:
            if receipt.status == "refused" or time.monotonic() >= end_s:
                break
            await asyncio.sleep(_LOOK_S)
            await model.catch_up()
        return _Ordered(receipt, count, partitions)


def _in_effect(model: ReadModel, command: Command, target: str, partitions: int) -> int:
    """In how many partitions the command is in effect."""
    paused = next((row.partitions for row in queries.pauses(model.db) if row.target == target), 0)
    return paused if command == "pause" else partitions - paused


async def _check_known(session: Session, broker: Broker, model: ReadModel, target: str) -> None:
    """Raises `NotFound` for a name that nobody has: most likely it was mistyped."""
    name, is_agent = name_of(target), target.startswith("agent/")
    if is_agent:
        prefix = session.topics.tasks("")
        known = {row.card.name for row in queries.cards(model.db)}
        known |= {topic.removeprefix(prefix) for topic in model.topics_known if topic.startswith(prefix)}
    else:
        known = set((await read_stored(broker, session.topics)).digests())
    if name not in known:
        where = "mesh agents" if is_agent else "mesh routes list"
        raise NotFound(f"there is no {words(target)}: `{where}` lists them; give the whole name")

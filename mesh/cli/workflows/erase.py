"""`mesh workflows erase ID`: the payloads of a private workflow become unreadable, for good.

Owns what is said of it: what is erased at once, and what topics keep until their time is over. The
owner of the workflow decides, logs who and why, and deletes the keys.
"""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import duration, printable
from mesh.codec.commands import CommandReceipt, encode_command
from mesh.core.topics import Topics
from mesh.errors import NotFound, OperatorError
from mesh.ports import Broker
from mesh.services.vault import Vault

_LOOK_S: Final = 0.2  # between two looks at the topic of keys


class _Order(NamedTuple):
    workflow_id: str
    reason: str
    by: str
    timeout_s: float


class _Erased(NamedTuple):
    """`left`: keys that were still there when the time was over. `stays`: topics, and how long."""

    receipt: CommandReceipt
    left: int
    stays: Mapping[str, int]


@click.command(short_help="Erase the payloads of a private workflow that has ended.")
@click.argument("workflow_id", metavar="ID")
@reason_option(required=True)
@by_option("commands")
@timeout_option("How long to wait for the receipt, and then for the keys to be gone.")
@mesh_command
def erase(session: Session, *, workflow_id: str, reason: str, by: str, timeout_s: float) -> None:
    """Erase the payloads of a private workflow (`private: true` in its route) that has ended.

    ID is the whole id, also of a workflow that is forgotten. All runs of it are erased. Nobody can
    take it back. Exits with 1 if it is refused.

    The keys are deleted, so the log, checkpoints and exports without keys hold nothing that can be
    read. Who erased it, when and why is in the log, with its ids and times. Topics that keep
    records for days keep theirs: the command says which, and how long.

    \b
    mesh workflows erase refund:4711 --why "asked by the customer, ticket 88"
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    found = session.run(_erase(session, workflow_id, reason, by, timeout_s))
    _tell(session, found)
    if found.receipt.status == "refused" or found.left:
        sys.exit(FAILED)


async def _erase(session: Session, workflow_id: str, reason: str, by: str, timeout_s: float) -> _Erased:
    async with session.model(read_only=False) as (broker, model):
        vault = Vault(broker, session.topics)
        try:
            await vault.refresh()
            keys = vault.of(workflow_id)
            if not keys and workflow_id.partition(":")[2] == "":
                raise NotFound(f"{workflow_id!r} is not a workflow's whole id (<route>:<key>): `mesh workflows list`")
            order = _Order(workflow_id, reason, by, timeout_s)
            receipt = await _send(session, broker, order, keys)
            left = 0
            if receipt.status == "accepted":
                left = await _await_gone(vault, workflow_id, timeout_s)
                # this machine's read model drops what it has
                await model.catch_up()
        finally:
            await vault.close()
        return _Erased(receipt, left, await _stays(broker, session.topics))


async def _send(session: Session, broker: Broker, order: _Order, keys: Sequence[str]) -> CommandReceipt:
    workflow_id = order.workflow_id
    client, command_id = session.client(broker), f"command-{session.fresh_id()}"
    starts = await client.command_position()
    record = encode_command(
        topics=session.topics,
        command="erase",
        workflow_id=workflow_id,
        by=order.by,
        command_id=command_id,
        at_ms=session.now_ms(),
        reason=order.reason,
        keys=keys,
    )
    failures = await broker.send([record])
    if failures:
        raise OperatorError(f"the command to erase could not be sent: {failures[0].message}")
    found = await client.command_receipts([command_id], starts, timeout_s=order.timeout_s)
    if command_id not in found:
        raise TimeoutError(
            f"no receipt for the command to {workflow_id} after {order.timeout_s:g} s: it is on the broker, and a router "
            "will read it (`mesh status` shows whether one is alive)"
        )
    return found[command_id]


async def _await_gone(vault: Vault, workflow_id: str, timeout_s: float) -> int:
    """Wait until no key is left, and return how many are."""
    deadline = time.monotonic() + timeout_s
    while True:
        await vault.refresh()
        left = len(vault.of(workflow_id))
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(_LOOK_S)


async def _stays(broker: Broker, topics: Topics) -> dict[str, int]:
    """The topics that keep open payloads for a time, and their `retention.ms`."""
    names = (
        topics.events,
        topics.inbox,
        topics.results,
        topics.requests,
        topics.responses,
        topics.receipts,
        topics.commands,
        topics.outcomes,
        topics.notices,
        topics.dlq,
    )
    known = await broker.topics()
    wanted = [name for name in known if name in names or name.startswith(topics.tasks(""))]
    infos = await broker.topics(configs_of=wanted)
    return {name: int(infos[name].config.get("retention.ms", -1)) for name in wanted if name in infos}


def _tell(session: Session, found: _Erased) -> None:
    receipt = found.receipt
    if session.as_json:
        session.emit(
            {
                "command_id": receipt.command_id,
                "workflow_id": receipt.workflow_id,
                "accepted": receipt.status == "accepted",
                "code": receipt.code,
                "message": receipt.message,
                "keys_left": found.left,
                "kept_ms": dict(found.stays),
            }
        )
        return
    if receipt.status == "refused":
        session.show(Text(f"refused ({receipt.code})", style="bold red") + Text(f"  {printable(receipt.message)}"))
        return
    session.show(Text("erased", style="bold green") + Text(f"  {printable(receipt.workflow_id)}"))
    if found.left:
        session.show(Text(f"  {found.left} of its keys are still there: run the command again", style="red"))
    by_time: dict[int, list[str]] = {}
    for name, kept_ms in sorted(found.stays.items()):
        by_time.setdefault(kept_ms, []).append(name)
    for kept_ms, names in sorted(by_time.items()):
        kept = "without end" if kept_ms < 0 else f"for {duration(kept_ms)}"
        session.note(f"open records stay {kept} on {', '.join(names)}")
    session.note("copies that were made with their keys (`mesh log export` and its .keys) stay readable")

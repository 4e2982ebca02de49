"""`mesh approvals extend | reassign | void ID`: what an operator orders of one approval.

Also `claim | unclaim ID`, with which an approver says who is looking. Whether it is obeyed is for
the workflow's owner to decide: each command waits for its receipt.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Final

import click
import msgspec
from rich.text import Text

from mesh.cli.approvals.commands import Answer, answer_by_id, answers
from mesh.cli.approvals.ids import pick_open
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, reason_option, timeout_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.codec.commands import CommandReceipt
from mesh.codec.orders import duration_ms
from mesh.codec.times import parse_rfc3339
from mesh.core.inputs import ApprovalOrder, Command

_id = click.argument("approval_id", metavar="ID")


@click.command(short_help="Say that you are looking at it.")
@_id
@answers
def claim(session: Session, *, approval_id: str, by: str, timeout_s: float) -> None:
    """Claim ID: others see that you look at it. Exits with 1 if it is refused.

    Where its route says `claim: exclusive`, others can't answer until you have answered, until
    `mesh approvals unclaim ID`, or until the lease ends. ID is as in `mesh approvals approve`.
    """
    session.run(answer_by_id(session, approval_id, Answer(decision="claim"), by=by, timeout_s=timeout_s))


@click.command(short_help="Give back what you have claimed.")
@_id
@answers
def unclaim(session: Session, *, approval_id: str, by: str, timeout_s: float) -> None:
    """Give ID back, which you have claimed. Exits with 1 if it is refused.

    ID is as in `mesh approvals approve`.
    """
    session.run(answer_by_id(session, approval_id, Answer(decision="release"), by=by, timeout_s=timeout_s))


def _orders(function: Callable[..., None]) -> Callable[..., None]:
    """Give an operator's order its session, and the options `reason`, `by` and `timeout_s`."""
    timed = timeout_option("How long to wait for the receipt.")(mesh_command(function))
    return reason_option()(by_option("orders it")(timed))


@click.command(short_help="Move the deadline of an open approval.")
@_id
@click.option("--plus", metavar="DURATION", help="How much longer it is open, such as 4h.")
@click.option("--until", metavar="TIME", help="The new deadline, such as 2026-11-24T09:00:00Z.")
@_orders
def extend(
    session: Session,
    *,
    approval_id: str,
    plus: str | None,
    until: str | None,
    reason: str,
    by: str,
    timeout_s: float,
) -> None:
    """Move the deadline of ID to a later time. Exits with 1 if it is refused.

    Answers that came after the deadline, and before the new one, are judged then. The order must
    reach the broker before the deadline. ID is as in `mesh approvals approve`.
    """
    if (plus is None) == (until is None):
        raise click.UsageError("say how far with --plus, or until when with --until")
    order = ApprovalOrder(approval_id="", by_ms=_duration_ms(plus), until_ms=_time_ms(until))
    _run(session, "extend", approval_id, order, by=by, reason=reason, timeout_s=timeout_s)


@click.command(short_help="Let others answer an open approval.")
@_id
@click.option("--add/--replace", "is_added", default=True, help="Beside those who may answer, or instead of them.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="A role that may answer; may be repeated.")
@click.option("--person", "people", multiple=True, metavar="NAME", help="Somebody who may answer; may be repeated.")
@_orders
def reassign(
    session: Session,
    *,
    approval_id: str,
    is_added: bool,
    roles: tuple[str, ...],
    people: tuple[str, ...],
    reason: str,
    by: str,
    timeout_s: float,
) -> None:
    """Let others answer ID too, or with --replace nobody else. Exits with 1 if it is refused.

    Votes that were given stay. A person whom the route excludes stays excluded. ID is as in `mesh
    approvals approve`.
    """
    if not roles and not people:
        raise click.UsageError("say who may answer: --role ROLE, --person NAME")
    order = ApprovalOrder(approval_id="", roles=roles, people=people, replace=not is_added)
    _run(session, "reassign", approval_id, order, by=by, reason=reason, timeout_s=timeout_s)


@click.command(short_help="Take back somebody's vote, as of a stolen account.")
@_id
@click.option("--voter", required=True, metavar="NAME", help="Whose vote.")
@_orders
def void(session: Session, *, approval_id: str, voter: str, reason: str, by: str, timeout_s: float) -> None:
    """Take back the vote of --voter in ID. Exits with 1 if it is refused.

    It keeps nobody from voting again. ID is as in `mesh approvals approve`.
    """
    order = ApprovalOrder(approval_id="", voter=voter)
    _run(session, "void", approval_id, order, by=by, reason=reason, timeout_s=timeout_s)


def _duration_ms(text: str | None) -> int:
    if text is not None and not duration_ms(text):
        raise click.UsageError(f"--plus takes a duration such as 30m, 4h or 2d, not {text}")
    return duration_ms(text)


def _time_ms(text: str | None) -> int:
    try:
        return 0 if text is None else parse_rfc3339(text)
    except ValueError as error:
        raise click.UsageError(f"--until: {error}") from error


_DONE: Final[Mapping[Command, str]] = {
    "extend": "deadline moved",
    "reassign": "reassigned",
    "void": "vote taken back",
}


def _run(
    session: Session, command: Command, part: str, order: ApprovalOrder, *, by: str, reason: str, timeout_s: float
) -> None:
    receipt = session.run(_send(session, command, part, order, by=by, reason=reason, timeout_s=timeout_s))
    if session.as_json:
        session.emit(receipt)
    elif receipt.status == "accepted":
        session.show(Text(_DONE[command], style="bold green") + Text(f"  {printable(part)}", style="default"))
    else:
        refused = Text(f"refused ({printable(receipt.code)})", style="bold red")
        session.show(refused + Text(f"  {printable(receipt.message)}", style="default"))
    if receipt.status != "accepted":
        sys.exit(FAILED)


async def _send(
    session: Session, command: Command, part: str, order: ApprovalOrder, *, by: str, reason: str, timeout_s: float
) -> CommandReceipt:
    async with session.inbox(read_only=False) as (broker, inbox):
        one = await pick_open(session, broker, inbox, part)
        about = msgspec.structs.replace(order, approval_id=one.row.approval_id)
        return await session.client(broker).order(
            command, one.row.workflow_id, by=by, reason=reason, about=about, timeout_s=timeout_s
        )

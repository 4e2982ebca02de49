"""`mesh approvals answer`: one open approval after the other, and one key to answer each.

Owns the dialogue at the terminal; without a terminal it refuses to run. Open approvals are read
page by page, and each one is read again before it is shown, because somebody else may have answered
it. `mesh.cli.approvals.commands` sends the answer.
"""

from collections.abc import Iterator
from typing import Final, Literal

import click
from rich.text import Text

from mesh.cli.approvals.commands import (
    UNEDITED,
    Answer,
    answers,
    edit,
    send_answer,
    verdict,
)
from mesh.cli.approvals.ids import Waiting, with_request
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.approvals.listing import card
from mesh.cli.session import Session
from mesh.cli.text.format import counted, printable
from mesh.core.approvals import Terms
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import ApprovalRow

KEYS: Final = "a approve   r reject   e edit and approve   s skip   q quit"
PAGE: Final = 50


@click.command(short_help="Answer what waits, one by one, on a terminal.")
@click.option("--role", metavar="ROLE", help="Only those for this role.")
@answers
def answer(session: Session, *, role: str | None, by: str, timeout_s: float) -> None:
    """Show each open approval, the oldest first, and ask for an answer.

    One key answers: approve, reject with a reason, edit and approve, skip, or quit.
    """
    if not session.is_interactive:
        raise click.UsageError(
            "`mesh approvals answer` asks a person at a terminal; without one: mesh approvals approve ID, "
            "mesh approvals reject ID --reason TEXT"
        )
    session.run(_one_by_one(session, role, by=by, timeout_s=timeout_s))


async def _one_by_one(session: Session, role: str | None, *, by: str, timeout_s: float) -> None:
    async with session.model(read_only=False) as (broker, model):
        total = queries.approvals(model.db, role=role, limit=1).total
        if not total:
            session.show("Nothing waits for a person.")
            return
        session.show(Text(f"You answer as {printable(by)} (claimed, not verified).", style="dim"))
        answered = 0
        for number, row in enumerate(_each(model, role), 1):
            await model.catch_up()
            now = queries.approval(model.db, row.approval_id)
            if now is None or now.closed_at_ms is not None:
                continue  # somebody else was faster
            one = with_request(model, now)
            session.show("", card(one, session.now_ms(), position=f" {number:,} of {max(number, total):,} "))
            with interruptible():
                choice = ask(session, one)
            if choice is None:
                break
            if choice == "skip":
                continue
            receipt = await send_answer(session, broker, one, choice, by=by, timeout_s=timeout_s)
            session.show(verdict(receipt))
            answered += receipt.status == "accepted"
        session.show(Text(f"\n{counted(answered, 'answer')} given.", style="dim"))


def _each(model: ReadModel, role: str | None) -> Iterator[ApprovalRow]:
    """All open approvals, page by page."""
    after: str | None = None
    while True:
        page = queries.approvals(model.db, role=role, limit=PAGE, after=after)
        yield from page
        after = page.after
        if after is None:
            return


def ask(session: Session, one: Waiting, keys: str = KEYS) -> Answer | Literal["skip"] | None:
    """Ask for one key, and for what its answer needs. None: quit."""
    choices = () if one.asking is None else one.asking.terms.choices
    has_choices = bool(choices) and choices != Terms(groups=()).choices
    while True:
        session.show(Text(f"c choose   {keys}" if has_choices else keys, style="cyan"))
        match click.getchar().lower():
            case "a":
                return Answer(decision="approve")
            case "r":
                return Answer(decision="reject", reason=click.prompt("reason", default="", show_default=False))
            case "c" if has_choices:
                chosen = click.prompt("choice", type=click.Choice(choices))
                reason = click.prompt("reason", default="", show_default=False)
                return Answer(decision="choose", choice=chosen, reason=reason)
            case "e":
                payload = edit(session, one.request)
                if payload is not UNEDITED:
                    return Answer(decision="approve", payload=payload)
            case "s":
                return "skip"
            case "q" | "\x03" | "\x04":
                return None
            case _:
                pass

"""`mesh approvals answer`: one open approval after the other, and one key to answer each.

Owns the dialogue at the terminal; without a terminal it refuses to run. Open approvals are read
page by page, and each one is read again before it is shown, because somebody else may have answered
it. `mesh.cli.approvals.commands` sends the answer.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

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
from mesh.cli.approvals.filters import filtered, filters_of, wanted_of
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.approvals.listing import card
from mesh.cli.session import Session
from mesh.cli.text.format import counted, printable
from mesh.core.approvals import Terms
from mesh.inspection.inbox import Filters, Inbox, OpenRow, Waiting, find, page_of

KEYS: Final = "a approve   r reject   e edit and approve   s skip   q quit"
PAGE: Final = 50


@click.command(short_help="Answer what waits, one by one, on a terminal.")
@filtered
@answers
def answer(session: Session, *, by: str, timeout_s: float, **options: Any) -> None:
    """Show each open approval, the nearest deadline first, and ask for an answer.

    One key answers: approve, reject with a reason, edit and approve, skip, or quit.
    """
    if not session.is_interactive:
        raise click.UsageError(
            "`mesh approvals answer` asks a person at a terminal; without one: mesh approvals approve ID, "
            "mesh approvals reject ID --reason TEXT"
        )
    filters = filters_of(session, wanted_of(options), by)
    session.run(_one_by_one(session, filters, by=by, timeout_s=timeout_s))


async def _one_by_one(session: Session, filters: Filters, *, by: str, timeout_s: float) -> None:
    async with session.inbox(read_only=False) as (broker, inbox):
        total = page_of(inbox.db, filters, limit=1).total
        if not total:
            session.show("Nothing waits for a person.")
            return
        session.show(Text(f"You answer as {printable(by)} (claimed, not verified).", style="dim"))
        answered = 0
        for number, row in enumerate(_each(inbox, filters), 1):
            await inbox.catch_up()
            one = find(inbox.db, row.approval_id)
            if one is None:
                continue  # somebody else was faster
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


def _each(inbox: Inbox, filters: Filters) -> Iterator[OpenRow]:
    """All open approvals, page by page."""
    after: str | None = None
    while True:
        page = page_of(inbox.db, filters, limit=PAGE, after=after)
        yield from page
        after = page.after
        if after is None:
            return


def ask(session: Session, one: Waiting, keys: str = KEYS) -> Answer | Literal["skip"] | None:
    """Ask for one key, and for what its answer needs. None: quit."""
    choices = () if one.request.terms is None else one.request.terms.choices
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
                payload = edit(session, one)
                if payload is not UNEDITED:
                    return Answer(decision="approve", payload=payload)
            case "s":
                return "skip"
            case "q" | "\x03" | "\x04":
                return None
            case _:
                pass

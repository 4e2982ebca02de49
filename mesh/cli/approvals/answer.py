"""`mesh approvals answer`: one open approval after the other, and one key to answer each.

Owns the dialogue at the terminal; without a terminal it refuses to run. Open approvals are read
page by page, and each one is read again before it is shown, because somebody else may have answered
it. `mesh.cli.approvals.commands` sends the answer.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, Literal

import click
import msgspec
from rich.text import Text

from mesh.cli.approvals.commands import (
    UNEDITED,
    Answer,
    answers,
    edit,
    for_option,
    keep_refused_edit,
    send_answer,
    verdict,
)
from mesh.cli.approvals.filters import Wanted, filtered, filters_of, wanted_of
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.approvals.listing import card, table
from mesh.cli.session import Session
from mesh.cli.text.format import counted, printable
from mesh.core.approvals import Terms
from mesh.inspection.inbox import Filters, Inbox, OpenRow, Waiting, find, page_of

KEYS: Final = "a approve   r reject   e edit and approve   s skip   q quit"
KEYS_FOR: Final = "a approve   r reject   s skip   q quit"  # for somebody else nobody edits
PAGE: Final = 50
LISTED: Final = 20  # rows of the list between two cards
ESC: Final = "\x1b"


@click.command(short_help="Answer what waits, one by one, on a terminal.")
@filtered
@for_option
@answers
def answer(session: Session, *, by: str, on_behalf: str, timeout_s: float, **options: Any) -> None:
    """Show each open approval, the nearest deadline first, and ask for an answer.

    One key answers: approve, reject with a reason, edit and approve, skip, or quit. Ctrl-C and Esc
    go one step back: from what you type to the card, from the card to the list, and out.

    With --for you answer what PERSON has delegated to you, and edit nothing.
    """
    if not session.is_interactive:
        raise click.UsageError(
            "`mesh approvals answer` asks a person at a terminal; without one: mesh approvals approve ID, "
            "mesh approvals reject ID --reason TEXT"
        )
    wanted = wanted_of(options)
    if on_behalf:
        # for somebody else there is nothing to answer but what they have delegated
        wanted = msgspec.structs.replace(wanted, mine=True)
    session.run(_one_by_one(session, wanted, by=by, on_behalf=on_behalf, timeout_s=timeout_s))


async def _one_by_one(session: Session, wanted: Wanted, *, by: str, on_behalf: str, timeout_s: float) -> None:
    async with session.inbox(read_only=False) as (broker, inbox):
        filters = await filters_of(session, broker, wanted, by, on_behalf=on_behalf)
        total = page_of(inbox.db, filters, limit=1).total
        if not total:
            session.show("Nothing waits for a person.")
            return
        whom = f", for {printable(on_behalf)}" if on_behalf else ""
        who = f"{printable(by)}{whom} (claimed, not verified)"
        if session.api is not None:
            who = f"{printable((await session.api.me()).name)}{whom}"
        session.show(Text(f"You answer as {who}.", style="dim"))
        answered, number, queue = 0, 0, deque[OpenRow]()
        rows = _each(inbox, filters)
        while (row := queue.popleft() if queue else next(rows, None)) is not None:
            number += 1
            await inbox.catch_up()
            one = find(inbox.db, row.approval_id)
            if one is None:
                continue  # somebody else was faster
            session.show("", card(one, session.now_ms(), position=f" {number:,} of {max(number, total):,} "))
            choice = _asked(session, one, KEYS_FOR if on_behalf else KEYS)
            if choice == "list":
                chosen = _from_list(session, inbox, filters, row)
                if chosen is None:
                    break
                number -= 1
                queue.appendleft(chosen)
                continue
            if choice is None:
                break
            if choice == "skip":
                continue
            choice = msgspec.structs.replace(choice, on_behalf=on_behalf)
            receipt = await send_answer(session, broker, one, choice, by=by, timeout_s=timeout_s)
            session.show(verdict(receipt))
            keep_refused_edit(session, one, choice, receipt)
            answered += receipt.status == "accepted"
        session.show(Text(f"\n{counted(answered, 'answer')} given.", style="dim"))


def _asked(session: Session, one: Waiting, keys: str) -> Answer | Literal["skip", "list"] | None:
    """As `ask`. Ctrl-C and Esc at the card go back to the list."""
    try:
        with interruptible():
            return ask(session, one, keys, back=True)
    except KeyboardInterrupt:
        return "list"


def _from_list(session: Session, inbox: Inbox, filters: Filters, at: OpenRow) -> OpenRow | None:
    """Show what waits, and take a number. Enter: go on at `at`. Ctrl-C, Esc and q: None."""
    page = page_of(inbox.db, filters, limit=LISTED)
    session.show("", table(page, session.now_ms()))
    if len(page) < page.total:
        session.show(Text(f"{len(page):,} of {page.total:,}", style="dim"))
    while True:
        try:
            with interruptible():
                given = click.prompt(
                    f"which one (1 to {len(page)}), Enter goes on, q quits", default="", show_default=False
                )
        except KeyboardInterrupt:
            return None
        given = given.strip()
        if not given:
            return at
        if given.startswith(ESC) or given == "q":
            return None
        if given.isascii() and given.isdigit() and 1 <= int(given) <= len(page):
            return page[int(given) - 1]


def _each(inbox: Inbox, filters: Filters) -> Iterator[OpenRow]:
    """All open approvals, page by page."""
    after: str | None = None
    while True:
        page = page_of(inbox.db, filters, limit=PAGE, after=after)
        yield from page
        after = page.after
        if after is None:
            return


def ask(
    session: Session, one: Waiting, keys: str = KEYS, *, back: bool = False
) -> Answer | Literal["skip", "list"] | None:
    """Ask for one key, and for what its answer needs. None: quit.

    Ctrl-C and Esc while something is typed go back to the keys. At the keys, with `back`, Esc goes
    to the list, and Ctrl-C raises `KeyboardInterrupt`, as it does while a key is waited for.
    """
    keys, choices = offered(keys, one.request.terms)
    while True:
        session.show(Text(keys, style="cyan"))
        key = click.getchar().lower()
        if back and key in {ESC, "\x03"}:
            return "list"
        if key in {"q", "\x03", "\x04"}:
            return None
        if key == "s":
            return "skip"
        try:
            found = _answer_by_key(session, one, key, keys.split(), choices)
        except (KeyboardInterrupt, click.Abort, _Back):
            session.show(Text("nothing is sent", style="dim"))
            continue
        if found is not None:
            return found


def offered(keys: str, terms: Terms | None) -> tuple[str, Sequence[str]]:
    """The keys that can count here, and the choices beyond approve and reject."""
    if terms is None or terms.choices == Terms(groups=()).choices:
        return keys, ()
    # approve and reject mean a choice only where there is one such choice
    if len(terms.choices) - len(terms.rejects) != 1:
        keys = keys.replace("a approve   ", "").replace("edit and approve", "edit")
    if len(terms.rejects) != 1:
        keys = keys.replace("r reject   ", "")
    return f"c choose   {keys}", terms.choices


class _Back(Exception):
    """Esc was typed."""


def _answer_by_key(
    session: Session, one: Waiting, key: str, keys: Collection[str], choices: Sequence[str]
) -> Answer | None:
    """The answer that a key begins; None if there is none."""
    match key if key in keys else "":
        case "a":
            return Answer(decision="approve")
        case "r":
            return Answer(decision="reject", reason=_typed("reason"))
        case "c" if choices:
            chosen = click.prompt("choice", type=click.Choice(choices))
            return Answer(decision="choose", choice=chosen, reason=_typed("reason"))
        case "e":
            payload = edit(session, one)
            return (
                None if payload is UNEDITED else Answer(decision="approve" if "a" in keys else "edit", payload=payload)
            )
        case _:
            return None


def _typed(what: str) -> str:
    text: str = click.prompt(what, default="", show_default=False)
    if ESC in text:
        raise _Back
    return text

"""One answer to many approvals: several ids, or all that the filters of the list find.

Owns the preview, the question, and the count that a program must know. Each approval gets an answer
of its own, with the digest that was listed. So what changed after the preview is refused.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from rich.text import Text

from mesh.cli.approvals.commands import UNEDITED, Answer, answer_by_id, send_answer, verdict
from mesh.cli.approvals.filters import Wanted, filtered, filters_of, tell_unfit, wanted_of
from mesh.cli.approvals.ids import pick_open
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.approvals.listing import table
from mesh.cli.exit_codes import FAILED
from mesh.cli.session import Session
from mesh.cli.text.format import counted
from mesh.codec.approvals import Receipt
from mesh.errors import OperatorError
from mesh.inspection.inbox import Inbox, Waiting, find, page_of
from mesh.ports import Broker

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
PREVIEWED: Final = 10


class Chosen:
    """Which approvals a command is for, and how sure its sender is. `take` takes the options."""

    def __init__(self, ids: Sequence[str], wanted: Wanted, *, is_sure: bool, expected: int | None) -> None:
        if ids and not wanted.is_empty:
            raise click.UsageError("give ids, or filters that find them; not both")
        if not ids and wanted.is_empty:
            raise click.UsageError(
                "say which: an ID, several, or a filter as of `mesh approvals list` (--role, --mine, ...)"
            )
        if is_sure and expected is None:
            raise click.UsageError("--yes needs --expect N, the number of approvals that you mean")
        self.ids = ids
        self.wanted = wanted
        self.is_sure = is_sure
        self.expected = expected

    @property
    def is_one(self) -> bool:
        """Whether it is for the one approval that a person has named."""
        return len(self.ids) == 1 and self.expected is None


def many(function: Decorated) -> Decorated:
    """Add ids, filters, and the options of an answer to many."""
    function = click.option(
        "--expect", type=click.IntRange(0), metavar="N", help="Do nothing unless it is N approvals."
    )(function)
    function = click.option("--yes", is_flag=True, help="Do not ask. It needs --expect.")(function)
    return filtered(function)


def chosen_of(ids: Sequence[str], options: dict[str, Any]) -> Chosen:
    """Take what `many` has added out of a command's options."""
    return Chosen(ids, wanted_of(options), is_sure=options.pop("yes"), expected=options.pop("expect"))


def answer_chosen(
    session: Session, chosen: Chosen, answer: Answer, *, by: str, timeout_s: float, edit_it: bool = False
) -> None:
    """Answer what is chosen, and show the receipts. Ends the process with 1 if one is refused."""
    if chosen.is_one:
        session.run(answer_by_id(session, chosen.ids[0], answer, by=by, edit_it=edit_it, timeout_s=timeout_s))
        return
    if edit_it or answer.payload is not UNEDITED:
        raise click.UsageError("an edit is for one approval: give one ID")
    session.run(_answer_many(session, chosen, answer, by=by, timeout_s=timeout_s))


async def _answer_many(session: Session, chosen: Chosen, answer: Answer, *, by: str, timeout_s: float) -> None:
    async with session.inbox(read_only=False) as (broker, inbox):
        found = await _find(session, broker, inbox, chosen, by=by, on_behalf=answer.on_behalf)
        _check(session, chosen, found, answer)
        receipts: list[Receipt] = []
        for one in found:
            try:
                receipt = await send_answer(session, broker, one, answer, by=by, timeout_s=timeout_s)
            except TimeoutError:
                rest = len(found) - len(receipts) - 1
                session.note(
                    f"{counted(len(receipts), 'answer')} had a receipt; {rest:,} behind this one were not sent"
                )
                raise
            receipts.append(receipt)
            if not session.as_json:
                session.show(verdict(receipt))
    refused = sum(receipt.status != "accepted" for receipt in receipts)
    if session.as_json:
        session.emit({"answers": receipts, "accepted": len(receipts) - refused, "refused": refused})
    if refused:
        sys.exit(FAILED)


async def _find(
    session: Session, broker: Broker, inbox: Inbox, chosen: Chosen, *, by: str, on_behalf: str
) -> list[Waiting]:
    if chosen.ids:
        named = {
            one.row.approval_id: one for given in chosen.ids for one in [await pick_open(session, broker, inbox, given)]
        }
        return list(named.values())
    filters = await filters_of(session, broker, chosen.wanted, by, on_behalf=on_behalf)
    found = [find(inbox.db, row.approval_id) for row in page_of(inbox.db, filters)]
    tell_unfit(session, filters)
    return [one for one in found if one is not None]


def _check(session: Session, chosen: Chosen, found: Sequence[Waiting], answer: Answer) -> None:
    """Show what would be answered, and see that this is meant."""
    if chosen.expected is not None and len(found) != chosen.expected:
        raise OperatorError(
            f"{counted(len(found), 'approval')} would be answered, not {chosen.expected:,}. Nothing was sent"
        )
    if chosen.is_sure:
        return
    if not session.is_interactive:
        raise OperatorError(
            f"{counted(len(found), 'approval')} would be answered, and nobody can be asked: say --yes --expect {len(found)}. "
            "Nothing was sent"
        )
    if not found:
        session.show("Nothing fits.")
        sys.exit(0)
    session.show(table([one.row for one in found[:PREVIEWED]], session.now_ms()))
    if len(found) > PREVIEWED:
        session.show(Text(f"and {len(found) - PREVIEWED:,} more", style="dim"))
    what = answer.choice or answer.decision
    with interruptible():
        is_meant = click.confirm(
            f"{what} {'all ' if len(found) > 1 else ''}{counted(len(found), 'approval')}?", err=True
        )
    if not is_meant:
        raise OperatorError("nothing was sent")

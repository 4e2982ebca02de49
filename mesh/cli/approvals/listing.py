"""`mesh approvals list | show`: what waits for a person, and what is asked.

Owns how an approval looks on a screen and in JSON. `mesh approvals answer` shows the same card.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, assert_never

import click
import msgspec
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mesh.cli.approvals.filters import Wanted, filtered, filters_of, tell_unfit, wanted_of
from mesh.cli.approvals.ids import Ended, ending, pick_any
from mesh.cli.options import by_option, page_size, paged, show_page
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, counted, one_line, printable, readable, rfc3339_or_none, until
from mesh.cli.text.tables import plain_table
from mesh.codec.links import approval_link
from mesh.codec.open_approvals import OpenNote, OpenStanding
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.approvals import Terms
from mesh.core.json_values import text_of
from mesh.core.questions import names_of
from mesh.inspection.inbox import OpenRow, Waiting, asked_of, find, givers_of, page_of
from mesh.inspection.read_model.pages import Page
from mesh.inspection.wording.phrases import said_for

SOON_MS = 3_600_000
Givers = Mapping[str, Sequence[str]]
"""By approval, for whom a person may answer it; empty text: for themself."""


@click.command("list", short_help="List what waits for a person.")
@filtered
@by_option("asks", " For --mine; with --closed: who has answered.")
@click.option("--closed", is_flag=True, help="What was decided instead, the last first. It needs the log.")
@click.option("--since", metavar="WHEN", help="With --closed: since then (2h, 7d, or a time).")
@click.option("--list", "list_only", is_flag=True, hidden=True, help="What this command does anyway.")
@paged
@mesh_command
def list_approvals(
    session: Session,
    /,
    *,
    by: str,
    list_only: bool,  # noqa: ARG001 - scripts of earlier versions write it
    closed: bool,
    since: str | None,
    limit: int | None,
    after: str | None,
    **options: Any,
) -> None:
    """List the approvals that are open: the nearest deadline first, then the oldest.

    Filters narrow the whole list before a page is cut. `total` is that of the narrowed list.
    """
    wanted = wanted_of(options)
    if since is not None and not closed:
        raise click.UsageError("--since goes with --closed; of open ones --asked-before narrows the list")
    if closed:
        if not wanted.is_empty:
            raise click.UsageError("--closed goes with --by and --since alone")
        from mesh.cli.approvals.closed import is_by_given, show_closed  # noqa: PLC0415 - it reads the log

        show_closed(session, by=by if is_by_given() else "", since=since, limit=limit, after=after)
        return
    page, documents, givers = session.run(_list(session, wanted, by, limit, after))
    show_page(
        session,
        page,
        "approvals",
        rows=documents,
        table=lambda rows, now_ms: table(rows, now_ms, givers),
        is_chosen=not wanted.is_empty,
        nothing="" if not wanted.is_empty else "Nothing waits for a person.",
        notes=[
            "see what is asked, payload and all: mesh approvals show ID",
            "answer one: mesh approvals approve ID, mesh approvals reject ID --reason TEXT",
            "answer them one by one, on a terminal: mesh approvals answer",
        ],
    )


async def _list(
    session: Session, wanted: Wanted, by: str, limit: int | None, after: str | None
) -> tuple[Page[OpenRow], list[dict[str, object]], Givers]:
    async with session.inbox() as (broker, inbox):
        filters = await filters_of(session, broker, wanted, by, is_listed=True)
        page = page_of(inbox.db, filters, limit=page_size(session, limit), after=after)
        tell_unfit(session, filters)
        if filters.mine is not None:
            _tell_asked(session, page, asked_of(inbox.db, filters.mine))
        givers = {row.approval_id: givers_of(inbox.db, row.approval_id, filters) for row in page if filters.others}
        found = (find(inbox.db, row.approval_id) for row in page) if session.as_json else ()
        documents = [_document(one) | _for(givers, one.row) for one in found if one is not None]
        return page, documents, givers


def _for(givers: Givers, row: OpenRow) -> dict[str, object]:
    """For whom who asks may answer it, with `--mine`; null: for themself."""
    found = givers.get(row.approval_id)
    return {} if found is None else {"for": [giver or None for giver in found]}


def _tell_asked(session: Session, page: Page[OpenRow], asked: Collection[str]) -> None:
    """Say in which of these the person was asked something: they may not be able to vote there."""
    shown = [row.approval_id for row in page if row.approval_id in asked]
    if shown:
        session.note(f"you were asked a question in {', '.join(map(printable, shown))}: mesh inform ID TEXT")


@click.command("show", short_help="Show one approval: what is asked, or how it ended.")
@click.argument("approval_id", metavar="ID")
@click.option("--audit", "is_audit", is_flag=True, help="All that the log has of it: editions, answers, proofs.")
@mesh_command
def show_approval(session: Session, *, approval_id: str, is_audit: bool) -> None:
    """Show one approval, open or closed, with its whole payload.

    ID is an approval's or a workflow's, or any part that fits only one. Of a closed one, what was
    asked is shown to those who may read the log; others see how it ended.
    """
    if is_audit:
        from mesh.cli.approvals.audit import read_audit, show_audit  # noqa: PLC0415 - as above

        show_audit(session, *session.run(read_audit(session, approval_id)))
        return
    one = session.run(_show(session, approval_id))
    if isinstance(one, Waiting):
        if session.as_json:
            session.emit(_document(one) | _link(session, one.row.approval_id) | _ended(None))
            return
        session.show(card(one, session.now_ms()))
        verb = "choose ID CHOICE" if _has_choices(one.request.terms) else "approve ID"
        session.note(f"answer it: mesh approvals {verb}, mesh approvals reject ID --reason TEXT")
        return
    if session.as_json:
        known = {"approval_id": one.approval_id} if one.asked is None else _document(one.asked)
        session.emit(known | _ended(one))
        return
    if one.asked is not None:
        session.show(card(one.asked, session.now_ms(), is_open=False))
    named = "" if one.asked is not None else f"{printable(one.approval_id)} is "
    session.show(Text(f"{named}closed: {printable(ending(one, session.now_ms()))}", style="yellow"))


async def _show(session: Session, given: str) -> Waiting | Ended:
    async with session.inbox() as (broker, inbox):
        return await pick_any(session, broker, inbox, given)


def table(rows_: Iterable[OpenRow], now_ms: int, givers: Givers | None = None) -> Table:
    """The rows of a list. `givers`: for whom each may be answered, if there are others."""
    more = ["FOR"] if givers else []
    rows = plain_table("ID", "QUESTION", "ROLE", "ASKED", "DEADLINE", *more, whole=["ROLE", "ASKED"])
    for one in rows_:
        whom = [] if not givers else [", ".join(giver or "you" for giver in givers.get(one.approval_id, ()))]
        rows.add_row(
            Text(printable(one.approval_id), style="bold"),
            one_line(one.question),
            printable(one.role),
            ago(one.asked_at_ms, now_ms),
            _deadline(one, now_ms),
            *map(printable, whom),
        )
    return rows


def _deadline(row: OpenRow, now_ms: int) -> Text:
    near = row.deadline_at_ms is not None and row.deadline_at_ms - now_ms < SOON_MS
    return Text(until(row.deadline_at_ms, now_ms), style="yellow" if near else "default")


def card(
    one: Waiting, now_ms: int, *, position: str = "", known: Iterable[tuple[str, str]] = (), is_open: bool = True
) -> Panel:
    """One approval as an approver reads it: the question, its context and the whole payload.

    `known`: what the caller knows besides, as names and values. Of one that is not open, what was
    asked is shown alone: neither a deadline nor how the votes are.
    """
    row, request = one.row, one.request
    about = Text()
    about.append(printable(row.question) + "\n", style="bold")
    facts = [
        *known,
        ("workflow", row.workflow_id),
        ("step", row.step),
        ("role", row.role) if request.terms is None else ("wanted", request.terms.rule),
        ("asked", ago(row.asked_at_ms, now_ms)),
        ("why", request.reason),
    ]
    if request.terms is not None and request.terms.signed != "none":
        facts.append(("signed", _SIGNED[request.terms.signed]))
    if is_open:
        facts.append(("deadline", until(row.deadline_at_ms, now_ms) + _expiry(one)))
        facts += _voting(one, now_ms)
    for name, value in facts:
        about.append(f"{name:<10}", style="dim")
        about.append(printable(value) + "\n")
    about.append("\n")
    about.append(readable(request.payload))
    return Panel(about, title=position or None, title_align="left", border_style="dim", padding=(1, 2))


def _expiry(one: Waiting) -> str:
    """What its deadline does, if it has one."""
    terms, on_expiry = one.request.terms, one.request.on_expiry
    if one.row.deadline_at_ms is None:
        return ""
    if terms is not None and _has_choices(terms) and on_expiry != "incident":
        return f", then the choice is {terms.expiry_choice}"
    return f", {_EXPIRY[on_expiry]}"


_EXPIRY: Final = {
    "reject": "then it is rejected",
    "approve": "then it is approved",
    "incident": "then an operator is asked",
}
_SIGNED: Final = {"own": "with your own key (--key FILE)", "gateway": "with a key (--key FILE)"}


def _has_choices(terms: Terms | None) -> bool:
    return terms is not None and terms.choices != Terms(groups=()).choices


def _voting(one: Waiting, now_ms: int) -> Iterator[tuple[str, str]]:
    """Where several people vote: who must, who can't, and how the votes are."""
    terms, standing = one.request.terms, one.standing
    if terms is None:
        return
    yield from _changes(terms, standing, now_ms)
    if _has_choices(terms):
        yield "choices", ", ".join(terms.choices)
    if terms.excluded:
        yield "excluded", ", ".join(f"{name} ({why})" for name, why in terms.excluded.items())
    if standing is None:
        yield "votes", f"0 of {terms.need}"
    else:
        yield "votes", f"{standing.have} of {standing.need}" + (", split over choices" if standing.split else "")
        for vote in standing.votes:
            proof = " (signed)" if vote.signed != "none" else ""
            who = said_for(vote.by, vote.on_behalf)
            yield "", f"{vote.choice} by {who}{proof}" + (f": {vote.reason}" if vote.reason else "")
        yield from _around(standing, now_ms)
    yield from _asking_back(one)
    for note in one.notes:
        yield f"note {note.number}", note_line(note)


def _asking_back(one: Waiting) -> Iterator[tuple[str, str]]:
    """Who can be asked, and which questions wait for an answer."""
    terms, standing = one.request.terms, one.standing
    if terms is not None and terms.asking_back is not None:
        yield "ask back", f"{names_of(terms.asking_back.to)}: mesh approvals ask-back ID TEXT --to NAME"
    if standing is not None and standing.questions:
        yield "open", ", ".join(f"question {number}" for number in standing.questions)


def note_line(note: OpenNote) -> str:
    """A note on one line."""
    who = f"agent {note.agent}" if note.agent else note.by
    match note.kind:
        case "comment":
            return f"{who}: {note.text}"
        case "question":
            return f"{who} asks {note.to} (question {note.question}): {note.text}"
        case "answer":
            what = "has no answer to" if note.failed else "answers"
            more = "" if note.proposal is msgspec.UNSET else f"; proposes {text_of(note.proposal)}"
            return f"{who} {what} question {note.question}: {note.text}{more}"
        case _:
            assert_never(note.kind)


def _changes(terms: Terms, standing: OpenStanding | None, now_ms: int) -> Iterator[tuple[str, str]]:
    """Who may answer besides, and who will, if there is no verdict before."""
    for one in () if standing is None else standing.besides:
        who = ", ".join((*one.roles, *one.people))
        yield "besides", who + (", and nobody else" if one.alone else "") + _enough(one.quorum)
    for stage in terms.stages[0 if standing is None else standing.stage :]:
        yield "later", f"{stage.who}, {until(stage.at_ms, now_ms)}" + _enough(stage.quorum)


def _enough(quorum: int) -> str:
    return f"; {quorum} of them suffice" if quorum else ""


def _around(standing: OpenStanding, now_ms: int) -> Iterator[tuple[str, str]]:
    """Who looks at it, what waits, and who has edited."""
    claimed_until_ms = parse_rfc3339(standing.claimed_until) if standing.claimed_until else 0
    if claimed_until_ms > now_ms:
        yield "claimed", f"by {standing.claimed_by}, {until(claimed_until_ms, now_ms)}"
    if standing.held:
        yield "late", f"{counted(standing.held, 'answer')} came after the deadline; held in case it is moved"
    if standing.edition > 1:
        yield "edition", f"{standing.edition}, edited by {', '.join(standing.editors)}"


def _votes_document(one: Waiting, terms: Terms) -> dict[str, object]:
    standing = one.standing
    votes = () if standing is None else standing.votes
    return {
        "terms": terms,
        "stage": 0 if standing is None else standing.stage,
        "besides": [] if standing is None else list(standing.besides),
        "claimed_by": None if standing is None else standing.claimed_by,
        "claimed_until": None if standing is None else standing.claimed_until,
        "held": 0 if standing is None else standing.held,
        "edition": 1 if standing is None else standing.edition,
        "have": 0 if standing is None else standing.have,
        "need": terms.need if standing is None else standing.need,
        "questions": [] if standing is None else list(standing.questions),
        "votes": [
            {
                "by": vote.by,
                "for": vote.on_behalf or None,
                "choice": vote.choice,
                "reason": vote.reason,
                "signed": vote.signed,
            }
            for vote in votes
        ],
        "notes": list(one.notes),
    }


def _document(one: Waiting) -> dict[str, object]:
    row, request = one.row, one.request
    return {
        "approval_id": row.approval_id,
        "workflow_id": row.workflow_id,
        "route": row.route,
        "step": row.step,
        "question": row.question,
        "payload": request.payload,
        "payload_schema": request.payload_schema,
        "digest": request.digest,
        "role": row.role,
        "asked_at": rfc3339(row.asked_at_ms),
        "deadline_at": rfc3339_or_none(row.deadline_at_ms),
        "on_expiry": request.on_expiry,
        **({} if request.terms is None else _votes_document(one, request.terms)),
    }


def _link(session: Session, approval_id: str) -> dict[str, object]:
    """Where it can be answered in a browser, if there is a console."""
    console = session.settings.console_url
    return {"url": approval_link(console, approval_id)} if console else {}


def _ended(ended: Ended | None) -> dict[str, object]:
    return {
        "closed_at": None if ended is None else rfc3339(ended.at_ms),
        "verdict": None if ended is None or ended.verdict == "withdrawn" else ended.verdict,
        "closed_by": (ended.by or None) if ended is not None else None,
        "closing_reason": "" if ended is None else ended.reason,
    }

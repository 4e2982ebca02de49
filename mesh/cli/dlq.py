"""`mesh dlq`: records that could not be processed, as they came.

Owns how a dead letter is named and shown. It sends nothing: `mesh.cli.letters` does.
"""

import base64
import sys
from functools import partial
from typing import Final, Unpack

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import Among, pick
from mesh.cli.grammar import NounGroup
from mesh.cli.letters import FilterOptions, discard, letter_filter, letter_filters, parameters_of, redrive
from mesh.cli.options import FOR_PROGRAMS, page_size, paged, show_page
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, printable, rfc3339_or_none
from mesh.cli.text.tables import plain_table
from mesh.codec.dead_letters import DeadLetter, decode_dead_letter
from mesh.codec.times import rfc3339
from mesh.errors import MalformedRecord, NotFound
from mesh.inspection.documents.pages import page_of
from mesh.inspection.event_status import read_record
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Found, Page
from mesh.inspection.read_model.queries import DeadLetterRow, LetterFilter
from mesh.ports import Record, TopicPartition

STATUSES: Final = {
    "open": queries.UNSETTLED,
    "redriven": ("redriven",),
    "discarded": ("discarded",),
    "taken": ("taken",),
    "all": None,
}


@click.group(cls=NounGroup, short_help="Look at dead letters, send them back, discard them.")
def dlq() -> None:
    """Dead letters: records that could not be processed, with their reason and original bytes.

    Without a verb: list.
    """


@dlq.command("list", short_help="List dead letters, the last first.")
@click.option(
    "--status",
    type=click.Choice(list(STATUSES)),
    default="open",
    show_default=True,
    help="open: what waits for an operator; taken: of these, what a command took and did not finish.",
)
@letter_filters
@paged
@mesh_command
def list_letters(
    session: Session, *, status: str, limit: int | None, after: str | None, **given: Unpack[FilterOptions]
) -> None:
    """List dead letters that wait for an operator, the last first."""
    wanted = letter_filter(session, statuses=STATUSES[status], places=None, **given)
    page = session.run(_list(session, limit, after, wanted, status))
    show_page(
        session,
        page,
        "dead_letters",
        rows=map(_row, page),
        table=partial(_table, shows_status=status != "open"),
        is_chosen=status != "open" or any(value is not None for value in given.values()),
        notes=["the original bytes of one: mesh dlq show ID; to send some back: mesh dlq redrive"],
    )


def _table(page: Page[DeadLetterRow], now_ms: int, *, shows_status: bool) -> Table:
    whole = ["ID", "WHEN", "FROM", "REASON", *(["STATUS"] if shows_status else [])]
    table = plain_table(*whole, "MESSAGE", whole=whole)
    for row in page:
        place = f"{row.topic}/{row.source_partition}/{row.source_offset}" if row.topic else "unknown"
        when = ago(row.at_ms, now_ms)
        cells: list[str | Text] = [Text(row.id, style="bold"), when, place, Text(row.code, style="red")]
        cells += [row.status] if shows_status else []
        # where a command stopped half-way, that is what to know first
        message = f"{_handled(row, now_ms)}: {row.message}" if row.status != "open" else row.message
        table.add_row(*cells, one_line(message, 300))
    return table


def _handled(row: DeadLetterRow, now_ms: int) -> str:
    why = f" ({row.handled_reason})" if row.handled_reason else ""
    return f"{row.status} by {row.handled_by}{why} {ago(row.handled_at_ms or now_ms, now_ms)}"


async def _list(
    session: Session, limit: int | None, after: str | None, wanted: LetterFilter, status: str
) -> Page[DeadLetterRow]:
    if session.api is not None:
        size = min(page_size(session, limit), FOR_PROGRAMS)
        state = "new" if status == "open" else status
        found = await session.api.letters(state=state, limit=size, after=after, **parameters_of(wanted))
        return page_of(found, lambda one: one.row)
    async with session.model() as (_, model):
        return queries.dead_letters(model.db, wanted, limit=page_size(session, limit), after=after)


@dlq.command("show", short_help="Show one dead letter, with its original bytes.")
@click.argument("letter_id", metavar="ID")
@click.option("--raw", is_flag=True, help="Write the original value's bytes to standard output, and nothing else.")
@mesh_command
def show(session: Session, *, letter_id: str, raw: bool) -> None:
    """Show one dead letter.

    ID is as `mesh dlq list` has it, or the place of the original (mesh.events/0/17).
    """
    record, row = session.run(_read(session, letter_id))
    try:
        letter = decode_dead_letter(record)
    except MalformedRecord as error:
        raise NotFound(str(error)) from error
    if raw:
        sys.stdout.buffer.write(letter.original.value or b"")
    elif session.as_json:
        session.emit(_document(record, letter) | _status(row))
    else:
        _show(session, letter, row)


async def _read(session: Session, letter_id: str) -> tuple[Record, DeadLetterRow | None]:
    async with session.model() as (broker, model):
        name = pick(session, letter_id, _among(model), changes=False)
        where, offset = _place(name)
        record = await read_record(broker, TopicPartition(session.topics.dlq, int(where)), offset)
        if record is None:
            raise NotFound(f"the broker no longer has the dead letter {name}: its retention is over")
        return record, queries.dead_letter(model.db, int(where), offset)


def _among(model: ReadModel) -> Among:
    """Choose among dead letters.

    Each one is known by its place in the dead-letter topic, by the place of its original, or by a
    part.
    """

    def whole(given: str) -> str | None:
        where, offset = _place(given)
        if where.isascii() and where.isdigit():
            row = queries.dead_letter(model.db, int(where), offset)
            return None if row is None else row.id
        topic, partition = _place(where)
        found = queries.dead_letters(model.db, LetterFilter(source=(topic, partition, offset)), limit=1)
        return found[0].id if found else None

    def containing(part: str, limit: int) -> Found:
        return queries.dead_letters_containing(model.db, part, limit=limit)

    return Among("dead letter", "dead letters", "mesh dlq list", whole, containing)


def _place(text: str) -> tuple[str, int]:
    """The text before the last slash, and the number after it; -1 if there is no number."""
    before, _, number = text.rpartition("/")
    is_number = number.isascii() and number.isdigit() and len(number) < 19  # noqa: PLR2004 - SQLite's integers
    return before, int(number) if is_number else -1


def _show(session: Session, letter: DeadLetter, row: DeadLetterRow | None) -> None:
    original = letter.original
    session.show(Text(f"{letter.code}", style="bold red") + Text(f"  {letter.id}", style="default"))
    session.show(Text(f"  {printable(letter.message)}"))
    by = f"  given up by {letter.component} (group {letter.group}), attempt {letter.attempt}, {ago(letter.failed_at_ms, session.now_ms())}"
    session.show(Text(printable(by), style="dim"))
    if row is not None and row.status != "open":
        session.show(Text(f"  {printable(_handled(row, session.now_ms()))}", style="bold"))
    if letter.code == "unclaimed":
        session.show(Text(f"  mesh workflows show '{_text(original.key)}'", style="dim"))
    session.show(Text("\nkey", style="dim"), Text(_text(original.key)))
    if original.headers:
        session.show(Text("\nheaders", style="dim"))
        session.show(Text("\n".join(f"{printable(name)}: {_text(value)}" for name, value in original.headers)))
    session.show(Text("\nvalue", style="dim"), Text(_text(original.value)))


def _text(value: bytes | None) -> str:
    if value is None:
        return "none"
    try:
        return printable(value.decode())
    except UnicodeDecodeError:
        return f"{len(value)} bytes, base64: {base64.b64encode(value).decode()}"


def _row(row: DeadLetterRow) -> dict[str, object]:
    return {
        "id": row.id,
        "at": rfc3339(row.at_ms),
        "topic": row.topic,
        "partition": row.source_partition,
        "offset": row.source_offset,
        "code": row.code,
        "message": row.message,
        "workflow_id": row.workflow_id or None,
        "route": row.route or None,
        **_status(row),
    }


def _status(row: DeadLetterRow | None) -> dict[str, object]:
    """What an operator has done about it."""
    if row is None or not row.operation:
        return {"status": "open", "times_redriven": row.times if row else 0, "handled": None}
    return {
        "status": row.status,
        "times_redriven": row.times,
        "handled": {
            "operation": row.operation,
            "by": row.handled_by,
            "reason": row.handled_reason,
            "at": rfc3339_or_none(row.handled_at_ms),
        },
    }


def _document(record: Record, letter: DeadLetter) -> dict[str, object]:
    original = letter.original

    def encoded(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    return {
        "id": f"{record.partition}/{record.offset}",
        "code": letter.code,
        "message": letter.message,
        "component": letter.component,
        "group": letter.group,
        "attempt": letter.attempt,
        "failed_at": rfc3339(letter.failed_at_ms),
        "original": {
            "topic": original.topic,
            "partition": original.partition,
            "offset": original.offset,
            "at": rfc3339(original.timestamp_ms),
            "key_base64": encoded(original.key),
            "value_base64": encoded(original.value),
            "headers": [{"name": name, "value_base64": encoded(value)} for name, value in original.headers],
        },
    }


for _command in (redrive, discard):
    dlq.add_command(_command)

"""`mesh dlq`: records that could not be processed, as they came.

Owns how a dead letter is named and shown. It sends nothing.
"""

import base64
import sys

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import Among, pick
from mesh.cli.grammar import NounGroup
from mesh.cli.options import page_size, paged, show_page
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.dead_letters import DeadLetter, decode_dead_letter
from mesh.codec.times import rfc3339
from mesh.errors import MalformedRecord, NotFound
from mesh.inspection.event_status import read_record
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Found, Page
from mesh.inspection.read_model.queries import DeadLetterRow
from mesh.ports import Record, TopicPartition


@click.group(cls=NounGroup, short_help="Look at dead letters.")
def dlq() -> None:
    """Dead letters: records that could not be processed, with their reason and original bytes.

    Without a verb: list.
    """


@dlq.command("list", short_help="List dead letters, the last first.")
@paged
@click.option("--code", metavar="REASON", help="Only these, such as unclaimed: events that no step waited for.")
@mesh_command
def list_letters(session: Session, *, limit: int | None, after: str | None, code: str | None) -> None:
    """List dead letters, the last first."""
    page = session.run(_list(session, limit, after, code))
    show_page(
        session,
        page,
        "dead_letters",
        rows=map(_row, page),
        table=_table,
        is_chosen=code is not None,
        notes=["the original bytes of one: mesh dlq show ID"],
    )


def _table(page: Page[DeadLetterRow], now_ms: int) -> Table:
    table = plain_table("ID", "WHEN", "FROM", "REASON", "MESSAGE", whole=["ID", "WHEN", "FROM", "REASON"])
    for row in page:
        place = f"{row.topic}/{row.source_partition}/{row.source_offset}" if row.topic else "unknown"
        when = ago(row.at_ms, now_ms)
        table.add_row(Text(row.id, style="bold"), when, place, Text(row.code, style="red"), one_line(row.message, 300))
    return table


async def _list(session: Session, limit: int | None, after: str | None, code: str | None) -> Page[DeadLetterRow]:
    async with session.model() as (_, model):
        return queries.dead_letters(model.db, code=code, limit=page_size(session, limit), after=after)


@dlq.command("show", short_help="Show one dead letter, with its original bytes.")
@click.argument("letter_id", metavar="ID")
@click.option("--raw", is_flag=True, help="Write the original value's bytes to standard output, and nothing else.")
@mesh_command
def show(session: Session, *, letter_id: str, raw: bool) -> None:
    """Show one dead letter.

    ID is as `mesh dlq list` has it, or the place of the original (mesh.events/0/17).
    """
    record = session.run(_read(session, letter_id))
    try:
        letter = decode_dead_letter(record)
    except MalformedRecord as error:
        raise NotFound(str(error)) from error
    if raw:
        sys.stdout.buffer.write(letter.original.value or b"")
    elif session.as_json:
        session.emit(_document(record, letter))
    else:
        _show(session, letter)


async def _read(session: Session, letter_id: str) -> Record:
    async with session.model() as (broker, model):
        name = pick(session, letter_id, _among(model), changes=False)
        where, offset = _place(name)
        record = await read_record(broker, TopicPartition(session.topics.dlq, int(where)), offset)
        if record is None:
            raise NotFound(f"the broker no longer has the dead letter {name}: its retention is over")
        return record


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
        found = queries.dead_letters(model.db, source=(topic, partition, offset), limit=1)
        return found[0].id if found else None

    def containing(part: str, limit: int) -> Found:
        return queries.dead_letters_containing(model.db, part, limit=limit)

    return Among("dead letter", "dead letters", "mesh dlq list", whole, containing)


def _place(text: str) -> tuple[str, int]:
    """The text before the last slash, and the number after it; -1 if there is no number."""
    before, _, number = text.rpartition("/")
    is_number = number.isascii() and number.isdigit() and len(number) < 19  # noqa: PLR2004 - SQLite's integers
    return before, int(number) if is_number else -1


def _show(session: Session, letter: DeadLetter) -> None:
    original = letter.original
    session.show(Text(f"{letter.code}", style="bold red") + Text(f"  {letter.id}", style="default"))
    session.show(Text(f"  {printable(letter.message)}"))
    by = f"  given up by {letter.component} (group {letter.group}), attempt {letter.attempt}, {ago(letter.failed_at_ms, session.now_ms())}"
    session.show(Text(printable(by), style="dim"))
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

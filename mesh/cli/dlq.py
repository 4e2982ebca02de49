"""`mesh dlq`: records that could not be processed, as they came."""

import base64
import sys

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, pick, printable, readable
from mesh.codec.dead_letters import DeadLetter, decode_dead_letter
from mesh.codec.times import rfc3339
from mesh.errors import MalformedRecord, NotFound
from mesh.inspection.event_status import read_record
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import DeadLetterRow
from mesh.ports import Record, TopicPartition


@click.group(short_help="Look at dead letters.")
def dlq() -> None:
    """Records that could not be processed, with their reason and their original bytes."""


@dlq.command(name="list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--code", metavar="REASON", help="Only these, such as unclaimed: events that no step waited for.")
@mesh_command
def list_(session: Session, *, limit: int, code: str | None) -> None:
    """List dead letters, the last first."""
    rows, total = session.run(_list(session, limit, code))
    if session.as_json:
        session.emit({"dead_letters": [_row(row) for row in rows], "total": total})
        return
    if not rows:
        session.show("No dead letters." if code is None else "No such dead letters.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in ("ID", "WHEN", "FROM", "REASON", "MESSAGE"):
        table.add_column(name, overflow="fold", no_wrap=name != "MESSAGE")
    for row in rows:
        place = f"{row.topic}/{row.source_partition}/{row.source_offset}" if row.topic else "unknown"
        when = ago(row.at_ms, session.now_ms())
        table.add_row(Text(row.id, style="bold"), when, place, Text(row.code, style="red"), one_line(row.message, 300))
    session.show(table)
    if total > len(rows):
        session.note(f"{total - len(rows)} older ones; --limit shows more")
    session.note("the original bytes of one: mesh dlq show ID")


async def _list(session: Session, limit: int, code: str | None) -> tuple[list[DeadLetterRow], int]:
    async with session.model() as (_, model):
        return queries.dead_letters(model.db, code=code, limit=limit), queries.count_dead_letters(model.db, code=code)


@dlq.command()
@click.argument("letter_id", metavar="ID")
@click.option("--raw", is_flag=True, help="Write the original value's bytes to standard output, and nothing else.")
@mesh_command
def show(session: Session, *, letter_id: str, raw: bool) -> None:
    """Show one dead letter: ID is as `mesh dlq list` has it, or the place of the original
    (mesh.events/0/17).
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
        rows = queries.dead_letters(model.db, limit=100_000)
        by_name = {row.id: row for row in rows}
        for row in reversed(rows):
            by_name[f"{row.topic}/{row.source_partition}/{row.source_offset}"] = row
        row = by_name[pick(letter_id, list(by_name), what="dead letter", where="mesh dlq list")]
        record = await read_record(broker, TopicPartition(session.topics.dlq, row.partition), row.offset)
        if record is None:
            raise NotFound(f"the broker no longer has the dead letter {row.id}: its retention is over")
        return record


def _show(session: Session, letter: DeadLetter) -> None:
    original = letter.original
    session.show(Text(f"{letter.code}", style="bold red") + Text(f"  {letter.id}", style="default"))
    session.show(Text(f"  {printable(letter.message)}"))
    by = f"  given up by {letter.component} (group {letter.group}), attempt {letter.attempt}, {ago(letter.failed_at_ms, session.now_ms())}"
    session.show(Text(printable(by), style="dim"))
    if letter.code == "unclaimed":
        session.show(Text(f"  mesh workflow '{_text(original.key)}'", style="dim"))
    session.show(Text("\nkey", style="dim"), Text(_text(original.key)))
    if original.headers:
        session.show(Text("\nheaders", style="dim"))
        session.show(Text("\n".join(f"{printable(name)}: {_text(value)}" for name, value in original.headers)))
    session.show(Text("\nvalue", style="dim"), Text(_text(original.value)))


def _text(value: bytes | None) -> str:
    if value is None:
        return "none"
    try:
        return readable(value.decode())
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

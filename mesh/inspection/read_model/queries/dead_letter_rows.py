"""Dead letters."""

from typing import Final

import apsw

from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select_one

_LETTER: Final = "partition, dlq_offset, at_ms, topic, source_partition, source_offset, reason, message"


class DeadLetterRow(Row, frozen=True, array_like=True):
    """A dead letter.

    `topic`, `source_partition`, `source_offset`: the place of the original record.
    """

    partition: int
    offset: int
    at_ms: int
    topic: str
    source_partition: int
    source_offset: int
    code: str
    message: str

    @property
    def id(self) -> str:
        """The name that operators use: its place in the dead-letter topic."""
        return f"{self.partition}/{self.offset}"


def dead_letters(
    db: apsw.Connection,
    *,
    source: tuple[str, int, int] | None = None,
    code: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Page[DeadLetterRow]:
    """Dead letters, the last first.

    `source`: only those of one original record. `code`: only those with this reason.
    """
    filters: dict[str, tuple[str | int, ...]] = {"1": ()} if code is None else {"reason = ?": (code,)}
    if source is not None:
        filters |= {"topic = ? AND source_partition = ? AND source_offset = ?": source}
    values = tuple(value for values in filters.values() for value in values)
    order = ("at_ms", "partition", "dlq_offset")
    listing = Listing("dead_letters", _LETTER, order, tuple(filters), values, last_first=True)
    return listing.page(db, DeadLetterRow, limit=limit, after=after)


def dead_letter(db: apsw.Connection, partition: int, offset: int) -> DeadLetterRow | None:
    """One dead letter by its place in the dead-letter topic."""
    sql = f"SELECT {_LETTER} FROM dead_letters WHERE partition = ? AND dlq_offset = ?"  # noqa: S608 - constants only
    row = select_one(db, sql, partition, offset)
    return DeadLetterRow(*row) if row else None


def dead_letters_containing(db: apsw.Connection, part: str, *, limit: int) -> Found:
    """The ids of dead letters that contain `part`, the last first.

    The place of the original record counts too.
    """
    source = (
        "FROM dead_letters WHERE instr(partition || '/' || dlq_offset, ?1)"
        " OR instr(topic || '/' || source_partition || '/' || source_offset, ?1)"
    )
    return containing(db, "partition || '/' || dlq_offset", source, "at_ms", part=part, limit=limit)


def count_dead_letters(db: apsw.Connection, *, code: str | None = None) -> int:
    found: int = select_one(db, "SELECT count(*) FROM dead_letters WHERE reason = coalesce(?, reason)", code)[0]
    return found

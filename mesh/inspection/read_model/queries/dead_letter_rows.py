"""Dead letters."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

import apsw
import msgspec

from mesh.codec.handlings import LetterPlace
from mesh.inspection.letters import LetterStatus
from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select_one

_LETTER: Final = (
    "partition, dlq_offset, at_ms, topic, source_partition, source_offset, reason, message, workflow_id, route, times,"
    " status, operation, handled_by, handled_reason, handled_at_ms"
)
UNSETTLED: Final = ("open", "taken")
"""Statuses of letters that wait for an operator."""


class DeadLetterRow(Row, frozen=True, array_like=True):
    """A dead letter.

    `topic`, `source_partition`, `source_offset`: the place of the original record. `route`: empty
    where it is of none, or nobody can tell. `times`: how often the record had been redriven before.
    `status`, `operation`: as in `mesh.inspection.letters`; the rest says who did that, and why.
    """

    partition: int
    offset: int
    at_ms: int
    topic: str
    source_partition: int
    source_offset: int
    code: str
    message: str
    workflow_id: str
    route: str
    times: int
    status: LetterStatus
    operation: str
    handled_by: str
    handled_reason: str
    handled_at_ms: int | None

    @property
    def id(self) -> str:
        """The name that operators use: its place in the dead-letter topic."""
        return self.place.id

    @property
    def place(self) -> LetterPlace:
        return LetterPlace(self.partition, self.offset)


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; None: it does not matter.

    `source`: those of one original record. `topic`: the original's.
    """

    statuses: tuple[str, ...] | None = None
    source: tuple[str, int, int] | None = None
    topic: str | None = None
    code: str | None = None
    route: str | None = None
    since_ms: int | None = None
    places: tuple[LetterPlace, ...] | None = None

    def conditions(self) -> dict[str, tuple[str | int, ...]]:
        """Each condition in SQL, with its values."""
        found: dict[str, tuple[str | int, ...]] = {"1": ()}
        for column, value in (("reason", self.code), ("topic", self.topic), ("route", self.route)):
            found |= {} if value is None else {f"{column} = ?": (value,)}
        if self.since_ms is not None:
            found |= {"at_ms >= ?": (self.since_ms,)}
        if self.statuses is not None:
            found |= {f"status IN ({_marks(self.statuses)})": self.statuses}
        if self.source is not None:
            found |= {"topic = ? AND source_partition = ? AND source_offset = ?": self.source}
        if self.places is not None:
            rows = ", ".join(["(?, ?)"] * len(self.places))
            found |= {f"(partition, dlq_offset) IN (VALUES {rows})": tuple(chain.from_iterable(self.places))}
        return found


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def dead_letters(
    db: apsw.Connection, wanted: LetterFilter | None = None, *, limit: int | None = None, after: str | None = None
) -> Page[DeadLetterRow]:
    """Dead letters, the last first."""
    filters = (wanted or LetterFilter()).conditions()
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
    """How many wait for an operator."""
    wanted = LetterFilter(statuses=UNSETTLED, code=code).conditions()
    sql = f"SELECT count(*) FROM dead_letters WHERE {' AND '.join(wanted)}"  # noqa: S608 - constants only
    found: int = select_one(db, sql, *chain.from_iterable(wanted.values()))[0]
    return found

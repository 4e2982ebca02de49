"""Events on the broker, and what became of them."""

import re
from typing import Final

import apsw

from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select_one

_PLACE: Final = re.compile("(.+)/([0-9]{1,9})/([0-9]{1,18})")
_EVENT: Final = "topic, partition, event_offset, at_ms, event_id, source, type, subject, problem, member"


class EventRow(Row, frozen=True, array_like=True):
    """An event of a record of `mesh.events`.

    `problem`: why it is not a CloudEvent; then `event_id` is its id if that can be read, else its
    place. `member`: which event of a batch, from 1; 0 for a record that is not one.
    """

    topic: str
    partition: int
    offset: int
    at_ms: int
    event_id: str
    source: str
    type: str
    subject: str
    problem: str
    member: int


def events(db: apsw.Connection, *, limit: int | None = None, after: str | None = None) -> Page[EventRow]:
    """The events on the broker, the last first."""
    order = ("at_ms", "partition", "event_offset", "member")
    return Listing("events", _EVENT, order, last_first=True).page(db, EventRow, limit=limit, after=after)


def events_by_id(
    db: apsw.Connection, event_id: str, *, limit: int | None = None, after: str | None = None
) -> Page[EventRow]:
    """Events with exactly this id, and the one at the place that it names; the earliest first.

    Several sources may use one id, and upstream may send an event twice.
    """
    order = ("at_ms", "partition", "event_offset", "member")
    which: str = "event_id = ?"
    values: tuple[str | int, ...] = (event_id,)
    if place := _PLACE.fullmatch(event_id):
        which = "(event_id = ? OR topic = ? AND partition = ? AND event_offset = ?)"
        values = (event_id, place[1], int(place[2]), int(place[3]))
    listing = Listing("events", _EVENT, order, (which,), values)
    return listing.page(db, EventRow, limit=limit, after=after)


def events_beginning(db: apsw.Connection, part: str, *, limit: int) -> Found:
    """The event ids that begin with `part`, the last one first."""
    source = "FROM events WHERE event_id BETWEEN ?1 AND ?1 || char(0x10FFFF)"
    return containing(db, "event_id", source, "at_ms", part=part, limit=limit)


def count_events(db: apsw.Connection, events_topic: str) -> dict[str, int]:
    """How many events came, and what became of them.

    A batch counts once. `seen`: all. `matched`: some decision cites it. `dead_lettered`: a dead
    letter that no decision cites.
    """

    def count(sql: str) -> int:
        found: int = select_one(db, sql, events_topic)[0]
        return found

    return {
        # a batch counts once, by its first member
        "seen": count("SELECT count(*) FROM events WHERE topic = ? AND member <= 1"),
        "matched": count(
            "SELECT count(*) FROM (SELECT DISTINCT partition, source_offset FROM citations WHERE topic = ?)"
        ),
        "dead_lettered": count(
            "SELECT count(*) FROM (SELECT DISTINCT topic, source_partition, source_offset FROM dead_letters WHERE topic = ?) AS letter"
            " WHERE NOT EXISTS (SELECT 1 FROM citations AS c WHERE c.topic = letter.topic AND c.partition = letter.source_partition"
            " AND c.source_offset = letter.source_offset)"
        ),
    }

"""What the inbox answers: lists with filters, one approval with all its parts, ids by a part.

A filter narrows the whole list before a page is cut, and the total is that of the narrowed list.
"""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import apsw
import msgspec
from msgspec.structs import replace

from mesh.codec.open_approvals import (
    OpenNote,
    OpenRequest,
    OpenStanding,
    decode_open_note,
    decode_open_payload,
    decode_open_request,
    decode_open_standing,
    decode_payload,
)
from mesh.core.open_approvals import PAYLOAD, REQUEST, STANDING
from mesh.inspection.inbox.schema import NEVER
from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.schema import select, select_one

_COLUMNS: Final = "approval_id, workflow_id, route, step, question, role, asked_at_ms, due_at_ms"
_ORDER: Final = ("due_at_ms", "asked_at_ms", "approval_id")


class OpenRow(msgspec.Struct, frozen=True, kw_only=True):
    """An open approval in a list."""

    approval_id: str
    workflow_id: str
    route: str
    step: str
    question: str
    role: str
    asked_at_ms: int
    deadline_at_ms: int | None


class Waiting(msgspec.Struct, frozen=True):
    """An open approval. `request`: what was asked, with the payload as it is now.

    `standing`: the votes so far; None where nobody has voted, and of version 1.
    """

    row: OpenRow
    request: OpenRequest
    standing: OpenStanding | None = None
    notes: tuple[OpenNote, ...] = ()


class Mine(msgspec.Struct, frozen=True):
    """What waits for a person: what they may answer, and have not voted on.

    Of what is answered for somebody else, `names` and `roles` are that person's, as far as the
    delegation covers them: `routes` (empty: all), and no seat that names them if `by_roles`.
    `giver`: the person's id; `barred`: names of who would answer, who must not be excluded either.
    `is_asked`: also where they were asked a question that is not answered yet.
    """

    names: Collection[str]  # all that the person has, as `person_of` has them
    roles: Collection[str]
    giver: str = ""
    routes: Collection[str] = ()
    by_roles: bool = False
    barred: Collection[str] = ()
    is_asked: bool = False


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which approvals are wanted; all that is given must hold.

    `payload`: says of a payload whether it is wanted.
    """

    role: str | None = None
    mine: Mine | None = None
    others: tuple[Mine, ...] = ()  # with `mine`: for whom the person may answer, besides
    route: str | None = None
    due_before_ms: int | None = None
    asked_before_ms: int | None = None
    payload: Callable[[Any], bool] | None = None

    @property
    def is_empty(self) -> bool:
        return self == Filters()


ALL: Final = Filters()
_ENTITLED: Final = "approval_id IN (SELECT approval_id FROM entitled WHERE "
_AMONG: Final = "name IN (SELECT value FROM json_each(?))"
_AMONG_IDS: Final = "approval_id IN (SELECT value FROM json_each(?))"
_QUESTIONED: Final = "SELECT DISTINCT approval_id FROM questioned WHERE "
_NOT_BARRED: Final = (
    "approval_id NOT IN (SELECT approval_id FROM barred WHERE name IN (SELECT value FROM json_each(?)))"
)


def _waits_for(mine: Mine) -> tuple[str, tuple[str, ...]]:
    """The condition that an approval waits for this person, and its values."""
    named = () if mine.by_roles else mine.names
    roles, names = json.dumps(sorted(mine.roles)), json.dumps(sorted(named))
    clause = f"{_ENTITLED}(kind = 'person' AND {_AMONG}) OR (kind = 'role' AND {_AMONG})) AND {_NOT_BARRED}"
    values = (names, roles, json.dumps(sorted({*mine.names, *mine.barred})))
    if mine.routes:
        routes = json.dumps(sorted(mine.routes))
        return f"{clause} AND route IN (SELECT value FROM json_each(?))", (*values, routes)  # noqa: S608 - constants only
    return clause, values


def givers_of(db: apsw.Connection, approval_id: str, filters: Filters) -> list[str]:
    """For whom the person may answer this approval; empty text: for themself."""
    found = []
    for mine in () if filters.mine is None else (filters.mine, *filters.others):
        clause, values = _waits_for(mine)
        if select(db, f"SELECT 1 FROM approvals WHERE approval_id = ? AND {clause}", approval_id, *values):  # noqa: S608 - constants only
            found.append(mine.giver)
    return list(dict.fromkeys(found))


def page_of(
    db: apsw.Connection, filters: Filters = ALL, *, limit: int | None = None, after: str | None = None
) -> Page[OpenRow]:
    """A page of what is open: the nearest deadline first, then what was asked first."""
    return _listing(db, filters).page(db, _row, limit=limit, after=after)


def count_of(db: apsw.Connection, filters: Filters) -> int:
    """How many are open."""
    return _listing(db, filters).count(db)


def _listing(db: apsw.Connection, filters: Filters) -> Listing:
    where: dict[str, tuple[Any, ...]] = {"1": ()}
    if filters.role is not None:
        where[f"{_ENTITLED}kind = 'role' AND name = ?)"] = (filters.role,)
    if filters.mine is not None:
        clauses = [_waits_for(one) for one in (filters.mine, *filters.others)]
        if filters.mine.is_asked:
            named, values_of = _named(filters.mine)
            clauses.append((f"approval_id IN ({_QUESTIONED}{named})", values_of))
        any_of = " OR ".join(f"({clause})" for clause, _ in clauses)
        where[f"({any_of})"] = tuple(value for _, some in clauses for value in some)
    if filters.route is not None:
        where["route = ?"] = (filters.route,)
    if filters.due_before_ms is not None:
        where["due_at_ms <= ?"] = (filters.due_before_ms,)
    if filters.asked_before_ms is not None:
        where["asked_at_ms < ?"] = (filters.asked_before_ms,)
    values = tuple(value for some in where.values() for value in some)
    if filters.payload is not None:
        fits = _with_payload(db, filters.payload, tuple(where), values)
        where[_AMONG_IDS], values = (), (*values, json.dumps(fits))
    return Listing("approvals", _COLUMNS, _ORDER, tuple(where), values)


def asked_of(db: apsw.Connection, mine: Mine) -> list[str]:
    """The approvals in which the person was asked a question that is not answered yet."""
    named, values = _named(mine)
    return [row for (row,) in select(db, f"{_QUESTIONED}{named} ORDER BY approval_id", *values)]


def _named(mine: Mine) -> tuple[str, tuple[str, str]]:
    """The condition that a row names the person, or one of their roles; and its values."""
    values = (json.dumps(sorted(mine.names)), json.dumps(sorted(mine.roles)))
    return f"((kind = 'person' AND {_AMONG}) OR (kind = 'role' AND {_AMONG}))", values


def _with_payload(
    db: apsw.Connection, wanted: Callable[[Any], bool], where: Sequence[str], values: Sequence[Any]
) -> list[str]:
    """Those of the rows whose payload is wanted.

    All have to be looked into, since the total counts. None is kept.
    """
    sql = "SELECT approval_id, value FROM payloads"
    # in the order of the file, where no other filter has left a few
    if tuple(where) != ("1",):
        sql += f" WHERE approval_id IN (SELECT approval_id FROM approvals WHERE {' AND '.join(where)})"  # noqa: S608 - constants only
    rows = db.execute(sql, tuple(values))
    return [approval_id for approval_id, value in rows if wanted(decode_payload(value))]


def _row(*columns: Any) -> OpenRow:
    approval_id, workflow_id, route, step, question, role, asked_at_ms, due_at_ms = columns
    return OpenRow(
        approval_id=approval_id,
        workflow_id=workflow_id,
        route=route,
        step=step,
        question=question,
        role=role,
        asked_at_ms=asked_at_ms,
        deadline_at_ms=None if due_at_ms == NEVER else due_at_ms,
    )


def find(db: apsw.Connection, approval_id: str) -> Waiting | None:
    """One open approval by its whole id, with all its parts."""
    row = select_one(db, f"SELECT {_COLUMNS} FROM approvals WHERE approval_id = ?", approval_id)  # noqa: S608 - constants only
    if row is None:
        return None
    sql = "SELECT part, value FROM parts WHERE approval_id = ? AND value IS NOT NULL"
    parts: dict[str, bytes] = dict(select(db, sql, approval_id))
    request = decode_open_request(parts[REQUEST])
    if PAYLOAD in parts:
        edited = decode_open_payload(parts[PAYLOAD])
        request = replace(request, payload=edited.payload, digest=edited.digest)
    notes = [decode_open_note(value) for part, value in parts.items() if part.startswith("note/")]
    standing = decode_open_standing(parts[STANDING]) if STANDING in parts else None
    return Waiting(_row(*row), request, standing, tuple(sorted(notes, key=lambda note: note.number)))


def of_workflow(db: apsw.Connection, workflow_id: str) -> list[str]:
    """The ids of the workflow's open approvals, the one asked first at the top."""
    sql = "SELECT approval_id FROM approvals WHERE workflow_id = ? ORDER BY asked_at_ms, approval_id"
    return [row[0] for row in select(db, sql, workflow_id)]


def ids_containing(db: apsw.Connection, part: str, *, limit: int) -> Found:
    """The ids of open approvals that contain `part`, the last asked first."""
    source = "FROM approvals WHERE instr(approval_id, ?1)"
    return containing(db, "approval_id", source, "asked_at_ms", part=part, limit=limit)

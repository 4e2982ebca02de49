"""The rows that lists and filters need, made of the parts of an approval.

Owns what of a part is looked for: who may answer, who can't any more, who was asked a question, and
the deadline.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import apsw

from mesh.codec.links import approval_ref
from mesh.codec.open_approvals import (
    IndexedRequest,
    OpenNote,
    OpenStanding,
    decode_indexed_request,
    decode_open_note,
    decode_open_standing,
    log_offset,
    open_key,
    payload_in,
)
from mesh.codec.times import parse_rfc3339
from mesh.core import ids
from mesh.core.approvals import Terms
from mesh.core.open_approvals import PAYLOAD, REQUEST, STANDING
from mesh.core.people import person_of
from mesh.core.questions import found_among
from mesh.errors import MalformedRecord
from mesh.inspection.inbox.schema import NEVER
from mesh.inspection.read_model.schema import select
from mesh.ports import Record

_KEEP: Final = (
    # what was decided before that which is there comes from a router that was cut off
    "INSERT INTO parts VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET log_offset = ?3, at_ms = ?4, value = ?5 "
    "WHERE log_offset <= ?3"
)
_THESE: Final = "approval_id IN (SELECT value FROM json_each(?))"
_INDEXED: Final = (REQUEST, PAYLOAD, STANDING)
_NOTE: Final = "note/"  # a part that begins so may be a question to somebody. The others change no row.


def take(db: apsw.Connection, records: Iterable[Record]) -> Collection[str]:
    """Write records, in the order in which they came. Returns which approvals they are about.

    What is not of an open approval is passed over.
    """
    changed: dict[str, bool] = {}  # by approval, whether its rows may be others now
    kept: list[tuple[Any, ...]] = []
    for record in records:
        try:
            part, approval_id = open_key(record)
        except MalformedRecord:
            continue
        kept.append((approval_id, part, log_offset(record), record.timestamp_ms, record.value))
        changed[approval_id] = changed.get(approval_id, False) or part in _INDEXED or part.startswith(_NOTE)
    db.executemany(_KEEP, kept)
    _index(db, [approval_id for approval_id, is_indexed in changed.items() if is_indexed])
    return changed


def _index(db: apsw.Connection, approval_ids: Sequence[str]) -> None:
    """Make the rows of these approvals once more."""
    these = json.dumps(approval_ids)
    db.execute(f"DELETE FROM approvals WHERE {_THESE}", (these,))  # noqa: S608 - constants only
    # most are new, and have no rows in the others either
    if db.changes():
        db.execute(f"DELETE FROM payloads WHERE {_THESE}", (these,))  # noqa: S608 - constants only
        db.execute(f"DELETE FROM entitled WHERE {_THESE}", (these,))  # noqa: S608 - constants only
        db.execute(f"DELETE FROM barred WHERE {_THESE}", (these,))  # noqa: S608 - constants only
        db.execute(f"DELETE FROM questioned WHERE {_THESE}", (these,))  # noqa: S608 - constants only
    found: dict[str, dict[str, bytes]] = {}
    sql = f"SELECT approval_id, part, value FROM parts WHERE {_THESE} AND part IN (?, ?, ?) AND value IS NOT NULL"  # noqa: S608 - constants only
    for approval_id, part, value in select(db, sql, these, *_INDEXED):
        found.setdefault(approval_id, {})[part] = value
    rows = [row for approval_id, parts in found.items() if (row := _rows(db, approval_id, parts)) is not None]
    db.executemany("INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (row.approval for row in rows))
    db.executemany("INSERT INTO payloads VALUES (?, ?)", ((row.approval[0], row.payload) for row in rows))
    db.executemany("INSERT OR IGNORE INTO entitled VALUES (?, ?, ?)", (one for row in rows for one in row.entitled))
    db.executemany("INSERT OR IGNORE INTO questioned VALUES (?, ?, ?)", (one for row in rows for one in row.questioned))
    db.executemany("INSERT OR IGNORE INTO barred VALUES (?, ?)", (one for row in rows for one in row.barred))


class _Rows(NamedTuple):
    """The rows of one approval in each table."""

    approval: tuple[Any, ...]
    payload: str
    entitled: Sequence[tuple[str, str, str]]
    questioned: Sequence[tuple[str, str, str]]
    barred: Sequence[tuple[str, str]]


def _rows(db: apsw.Connection, approval_id: str, parts: Mapping[str, bytes]) -> _Rows | None:
    """None: it is not open, or can't be read here."""
    if REQUEST not in parts:
        return None
    try:
        request = decode_indexed_request(parts[REQUEST])
        standing = decode_open_standing(parts[STANDING]) if STANDING in parts else None
        asked_at_ms = parse_rfc3339(request.asked_at) if request.asked_at else 0
        deadline = request.deadline_at if standing is None else standing.deadline_at
        due_at_ms = NEVER if deadline is None else parse_rfc3339(deadline)
        entitled = _entitled(request, standing)
        questioned = _questioned(db, approval_id, request.terms, standing)
        # an edit goes before what was asked
        payload = payload_in(parts[PAYLOAD]) if PAYLOAD in parts else request.payload
        text = bytes(payload).decode()
    except (MalformedRecord, ValueError):
        return None
    named = ids.parse_step_id(approval_id)
    workflow_id, step = ("", "") if named is None else (named.workflow_id, named.step)
    row = (approval_id, workflow_id, ids.route_of(workflow_id), step, request.question, request.role)
    return _Rows(
        (*row, asked_at_ms, due_at_ms, approval_ref(approval_id)),
        text,
        [(*who, approval_id) for who in entitled],
        [(*who, approval_id) for who in questioned],
        [(approval_id, name) for name in _barred(request.terms, standing)],
    )


def _entitled(request: IndexedRequest, standing: OpenStanding | None) -> list[tuple[str, str]]:
    """Who may answer: roles and people."""
    if request.terms is None:
        return [("role", request.role)]
    found = [who for group in request.terms.groups for who in _named((group.role,), group.people)]
    # in the order of their times, as the owner has it
    for change in () if standing is None else sorted(standing.besides, key=lambda one: parse_rfc3339(one.since)):
        found = [*(() if change.alone else found), *_named(change.roles, change.people)]
    return found


def _questioned(
    db: apsw.Connection, approval_id: str, terms: Terms | None, standing: OpenStanding | None
) -> list[tuple[str, str]]:
    """Who was asked a question that is not answered yet: roles and people."""
    back = None if terms is None else terms.asking_back
    # most approvals have no question
    if back is None or standing is None or not standing.questions:
        return []
    sql = "SELECT value FROM parts WHERE approval_id = ? AND part LIKE 'note/%' AND value IS NOT NULL"
    notes = [decode_open_note(value) for (value,) in select(db, sql, approval_id)]
    asked = [found_among(back.to, one.to) for one in notes if _is_open(one, standing)]
    return [who for to in asked if to is not None for who in _named((to.role,), to.people)]


def _is_open(note: OpenNote, standing: OpenStanding) -> bool:
    return note.kind == "question" and note.question in standing.questions


def _named(roles: Iterable[str], people: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from (("role", role) for role in roles if role)
    yield from (("person", person_of(name)) for name in people)


def _barred(terms: Terms | None, standing: OpenStanding | None) -> Iterator[str]:
    """Who can't vote, or has voted."""
    if terms is None:
        return
    yield from terms.excluded
    if standing is not None:
        yield from (person_of(name) for vote in standing.votes for name in (vote.by, vote.on_behalf) if name)
        yield from (person_of(name) for name in standing.editors if terms.not_editors)

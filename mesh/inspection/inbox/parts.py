"""The rows that lists and filters need, made of the parts of an approval.

Owns what of a part is looked for: who may answer, who can't any more, and the deadline.
"""

from collections.abc import Collection, Iterable, Iterator

import apsw

from mesh.codec.open_approvals import (
    IndexedRequest,
    OpenStanding,
    decode_indexed_request,
    decode_open_standing,
    log_offset,
    open_key,
)
from mesh.codec.times import parse_rfc3339
from mesh.core import ids
from mesh.core.approvals import Terms
from mesh.core.open_approvals import REQUEST, STANDING
from mesh.core.people import person_of
from mesh.errors import MalformedRecord
from mesh.inspection.inbox.schema import NEVER
from mesh.inspection.read_model.schema import select
from mesh.ports import Record


def take(db: apsw.Connection, records: Iterable[Record]) -> Collection[str]:
    """Write records, in the order in which they came. Returns which approvals they are about.

    What is not of an open approval is passed over.
    """
    changed: dict[str, None] = {}
    for record in records:
        try:
            part, approval_id = open_key(record)
        except MalformedRecord:
            continue
        # what was decided before that which is there comes from a router that was cut off
        db.execute(
            "INSERT INTO parts VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET log_offset = ?3, at_ms = ?4, "
            "value = ?5 WHERE log_offset <= ?3",
            (approval_id, part, log_offset(record), record.timestamp_ms, record.value),
        )
        changed[approval_id] = None
    for approval_id in changed:
        _index(db, approval_id)
    return changed


def _index(db: apsw.Connection, approval_id: str) -> None:
    db.execute("DELETE FROM approvals WHERE approval_id = ?", (approval_id,))
    # most are new, and have no rows in the others either
    if db.changes():
        db.execute("DELETE FROM entitled WHERE approval_id = ?", (approval_id,))
        db.execute("DELETE FROM barred WHERE approval_id = ?", (approval_id,))
    sql = "SELECT part, value FROM parts WHERE approval_id = ? AND part IN (?, ?) AND value IS NOT NULL"
    parts: dict[str, bytes] = dict(select(db, sql, approval_id, REQUEST, STANDING))
    if REQUEST not in parts:
        return
    try:
        request = decode_indexed_request(parts[REQUEST])
        standing = decode_open_standing(parts[STANDING]) if STANDING in parts else None
        asked_at_ms = parse_rfc3339(request.asked_at) if request.asked_at else 0
        deadline = request.deadline_at if standing is None else standing.deadline_at
        due_at_ms = NEVER if deadline is None else parse_rfc3339(deadline)
        entitled = _entitled(request, standing)
    except (MalformedRecord, ValueError):
        return
    named = ids.parse_step_id(approval_id)
    workflow_id, step = ("", "") if named is None else (named.workflow_id, named.step)
    row = (approval_id, workflow_id, ids.route_of(workflow_id), step, request.question, request.role)
    db.execute("INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, asked_at_ms, due_at_ms))
    db.executemany("INSERT OR IGNORE INTO entitled VALUES (?, ?, ?)", ((*who, approval_id) for who in entitled))
    db.executemany(
        "INSERT OR IGNORE INTO barred VALUES (?, ?)", ((approval_id, name) for name in _barred(request.terms, standing))
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


def _named(roles: Iterable[str], people: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from (("role", role) for role in roles if role)
    yield from (("person", person_of(name)) for name in people)


def _barred(terms: Terms | None, standing: OpenStanding | None) -> Iterator[str]:
    """Who can't vote, or has voted."""
    if terms is None:
        return
    yield from terms.excluded
    if standing is not None:
        yield from (person_of(vote.by) for vote in standing.votes)
        yield from (person_of(name) for name in standing.editors if terms.not_editors)

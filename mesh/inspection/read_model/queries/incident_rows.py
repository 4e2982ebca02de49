"""Incidents, and their causes."""

import json
from collections.abc import Sequence
from typing import Final

import apsw

from mesh.inspection.read_model.open_steps import OpenStep
from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.queries.rows import Row, columns_of
from mesh.inspection.read_model.schema import select, select_one


class CauseRow(Row, frozen=True, array_like=True):
    """A cause, and the open incidents that have it.

    `incidents` are in `workflows` workflows: several items of a for-each may have one each.
    """

    cause: str
    kind: str
    route: str
    step: str
    agent: str
    agent_version: str
    pattern: str
    incidents: int
    workflows: int
    first_ms: int
    last_ms: int


class IncidentRow(Row, frozen=True, array_like=True):
    workflow_id: str
    step: str
    cause: str
    kind: str
    message: str
    since_ms: int


_CAUSE: Final = columns_of(CauseRow)
_INCIDENT: Final = "i.workflow_id, i.step, i.cause, s.incident_kind, s.incident_message, i.since_ms"
_INCIDENTS: Final = (
    "incidents AS i JOIN open_steps AS s ON s.workflow_id = i.workflow_id AND s.step = i.step AND s.status = 'incident'"
)


def causes(
    db: apsw.Connection,
    *,
    only: dict[str, str] | None = None,
    since_ms: int = 0,
    limit: int | None = None,
    after: str | None = None,
) -> Page[CauseRow]:
    """The causes of open incidents, the most frequent first.

    `only`: values that a cause must have, by column (kind, route, step, agent, cause). `since_ms`:
    only incidents that were raised then or later count.
    """
    # the grouped half reads nothing but the index
    grouped = (
        "(SELECT cause, count(*) AS incidents, count(DISTINCT workflow_id) AS workflows, min(since_ms) AS first_ms,"
        " max(since_ms) AS last_ms FROM incidents WHERE since_ms >= ? GROUP BY cause) JOIN causes USING (cause)"
    )
    wanted = only or {}
    return Listing(
        table=grouped,
        columns=_CAUSE,
        order=("incidents", "cause"),
        where=("1", *(f"{column} = ?" for column in wanted)),
        values=(since_ms, *wanted.values()),
        last_first=True,
    ).page(db, CauseRow, limit=limit, after=after)


def has_cause(db: apsw.Connection, cause: str) -> bool:
    """Whether any incident, open or not, had this cause."""
    return select_one(db, "SELECT 1 FROM causes WHERE cause = ?", cause) is not None


def causes_containing(db: apsw.Connection, part: str, *, limit: int) -> Found:
    """The ids of causes of open incidents that begin with `part`."""
    source = "FROM incidents WHERE substr(cause, 1, length(?1)) = ?1"
    return containing(db, "cause", source, "since_ms", part=part, limit=limit)


def incidents(
    db: apsw.Connection, cause: str, *, since_ms: int = 0, limit: int | None = None, after: str | None = None
) -> Page[IncidentRow]:
    """The open incidents of one cause, the oldest first."""
    order, where = ("i.since_ms", "i.workflow_id", "i.step"), ("i.cause = ?", "i.since_ms >= ?")
    listing = Listing(_INCIDENTS, _INCIDENT, order, where, (cause, since_ms))
    return listing.page(db, IncidentRow, limit=limit, after=after)


def incidents_of(db: apsw.Connection, workflow_ids: Sequence[str], *, limit: int) -> dict[str, list[IncidentRow]]:
    """The open incidents of these workflows, the oldest first, at most `limit` of each.

    A workflow without one is not in it.
    """
    ranked = (
        f"SELECT {_INCIDENT}, row_number() OVER (PARTITION BY i.workflow_id ORDER BY i.since_ms, i.step) AS place"  # noqa: S608 - constants only
        f" FROM {_INCIDENTS} WHERE i.workflow_id IN (SELECT value FROM json_each(?))"
    )
    found: dict[str, list[IncidentRow]] = {}
    for *row, place in select(db, f"{ranked} ORDER BY i.workflow_id, place", json.dumps(workflow_ids)):
        if place <= limit:
            found.setdefault(row[0], []).append(IncidentRow(*row))
    return found


def example(db: apsw.Connection, cause: str) -> OpenStep | None:
    """The last incident of a cause, as a step."""
    columns = ", ".join(f"s.{name}" for name in OpenStep._fields)
    last = "SELECT workflow_id, step FROM incidents WHERE cause = ? ORDER BY since_ms DESC, workflow_id DESC, step DESC LIMIT 1"
    sql = f"SELECT {columns} FROM open_steps AS s WHERE (s.workflow_id, s.step) = ({last}) AND s.status = 'incident'"  # noqa: S608 - constants only
    row = select_one(db, sql, cause)
    return OpenStep(*row) if row else None


def kinds_of(db: apsw.Connection, workflow_ids: Sequence[str]) -> list[tuple[str, str, int]]:
    """At which step of which route these workflows wait for an operator, and how many do.

    The most frequent first.
    """
    sql = (
        "SELECT route, step, count(DISTINCT workflow_id) FROM causes JOIN"
        " (SELECT workflow_id, cause FROM incidents WHERE workflow_id IN (SELECT value FROM json_each(?))) USING (cause)"
        " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    return select(db, sql, json.dumps(workflow_ids))


def routes_of(db: apsw.Connection, workflow_ids: Sequence[str]) -> list[tuple[str, str, int]]:
    """Of which route these workflows are, as `kinds_of`, without a step."""
    sql = (
        "SELECT route, '', count(*) FROM workflows WHERE workflow_id IN (SELECT value FROM json_each(?))"
        " GROUP BY 1 ORDER BY 3 DESC, 1"
    )
    return select(db, sql, json.dumps(workflow_ids))

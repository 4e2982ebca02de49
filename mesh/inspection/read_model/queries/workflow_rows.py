"""Workflows and their states."""

import re
from typing import Any, Final

import apsw

from mesh.codec.state import decode_workflow
from mesh.core.ids import BUILT_IN
from mesh.core.state import Workflow
from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.queries.rows import Row, columns_of
from mesh.inspection.read_model.schema import select, select_one
from mesh.inspection.read_model.search import attributes_of, read_attributes
from mesh.inspection.read_model.where import Where

_NO_BUILT_IN: Final = f"substr(workflow_id, 1, {len(BUILT_IN)}) <> '{BUILT_IN}'"
_THERE: Final = "NOT (forgotten AND status = 'expected')"
"""What never had a run is gone with its last event."""
# of a for-each also where an item of it is under way
_AT_STEP: Final = "workflow_id IN (SELECT workflow_id FROM open_steps WHERE instr(step || '[', ? || '[') = 1)"
_UNDER_WAY: Final = "workflow_id IN (SELECT workflow_id FROM open_steps WHERE status = ?)"
_DENSE: Final = 2_000  # workflows that fit
_OF_STATUS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "incident": {"incidents > 0": ()},
    "paused": {"paused_at_ms NOTNULL": ()},
    "ended": {"status IN ('completed', 'failed', 'rejected', 'cancelled')": ()},
}


class WorkflowRow(Row, frozen=True, array_like=True):
    workflow_id: str
    run_id: str
    route: str
    status: str
    started_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None
    reason: str
    incidents: int
    digest: str
    paused_at_ms: int | None
    partition: int
    search: str | None

    @property
    def attributes(self) -> dict[str, Any]:
        """The search attributes of its run."""
        return read_attributes(self.search)


_WORKFLOW: Final = columns_of(WorkflowRow).replace(
    "search", "(SELECT attributes FROM search WHERE search.workflow_id = workflows.workflow_id)"
)


def workflows(
    db: apsw.Connection,
    *,
    status: str | None = None,
    route: str | None = None,
    cause: str | None = None,
    where: Where | None = None,
    step: str | None = None,
    agent: str | None = None,
    unchanged_since_ms: int | None = None,
    under_way: str | None = None,
    part: str | None = None,
    built_in: bool = False,
    limit: int | None = None,
    after: str | None = None,
    total: int | None = None,
) -> Page[WorkflowRow]:
    """Workflows, the last changed first.

    `status` may also be `incident`: live ones that wait for an operator; `paused`; or `ended`, in
    any way. `cause`: those with an incident of this cause. `where`: those that it fits. `step`,
    `agent`: of a step that is under way, or has an incident. `unchanged_since_ms`: those that have
    not changed since then. `under_way`: those with a step of this status that has not ended.
    `part`: of their ids. `built_in`: with the mesh's own workflows, unless they are forgotten.
    `total`: how many there are, where that is known.
    """
    own = f"({_NO_BUILT_IN} OR forgotten = 0)" if built_in else _NO_BUILT_IN
    filters: dict[str, tuple[str, ...]] = {_THERE: (), own: ()}
    filters |= _narrowed(route=route, cause=cause, part=part)
    filters |= {} if step is None else {_AT_STEP: (step,)}
    filters |= (
        {} if agent is None else {"workflow_id IN (SELECT workflow_id FROM open_steps WHERE agent = ?)": (agent,)}
    )
    if unchanged_since_ms is not None:
        filters["updated_at_ms <= CAST(? AS INTEGER)"] = (str(unchanged_since_ms),)
    filters |= {} if under_way is None else {_UNDER_WAY: (under_way,)}
    if where is not None:
        sql, values = where.condition(db)
        filters |= {sql: values}
    if status is not None:
        filters |= _OF_STATUS.get(status, {"status = ?": (status,)})
    listing = Listing(
        table="workflows",
        columns=_WORKFLOW,
        order=("updated_at_ms", "workflow_id"),
        where=tuple(filters),
        values=tuple(value for values in filters.values() for value in values),
        last_first=True,
    )
    if limit is not None:
        total = listing.count(db) if total is None else total
        listing = listing if total < _DENSE else _in_order(listing)
    return listing.page(db, WorkflowRow, limit=limit, after=after, total=total)


def _in_order(listing: Listing) -> Listing:
    """The same, read in the order of the list until a page is full, where many rows fit.

    By itself SQLite looks up every id of a sub-select, and then sorts them all.
    """
    return listing._replace(where=tuple(re.sub(r"^workflow_id IN", "+workflow_id IN", one) for one in listing.where))


def _narrowed(*, route: str | None, cause: str | None, part: str | None) -> dict[str, tuple[str, ...]]:
    """The conditions that a count by status takes too, with their values."""
    found: dict[str, tuple[str, ...]] = {} if route is None else {"route = ?": (route,)}
    if cause is not None:
        found["workflow_id IN (SELECT workflow_id FROM incidents WHERE cause = ?)"] = (cause,)
    return found if part is None else found | {"instr(workflow_id, ?)": (part,)}


def workflow_row(db: apsw.Connection, workflow_id: str) -> WorkflowRow | None:
    """One workflow by its whole id."""
    row = select_one(db, f"SELECT {_WORKFLOW} FROM workflows WHERE workflow_id = ?", workflow_id)  # noqa: S608 - constants only
    return WorkflowRow(*row) if row else None


def has_workflow(db: apsw.Connection, workflow_id: str) -> bool:
    """Whether any decision was ever made about this workflow."""
    return select_one(db, "SELECT 1 FROM workflows WHERE workflow_id = ?", workflow_id) is not None


def workflows_containing(db: apsw.Connection, part: str, *, limit: int) -> Found:
    """Workflows whose id contains `part`, the last changed first."""
    return containing(
        db, "workflow_id", "FROM workflows WHERE instr(workflow_id, ?1)", "updated_at_ms", part=part, limit=limit
    )


def workflow_state(db: apsw.Connection, workflow_id: str, *, remembered: bool = False) -> Workflow | None:
    """A workflow's state, as the fold of the log gives it.

    If the memory of it has ended, this is its last state; with `remembered` it is None.
    """
    there = " AND NOT forgotten" if remembered else ""
    row = select_one(db, f"SELECT state FROM workflows WHERE workflow_id = ?{there}", workflow_id)  # noqa: S608 - constants only
    return decode_workflow(row[0]) if row else None


def search_attributes(db: apsw.Connection, workflow_id: str) -> dict[str, Any]:
    """By what people find it; empty if its route has no `search`."""
    return attributes_of(db, workflow_id)


def paused_workflows(db: apsw.Connection) -> tuple[int, int, str]:
    """How many workflows are paused, since when the first of them is, and its id."""
    sql = "SELECT count(*), min(paused_at_ms), workflow_id FROM workflows WHERE paused_at_ms NOTNULL AND NOT forgotten"
    row = select_one(db, sql)
    return (row[0], row[1] or 0, row[2] or "") if row else (0, 0, "")


def count_workflows(
    db: apsw.Connection, *, route: str | None = None, cause: str | None = None, part: str | None = None
) -> dict[str, int]:
    """How many workflows have each status, without the mesh's own; filters as of `workflows`."""
    filters = {_THERE: (), _NO_BUILT_IN: ()} | _narrowed(route=route, cause=cause, part=part)
    sql = f"SELECT status, count(*) FROM workflows WHERE {' AND '.join(filters)} GROUP BY status"  # noqa: S608 - constants only
    return dict(select(db, sql, *(value for values in filters.values() for value in values)))


def count_by_route(db: apsw.Connection) -> dict[str, tuple[int, int]]:
    """How many workflows of each route run, and how many of these have an incident."""
    sql = "SELECT route, count(*) FROM workflows WHERE status = 'running' AND NOT forgotten GROUP BY route"
    # named, since the other index leads to the rows themselves, which hold whole states
    stuck = (
        "SELECT route, count(*) FROM workflows INDEXED BY workflows_with_incidents"
        " WHERE incidents > 0 AND status = 'running' AND NOT forgotten GROUP BY route"
    )
    incidents = dict(select(db, stuck))
    return {route: (count, incidents.get(route, 0)) for route, count in select(db, sql)}


def count_asking(db: apsw.Connection) -> int:
    """How many workflows wait for a person."""
    sql = f"SELECT count(DISTINCT workflow_id) FROM open_steps WHERE status = 'asking' AND {_NO_BUILT_IN}"  # noqa: S608 - constants only
    found: int = select_one(db, sql)[0]
    return found

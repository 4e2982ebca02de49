"""Steps that are under way: what moves, what waits, and for what."""

from collections.abc import Mapping
from typing import Final

import apsw

from mesh.inspection.read_model.open_steps import DEATHS, OpenStep
from mesh.inspection.read_model.pages import Listing, Page
from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select

_STEP: Final = ", ".join(OpenStep._fields)


class Awaited(Row, frozen=True, array_like=True):
    """How many steps wait for events of one type, and which of them has waited longest.

    `timed`: those that have a time-out.
    """

    type: str
    count: int
    timed: int
    since_ms: int
    workflow_id: str
    step: str


def open_steps(
    db: apsw.Connection, status: str, *, limit: int | None = None, after: str | None = None
) -> Page[OpenStep]:
    """Steps with this status, the one that has waited longest first."""
    order = ("since_ms", "workflow_id", "step", "agent")
    listing = Listing("open_steps", _STEP, order, ("status = ?",), (status,))
    return listing.page(db, OpenStep, limit=limit, after=after)


def open_steps_of(db: apsw.Connection, workflow_id: str, *, limit: int) -> list[OpenStep]:
    """The steps of one workflow that are under way: incidents first, then what people are asked."""
    sql = (
        f"SELECT {_STEP} FROM open_steps WHERE workflow_id = ?"  # noqa: S608 - constants only
        " ORDER BY status = 'incident' DESC, status = 'asking' DESC, since_ms, step LIMIT ?"
    )
    return [OpenStep(*row) for row in select(db, sql, workflow_id, limit)]


def count_open_steps(db: apsw.Connection) -> dict[str, int]:
    """How many steps of live workflows have each status."""
    return dict(select(db, "SELECT status, sum(alike) FROM open_steps GROUP BY status"))


def count_steps_of_version(db: apsw.Connection, digest: str) -> dict[str, dict[str, int]]:
    """How many workflows of this version are at each step, by the step's status."""
    sql = (
        "SELECT step, open_steps.status, sum(alike) FROM workflows JOIN open_steps USING (workflow_id)"
        " WHERE workflows.digest = ? AND workflows.status = 'running' GROUP BY 1, 2"
    )
    found: dict[str, dict[str, int]] = {}
    for place, status, count in select(db, sql, digest):
        # the items of a for-each are at its step
        counts = found.setdefault(place.partition("[")[0], {})
        counts[status] = counts.get(status, 0) + count
    return found


def deadly_steps(db: apsw.Connection, *, limit: int = 5) -> list[OpenStep]:
    """Steps over whose task a process of the agent has died, the oldest first."""
    sql = (
        f"SELECT {_STEP} FROM open_steps WHERE incident_kind = ?"  # noqa: S608 - constants only
        " OR (status = 'incident' AND incident_message LIKE 'agent_died: %') ORDER BY since_ms LIMIT ?"
    )
    return [OpenStep(*row) for row in select(db, sql, DEATHS, limit)]


def running_by_agent(db: apsw.Connection) -> dict[str, tuple[int, int]]:
    """For each agent, how many tasks are out, and since when the oldest is."""
    sql = "SELECT agent, sum(alike), min(since_ms) FROM open_steps WHERE status = 'running' GROUP BY agent"
    return {agent: (count, since_ms) for agent, count, since_ms in select(db, sql)}


def awaited_events(db: apsw.Connection) -> list[Awaited]:
    """The events that steps wait for, by type; the longest awaited comes first."""
    sql = (
        "SELECT awaits, count(*), count(due_at_ms), min(since_ms), workflow_id, step FROM open_steps"
        " WHERE status = 'waiting' AND awaits <> '' GROUP BY awaits ORDER BY 4"
    )
    return [Awaited(*row) for row in select(db, sql)]


def overdue_steps(db: apsw.Connection, before_ms: int, ahead_ms: Mapping[int, int]) -> tuple[int, int]:
    """How many steps have a time that came before this, and the first of these times.

    Such a time is a time-out, a retry, a deadline, or the end of a wait. `ahead_ms`: how far the
    clock is ahead of a partition's time, by partition, where it is.
    """
    sql = (
        "SELECT workflows.partition, open_steps.alike, open_steps.due_at_ms FROM open_steps JOIN "
        "workflows USING (workflow_id)"
        " WHERE due_at_ms < ?"
    )
    # Wide enough for every partition: where the clock is behind, later times are overdue as well.
    latest_ms = before_ms - min(ahead_ms.values(), default=0)
    rows = [(alike, due + ahead_ms.get(p, 0)) for p, alike, due in select(db, sql, max(before_ms, latest_ms))]
    late = [(alike, due) for alike, due in rows if due < before_ms]
    return sum(alike for alike, _ in late), min((due for _, due in late), default=0)


def halted_iterations(db: apsw.Connection) -> list[OpenStep]:
    """For-each steps that wait for an operator alone.

    An item has an incident, and no other one is with an agent or waits for a retry.
    """
    sql = (
        f"SELECT {_STEP} FROM open_steps AS each WHERE status = 'iterating'"  # noqa: S608 - constants only
        " AND EXISTS (SELECT 1 FROM open_steps AS item WHERE item.workflow_id = each.workflow_id "
        "AND item.status = 'incident'"
        " AND substr(item.step, 1, length(each.step) + 1) = each.step || '[')"
        " AND NOT EXISTS (SELECT 1 FROM open_steps AS item WHERE item.workflow_id = "
        "each.workflow_id AND item.step = each.step"
        " AND item.status IN ('running', 'retrying'))"
        " ORDER BY since_ms"
    )
    return [OpenStep(*row) for row in select(db, sql)]

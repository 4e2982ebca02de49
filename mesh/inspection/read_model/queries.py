"""What the tools ask of the read model, as values.

Owns every query. It only reads, and sees the file as of the last `ReadModel.catch_up`. A list that
may be long comes as a `Page`, which knows how many rows there are in all; without a `limit` it has
every row. The command line and the other modules of `mesh.inspection` call it.
"""

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgspec

from mesh.codec.state import decode_meta, decode_workflow
from mesh.core.clock import ClockHold
from mesh.core.events import ApprovalRequested, Decision
from mesh.core.ids import BUILT_IN
from mesh.core.state import AgentCard, Workflow
from mesh.inspection.read_model.open_steps import DEATHS
from mesh.inspection.read_model.pages import Found, Listing, Page, containing
from mesh.inspection.read_model.schema import select, select_one


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A row, built by position: its fields have the order of the query's columns."""


class WorkflowRow(_Row, frozen=True, array_like=True):
    workflow_id: str
    run_id: str
    route: str
    status: str
    started_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None
    reason: str
    incidents: int
    partition: int


class OpenStep(_Row, frozen=True, array_like=True):
    """A step of a live workflow that has begun and not ended.

    `status`: running, retrying, asking, calling, waiting, iterating, held, incident.

    The items of a for-each that run on one agent, or wait for a retry, share one row: `alike` of
    them, with the `since_ms` of the oldest. `settled`, `total`: a for-each's items.
    """

    workflow_id: str
    step: str
    status: str
    agent: str
    role: str
    attempt: int
    task_id: str
    since_ms: int
    due_at_ms: int | None
    incident_kind: str
    incident_message: str
    awaits: str  # the type of the event that it waits for
    alike: int
    settled: int
    total: int


class Awaited(_Row, frozen=True, array_like=True):
    """How many steps wait for events of one type, and which of them has waited longest.

    `timed`: those that have a time-out.
    """

    type: str
    count: int
    timed: int
    since_ms: int
    workflow_id: str
    step: str


class TimelineEntry(_Row, frozen=True, array_like=True):
    partition: int
    offset: int
    run_id: str
    decision: Decision


class EventRow(_Row, frozen=True, array_like=True):
    """A record of `mesh.events`.

    `problem`: why it is not a CloudEvent; then `event_id` is its place.
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


class ApprovalRow(_Row, frozen=True, array_like=True):
    approval_id: str
    workflow_id: str
    step: str
    question: str
    role: str
    asked_at_ms: int
    deadline_at_ms: int | None
    closed_at_ms: int | None
    verdict: str
    closed_by: str
    reason: str


class AnswerRow(_Row, frozen=True, array_like=True):
    answer_id: str
    approval_id: str
    at_ms: int
    status: str
    code: str
    message: str
    by: str


class CommandRow(_Row, frozen=True, array_like=True):
    command_id: str
    workflow_id: str
    at_ms: int
    command: str
    by: str
    accepted: int  # 1 or 0
    code: str
    message: str


class DeadLetterRow(_Row, frozen=True, array_like=True):
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


class PartitionRow(_Row, frozen=True, array_like=True):
    """A partition of the log, and its owner.

    `positions`: for each input topic, the next offset that the owner will read. `meta`: the encoded
    state of the fold.
    """

    partition: int
    owner: str
    owner_since_ms: int
    decided_at_ms: int
    meta: bytes

    @property
    def positions(self) -> dict[str, int]:
        return decode_meta(self.meta).positions

    @property
    def hold(self) -> ClockHold | None:
        """How the broker's clock differs from the partition's time, where it has jumped."""
        return decode_meta(self.meta).hold


class CardRow(_Row, frozen=True, array_like=True):
    card: AgentCard
    renewed_at_ms: int

    def is_alive(self, now_ms: int) -> bool:
        return (
            not self.card.registration
            and not self.card.stopped
            and now_ms < self.renewed_at_ms + self.card.expires_after_s * 1_000
        )


_WORKFLOW: Final = (
    "workflow_id, run_id, route, status, started_at_ms, updated_at_ms, ended_at_ms, reason, incidents, partition"
)
_STEP: Final = (
    "workflow_id, step, status, agent, role, attempt, task_id, since_ms, due_at_ms, incident_kind, incident_message,"
    " awaits, alike, settled, total"
)
_EVENT: Final = "topic, partition, event_offset, at_ms, event_id, source, type, subject, problem"
_APPROVAL: Final = "approval_id, workflow_id, step, question, role, asked_at_ms, deadline_at_ms, closed_at_ms, verdict, closed_by, reason"
_LETTER: Final = "partition, dlq_offset, at_ms, topic, source_partition, source_offset, reason, message"
_NO_BUILT_IN: Final = f"substr(workflow_id, 1, {len(BUILT_IN)}) <> '{BUILT_IN}'"
_decode_decision: Final = msgspec.json.Decoder(Decision).decode


_THERE: Final = "NOT (forgotten AND status = 'expected')"
"""What never had a run is gone with its last event."""


# Workflows ----------------------------------------------------------------------------------------


def workflows(
    db: apsw.Connection,
    *,
    status: str | None = None,
    route: str | None = None,
    built_in: bool = False,
    limit: int | None = None,
    after: str | None = None,
) -> Page[WorkflowRow]:
    """Workflows, the last changed first.

    `status` may also be `incident`: live ones that wait for an operator. `built_in`: with the
    mesh's own workflows, unless they are forgotten.
    """
    own = f"({_NO_BUILT_IN} OR forgotten = 0)" if built_in else _NO_BUILT_IN
    filters = {_THERE: (), own: ()} | ({} if route is None else {"route = ?": (route,)})
    if status is not None:
        filters |= {"incidents > 0": ()} if status == "incident" else {"status = ?": (status,)}
    listing = Listing(
        table="workflows",
        columns=_WORKFLOW,
        order=("updated_at_ms", "workflow_id"),
        where=tuple(filters),
        values=tuple(value for values in filters.values() for value in values),
        last_first=True,
    )
    return listing.page(db, WorkflowRow, limit=limit, after=after)


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


def count_workflows(db: apsw.Connection) -> dict[str, int]:
    """How many workflows have each status, without the mesh's own."""
    return dict(
        select(db, f"SELECT status, count(*) FROM workflows WHERE {_NO_BUILT_IN} AND {_THERE} GROUP BY status")  # noqa: S608 - constants only
    )


def open_steps(
    db: apsw.Connection, status: str, *, limit: int | None = None, after: str | None = None
) -> Page[OpenStep]:
    """Steps with this status, the one that has waited longest first."""
    order = ("since_ms", "workflow_id", "step", "agent")
    listing = Listing("open_steps", _STEP, order, ("status = ?",), (status,))
    return listing.page(db, OpenStep, limit=limit, after=after)


def count_open_steps(db: apsw.Connection) -> dict[str, int]:
    """How many steps of live workflows have each status."""
    return dict(select(db, "SELECT status, sum(alike) FROM open_steps GROUP BY status"))


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


def overdue_steps(db: apsw.Connection, before_ms: int) -> tuple[int, int]:
    """How many steps have a time that came before this, and the first of these times.

    Such a time is a time-out, a retry, a deadline, or the end of a wait.
    """
    sql = "SELECT coalesce(sum(alike), 0), coalesce(min(due_at_ms), 0) FROM open_steps WHERE due_at_ms < ?"
    count, first_ms = select_one(db, sql, before_ms)
    return count, first_ms


def halted_iterations(db: apsw.Connection) -> list[OpenStep]:
    """For-each steps that wait for an operator alone.

    An item has an incident, and no other one is with an agent or waits for a retry.
    """
    sql = (
        f"SELECT {_STEP} FROM open_steps AS each WHERE status = 'iterating'"  # noqa: S608 - constants only
        " AND EXISTS (SELECT 1 FROM open_steps AS item WHERE item.workflow_id = each.workflow_id AND item.status = 'incident'"
        " AND substr(item.step, 1, length(each.step) + 1) = each.step || '[')"
        " AND NOT EXISTS (SELECT 1 FROM open_steps AS item WHERE item.workflow_id = each.workflow_id AND item.step = each.step"
        " AND item.status IN ('running', 'retrying'))"
        " ORDER BY since_ms"
    )
    return [OpenStep(*row) for row in select(db, sql)]


def decisions_of(db: apsw.Connection, workflow_id: str) -> list[TimelineEntry]:
    """All decisions about a workflow, of all its runs, in the log's order."""
    sql = "SELECT partition, log_offset, run_id, record FROM decisions WHERE workflow_id = ? ORDER BY log_offset"
    return _timeline(select(db, sql, workflow_id))


def decisions_citing(db: apsw.Connection, topic: str, partition: int, offset: int) -> list[TimelineEntry]:
    """The decisions that this record caused, about any workflow."""
    sql = (
        "SELECT d.partition, d.log_offset, d.run_id, d.record FROM citations c JOIN decisions d"
        " ON d.partition = c.log_partition AND d.log_offset = c.log_offset"
        " WHERE c.topic = ? AND c.partition = ? AND c.source_offset = ? ORDER BY d.at_ms"
    )
    return _timeline(select(db, sql, topic, partition, offset))


def decisions_after(db: apsw.Connection, row: int, *, limit: int = 1_000) -> list[tuple[int, TimelineEntry]]:
    """The decisions that the file took in after a row number, with their own row numbers.

    They are of all workflows. 0: from the first decision on.
    """
    sql = "SELECT partition, log_offset, run_id, record, rowid FROM decisions WHERE rowid > ? ORDER BY rowid LIMIT ?"
    rows = select(db, sql, row, limit)
    return list(zip((found[4] for found in rows), _timeline([found[:4] for found in rows]), strict=True))


def _timeline(rows: Sequence[Any]) -> list[TimelineEntry]:
    return [TimelineEntry(partition, offset, run, _decode_decision(record)) for partition, offset, run, record in rows]


# Events -------------------------------------------------------------------------------------------


def events(db: apsw.Connection, *, limit: int | None = None, after: str | None = None) -> Page[EventRow]:
    """The events on the broker, the last first."""
    order = ("at_ms", "partition", "event_offset")
    return Listing("events", _EVENT, order, last_first=True).page(db, EventRow, limit=limit, after=after)


def events_by_id(
    db: apsw.Connection, event_id: str, *, limit: int | None = None, after: str | None = None
) -> Page[EventRow]:
    """Events with exactly this id, the earliest first.

    Several sources may use one id, and upstream may send an event twice.
    """
    order = ("at_ms", "partition", "event_offset")
    listing = Listing("events", _EVENT, order, ("event_id = ?",), (event_id,))
    return listing.page(db, EventRow, limit=limit, after=after)


def events_beginning(db: apsw.Connection, part: str, *, limit: int) -> Found:
    """The event ids that begin with `part`, the last one first."""
    source = "FROM events WHERE event_id BETWEEN ?1 AND ?1 || char(0x10FFFF)"
    return containing(db, "event_id", source, "at_ms", part=part, limit=limit)


def count_events(db: apsw.Connection, events_topic: str) -> dict[str, int]:
    """How many events came, and what became of them.

    `seen`: all. `matched`: some decision cites it. `dead_lettered`: a dead letter that no decision
    cites.
    """

    def count(sql: str) -> int:
        found: int = select_one(db, sql, events_topic)[0]
        return found

    return {
        "seen": count("SELECT count(*) FROM events WHERE topic = ?"),
        "matched": count(
            "SELECT count(*) FROM (SELECT DISTINCT partition, source_offset FROM citations WHERE topic = ?)"
        ),
        "dead_lettered": count(
            "SELECT count(*) FROM (SELECT DISTINCT topic, source_partition, source_offset FROM dead_letters WHERE topic = ?) AS letter"
            " WHERE NOT EXISTS (SELECT 1 FROM citations AS c WHERE c.topic = letter.topic AND c.partition = letter.source_partition"
            " AND c.source_offset = letter.source_offset)"
        ),
    }


# Approvals and commands ---------------------------------------------------------------------------


def approvals(
    db: apsw.Connection,
    *,
    open_only: bool = True,
    role: str | None = None,
    workflow_id: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Page[ApprovalRow]:
    """Approvals, the one that was asked first at the top."""
    filters: dict[str, tuple[str, ...]] = {"closed_at_ms IS NULL" if open_only else "1": ()}
    filters |= {} if role is None else {"role = ?": (role,)}
    filters |= {} if workflow_id is None else {"workflow_id = ?": (workflow_id,)}
    values = tuple(value for values in filters.values() for value in values)
    listing = Listing("approvals", _APPROVAL, ("asked_at_ms", "approval_id"), tuple(filters), values)
    return listing.page(db, ApprovalRow, limit=limit, after=after)


def approval(db: apsw.Connection, approval_id: str) -> ApprovalRow | None:
    """One approval by its whole id, open or closed."""
    row = select_one(db, f"SELECT {_APPROVAL} FROM approvals WHERE approval_id = ?", approval_id)  # noqa: S608 - constants only
    return ApprovalRow(*row) if row else None


def last_approval(db: apsw.Connection, workflow_id: str) -> ApprovalRow | None:
    """The approval that the workflow asked for last, open or closed."""
    sql = f"SELECT {_APPROVAL} FROM approvals WHERE workflow_id = ? ORDER BY asked_at_ms DESC LIMIT 1"  # noqa: S608 - constants only
    row = select_one(db, sql, workflow_id)
    return ApprovalRow(*row) if row else None


def approvals_containing(db: apsw.Connection, part: str, *, open_only: bool, limit: int) -> Found:
    """The ids of approvals that contain `part`, the last asked first.

    An approval's id begins with its workflow's id.
    """
    state = " AND closed_at_ms IS NULL" if open_only else ""
    source = f"FROM approvals WHERE instr(approval_id, ?1){state}"
    return containing(db, "approval_id", source, "asked_at_ms", part=part, limit=limit)


def approval_request(db: apsw.Connection, approval_id: str) -> ApprovalRequested | None:
    """What was asked, with its payload."""
    row = select_one(db, "SELECT request FROM approvals WHERE approval_id = ?", approval_id)
    return msgspec.json.decode(row[0], type=ApprovalRequested) if row else None


def answer(db: apsw.Connection, answer_id: str) -> AnswerRow | None:
    row = select_one(
        db,
        "SELECT answer_id, approval_id, at_ms, status, code, message, by FROM answers WHERE answer_id = ?",
        answer_id,
    )
    return AnswerRow(*row) if row else None


def command(db: apsw.Connection, command_id: str) -> CommandRow | None:
    """What became of a command; None if nothing is decided about it yet."""
    row = select_one(
        db,
        "SELECT command_id, workflow_id, at_ms, command, by, accepted, code, message FROM commands WHERE command_id = ?",
        command_id,
    )
    return CommandRow(*row) if row else None


# The mesh itself ----------------------------------------------------------------------------------


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


def partitions(db: apsw.Connection) -> list[PartitionRow]:
    sql = "SELECT partition, owner, owner_since_ms, decided_at_ms, meta FROM partitions ORDER BY partition"
    return [PartitionRow(*row) for row in select(db, sql)]


def cards(db: apsw.Connection) -> list[CardRow]:
    """Agents' cards by name, the last renewed first; registrations are among them."""
    rows = select(db, "SELECT card, renewed_at_ms FROM cards ORDER BY name, renewed_at_ms DESC")
    return [CardRow(msgspec.json.decode(card, type=AgentCard), at_ms) for card, at_ms in rows]

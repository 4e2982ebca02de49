"""Workflows, what happened in them, and what keeps them from going on."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mesh.codec import exact_json
from mesh.codec.state import decode_workflow, workflow_document
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.events import Decision
from mesh.core.state import Workflow
from mesh.inspection.documents.approvals import ms_or_none
from mesh.inspection.documents.pages import Listed
from mesh.inspection.documents.timeline import timeline_document
from mesh.inspection.mesh_status.stuck_work import what_helps
from mesh.inspection.read_model.queries import CauseRow, IncidentRow, OpenStep, TimelineEntry, WorkflowRow
from mesh.inspection.wording.plain import rfc3339_or_none


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A step that waits for an operator."""

    workflow_id: str
    step: str
    cause: str
    kind: str
    message: str
    since: str

    @property
    def row(self) -> IncidentRow:
        return IncidentRow(self.workflow_id, self.step, self.cause, self.kind, self.message, parse_rfc3339(self.since))


class WorkflowItem(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow in a list. `incidents`: how many; `incident_steps` names the first of them."""

    workflow_id: str
    run_id: str
    route: str
    status: str
    incidents: int
    started_at: str
    updated_at: str
    ended_at: str | None
    paused_at: str | None
    reason: str
    digest: str
    partition: int
    search: dict[str, Any]
    incident_steps: tuple[Incident, ...]

    @property
    def row(self) -> WorkflowRow:
        return WorkflowRow(
            self.workflow_id,
            self.run_id,
            self.route,
            self.status,
            parse_rfc3339(self.started_at),
            parse_rfc3339(self.updated_at),
            ms_or_none(self.ended_at),
            self.reason,
            self.incidents,
            self.digest,
            ms_or_none(self.paused_at),
            self.partition,
            exact_json.encode(self.search).decode() if self.search else None,
        )


class DecisionItem(msgspec.Struct, frozen=True, kw_only=True):
    """A decision of a workflow's timeline, with the log's own events.

    `cause`: what it answers. Events have their payloads where they were asked for.
    """

    at_ms: int
    partition: int
    offset: int
    run_id: str
    cause: dict[str, Any]
    events: tuple[dict[str, Any], ...]


class WorkflowDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow: its state, its search attributes, and its decisions from the first on.

    `limiters`: the limits that steps wait for, and their states.
    """

    workflow: dict[str, Any]
    search: dict[str, Any]
    limiters: dict[str, dict[str, Any]]
    timeline: tuple[DecisionItem, ...]

    @property
    def state(self) -> Workflow:
        return _state(self.workflow)

    @property
    def limiter_states(self) -> dict[str, Workflow]:
        return {name: _state(one) for name, one in self.limiters.items()}

    @property
    def entries(self) -> list[TimelineEntry]:
        """The timeline. Needs the events with their payloads."""
        name = self.state.workflow_id
        return [_entry(one, name) for one in self.timeline]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An incident of a cause."""

    workflow_id: str
    step: str
    message: str
    since: str


class CauseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What incidents have in common. `pattern`: their message without what differs.

    `next`: what an operator can do.
    """

    cause: str
    kind: str
    route: str
    step: str
    agent: str | None
    agent_version: str | None
    pattern: str
    incidents: int
    workflows: int
    first_at: str
    last_at: str
    example: Example | None
    next: str | None

    @property
    def row(self) -> CauseRow:
        return CauseRow(
            self.cause,
            self.kind,
            self.route,
            self.step,
            self.agent or "",
            self.agent_version or "",
            self.pattern,
            self.incidents,
            self.workflows,
            parse_rfc3339(self.first_at),
            parse_rfc3339(self.last_at),
        )

    @property
    def open_step(self) -> OpenStep | None:
        """The example as the read model has it, from the fields that a document has."""
        one = self.example
        if one is None:
            return None
        return open_step(
            workflow_id=one.workflow_id,
            step=one.step,
            agent=self.agent or "",
            since_ms=parse_rfc3339(one.since),
            kind=self.kind,
            message=one.message,
        )


class CauseAndIncidents(msgspec.Struct, frozen=True, kw_only=True):
    """A cause, and the incidents that have it, the oldest first."""

    cause: CauseDocument
    incidents: Listed[Incident]


def incident_document(row: IncidentRow) -> Incident:
    return Incident(
        workflow_id=row.workflow_id,
        step=row.step,
        cause=row.cause,
        kind=row.kind,
        message=row.message,
        since=rfc3339(row.since_ms),
    )


def workflow_item(row: WorkflowRow, incidents: Sequence[IncidentRow]) -> WorkflowItem:
    return WorkflowItem(
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        route=row.route,
        status=row.status,
        incidents=row.incidents,
        started_at=rfc3339(row.started_at_ms),
        updated_at=rfc3339(row.updated_at_ms),
        ended_at=rfc3339_or_none(row.ended_at_ms),
        paused_at=rfc3339_or_none(row.paused_at_ms),
        reason=row.reason,
        digest=row.digest,
        partition=row.partition,
        search=row.attributes,
        incident_steps=tuple(map(incident_document, incidents)),
    )


def document_of(
    state: Workflow,
    entries: Sequence[TimelineEntry],
    limiters: Mapping[str, Workflow],
    search: dict[str, Any],
    *,
    payloads: bool,
) -> WorkflowDocument:
    return WorkflowDocument(
        workflow=workflow_document(state),
        search=search,
        limiters={name: workflow_document(one) for name, one in limiters.items()},
        timeline=tuple(_decision(entry, payloads=payloads) for entry in entries),
    )


def cause_document(row: CauseRow, one: OpenStep | None) -> CauseDocument:
    return CauseDocument(
        cause=row.cause,
        kind=row.kind,
        route=row.route,
        step=row.step,
        agent=row.agent or None,
        agent_version=row.agent_version or None,
        pattern=row.pattern,
        incidents=row.incidents,
        workflows=row.workflows,
        first_at=rfc3339(row.first_ms),
        last_at=rfc3339(row.last_ms),
        example=None
        if one is None
        else Example(
            workflow_id=one.workflow_id, step=one.step, message=one.incident_message, since=rfc3339(one.since_ms)
        ),
        next=None if one is None else what_helps(one),
    )


def open_step(*, workflow_id: str, step: str, agent: str, since_ms: int, kind: str, message: str) -> OpenStep:
    """A step with an incident, from the fields that a document has."""
    return OpenStep(
        workflow_id=workflow_id,
        step=step,
        status="incident",
        agent=agent,
        role="",
        attempt=0,
        task_id="",
        since_ms=since_ms,
        due_at_ms=None,
        incident_kind=kind,
        incident_message=message,
        awaits="",
        alike=1,
        settled=0,
        total=0,
    )


def _decision(entry: TimelineEntry, *, payloads: bool) -> DecisionItem:
    found = timeline_document(entry, payloads=payloads)
    return msgspec.convert(found, DecisionItem)


def _state(document: dict[str, Any]) -> Workflow:
    return decode_workflow(exact_json.encode(document))


def _entry(item: DecisionItem, workflow_id: str) -> TimelineEntry:
    whole = {
        "record": "Decision.1",
        "epoch": "",
        "workflow_id": workflow_id,
        "at_ms": item.at_ms,
        "cause": item.cause,
        "positions": {},
        "mark": 0,
        "events": item.events,
    }
    return TimelineEntry(item.partition, item.offset, item.run_id, msgspec.convert(whole, Decision))

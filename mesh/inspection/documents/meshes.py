"""The mesh as a whole, as `mesh status` shows it, and its agents."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.clock import ClockHold
from mesh.core.state import AgentCard, Pause
from mesh.inspection.card_conflicts import SchemaConflict
from mesh.inspection.documents.approvals import ms_or_none
from mesh.inspection.documents.workflows import open_step
from mesh.inspection.mesh_status import (
    AgentStatus,
    Backlog,
    EventCounts,
    MeshStatus,
    PartitionStatus,
    RouterStatus,
    Stuck,
)
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow, CardRow, OpenStep
from mesh.inspection.wording.plain import rfc3339_or_none


class PeopleSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a router knows people from. `version` null: from a file."""

    source: str
    version: str | None


class RouterDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A router that has or had a card."""

    instance: str
    state: Literal["alive", "stopped", "gone"]
    started_at: str | None
    heard_at: str
    partitions: tuple[int, ...]
    people: PeopleSource | None
    answers: str | None

    @property
    def router(self) -> RouterStatus:
        people = self.people
        return RouterStatus(
            instance=self.instance,
            state=self.state,
            started_at_ms=ms_or_none(self.started_at) or 0,
            heard_at_ms=parse_rfc3339(self.heard_at),
            partitions=self.partitions,
            people_from="" if people is None else people.source,
            people="" if people is None else people.version or "",
            answers=self.answers or "",
        )


class ClockDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's clock is ahead of a partition's time; behind, if negative."""

    ahead_s: float
    since: str


class PartitionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a partition, and how many records it has not read."""

    partition: int
    owner: str
    owner_since: str | None
    last_decision_at: str | None
    inbox_lag: int
    results_lag: int
    clock: ClockDocument | None

    @property
    def row(self) -> PartitionStatus:
        clock = self.clock
        return PartitionStatus(
            partition=self.partition,
            owner=self.owner,
            owner_since_ms=ms_or_none(self.owner_since) or 0,
            decided_at_ms=ms_or_none(self.last_decision_at) or 0,
            inbox_lag=self.inbox_lag,
            results_lag=self.results_lag,
            hold=None
            if clock is None
            else ClockHold(ahead_ms=round(clock.ahead_s * 1_000), since_ms=parse_rfc3339(clock.since)),
        )


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A process of an agent, as its card says."""

    instance: str
    version: str
    alive: bool
    stopped: bool
    concurrency: int
    renewed_at: str
    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None


class PauseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An operator holds it: who, since when and why."""

    by: str
    since: str
    reason: str

    @property
    def pause(self) -> Pause:
        return Pause(by=self.by, at_ms=parse_rfc3339(self.since), reason=self.reason)


def pause_document(pause: Pause | None) -> PauseDocument | None:
    return None if pause is None else PauseDocument(by=pause.by, since=rfc3339(pause.at_ms), reason=pause.reason)


class AgentDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An agent. `alive`: replicas. `unread` null: it has no task topic."""

    name: str
    alive: int
    versions: tuple[str, ...]
    capabilities: tuple[str, ...]
    running: int
    unread: int | None
    overdue: int
    oldest_running_since: str | None
    heard_at: str | None
    places: int
    schemas_differ: str | None
    conflict: SchemaConflict | None
    replicas: tuple[Replica, ...]
    paused: PauseDocument | None = None

    @property
    def agent(self) -> AgentStatus:
        return AgentStatus(
            name=self.name,
            alive=self.alive,
            versions=self.versions,
            lag=self.unread,
            overdue=self.overdue,
            running=self.running,
            oldest_running_ms=ms_or_none(self.oldest_running_since),
            capabilities=self.capabilities,
            places=self.places,
            heard_at_ms=ms_or_none(self.heard_at),
            conflict=self.conflict,
            pause=None if self.paused is None else self.paused.pause,
        )

    @property
    def cards(self) -> list[CardRow]:
        return [CardRow(_card(self.name, one), parse_rfc3339(one.renewed_at)) for one in self.replicas]


class Agents(msgspec.Struct, frozen=True, kw_only=True):
    agents: tuple[AgentDocument, ...]


class OldestApproval(msgspec.Struct, frozen=True, kw_only=True):
    approval_id: str
    workflow_id: str
    step: str
    question: str
    role: str
    asked_at: str
    deadline_at: str | None

    @property
    def row(self) -> ApprovalRow:
        return ApprovalRow(
            self.approval_id,
            self.workflow_id,
            self.step,
            self.question,
            self.role,
            parse_rfc3339(self.asked_at),
            ms_or_none(self.deadline_at),
            None,
            "",
            "",
            "",
        )


class StepIncident(msgspec.Struct, frozen=True, kw_only=True):
    """A step that waits for an operator."""

    workflow_id: str
    step: str
    kind: str
    message: str
    since: str

    @property
    def row(self) -> OpenStep:
        return open_step(
            workflow_id=self.workflow_id,
            step=self.step,
            agent="",
            since_ms=parse_rfc3339(self.since),
            kind=self.kind,
            message=self.message,
        )


class StuckDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What is stuck, and what to do. Severity error: it will not move by itself."""

    severity: Literal["error", "warning"]
    what: str
    next: str


class MeshDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The mesh at one moment. `ingress`: what is unread of each topic that it reads."""

    broker: str
    at: str
    routers: tuple[RouterDocument, ...]
    partitions: tuple[PartitionDocument, ...]
    ingress: tuple[Backlog, ...]
    agents: tuple[AgentDocument, ...]
    workflows: dict[str, int]
    steps: dict[str, int]
    events: EventCounts
    dead_letters: int
    approvals: int
    oldest_approval: OldestApproval | None
    incidents: tuple[StepIncident, ...]
    incidents_total: int
    stuck: tuple[StuckDocument, ...]
    notices_undelivered: int

    @property
    def status(self) -> MeshStatus:
        return MeshStatus(
            broker=self.broker,
            at_ms=parse_rfc3339(self.at),
            routers=tuple(one.router for one in self.routers),
            partitions=tuple(one.row for one in self.partitions),
            backlogs=self.ingress,
            agents=tuple(one.agent for one in self.agents),
            workflows=self.workflows,
            steps=self.steps,
            events=self.events,
            dead_letters=self.dead_letters,
            approvals=self.approvals,
            oldest_approval=None if self.oldest_approval is None else self.oldest_approval.row,
            incidents=Page([one.row for one in self.incidents], total=self.incidents_total),
            stuck=tuple(Stuck(severity=one.severity, what=one.what, next_step=one.next) for one in self.stuck),
        )

    @property
    def cards(self) -> list[CardRow]:
        return [card for agent in self.agents for card in agent.cards]


def agent_document(one: AgentStatus, cards: Sequence[CardRow], now_ms: int) -> AgentDocument:
    own = [row for row in cards if row.card.name == one.name and not row.card.registration]
    return AgentDocument(
        name=one.name,
        alive=one.alive,
        versions=one.versions,
        capabilities=one.capabilities,
        running=one.running,
        unread=one.lag,
        overdue=one.overdue,
        oldest_running_since=rfc3339_or_none(one.oldest_running_ms),
        heard_at=rfc3339_or_none(one.heard_at_ms),
        places=one.places,
        schemas_differ=None if one.conflict is None else str(one.conflict),
        conflict=one.conflict,
        replicas=tuple(_replica(row, now_ms) for row in own),
        paused=pause_document(one.pause),
    )


def mesh_document(found: MeshStatus, cards: Sequence[CardRow], undelivered: int, limit: int) -> MeshDocument:
    """`limit`: how many incidents to name; all are counted."""
    oldest = found.oldest_approval
    return MeshDocument(
        broker=found.broker,
        at=rfc3339(found.at_ms),
        routers=tuple(map(_router, found.routers)),
        partitions=tuple(map(_partition, found.partitions)),
        ingress=found.backlogs,
        agents=tuple(agent_document(one, cards, found.at_ms) for one in found.agents),
        workflows=found.workflows,
        steps=found.steps,
        events=found.events,
        dead_letters=found.dead_letters,
        approvals=found.approvals,
        oldest_approval=None if oldest is None else _oldest(oldest),
        incidents=tuple(map(_incident, found.incidents[:limit])),
        incidents_total=found.incidents.total,
        stuck=tuple(StuckDocument(severity=one.severity, what=one.what, next=one.next_step) for one in found.stuck),
        notices_undelivered=undelivered,
    )


def _router(one: RouterStatus) -> RouterDocument:
    return RouterDocument(
        instance=one.instance,
        state=one.state,
        started_at=rfc3339_or_none(one.started_at_ms or None),
        heard_at=rfc3339(one.heard_at_ms),
        partitions=one.partitions,
        people=PeopleSource(source=one.people_from, version=one.people or None) if one.people_from else None,
        answers=one.answers or None,
    )


def _partition(one: PartitionStatus) -> PartitionDocument:
    hold = one.hold
    return PartitionDocument(
        partition=one.partition,
        owner=one.owner,
        owner_since=rfc3339_or_none(one.owner_since_ms or None),
        last_decision_at=rfc3339_or_none(one.decided_at_ms or None),
        inbox_lag=one.inbox_lag,
        results_lag=one.results_lag,
        clock=None if hold is None else ClockDocument(ahead_s=hold.ahead_ms / 1_000, since=rfc3339(hold.since_ms)),
    )


def _replica(row: CardRow, now_ms: int) -> Replica:
    card = row.card
    return Replica(
        instance=card.instance,
        version=card.version,
        alive=row.is_alive(now_ms),
        stopped=card.stopped,
        concurrency=card.concurrency,
        renewed_at=rfc3339(row.renewed_at_ms),
        input_schema=card.input_schema,
        output_schema=card.output_schema,
    )


def _card(name: str, one: Replica) -> AgentCard:
    return AgentCard(
        name=name,
        version=one.version,
        topic="",
        instance=one.instance,
        stopped=one.stopped,
        concurrency=one.concurrency,
        input_schema=one.input_schema,
        output_schema=one.output_schema,
    )


def _oldest(row: ApprovalRow) -> OldestApproval:
    return OldestApproval(
        approval_id=row.approval_id,
        workflow_id=row.workflow_id,
        step=row.step,
        question=row.question,
        role=row.role,
        asked_at=rfc3339(row.asked_at_ms),
        deadline_at=rfc3339_or_none(row.deadline_at_ms),
    )


def _incident(one: OpenStep) -> StepIncident:
    return StepIncident(
        workflow_id=one.workflow_id,
        step=one.step,
        kind=one.incident_kind,
        message=one.incident_message,
        since=rfc3339(one.since_ms),
    )

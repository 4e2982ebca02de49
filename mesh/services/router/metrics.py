"""What a router counts: confirmed decisions batch by batch, and what it holds once a second.

Owns which event counts in which metric. It decides nothing, keeps no more than a few values for
each task or question that is open, and is not there at all if metrics are off. `flight` calls
`note` once for each batch that the log has; `mesh.metrics.metering` calls `sample`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import structlog

from mesh.core import ids
from mesh.core.events import (
    ApprovalRequested,
    ApprovalRequested2,
    Decision,
    Event,
    IncidentRaised,
    InputParked,
    RetryScheduled,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskHeld,
    TaskSucceeded,
    TasksWithdrawn,
    WorkflowEnded,
    WorkflowStarted,
)
from mesh.core.limits import LIMITER, limiter_name
from mesh.core.pauses import paused_by
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.errors import BrokerError
from mesh.metrics import names
from mesh.metrics.earliest import Earliest
from mesh.metrics.meters import Meters
from mesh.ports import Broker, Clock, Committed, TopicPartition
from mesh.services.router.batch import Batch
from mesh.services.router.checkpoint import Checkpoints
from mesh.services.router.ingress import Ingress
from mesh.services.router.owner import Owner

_log = structlog.get_logger()
_LAG_EVERY_S: Final = 10.0

Series = dict[tuple[str, ...], float]
Attempt = tuple[str, int]  # task id and number


class Open:
    """The open approvals, or the open incidents, of all partitions of a router."""

    def __init__(self) -> None:
        self.by_route: Counter[str] = Counter()
        self.since = Earliest()
        self.deadlines = Earliest()
        self._known: set[tuple[str, str]] = set()

    def put(self, workflow: str, place: str, since_ms: int, due_at_ms: int | None) -> None:
        name = (workflow, place)
        if name not in self._known:
            self._known.add(name)
            self.by_route[ids.route_of(workflow)] += 1
        self.since.put(name, since_ms)
        if due_at_ms is None:
            self.deadlines.drop(name)
        else:
            self.deadlines.put(name, due_at_ms)

    def drop(self, workflow: str, place: str) -> None:
        name = (workflow, place)
        if name in self._known:
            self._known.discard(name)
            self.by_route[ids.route_of(workflow)] -= 1
            self.since.drop(name)
            self.deadlines.drop(name)


class RouterMetrics:
    """The metrics of one router."""

    def __init__(self, meters: Meters, topics: Topics, broker: Broker, clock: Clock, *, partitions: int) -> None:
        self.meters = meters
        self._partitions = partitions
        self.approvals = Open()
        self.incidents = Open()
        self.parked: Counter[str] = Counter()
        self._held: dict[PartitionMetrics, Owner] = {}
        self._topics = topics
        self._broker = broker
        self._clock = clock

    def of_partition(self) -> "PartitionMetrics":
        return PartitionMetrics(self)

    def taken_over(self, owners: Iterable[Owner]) -> None:
        """These partitions were taken over, if they were not lost again on the way."""
        self.meters.count(names.TAKEOVERS, (), sum(not owner.is_lost() for owner in owners))

    # Once a second --------------------------------------------------------------------------------

    def sample(self, owners: Iterable[Owner], ingress: Ingress, checkpoints: Checkpoints) -> None:
        """Read what is not counted: how things are now."""
        meters, now_ms = self.meters, self._clock.now_ms()
        held = [owner for owner in owners if not owner.is_lost()]
        self._follow(held)
        meters.put(names.PARTITIONS, {(): len(held)})
        meters.put(names.PARTITION_COUNT, {(): self._partitions})
        meters.put(names.WORKFLOWS_HELD, {(): sum(len(owner.state.workflows) for owner in held)})
        meters.put(names.CLOCK_HELD, {(): sum(owner.state.hold is not None for owner in held)})
        meters.put(names.CHECKPOINTS, {("saved",): checkpoints.saved, ("failed",): checkpoints.failed})
        copied: Series = {(kind,): count for kind, count in ingress.copies.counts.items() if kind != "dead_letters"}
        meters.put(names.COPIED, copied)
        none: Series = {(part, code): 0 for part in ("ingress", "router") for code in names.DEAD_LETTER_CODES}
        dead: Series = {("ingress", code): count for code, count in ingress.copies.dead_letters.items()}
        parked: Series = {("router", code): count for code, count in self.parked.items()}
        meters.put(names.DEAD_LETTERS, none | dead | parked)
        self._sample_open(now_ms)
        self._sample_limits(held)
        self._sample_pauses(held)
        self._sample_ages(held, now_ms)

    def _follow(self, held: Iterable[Owner]) -> None:
        """Tell what is open of the partitions that are held now, and of no others."""
        before, self._held = self._held, {owner.metrics: owner for owner in held if owner.metrics is not None}
        for metrics in before.keys() - self._held.keys():
            metrics.end()
        for metrics in self._held.keys() - before.keys():
            metrics.begin(self._held[metrics].state.workflows.values())

    def _sample_open(self, now_ms: int) -> None:
        meters, approvals, incidents = self.meters, self.approvals, self.incidents
        meters.put(names.APPROVALS_OPEN, _labelled(approvals.by_route))
        meters.put(names.INCIDENTS_OPEN, _labelled(incidents.by_route))
        meters.put(names.APPROVALS_AGE, {(): _age_s(approvals.since.first(), now_ms)})
        meters.put(names.INCIDENTS_AGE, {(): _age_s(incidents.since.first(), now_ms)})
        deadline_ms = approvals.deadlines.first()
        meters.put(names.APPROVALS_DEADLINE, {} if deadline_ms is None else {(): deadline_ms / 1000})

    def _sample_limits(self, owners: Iterable[Owner]) -> None:
        holds, waits = Counter[str](), Counter[str]()
        for owner in owners:
            if owner.metrics is not None:
                for limiter, (held, waiting) in owner.metrics.slots.items():
                    # a limit's keys may be customers
                    limit = limiter_name(limiter).partition("/")[0]
                    holds[limit] += held
                    waits[limit] += waiting
        self.meters.put(names.LIMIT_HELD, _labelled(holds))
        self.meters.put(names.LIMIT_WAITING, _labelled(waits))

    def _sample_pauses(self, owners: Iterable[Owner]) -> None:
        paused = Counter[str]()
        for owner in owners:
            holder = owner.state.workflows.get(ids.pauses_of(owner.partition, self._partitions))
            paused.update(paused_by(holder).keys())
        self.meters.put(names.PAUSED, _labelled(paused))

    def _sample_ages(self, owners: Iterable[Owner], now_ms: int) -> None:
        oldest = dict.fromkeys((self._topics.results, self._topics.inbox), now_ms)
        for owner in owners:
            for record in owner.inputs.heads():
                oldest[record.topic] = min(oldest[record.topic], record.timestamp_ms)
        self.meters.put(names.AGE, {(topic,): _age_s(at_ms, now_ms) for topic, at_ms in oldest.items()})

    # Every ten seconds ----------------------------------------------------------------------------

    async def follow_lag(self, owners: Mapping[int, Owner], ingress: Ingress) -> None:
        """Ask the broker how much is unread, until cancelled."""
        while True:
            try:
                await self._measure_lag(owners, ingress)
            except BrokerError as error:
                _log.debug("lag_unknown", error=str(error))
            await asyncio.sleep(_LAG_EVERY_S)

    async def _measure_lag(self, owners: Mapping[int, Owner], ingress: Ingress) -> None:
        # the positions first: what comes meanwhile is then unread, and no lag is negative
        read = {
            TopicPartition(topic, owner.partition): owner.state.positions.get(topic, 0)
            for owner in owners.values()
            for topic in (self._topics.results, self._topics.inbox)
        }
        copies = list(ingress.shares())
        committed = await self._broker.committed(self._topics.ingress_group, copies) if copies else {}
        read |= {tp: _offset(committed.get(tp)) for tp in copies}
        ends = await self._broker.end_offsets(list(read)) if read else {}
        # markers of transactions count, too: they are passed with the record behind them
        lag = Counter[str](dict.fromkeys((self._topics.results, self._topics.inbox, *ingress.copies.converters), 0))
        for tp, end in ends.items():
            lag[tp.topic] += max(0, end - read[tp])
        self.meters.put(names.LAG, _labelled(lag))


class PartitionMetrics:
    """Of one hold on a partition. `slots`: of each limiter, how many are held and how many wait."""

    def __init__(self, router: RouterMetrics) -> None:
        self.slots: dict[str, tuple[int, int]] = {}
        self._router = router
        self._meters = router.meters
        # by workflow: when its attempts went out, and to whom
        self._out: dict[str, dict[Attempt, tuple[int, str]]] = {}
        self._open: dict[str, set[str]] = {}
        self._is_held = False

    def begin(self, workflows: Iterable[Workflow]) -> None:
        """Begin with what there is: the partition is ours, or ours again."""
        self._is_held = True
        for workflow in workflows:
            self._look_at_limiter(workflow)
            if workflow.status == "running":
                for place, step in workflow.steps.items():
                    if step.status == "running":
                        self._sent(workflow.workflow_id, (step.task_id, step.attempt), step.since_ms, step.agent)
                    elif step.status in {"asking", "incident"}:
                        self._look_at(workflow.workflow_id, workflow, place)

    def end(self) -> None:
        """The partition is not ours any more: what is open is another router's to tell."""
        self._is_held = False
        for workflow in list(self._open):
            self._look_at_all(workflow, None)
        self.slots.clear()
        self._out.clear()

    def note(self, batch: Batch) -> None:
        """Count what the log has of this batch."""
        kinds: dict[str, int] = {}
        opened = self._open
        for decision in batch.decisions:
            workflow_id = decision.workflow_id
            route = ids.route_of(workflow_id)
            kind = decision.cause.kind
            kinds[kind] = kinds.get(kind, 0) + 1
            is_open = workflow_id in opened
            for event in decision.events:
                count = _COUNTS.get(type(event))
                if count is None:
                    continue
                count(self, workflow_id, route, decision.at_ms, event)
                is_open = is_open or type(event) in _OPENS
            # few workflows are here
            if is_open and self._is_held:
                self._look_at_events(decision, self._changed(batch, workflow_id))
            if route == LIMITER:
                self._look_at_limiter(batch.changed.get(workflow_id))
        for kind, number in kinds.items():
            self._meters.count(names.DECISIONS, (kind,), number)

    # What is open ---------------------------------------------------------------------------------

    @staticmethod
    def _changed(batch: Batch, workflow_id: str) -> Workflow | None:
        """The workflow after the batch, if it is still running."""
        workflow = batch.changed.get(workflow_id)
        return workflow if workflow is not None and workflow.ended_at_ms is None else None

    def _look_at_events(self, decision: Decision, workflow: Workflow | None) -> None:
        for event in decision.events:
            place = getattr(event, "step", None)
            if isinstance(place, str):
                self._look_at(decision.workflow_id, workflow, place)
            else:
                self._look_at_all(decision.workflow_id, workflow)

    def _look_at(self, workflow_id: str, workflow: Workflow | None, place: str) -> None:
        """Note whether a step waits for people, or for an operator. The state says so."""
        step = workflow.steps.get(place) if workflow is not None else None
        status = None if step is None else step.status
        for open_, is_open in ((self._router.approvals, "asking"), (self._router.incidents, "incident")):
            if step is not None and status == is_open:
                open_.put(workflow_id, place, step.since_ms, step.due_at_ms if status == "asking" else None)
            else:
                open_.drop(workflow_id, place)
        if status in {"asking", "incident"}:
            self._open.setdefault(workflow_id, set()).add(place)
        elif workflow_id in self._open:
            places = self._open[workflow_id]
            places.discard(place)
            if not places:
                del self._open[workflow_id]

    def _look_at_all(self, workflow_id: str, workflow: Workflow | None) -> None:
        for place in list(self._open.get(workflow_id, ())):
            self._look_at(workflow_id, workflow, place)

    def _look_at_limiter(self, workflow: Workflow | None) -> None:
        limiter = None if workflow is None else workflow.limiter
        if workflow is None or limiter is None:
            return
        if limiter.is_idle:
            self.slots.pop(workflow.workflow_id, None)
        else:
            self.slots[workflow.workflow_id] = (len(limiter.holders), len(limiter.queue))

    # What is counted ------------------------------------------------------------------------------

    def _sent(self, workflow_id: str, attempt: Attempt, at_ms: int, agent: str) -> None:
        out = self._out.get(workflow_id)
        if out is None:
            out = self._out[workflow_id] = {}
        out[attempt] = (at_ms, agent)

    def _back(self, workflow_id: str, attempt: Attempt) -> tuple[int, str] | None:
        out = self._out.get(workflow_id)
        if out is None:
            return None
        found = out.pop(attempt, None)
        if not out:
            del self._out[workflow_id]
        return found

    # One for each kind of event: a table finds it sooner than a `match` of a dozen classes.

    def on_task_dispatched(self, workflow_id: str, route: str, at_ms: int, event: TaskDispatched) -> None:
        self._sent(workflow_id, (event.task_id, event.attempt), at_ms, event.agent)
        self._meters.count(names.STEP_ATTEMPTS, (route, ids.step_of(event.step), event.agent))

    def on_result(
        self, workflow_id: str, route: str, at_ms: int, event: TaskSucceeded | TaskFailed | TaskHandedOver
    ) -> None:
        step = ids.step_of(event.step)
        sent = self._back(workflow_id, (event.task_id, event.attempt))
        agent = "" if sent is None else sent[1]
        # an attempt that nobody waited for any more has been counted
        if sent is not None:
            error = names.error_type(event.kind) if isinstance(event, TaskFailed) else ""
            self._meters.observe(names.STEP_DURATION, (route, step, agent, error), (at_ms - sent[0]) / 1000)
        if event.usage:
            for amount, spent in event.usage.items():
                self._meters.count(names.BUDGET_SPENT, (route, step, agent, amount), spent)

    def on_workflow_started(self, _id: str, route: str, _at_ms: int, _event: WorkflowStarted) -> None:
        self._meters.count(names.WORKFLOWS_STARTED, (route,))

    def on_workflow_ended(self, workflow_id: str, route: str, _at_ms: int, event: WorkflowEnded) -> None:
        self._out.pop(workflow_id, None)
        self._meters.count(names.WORKFLOWS_ENDED, (route, event.status))

    def on_tasks_withdrawn(self, workflow_id: str, _route: str, _at_ms: int, event: TasksWithdrawn) -> None:
        for task in event.tasks:
            self._back(workflow_id, (task.task_id, task.attempt))

    def on_retry_scheduled(self, _id: str, route: str, _at_ms: int, event: RetryScheduled) -> None:
        self._meters.count(names.RETRIES, (route, ids.step_of(event.step)))

    def on_incident_raised(self, _id: str, route: str, _at_ms: int, event: IncidentRaised) -> None:
        self._meters.count(names.INCIDENTS_RAISED, (route, event.kind))

    def on_approval_requested(self, _id: str, route: str, _at_ms: int, _event: ApprovalRequested) -> None:
        self._meters.count(names.APPROVALS_ASKED, (route,))

    def on_task_held(self, _id: str, route: str, _at_ms: int, event: TaskHeld) -> None:
        if not event.is_paused:
            self._meters.count(names.BUDGET_HELD, (route,))

    def on_input_parked(self, _id: str, _route: str, _at_ms: int, event: InputParked) -> None:
        self._router.parked[event.code] += 1


_COUNTS: Final[dict[type[Event], Callable[[PartitionMetrics, str, str, int, Any], None]]] = {
    TaskDispatched: PartitionMetrics.on_task_dispatched,
    TaskSucceeded: PartitionMetrics.on_result,
    TaskFailed: PartitionMetrics.on_result,
    TaskHandedOver: PartitionMetrics.on_result,
    WorkflowStarted: PartitionMetrics.on_workflow_started,
    WorkflowEnded: PartitionMetrics.on_workflow_ended,
    TasksWithdrawn: PartitionMetrics.on_tasks_withdrawn,
    RetryScheduled: PartitionMetrics.on_retry_scheduled,
    IncidentRaised: PartitionMetrics.on_incident_raised,
    ApprovalRequested: PartitionMetrics.on_approval_requested,
    ApprovalRequested2: PartitionMetrics.on_approval_requested,
    TaskHeld: PartitionMetrics.on_task_held,
    InputParked: PartitionMetrics.on_input_parked,
}
_OPENS: Final = frozenset({ApprovalRequested, ApprovalRequested2, IncidentRaised})


def _labelled(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): number for name, number in counts.items()}


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000


def _offset(committed: Committed | None) -> int:
    return 0 if committed is None else committed.offset

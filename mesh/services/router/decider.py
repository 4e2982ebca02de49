"""One input to one decision: decided on the partition's state, encoded, and applied to the state.

Owns the state of a partition that has an owner. Only a decision changes it, and each goes into a
batch. A decision that is too large for the broker, or that causes a record which is, is not taken.
It must not know which input is next, nor what the log has acknowledged: its caller, `owner`, does.
"""

from collections.abc import Callable
from typing import Final

import structlog
from msgspec.structs import replace

from mesh.codec.effects import EffectEncoder
from mesh.codec.log import encode_decision
from mesh.codec.sealing import Key, encode_key, marked, new_key, sealed
from mesh.core import ids
from mesh.core.calendars import CalendarsAt, CalendarUnread, no_calendars
from mesh.core.crossings import crossings
from mesh.core.decide import Decided, decide, get_stuck, park
from mesh.core.effects import effects
from mesh.core.events import AnswerRefused, Cause, Decision, PayloadsErased, WorkflowForgotten
from mesh.core.inputs import (
    AnswerGiven,
    AnswerGiven2,
    Input,
    ResultReceived,
    TaskError,
    TaskUndeliverable,
    TimerDue,
    Undeliverable,
)
from mesh.core.open_approvals import ShowApproval
from mesh.core.pauses import paused_by
from mesh.core.replay import settle
from mesh.core.route import Route
from mesh.core.state import Directory, PartitionState, Workflow
from mesh.core.topics import Topics
from mesh.errors import RecordTooLarge
from mesh.ports import Broker, Entropy, OutRecord, Record, TopicPartition
from mesh.services.router.batch import Batch
from mesh.services.router.config import RouterConfig
from mesh.services.router.deadlines import Deadlines
from mesh.services.router.input_queues import pass_by
from mesh.services.router.input_records import (
    cause_of_parked,
    name_of_crossing,
    parked,
    place,
    refused_with,
    workflow_of,
)
from mesh.services.router.known_versions import KnownVersions, UnknownVersion
from mesh.services.router.oversize import to_withhold
from mesh.services.router.own_inputs import OwnInputs
from mesh.services.router.partition_clock import PartitionClock
from mesh.services.router.spans import Traced

_log = structlog.get_logger()

_ANSWERS: Final = (AnswerGiven, AnswerGiven2)
_LOGGED: Final = 500  # characters of an id or a reason that a log line holds


class Decider:
    """`state`: the result of all decisions so far, including those under way.

    `deadlines`: of the state's workflows. `own`: what could not be sent, which holds the mark back.
    `owes_mark`: effects were acknowledged since the last decision. `signs_heard`: since the last
    decision; only a decision tells the log how far they were read. `keys`: of the private workflows
    in the state, by workflow.
    """

    def __init__(
        self,
        partition: int,
        *,
        broker: Broker,
        topics: Topics,
        config: RouterConfig,
        route_of: Callable[[str], Route | None],
        directory: Callable[[], Directory],
        token: str,
        entropy: Entropy,
        is_traced: bool,
        calendars_at: CalendarsAt = no_calendars,
    ) -> None:
        self.state = PartitionState()
        self.deadlines = Deadlines()
        self.own = OwnInputs()
        self.versions = KnownVersions(route_of, topics.definitions)
        self.clock = PartitionClock(
            partition,
            bound_s=config.clock_jump_s,
            has_own_clock=broker.has_own_clock,
            hold=lambda: self.state.hold,
        )
        self.owes_mark = False
        self.signs_heard = 0
        self.keys: dict[str, Key] = {}
        self._entropy = entropy
        self._route_of = route_of
        self._topics = topics
        self._log = TopicPartition(topics.log, partition)
        self._broker = broker
        self._directory = directory
        self._calendars_at = calendars_at
        self._token = token
        self._encoder = EffectEncoder(topics, partition, config.partitions)
        self._is_traced = is_traced
        self._pauses_id = ids.pauses_of(partition, config.partitions)

    @property
    def mark(self) -> int:
        """The mark that the log may have: nothing below it is still to be sent."""
        return self.own.hold_back(self.state.mark)

    def begin(self, state: PartitionState) -> None:
        """Go on from this state, as a take-over has read it."""
        self.state, workflows = state, state.workflows.values()
        self.deadlines.timers.rebuild(workflows)
        # the owner before has not let all go on
        self._release(state.at_ms)

    def _release(self, at_ms: int) -> None:
        """Let go on what the pauses that were lifted had held."""
        holder = self.state.workflows.get(self._pauses_id)
        if holder is not None:
            self.deadlines.timers.releasing.begin(holder, self.state.workflows.values(), at_ms)

    def decide(
        self, batch: Batch, given: Input, cause: Cause, now_ms: int, *, directory: Directory | None = None
    ) -> None:
        """Decide one input. `directory`: as of the input's time; None: as it is now.

        Raises `RecordTooLarge` if what follows can't be sent and there is no other way to decide
        it, and `CalendarUnread` if the directory has no calendars and it needs one.
        """
        workflow = self.state.workflows.get(given.workflow_id)
        route = self.versions.deciding_on(given, workflow)
        target, limit = self.versions.migrating_to(given), self._broker.max_record_bytes
        withheld: dict[str, str] = {}
        while True:
            # It is pure, so it may be asked again, each time with more
            # of what is too large withheld.
            decided = decide(
                workflow,
                given,
                route=route,
                directory=self._directory() if directory is None else directory,
                now_ms=now_ms,
                target=target,
                withheld=withheld,
                pauses=paused_by(self.state.workflows.get(self._pauses_id)),
            )
            # a timer that no longer fits its workflow: the owner made
            # it, so nobody misses a decision
            if not decided.events:
                return
            if self.emit(batch, decided, given.workflow_id, cause, now_ms):
                if self._is_traced:
                    batch.traced.append(Traced(batch.decisions[-1], given, workflow, decided.workflow))
                return
            # the steps that follow are to blame, if there are any; what is handed over is the
            # agent's
            is_handover = isinstance(given, ResultReceived) and given.handover is not None
            more = {} if is_handover else to_withhold(decided.events, limit, withheld)
            if not more:
                break
            withheld |= more
        message = f"what follows of it is larger than the broker takes ({limit} bytes)"
        if isinstance(given, _ANSWERS):
            self.emit(batch, Decided((_answer_too_large(given, message),), workflow), given.workflow_id, cause, now_ms)
            return
        # the caller parks it, or makes its step an incident
        if not (isinstance(given, ResultReceived) and given.status == "succeeded"):
            raise RecordTooLarge(message)
        error = TaskError(kind="too_large", message=f"{message}; let the agent return less", retryable=False)
        # the work is done, but its output can't be logged: the attempt fails, and is not tried
        # again
        failed = replace(given, status="failed", output=None, error=error)
        self.decide(batch, failed, cause, now_ms)

    def decide_own(
        self, batch: Batch, given: TaskUndeliverable | Undeliverable | TimerDue, cause: Cause, now_ms: int
    ) -> None:
        """Decide an input that no record holds.

        It can't be parked. If it can't be processed, its step becomes an incident.
        """
        try:
            try:
                self.decide(batch, given, cause, now_ms)
            except CalendarUnread:
                # no record has a broker's time here: what is known now is what it is asked by
                timed = replace(self._directory(), calendars=self._calendars_at(now_ms))
                self.decide(batch, given, cause, now_ms, directory=timed)
        except UnknownVersion:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost place for an input that no record holds
            _log.exception("own_input_failed", workflow_id=given.workflow_id, cause=cause.id)
            parsed = ids.parse_step_id(given.task_id) if isinstance(given, TaskUndeliverable) else None
            step = parsed.step if parsed else given.step if isinstance(given, TimerDue) else ""
            workflow = self.state.workflows.get(given.workflow_id)
            if workflow is None or step not in workflow.steps or workflow.status != "running":
                return
            message = f"{cause.kind} {cause.id} could not be decided: {type(error).__name__}: {error}"
            decided = get_stuck(workflow, step, message[:2_000], workflow_id=given.workflow_id, now_ms=now_ms)
            self.emit(batch, decided, given.workflow_id, cause, now_ms)

    def emit(self, batch: Batch, decided: Decided, workflow_id: str, cause: Cause, now_ms: int) -> bool:
        """Make the decision, encode it and its effects, and apply it to the state.

        False, with nothing changed: something of it is too large.
        """
        state, crosses = self.state, crossings(decided.events) > 0
        before, after, key = state.workflows.get(workflow_id), decided.workflow, None
        decision = Decision(
            epoch=self._token,
            workflow_id=workflow_id,
            at_ms=now_ms,
            cause=cause,
            positions=state.positions,
            mark=self.own.hold_back(state.mark),
            events=decided.events,
            # counts only records for other workflows, so a decision without any
            # says nothing (docs/adr/0006)
            sequence=state.sequence if crosses else 0,
        )
        if self._is_private(workflow_id, before, after) and not _is_open(decided):
            key, record = self._sealed(decision)
        else:
            record = encode_decision(decision, topic=self._log.topic, partition=self._log.partition)
        limit = self._broker.max_record_bytes
        sends = effects(decision)
        encoded = [self._encoder.encode(effect) for effect in sends]
        # checked before the state is touched: a decision is taken in whole or not at all
        for out in (record, *encoded):
            if out.size_bytes() > limit:
                return False
        # what is open must reach its topic in the order of the log, as records for others must
        if sends and ShowApproval in map(type, sends):
            places = [n for n, effect in enumerate(sends, len(batch.effects)) if isinstance(effect, ShowApproval)]
            batch.places += [(n, len(batch.decisions)) for n in places]
            crosses = True
        if decided.events and type(decided.events[-1]) is PayloadsErased:
            # a key must not go before what is still to be sent of the decisions that it opens
            crosses = True
        if key is not None or self.keys:
            self._note_key(batch, key, decided, workflow_id)
        batch.crosses = batch.crosses or crosses
        batch.decisions.append(decision)
        batch.records.append(record)
        batch.effects.extend(sends)
        batch.effect_records.extend(encoded)
        self._settle(batch, decision, decided.workflow)
        self.owes_mark, self.signs_heard = False, 0
        return True

    def key_of(self, workflow_id: str) -> Key:
        """The key of a private workflow; a new one, which nobody has yet, where it has none."""
        token = self._entropy.token
        return self.keys.get(workflow_id) or new_key(workflow_id, token(), token())

    def _sealed(self, decision: Decision) -> tuple[Key, OutRecord]:
        """The record of a decision on a private workflow, and its key, which may be a new one."""
        key = self.key_of(decision.workflow_id)
        out = sealed(decision, key, self._entropy.token())
        return key, marked(encode_decision(out, topic=self._log.topic, partition=self._log.partition))

    def _note_key(self, batch: Batch, key: Key | None, decided: Decided, workflow_id: str) -> None:
        """Send a new key ahead of the batch, and drop one of what is erased or forgotten."""
        if key is not None and workflow_id not in self.keys:
            batch.keys.append(encode_key(key, topics=self._topics, partition=self._log.partition))
            self.keys[workflow_id] = key
        if decided.workflow is None or (key is None and _is_open(decided)):
            gone = self.keys.pop(workflow_id, None)
            if gone is not None:
                batch.leaving[workflow_id] = gone

    def _is_private(self, workflow_id: str, before: Workflow | None, after: Workflow | None) -> bool:
        if after is not None or before is not None:
            return (after is not None and after.private) or (before is not None and before.private)
        # what came for a workflow that is not there may be as private: a late answer, an event that
        # could not be decided on
        digest = self._directory().routes.get(ids.route_of(workflow_id)) if workflow_id else None
        route = None if digest is None else self._route_of(digest)
        return route is not None and route.private

    def _settle(self, batch: Batch, decision: Decision, workflow: Workflow | None) -> None:
        state, workflow_id, hold = self.state, decision.workflow_id, self.state.hold
        settle(state, decision, workflow)
        if hold is not None and state.hold is None:
            # For a release of our own, the clock has moved the offset already.
            if decision.cause.kind != "clock":
                self.clock.released(hold)
            # what was due by the time before may be hours away by that of now
            self._release(decision.at_ms)
        cause = decision.cause
        if cause.source_topic:
            key = f"{cause.source_topic}/{cause.source_partition}"
            batch.watermarks[key] = (cause.source_offset, cause.source_index)
        if workflow_id:
            batch.changed[workflow_id] = workflow
        if workflow is not None:
            self.deadlines.arm(decision, workflow)
            if workflow_id == self._pauses_id:
                self._release(decision.at_ms)

    def park(
        self, batch: Batch, record: Record, code: str, message: str, now_ms: int, *, workflow_id: str | None = None
    ) -> None:
        """Log the input as it came, or as much of it as fits.

        Its effect sends it to the dead letters. A workflow that waits for it gets a substitute
        answer. `workflow_id`: without it, the record's key says whose input it was. Empty: it is of
        a workflow whose decisions are in another partition, and has no place among those.
        """
        workflow_id = workflow_of(record) if workflow_id is None else workflow_id
        # first, because the decision must carry the position behind it
        pass_by(record, self.state)
        _log.error(
            "input_parked", workflow_id=workflow_id[:_LOGGED], input=place(record), code=code, reason=message[:_LOGGED]
        )
        cause, workflow = cause_of_parked(record), self.state.workflows.get(workflow_id)
        about = name_of_crossing(record)
        # from the whole input to less and less of it: the first that fits is logged
        for event in parked(record, code, message):
            refused = refused_with(record, event.code, event.message)
            decided = park(workflow, event, about, workflow_id=workflow_id, now_ms=now_ms, refused=refused)
            if self.emit(batch, decided, workflow_id, cause, now_ms):
                return


def _is_open(decided: Decided) -> bool:
    """Whether it says nothing that is private: who erased a workflow, or that it is forgotten."""
    last = decided.events[-1] if decided.events else None
    return isinstance(last, PayloadsErased) or (isinstance(last, WorkflowForgotten) and len(decided.events) == 1)


def _answer_too_large(given: AnswerGiven | AnswerGiven2, message: str) -> AnswerRefused:
    """Refuse the answer with a receipt. The question stays open."""
    return AnswerRefused(
        approval_id=given.approval_id,
        answer_id=given.answer_id,
        code="too_large",
        message=message,
        by=given.by[: ids.MAX_ID],
    )

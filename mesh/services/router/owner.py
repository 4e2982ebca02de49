"""The owner of one log partition: inputs in, decisions out, effects after their acknowledgement.

Owns a partition's state while it decides on it. It must not send anything that the log does not
hold, and must not decide on a state that the log may not have. As soon as an append's outcome is
not the expected one, all of it is dropped (`is_lost`), and the partition is taken afresh.

The life of a batch, pipelined up to `max_flights` deep:

    offer(records) -> next_batch(now) -> `flight.fly`: append -> acknowledgement checked
                      (decides on the                            |          |
                       unconfirmed state)        confirmed state, for       effects sent
                                                 the checkpoint             |         |
                                                                 mark advances   failures become
                                                                                 inputs

Everything here is synchronous, and one router's loop is its only caller. `flight` and `takeover` do
the I/O.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from mesh.codec.effects import EffectEncoder
from mesh.codec.log import encode_decision
from mesh.core import ids
from mesh.core.clock import Sighting, in_partition_time
from mesh.core.crossings import crossings
from mesh.core.decide import Decided, decide, park
from mesh.core.effects import effects
from mesh.core.events import (
    AnswerRefused,
    Cause,
    ClockHeld,
    ClockReleased,
    Decision,
    IncidentRaised,
    InputAttempted,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import (
    AnswerGiven,
    EventOffered,
    InboxInput,
    Input,
    ResultReceived,
    SignReceived,
    TaskError,
    TaskUndeliverable,
    TimerDue,
    Undeliverable,
)
from mesh.core.ownership import Ownership, Phase
from mesh.core.replay import is_repeated, settle
from mesh.core.route import Route
from mesh.core.state import Directory, PartitionState, Workflow
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, RecordTooLarge
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.router.batch import Batch, Flight
from mesh.services.router.clock import Sight, blind
from mesh.services.router.config import RouterConfig
from mesh.services.router.confirmed_state import Confirmed
from mesh.services.router.deadlines import Deadlines
from mesh.services.router.input_records import (
    cause_of_parked,
    inbox_input,
    name_of_crossing,
    parked,
    place,
    reply_input,
    source_of,
    workflow_of,
)
from mesh.services.router.known_versions import KnownVersions, UnknownVersion
from mesh.services.router.spans import RouterSpans, Traced
from mesh.services.router.timers import AWAITED, Awaited

_log = structlog.get_logger()

CAREFUL_AFTER: Final = 3
"""This many owners in a row without progress, ourselves included, make us careful.

Then inputs are announced in the log before they are touched, one at a time.
"""

_LOGGED: Final = 500  # characters of an id or a reason that a log line holds
_MARK_AFTER: Final = 1_000  # signs of life that a new owner would have to read again


class Owner:
    """One hold on one partition.

    `state` is the result of all decisions so far, including those under way. `confirmed` is what
    the log is known to have.
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
        tracing: RouterSpans | None = None,
    ) -> None:
        self.partition = partition
        self.log = TopicPartition(topics.log, partition)
        self.ownership = Ownership(token)
        self.tracing = tracing
        self.state = PartitionState()
        self.deadlines = Deadlines()
        self.read: dict[str, int] = {}  # the next offset to read, by topic
        # where the reader stands, by topic: behind offsets that hold no record, too
        self.passed: dict[str, int] = {}
        self.confirmed = Confirmed()
        # from this machine's clock to the partition's time
        self.clock_offset_ms = 0
        # a broker never stamps a record with an earlier time than the one before it
        self.is_stamped_ahead = False
        self._of_clock: ClockHeld | ClockReleased | None = None  # to be logged
        self.careful = False
        self.versions = KnownVersions(route_of, topics.definitions)
        self.wanted_digest: str | None = None
        self.lost_because = ""
        self._broker = broker
        self._topics = topics
        self._config = config
        self._directory = directory
        self._encoder = EffectEncoder(topics, partition, config.partitions)
        self._results: deque[Record] = deque()
        self._inbox: deque[Record] = deque()
        # with their place in the log
        self._own_inputs: deque[tuple[int, TaskUndeliverable | Undeliverable]] = deque()
        # by ourselves, in the log or on its way there
        self._announced: tuple[str, int] | None = None
        self.flights: list[Flight] = []  # under way, in order
        self._owes_mark = False
        self._signs_heard = 0  # since the last decision

    # What the router asks -------------------------------------------------------------------------

    def is_lost(self) -> bool:
        return self.ownership.phase is Phase.LOST

    @property
    def backlog(self) -> int:
        return len(self._results) + len(self._inbox)

    @property
    def is_stalled(self) -> bool:
        """Whether it has inputs but must wait for a flight before it can decide on them."""
        return bool(self.backlog) and len(self.flights) >= self._config.max_flights

    @property
    def wants_records(self) -> bool:
        return self.backlog < self._config.max_backlog

    def offer(self, record: Record) -> None:
        """Take the next record of an input topic."""
        self.read[record.topic] = record.offset + 1
        (self._results if record.topic == self._topics.results else self._inbox).append(record)

    @property
    def awaits_position(self) -> bool:
        """Whether a timer waits for inputs to be read up to where they ended.

        And no decision has come that far: there may be no record at that end.
        """
        barrier, positions = self.deadlines.barrier, self.state.positions
        return barrier is not None and any(positions.get(t, 0) < end for t, end in barrier.targets.items())

    def note_positions(self, position: Callable[[TopicPartition], int]) -> None:
        """The reader is at `position`, and what it has brought was offered."""
        self.passed = {topic: position(TopicPartition(topic, self.partition)) for topic in self.read}

    def lose(self, reason: str) -> None:
        """Give up the hold. What is unconfirmed is dropped."""
        if not self.lost_because:
            self.lost_because = reason
            _log.warning("ownership_lost", partition=self.partition, reason=reason)
        self.ownership.lose(reason)

    # The clock ------------------------------------------------------------------------------------

    @property
    def ahead_ms(self) -> int:
        """How far the broker's clock is ahead of the partition's time."""
        return 0 if self.state.hold is None else self.state.hold.ahead_ms

    def hear_clock(self, broker_ms: int, sent_ms: int, now_ms: int, sight: Sight = blind) -> None:
        """Check whether the broker's clock has jumped.

        It has stamped a record at `broker_ms`, which left here at `sent_ms`, and it is `now_ms`
        here. If this machine can't tell that its own clock has not jumped, the broker's is
        believed.
        """
        offset, bound_ms = broker_ms - now_ms - 1 - self.ahead_ms, self._config.clock_jump_s * 1_000
        if not self._broker.has_own_clock:  # it is watched here
            self.is_stamped_ahead = broker_ms - now_ms > bound_ms
            return
        jump_ms, early_ms = offset - self.clock_offset_ms, sent_ms + self.clock_offset_ms - broker_ms + self.ahead_ms
        # an acknowledgement that was long on its way looks like a clock that was put back
        if jump_ms <= bound_ms and (jump_ms >= -bound_ms or early_ms <= bound_ms):
            return
        seen = sight()
        if seen is None:
            _log.warning("clock_jumped", partition=self.partition, by_s=jump_ms / 1000)
            self.clock_offset_ms = offset
        else:
            self.hold_clock(jump_ms, seen, "the broker's clock jumped")

    def own_clock_jumped(self, by_ms: int, seen: Sighting | None) -> None:
        """Note that this machine's clock has jumped.

        The partition's time does not follow it, and the broker's clock may be the same.
        """
        self.clock_offset_ms -= by_ms
        self._distrust_flights()
        if not self._broker.has_own_clock:
            self.hold_clock(by_ms, seen, "this machine's clock jumped")

    def hold_clock(self, jump_ms: int, seen: Sighting | None, why: str) -> None:
        """Note that the broker's clock has moved by `jump_ms` more than time has passed.

        That is logged with the next batch. If the clock is right again by that, nothing is held any
        longer.
        """
        self._distrust_flights()
        ahead_ms, bound_ms = self.ahead_ms + jump_ms, self._config.clock_jump_s * 1_000
        by_s, ahead_s = jump_ms / 1_000, ahead_ms / 1_000
        if abs(ahead_ms) <= bound_ms:
            _log.warning("clock_right_again", partition=self.partition, by_s=by_s)
            self.clock_offset_ms += ahead_ms
            self._of_clock = ClockReleased(reason=f"{why} by {by_s:+.1f} s, and is right again", seen=seen)
            return
        _log.warning(
            "clock_held",
            partition=self.partition,
            by_s=by_s,
            ahead_s=ahead_s,
            reason=why,
            next="deadlines go on by what really passes; set the clock right, or run `mesh clock release`",
        )
        self._of_clock = ClockHeld(ahead_ms=ahead_ms, reason=f"{why} by {by_s:+.1f} s", seen=seen)

    def _distrust_flights(self) -> None:
        """What is under way left by another clock than the one it is acknowledged by."""
        for flight in self.flights:
            flight.is_timed = False

    def _note_clock(self, now_ms: int) -> Batch | None:
        """A batch that logs what has become of the clock, and nothing else."""
        event, self._of_clock = self._of_clock, None
        if event is None:
            return None
        batch = Batch()
        name = ids.clock_of(self.partition, self._config.partitions)
        cause = Cause(kind="clock", id=f"{name}/{now_ms}")
        self._emit(batch, Decided((event,), None), name, cause, now_ms)
        return self._launch(batch)

    # Deciding -------------------------------------------------------------------------------------

    def is_idle(self, now_ms: int) -> bool:
        """Whether there is nothing to decide: most partitions, in most turns.

        `now_ms`: this machine's clock.
        """
        if self._results or self._inbox or self._own_inputs or self._signs_heard >= _MARK_AFTER:
            return False
        if self._of_clock is not None:
            return False
        due_ms = self.next_due_at_ms()
        return due_ms is None or due_ms > now_ms

    def next_batch(self, now_ms: int) -> Batch | None:
        """Decide on what has been offered and what is due. None: nothing to append.

        `now_ms`: this machine's clock; it is corrected to the broker's here.
        """
        if self.is_lost() or len(self.flights) >= self._config.max_flights:
            return None
        if self._of_clock is not None:
            return self._note_clock(now_ms + self.clock_offset_ms)
        if self.careful:
            try:
                return self._careful_batch(now_ms + self.clock_offset_ms)
            except UnknownVersion as error:
                self.wanted_digest = str(error)
                return None
        batch, now_ms = Batch(), now_ms + self.clock_offset_ms
        try:
            self._take_own(batch, now_ms)
            for queue in (self._results, self._inbox):
                while queue and len(batch) < self._config.max_poll_records:
                    # it leaves the queue only after this: if its version is unknown, it stays at
                    # the head
                    self._take(batch, queue[0], now_ms)
                    queue.popleft()
            self._take_timers(batch, now_ms)
        except UnknownVersion as error:
            self.wanted_digest = str(error)
        if self._signs_heard >= _MARK_AFTER:
            self._emit_mark(batch, now_ms)
        return self._launch(batch)

    def _launch(self, batch: Batch) -> Batch | None:
        if not batch.decisions:
            return None
        batch.positions = batch.decisions[-1].positions
        batch.sequence = self.state.sequence
        batch.hold, batch.seen = self.state.hold, self.state.seen
        batch.first_offset = self.ownership.appending(len(batch))
        # timers are not taken back, so those that no longer fit pile up
        if self.deadlines.timers.is_overgrown:
            self.deadlines.timers.rebuild(self.state.workflows.values())
        return batch

    def _careful_batch(self, now_ms: int) -> Batch | None:
        """Take one input at a time: announce it, and decide it once the log has the announcement.

        If an earlier owner announced the input and did not survive it, the input is parked.
        """
        if self.flights:
            return None
        batch, record = Batch(), self._careful_head()
        if not self._announced:
            self._take_own(batch, now_ms)
            if batch.decisions:
                return self._launch(batch)
        if record is None:
            self._take_timers(batch, now_ms)
            return self._launch(batch)
        place = (record.topic, record.offset)
        if self._announced == place:
            self._take(batch, record, now_ms)
        elif self.confirmed.attempted == place:
            self._park(batch, record, "poison", "owners died on it time and again; it is set aside unread", now_ms)
        else:
            self._announce(batch, record, now_ms)
            return self._launch(batch)
        (self._results if record.topic == self._topics.results else self._inbox).popleft()
        # the input that may have killed the owners before is dealt with
        self.careful, self._announced = False, None
        return self._launch(batch)

    def _careful_head(self) -> Record | None:
        """The announced input, once it has been read; if none was announced, the next."""
        pending = self._announced or self.confirmed.attempted
        for queue in (self._results, self._inbox):
            while queue and self._is_behind(queue[0]):
                queue.popleft()
        heads = [queue[0] for queue in (self._results, self._inbox) if queue]
        # nothing is announced, or what was is decided: any input may be the next
        if pending is None or pending[1] < self.state.positions.get(pending[0], 0):
            return next(iter(heads), None)
        return next((head for head in heads if head.topic == pending[0]), None)

    def _is_behind(self, record: Record) -> bool:
        """Whether this input has its decision, by its place or as a second copy.

        Judged without a look at its value.
        """
        if record.offset < self.state.positions.get(record.topic, 0):
            return True
        source = source_of(record)
        seen = self.state.watermarks.get(f"{source['source_topic']}/{source['source_partition']}") if source else None
        if seen is None or (source["source_offset"], source["source_index"]) > seen:
            return False
        self._advance(record)
        return True

    def _announce(self, batch: Batch, record: Record, now_ms: int) -> None:
        self._announced = (record.topic, record.offset)
        cause = Cause(kind="attempt", id=f"{record.topic}/{record.partition}/{record.offset}")
        event = InputAttempted(topic=record.topic, offset=record.offset)
        self._emit(batch, Decided((event,), None), "", cause, now_ms)

    def _take(self, batch: Batch, record: Record, now_ms: int) -> None:
        """Decide one record, or ignore one that is decided already."""
        if record.offset < self.state.positions.get(record.topic, 0):
            return
        try:
            given, cause = self._input_of(record)
        except MalformedRecord as error:
            self._park(batch, record, "malformed", str(error), now_ms)
            return
        if given is None:
            self._advance(record)
            return
        if isinstance(given, SignReceived):
            self._advance(record)
            self._signs_heard += 1
            at_ms = now_ms if self.has_stale_stamps else self._came_at(record.timestamp_ms, now_ms)
            self.deadlines.signs.hear(given, at_ms)
            return
        if isinstance(given, AnswerGiven | EventOffered) and (self.state.hold is not None or self.is_stamped_ahead):
            given = replace(given, source_at_ms=self._came_at(given.source_at_ms, now_ms))
        # positions are replaced and never changed, so these can be put back
        before = self.state.positions
        self._advance(record)
        try:
            self._decide(batch, given, cause, now_ms)
        except UnknownVersion:
            self.state.positions = before
            raise
        except RecordTooLarge as error:
            self._park(batch, record, "too_large", str(error), now_ms)
        except Exception as error:  # noqa: BLE001 - an input that can't be processed is parked, and holds up nothing else
            _log.exception("input_parked", workflow_id=given.workflow_id, topic=record.topic, offset=record.offset)
            self._park(batch, record, "failed", f"{type(error).__name__}: {error}", now_ms)

    @property
    def has_stale_stamps(self) -> bool:
        """Whether the broker stamps records with a time that does not move.

        Its clock was put back. Then only the order of records tells when they came.
        """
        return self.ahead_ms < 0 or (self.is_stamped_ahead and self.state.hold is None)

    def _came_at(self, at_ms: int, now_ms: int) -> int:
        """When the broker took a record, in the partition's time; not later than now."""
        return min(at_ms, now_ms) if self.has_stale_stamps else in_partition_time(at_ms, self.state.hold, now_ms)

    def _advance(self, record: Record) -> None:
        self.state.positions = {**self.state.positions, record.topic: record.offset + 1}

    def _input_of(self, record: Record) -> tuple[ResultReceived | SignReceived | InboxInput | None, Cause]:
        """The input, or the sign of life, that a record holds; None for a second copy by ingress.

        Raises `MalformedRecord`.
        """
        if record.topic == self._topics.results:
            return reply_input(record)
        given, cause = inbox_input(record)
        return (None if is_repeated(self.state, given) else given), cause

    def _take_own(self, batch: Batch, now_ms: int) -> None:
        """Decide on what could not be sent."""
        while self._own_inputs:
            # before it is decided: its decision's mark may cover it
            own = self._own_inputs.popleft()
            given = own[1]
            match given:
                case TaskUndeliverable():
                    name = ids.attempt_id(given.task_id, given.attempt)
                case Undeliverable():
                    name = given.effect_id
            try:
                self._decide_own(batch, given, Cause(kind="undeliverable", id=name), now_ms)
            except UnknownVersion:
                # it is not decided after all, so it holds the mark back again
                self._own_inputs.appendleft(own)
                raise

    def offer_own(self, given: TaskUndeliverable | Undeliverable, decided_at: int) -> None:
        """Take as an input that an effect can't ever be sent.

        The effect is of a decision at `decided_at` or later. No record holds this input, so the
        log's mark stays before that decision until this one is in the log too. A new owner then
        finds out by itself.
        """
        self._own_inputs.append((decided_at, given))

    @property
    def _mark(self) -> int:
        """The mark that the log may have: nothing below it is still to be sent."""
        return min(self.state.mark, self._own_inputs[0][0]) if self._own_inputs else self.state.mark

    def _decide_own(
        self, batch: Batch, given: TaskUndeliverable | Undeliverable | TimerDue, cause: Cause, now_ms: int
    ) -> None:
        """Decide an input that no record holds.

        It can't be parked. If it can't be processed, its step becomes an incident.
        """
        try:
            self._decide(batch, given, cause, now_ms)
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
            event = IncidentRaised(step=step, kind="parked", message=message[:2_000])
            evolved = evolve(workflow, event, workflow_id=given.workflow_id, at_ms=now_ms)
            self._emit(batch, Decided((event,), evolved), given.workflow_id, cause, now_ms)

    def _take_timers(self, batch: Batch, now_ms: int) -> None:
        """Fire what is due. A timer that an input could still beat waits for its barrier."""
        timers, workflows = self.deadlines.timers, self.state.workflows
        for awaited in AWAITED:
            up_to_ms, room = self._fires_up_to(awaited, now_ms), self._config.max_timers - len(batch)
            for timer in timers.pop_due(awaited, up_to_ms, workflows, limit=room):
                try:
                    self._fire(batch, timer, now_ms)
                except UnknownVersion:
                    # it was taken out but not decided, and would never fire otherwise
                    timers.put_back(awaited, timer)
                    raise
        room = self._config.max_timers - len(batch)
        for timer in self.deadlines.signs.pop_due(self._fires_up_to("results", now_ms), workflows, limit=room):
            self._fire(batch, timer, now_ms)

    def _fires_up_to(self, awaited: Awaited, now_ms: int) -> int:
        return self.deadlines.fires_up_to(awaited, now_ms, self._decided)

    def _decided(self, topic: str) -> int:
        """The offset below which nothing of an input topic is undecided.

        It is where the reader is, once all that it has brought has its decision.
        """
        waiting = self._results if topic == self._topics.results else self._inbox
        position = self.state.positions.get(topic, 0)
        return position if waiting else max(position, self.passed.get(topic, 0))

    def _fire(self, batch: Batch, timer: TimerDue, now_ms: int) -> None:
        name = f"{timer.workflow_id}/{timer.run_id}/{timer.step or 'end'}/{timer.kind}/{timer.due_at_ms}"
        self._decide_own(batch, timer, Cause(kind="timer", id=name, at_ms=timer.due_at_ms), now_ms)

    def wants_barrier(self, now_ms: int) -> int | None:
        """The broker time up to which inputs must be known to be read; None: no need to ask.

        What is due may be decided only after that. `now_ms`: this machine's clock.
        """
        return None if self.is_lost() else self.deadlines.wants_barrier(now_ms + self.clock_offset_ms)

    def next_due_at_ms(self) -> int | None:
        """The nearest time at which there is something to decide without an input.

        By this machine's clock.
        """
        due_ms = self.deadlines.nearest_at_ms()
        return None if due_ms is None else due_ms - self.clock_offset_ms

    def _decide(self, batch: Batch, given: Input, cause: Cause, now_ms: int) -> None:
        """Decide one input.

        Raises `RecordTooLarge` if what follows can't be sent and there is no other way to decide
        it.
        """
        workflow = self.state.workflows.get(given.workflow_id)
        route = self.versions.deciding_on(given, workflow)
        target = self.versions.migrating_to(given)
        decided = decide(workflow, given, route=route, directory=self._directory(), now_ms=now_ms, target=target)
        if not decided.events:
            return
        if self._emit(batch, decided, given.workflow_id, cause, now_ms):
            if self.tracing is not None:
                batch.traced.append(Traced(batch.decisions[-1], given, workflow, decided.workflow))
            return
        message = f"what follows of it is larger than the broker takes ({self._broker.max_record_bytes} bytes)"
        if isinstance(given, AnswerGiven):
            self._emit(batch, Decided((_answer_too_large(given, message),), workflow), given.workflow_id, cause, now_ms)
            return
        if not (isinstance(given, ResultReceived) and given.status == "succeeded"):
            raise RecordTooLarge(message)
        error = TaskError(kind="too_large", message=f"{message}; let the agent return less", retryable=False)
        # the work is done, but its output can't be logged: the attempt fails, and is not tried
        # again
        failed = replace(given, status="failed", output=None, error=error)
        self._decide(batch, failed, cause, now_ms)

    def _emit(self, batch: Batch, decided: Decided, workflow_id: str, cause: Cause, now_ms: int) -> bool:
        """Make the decision, encode it and its effects, and apply it to the state.

        False, with nothing changed: something of it is too large.
        """
        crosses = crossings(decided.events) > 0
        decision = Decision(
            epoch=self.ownership.token,
            workflow_id=workflow_id,
            at_ms=now_ms,
            cause=cause,
            positions=self.state.positions,
            mark=self._mark,
            events=decided.events,
            sequence=self.state.sequence if crosses else 0,
        )
        record = encode_decision(decision, topic=self.log.topic, partition=self.partition)
        limit = self._broker.max_record_bytes
        sends = effects(decision)
        encoded = [self._encoder.encode(effect) for effect in sends]
        # checked before the state is touched: a decision is taken in whole or not at all
        if record.size_bytes() > limit or any(out.size_bytes() > limit for out in encoded):
            return False
        batch.decisions.append(decision)
        batch.records.append(record)
        batch.effects.extend(sends)
        batch.effect_records.extend(encoded)
        batch.crosses = batch.crosses or crosses
        self._settle(batch, decision, decided.workflow)
        self._owes_mark, self._signs_heard = False, 0
        return True

    def _settle(self, batch: Batch, decision: Decision, workflow: Workflow | None) -> None:
        state, workflow_id, hold = self.state, decision.workflow_id, self.state.hold
        settle(state, decision, workflow)
        if hold is not None and state.hold is None and decision.cause.kind != "clock":
            # an operator has it so: from here on the broker's clock counts
            self.clock_offset_ms += hold.ahead_ms
        cause = decision.cause
        if cause.source_topic:
            key = f"{cause.source_topic}/{cause.source_partition}"
            batch.watermarks[key] = (cause.source_offset, cause.source_index)
        if workflow_id:
            batch.changed[workflow_id] = workflow
        if workflow is not None:
            self.deadlines.arm(decision, workflow)

    def _park(self, batch: Batch, record: Record, code: str, message: str, now_ms: int) -> None:
        """Log the input as it came, or as much of it as fits.

        Its effect sends it to the dead letters. A workflow that waits for it gets a substitute
        answer.
        """
        workflow_id = workflow_of(record)
        self._advance(record)
        _log.error(
            "input_parked", workflow_id=workflow_id[:_LOGGED], input=place(record), code=code, reason=message[:_LOGGED]
        )
        cause, workflow = cause_of_parked(record), self.state.workflows.get(workflow_id)
        about = name_of_crossing(record)
        # from the whole input to less and less of it: the first that fits is logged
        for event in parked(record, code, message):
            decided = park(workflow, event, about, workflow_id=workflow_id, now_ms=now_ms)
            if self._emit(batch, decided, workflow_id, cause, now_ms):
                return

    def acknowledge_effects(self, mark: int, *, had_effects: bool) -> None:
        """The broker has acknowledged the effects of every decision below log offset `mark`."""
        self.state.mark = mark
        self._owes_mark = self._owes_mark or had_effects

    def confirm(self, batch: Batch, spans: Sequence[tuple[int, int]]) -> None:
        """The log has this batch, in these spans of (first offset, count)."""
        self.confirmed.take(batch, spans, self.ownership.expected)

    def mark_batch(self, now_ms: int) -> Batch | None:
        """A decision that only carries the mark, for a graceful stop.

        None if the log has the mark.
        """
        if self.is_lost() or not self._owes_mark:
            return None
        batch = Batch()
        self._emit_mark(batch, now_ms + self.clock_offset_ms)
        return self._launch(batch)

    def _emit_mark(self, batch: Batch, now_ms: int) -> None:
        """A decision that only says how far we are."""
        cause = Cause(kind="mark", id=f"mark/{self.partition}/{self._mark}")
        self._emit(batch, Decided((), None), "", cause, now_ms)


def _answer_too_large(given: AnswerGiven, message: str) -> AnswerRefused:
    """Refuse the answer with a receipt. The question stays open."""
    return AnswerRefused(
        approval_id=given.approval_id, answer_id=given.answer_id, code="too_large", message=message, by=given.by
    )

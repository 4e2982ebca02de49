"""The owner of one log partition: inputs in, decisions out, effects after their acknowledgement.

Owns the life of a partition's batches. It must not send anything that the log does not hold, and
must not decide on a state that the log may not have. As soon as an append's outcome is not the
expected one, all of it is dropped (`is_lost`), and the partition is taken afresh.

The life of a batch, pipelined up to `max_flights` deep:

    input queues -> next_batch(now) -> `flight.fly`: append -> acknowledgement checked
                    (decides on the                            |          |
                     unconfirmed state)        confirmed state, for       effects sent
                                               the checkpoint             |         |
                                                               mark advances   failures become
                                                                               inputs

Everything here is synchronous, and one router's loop is its only caller. `flight` and `takeover` do
the I/O.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from mesh.codec.open_approvals import placed
from mesh.codec.sealing import Key
from mesh.core import ids
from mesh.core.calendars import CalendarUnread, no_calendars
from mesh.core.decide import Decided
from mesh.core.events import Cause, InputAttempted
from mesh.core.inputs import (
    AnswerGiven,
    AnswerGiven2,
    CommandGiven,
    EventOffered,
    InboxInput,
    ResultReceived,
    SignReceived,
    TimerDue,
)
from mesh.core.ownership import Ownership, Phase
from mesh.core.replay import is_repeated
from mesh.core.route import Route
from mesh.core.state import Directory, PartitionState
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, RecordTooLarge
from mesh.ports import Broker, Entropy, Record, TopicPartition
from mesh.services.router.as_of import AsOf
from mesh.services.router.batch import Batch, Flight
from mesh.services.router.careful_mode import CarefulMode
from mesh.services.router.config import RouterConfig
from mesh.services.router.confirmed_state import Confirmed
from mesh.services.router.decider import Decider
from mesh.services.router.foreign_outputs import held_to_card
from mesh.services.router.input_queues import InputQueues, pass_by
from mesh.services.router.input_records import inbox_input, reply_input, strayed
from mesh.services.router.known_versions import UnknownVersion
from mesh.services.router.own_inputs import cause_of_own
from mesh.services.router.people import PeopleFollower, PeopleUnread, checked_answer
from mesh.services.router.spans import RouterSpans
from mesh.services.router.timers import AWAITED, Awaited

if TYPE_CHECKING:
    from mesh.services.router.metrics import PartitionMetrics

_log = structlog.get_logger()

_ANSWERS: Final = (AnswerGiven, AnswerGiven2)
_TIMED: Final = (AnswerGiven, AnswerGiven2, CommandGiven, EventOffered)  # by the broker's stamp
_MARK_AFTER: Final = 1_000  # signs of life that a new owner would have to read again


class Owner:
    """One hold on one partition.

    `state` is the result of all decisions so far, including those under way. `confirmed` is what
    the log is known to have. `flights`: under way, in order. `wants_people_ms`: an answer or an
    order waits for a look at the people's topic; it is the newest broker timestamp that this owner
    has seen.
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
        tracing: RouterSpans | None = None,
        people: PeopleFollower | None = None,
    ) -> None:
        self.partition = partition
        self.log = TopicPartition(topics.log, partition)
        self.ownership = Ownership(token)
        self.tracing = tracing
        self.metrics: PartitionMetrics | None = None
        self.inputs = InputQueues(partition, topics)
        self.confirmed = Confirmed()
        self.careful = CarefulMode()
        self.flights: list[Flight] = []
        self.wanted_digest: str | None = None
        self.lost_because = ""
        self._is_doubted = False
        self._topics = topics
        self._config = config
        self._directory = directory
        self._people = people
        self._decider = Decider(
            partition,
            broker=broker,
            topics=topics,
            config=config,
            route_of=route_of,
            directory=directory,
            token=token,
            entropy=entropy,
            is_traced=tracing is not None,
            calendars_at=no_calendars if people is None else people.calendars_at,
        )
        self._as_of = AsOf(people, directory, self.inputs)
        self.clock = self._decider.clock
        self.deadlines = self._decider.deadlines
        self.versions = self._decider.versions
        self.own_inputs = self._decider.own
        self.keys = self._decider.keys

    @property
    def wants_people_ms(self) -> int | None:
        return self._as_of.wants_ms

    @property
    def state(self) -> PartitionState:
        return self._decider.state

    def move_in(self, state: PartitionState, confirmed: Confirmed) -> None:
        """Begin with what the log has, as the take-over has read it."""
        self.confirmed = confirmed
        self.careful.begin(confirmed.takeovers, confirmed.attempted)
        self._decider.begin(state)

    def key_of(self, workflow_id: str) -> Key:
        """The key with which the confirmed state of a private workflow is sealed."""
        for flight in self.flights:
            # until the log has it, the workflow is neither erased nor forgotten
            if not flight.confirmed.done() and workflow_id in flight.batch.leaving:
                return flight.batch.leaving[workflow_id]
        return self._decider.key_of(workflow_id)

    # What the router asks -------------------------------------------------------------------------

    def is_lost(self) -> bool:
        return self.ownership.phase is Phase.LOST

    @property
    def is_stalled(self) -> bool:
        """Whether it has inputs but must wait for a flight before it can decide on them."""
        return bool(self.inputs) and len(self.flights) >= self._config.max_flights

    @property
    def wants_records(self) -> bool:
        return len(self.inputs) < self._config.max_backlog

    @property
    def awaits_position(self) -> bool:
        """Whether a timer waits for inputs to be read up to where they ended.

        And no decision has come that far: there may be no record at that end.
        """
        barrier, positions = self.deadlines.barrier, self.state.positions
        return barrier is not None and any(positions.get(t, 0) < end for t, end in barrier.targets.items())

    def wants_barrier(self, now_ms: int) -> int | None:
        """The broker time up to which inputs must be known to be read; None: no need to ask.

        What is due may be decided only after that. `now_ms`: this machine's clock.
        """
        return None if self.is_lost() else self.deadlines.wants_barrier(now_ms + self.clock.offset_ms)

    def next_due_at_ms(self) -> int | None:
        """The nearest time at which there is something to decide without an input.

        By this machine's clock.
        """
        due_ms = self.deadlines.nearest_at_ms()
        return None if due_ms is None else due_ms - self.clock.offset_ms

    @property
    def is_on_trial(self) -> bool:
        """Whether it handles an input that owners may have died of, so that nothing else may be."""
        # nothing handles an input that waits for a version, which may take long
        is_waiting = self.wanted_digest is not None or self.wants_people_ms is not None
        return self.careful.announced is not None and not is_waiting and not self.is_lost()

    def is_idle(self, now_ms: int) -> bool:
        """Whether there is nothing to decide: most partitions, in most turns.

        `now_ms`: this machine's clock.
        """
        if self.inputs or self.own_inputs or self._decider.signs_heard >= _MARK_AFTER:
            return False
        if self.clock.event is not None or self.owes_proof:
            return False
        due_ms = self.next_due_at_ms()
        return due_ms is None or due_ms > now_ms

    def note_look(self, below: Mapping[str, int]) -> None:
        """The router has looked at the people's topic.

        `below`: the offsets up to which this owner had read its inputs before the look began.
        """
        self._as_of.note_look(below)

    def wake(self) -> None:
        """Go on: the partition, which another router may have had meanwhile, is ours again."""
        self._is_doubted = True

    @property
    def owes_proof(self) -> bool:
        """Whether it must append something although nothing is to be decided."""
        # A mark counts as progress, and careful mode must see whether there is any. It announces
        # the next input anyway.
        return self._is_doubted and not self.careful.is_on

    def lose(self, reason: str) -> None:
        """Give up the hold. What is unconfirmed is dropped."""
        # the first reason is the cause; errors after it follow from it
        if not self.lost_because:
            self.lost_because = reason
            _log.warning("ownership_lost", partition=self.partition, reason=reason)
        self.ownership.lose(reason)

    # The life of a batch --------------------------------------------------------------------------

    def next_batch(self, now_ms: int) -> Batch | None:
        """Decide on what has been offered and what is due. None: nothing to append.

        `now_ms`: this machine's clock; it is corrected to the broker's here.
        """
        if self.is_lost() or len(self.flights) >= self._config.max_flights:
            return None
        # Before anything is decided by the corrected time: an owner that takes over must find the
        # hold in the log, or it would believe the broker's clock.
        if self.clock.event is not None:
            return self._note_clock(now_ms + self.clock.offset_ms)
        # The acknowledgement shows whether another router has claimed the partition since. Without
        # an input nothing else would show it, and the log would name that router as the owner.
        if self.owes_proof:
            batch = Batch()
            self._emit_mark(batch, now_ms + self.clock.offset_ms)
            return self._launch(batch)
        if self.careful.is_on:
            try:
                return self._careful_batch(now_ms + self.clock.offset_ms)
            except UnknownVersion as error:
                self.wanted_digest = str(error)
            except PeopleUnread:  # a look is on its way
                pass
            return None
        batch, now_ms = Batch(), now_ms + self.clock.offset_ms
        try:
            # First what could not be sent: until it is decided, it holds the mark back.
            self._take_own(batch, now_ms)
            for queue in self.inputs.in_order:
                self._take_queue(batch, queue, now_ms)
            # Timers last: the inputs above may have brought the positions up to
            # the barrier that they wait for.
            self._take_timers(batch, now_ms)
        # what was decided before this input goes out, and all behind it waits for the version
        except UnknownVersion as error:
            self.wanted_digest = str(error)
        # Signs of life cause no decision (docs/adr/0009). Without this, a new owner would read all
        # of them again if nothing else happens.
        if self._decider.signs_heard >= _MARK_AFTER:
            self._emit_mark(batch, now_ms)
        return self._launch(batch)

    def _launch(self, batch: Batch) -> Batch | None:
        if not batch.decisions:
            return None
        # Of the last decision, not of the state: signs and second copies
        # passed since are not in the log.
        batch.positions = batch.decisions[-1].positions
        batch.sequence = self.state.sequence
        batch.hold, batch.seen = self.state.hold, self.state.seen
        batch.first_offset = self.ownership.appending(len(batch))
        self._is_doubted = False
        for index, decision in batch.places:
            batch.effect_records[index] = placed(batch.effect_records[index], batch.first_offset + decision)
        # timers are not taken back, so those that no longer fit pile up
        if self.deadlines.timers.is_overgrown:
            self.deadlines.timers.rebuild(self.state.workflows.values())
        return batch

    def confirm(self, batch: Batch, spans: Sequence[tuple[int, int]]) -> None:
        """The log has this batch, in these spans of (first offset, count)."""
        self.confirmed.take(batch, spans, self.ownership.expected)
        if self.careful.is_decided:
            self.careful.end()

    def acknowledge_effects(self, mark: int, *, had_effects: bool) -> None:
        """The broker has acknowledged the effects of every decision below log offset `mark`."""
        self.state.mark = mark
        # a mark that passes no effects spares a new owner nothing, so
        # it needs no decision of its own
        self._decider.owes_mark = self._decider.owes_mark or had_effects

    def mark_batch(self, now_ms: int) -> Batch | None:
        """A decision that only carries the mark, for a graceful stop.

        None if the log has the mark.
        """
        if self.is_lost():
            return None
        # A mark alone would say that the clock is accounted for.
        if self.clock.event is not None:
            return self._note_clock(now_ms + self.clock.offset_ms)
        # the next owner must not believe that we died of what we have announced
        if not self._decider.owes_mark and self.careful.announced is None:
            return None
        self.careful.announced = None
        batch = Batch()
        self._emit_mark(batch, now_ms + self.clock.offset_ms)
        return self._launch(batch)

    # What goes into it ----------------------------------------------------------------------------

    def _note_clock(self, now_ms: int) -> Batch | None:
        """A batch that logs what has become of the clock, and nothing else."""
        event, self.clock.event = self.clock.event, None
        if event is None:
            return None
        batch = Batch()
        name = ids.clock_of(self.partition, self._config.partitions)
        cause = Cause(kind="clock", id=f"{name}/{now_ms}")
        self._decider.emit(batch, Decided((event,), None), name, cause, now_ms)
        return self._launch(batch)

    def _careful_batch(self, now_ms: int) -> Batch | None:
        """One input at a time: announced first, and decided once the log has the announcement."""
        # The announcement must be in the log before its input is touched,
        # or a death would leave no trail.
        if self.flights:
            return None
        batch, attempted = Batch(), self.confirmed.attempted
        record = self.careful.next_input(self.inputs, self.state, attempted)
        if not self.careful.announced:
            self._take_own(batch, now_ms)
            if batch.decisions:
                return self._launch(batch)
        if record is None:
            self._take_timers(batch, now_ms)
            return self._launch(batch)
        match self.careful.step_for(record, attempted):
            case "announce":
                self._announce(batch, record, now_ms)
                return self._launch(batch)
            case "decide":
                self._take(batch, record, now_ms)
            case "set_aside":
                reason = "owners died on it time and again; it is set aside unread"
                self._decider.park(batch, record, "poison", reason, now_ms)
        self.inputs.of(record.topic).popleft()
        # A sign of life needs no decision. But without one, the log would say that we died of it.
        if not batch.decisions:
            self._emit_mark(batch, now_ms)
        self.careful.is_decided = True
        return self._launch(batch)

    def _announce(self, batch: Batch, record: Record, now_ms: int) -> None:
        self.careful.announced = (record.topic, record.offset)
        cause = Cause(kind="attempt", id=f"{record.topic}/{record.partition}/{record.offset}")
        event = InputAttempted(topic=record.topic, offset=record.offset)
        self._decider.emit(batch, Decided((event,), None), "", cause, now_ms)

    def _take_queue(self, batch: Batch, queue: deque[Record], now_ms: int) -> None:
        """Decide what was offered, up to an answer that can't be judged yet."""
        try:
            while queue and len(batch) < self._config.max_poll_records:
                # it leaves the queue only after this: what can't be decided yet stays at the head
                self._take(batch, queue[0], now_ms)
                queue.popleft()
        # timers that need no answer go on, and so do results
        except PeopleUnread:
            pass

    def _take(self, batch: Batch, record: Record, now_ms: int) -> None:
        """Decide one record, or ignore one that is decided already."""
        decider = self._decider
        state = decider.state
        if record.offset < state.positions.get(record.topic, 0):
            return
        try:
            given, cause = self._input_of(record)
        except MalformedRecord as error:
            decider.park(batch, record, "malformed", str(error), now_ms)
            return
        # its first copy has its decision, so this one gets none (docs/adr/0005)
        if given is None:
            pass_by(record, state)
            return
        # Most workflows are here, so the id is hashed only where one is not.
        found = (
            "" if given.workflow_id in state.workflows else strayed(given, record, partitions=self._config.partitions)
        )
        if found:
            decider.park(batch, record, "wrong_partition", found, now_ms, workflow_id="")
            return
        # No decision (docs/adr/0009): thousands of tasks with
        # heartbeats would fill the log with them.
        if isinstance(given, SignReceived):
            pass_by(record, state)
            decider.signs_heard += 1
            self.deadlines.signs.hear(given, self.clock.heard_at(record.timestamp_ms, now_ms))
            return
        directory, asked_ms = None, record.timestamp_ms
        if isinstance(given, ResultReceived):
            given = held_to_card(given, state, self._directory())
        elif isinstance(given, _TIMED):
            asked_ms = given.source_at_ms
            # an order names people too
            if isinstance(given, _ANSWERS) or (isinstance(given, CommandGiven) and given.order is not None):
                # by the broker's own stamp, which is the same for every owner
                directory = self._as_of.with_people(given, record)
            if isinstance(given, AnswerGiven2) and given.jws:
                max_age_ms = self._config.answer_max_age_ms
                given = checked_answer(self._people, given, directory or self._directory(), max_age_ms)
            # Whether these are in time goes by the broker's stamp, and deadlines go by the
            # partition's time.
            if self.clock.differs:
                given = replace(given, source_at_ms=self.clock.came_at(given.source_at_ms, now_ms))
        # Passed before it is decided, because its decision must carry the position behind it.
        before = state.positions
        pass_by(record, state)
        try:
            try:
                decider.decide(batch, given, cause, now_ms, directory=directory)
            # few inputs ask by a calendar, so only those are looked up
            except CalendarUnread:
                directory = self._as_of.with_calendars(directory or self._directory(), asked_ms, record)
                decider.decide(batch, given, cause, now_ms, directory=directory)
        except (UnknownVersion, PeopleUnread):
            # else the next decision would tell the log that this input is decided
            state.positions = before
            raise
        except RecordTooLarge as error:
            decider.park(batch, record, "too_large", str(error), now_ms)
        except Exception as error:  # noqa: BLE001 - an input that can't be processed is parked, and holds up nothing else
            _log.exception("input_parked", workflow_id=given.workflow_id, topic=record.topic, offset=record.offset)
            decider.park(batch, record, "failed", f"{type(error).__name__}: {error}", now_ms)

    def _input_of(self, record: Record) -> tuple[ResultReceived | SignReceived | InboxInput | None, Cause]:
        """The input, or the sign of life, that a record holds; None for a second copy by ingress.

        Raises `MalformedRecord`.
        """
        # Agents send results straight here, so nothing numbers them, and none is known here for a
        # repeat: `decide` dismisses what comes twice.
        if record.topic == self._topics.results:
            return reply_input(record)
        given, cause = inbox_input(record)
        return (None if is_repeated(self._decider.state, given) else given), cause

    def _take_own(self, batch: Batch, now_ms: int) -> None:
        """Decide on what could not be sent."""
        while self.own_inputs:
            # before it is decided: its decision's mark may cover it
            own = self.own_inputs.take()
            try:
                self._decider.decide_own(batch, own[1], cause_of_own(own[1]), now_ms)
            except UnknownVersion:
                self.own_inputs.put_back(own)
                raise

    def _take_timers(self, batch: Batch, now_ms: int) -> None:
        """Fire what is due. A timer that an input could still beat waits for its barrier."""
        timers, workflows = self.deadlines.timers, self.state.workflows
        for awaited in AWAITED:
            # Thousands may be due at once, as after a downtime; the rest fires in the next turns.
            up_to_ms, room = self._fires_up_to(awaited, now_ms), self._config.max_timers - len(batch)
            for timer in timers.pop_due(awaited, up_to_ms, workflows, limit=room):
                try:
                    self._fire(batch, timer, now_ms)
                except UnknownVersion:
                    # it was taken out but not decided, and would never fire otherwise
                    timers.put_back(awaited, timer)
                    raise
        room = self._config.max_timers - len(batch)
        # a result or a sign that came in time may still be unread, so
        # these wait for the results, too
        for timer in self.deadlines.signs.pop_due(self._fires_up_to("results", now_ms), workflows, limit=room):
            self._fire(batch, timer, now_ms)

    def _fires_up_to(self, awaited: Awaited, now_ms: int) -> int:
        return self.deadlines.fires_up_to(awaited, now_ms, self._decided_up_to)

    def _decided_up_to(self, topic: str) -> int:
        return self.inputs.decided_up_to(topic, self.state.positions)

    def _fire(self, batch: Batch, timer: TimerDue, now_ms: int) -> None:
        name = f"{timer.workflow_id}/{timer.run_id}/{timer.step or 'end'}/{timer.kind}/{timer.due_at_ms}"
        self._decider.decide_own(batch, timer, Cause(kind="timer", id=name, at_ms=timer.due_at_ms), now_ms)

    def _emit_mark(self, batch: Batch, now_ms: int) -> None:
        """A decision that only says how far we are."""
        cause = Cause(kind="mark", id=f"mark/{self.partition}/{self._decider.mark}")
        self._decider.emit(batch, Decided((), None), "", cause, now_ms)

"""The architecture's promises, checked record by record against what the broker holds.

Owns the judgement alone: it is given the records of the mesh's topics and says which promise they
break. It reads nothing itself, and must not know a router: only what an owner wrote counts here,
and not what it believes. Two callers feed it. The simulation does so in the order in which records
land, so that every promise is checked after every step. Tests on real brokers read the topics
`afterwards` (inputs and effects first, then the log).

What each effective decision must keep
--------------------------------------
* its input has no other decision, nor has the record that ingress copied it from
* what a person sent has exactly one receipt
* `decide`, asked again with the state that the log has there, gives the same events (given
  `routes`; `mesh.testing.promises.redecided`)
* positions and the mark never fall; a position passes over nothing but decided inputs and repeated
  copies
* the mark covers no effect that has not reached the broker (`mesh.testing.promises.effects`)
* a finished step is not dispatched, an attempt is dispatched once, a task has one counted result,
  an approval one verdict, a run one end (`mesh.testing.promises.attempts`)
* a deadline wins against nothing that reached the broker before it, be it an answer, a result, an
  event, the end of a call or a sign of life (`mesh.testing.promises.deadlines`)
* a jump of the clock makes nothing due, and no answer late (`mesh.testing.promises.clocks`)
* two live workflows never have the same alias; each time of a schedule starts exactly one workflow
  (`mesh.testing.promises.built_in`)
* a limit is never exceeded (`mesh.testing.promises.slots`)
* every rule of its route holds (`mesh.testing.promises.rules`)
* agents go on with the verdicts on their own questions (`mesh.testing.promises.tools`)
* what takes more steps than an evaluation may take has no value (`mesh.testing.promises.costs`)
* each attempt and each call counts once in a budget, and a caller counts for a call what the called
  workflow reported (`mesh.testing.promises.usage`)
* records to other workflows are counted without a gap, and none reaches its inbox before those
  counted before it (`mesh.testing.promises.effects`)
* the topic of open approvals has exactly those that are open (`mesh.testing.promises.open_topic`)
* who votes may, once, for one payload, and has signed it where that is asked for
  (`mesh.testing.promises.electorate`); deadlines in working hours are those of the calendar
  (`mesh.testing.promises.working_hours`)
* an event meets the version of a route that was in effect at the event's own broker timestamp,
  whichever router matched it

What leaves must have its effective decision in the log already. `unfinished` says what is still
owed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from mesh.codec.approvals import decode_response
from mesh.codec.cloudevents import header
from mesh.codec.commands import ROUTER_SOURCE, decode_command
from mesh.codec.dead_letters import decode_dead_letter
from mesh.codec.definitions import decode_activation
from mesh.codec.inbox import decode_inbox
from mesh.codec.tasks import decode_reply
from mesh.core.activation import Timeline
from mesh.core.crossings import Crossing, crossings
from mesh.core.effects import effects
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    CommandRefused,
    Decision,
    IncidentRaised,
    InputAttempted,
    InputParked,
    LogRecord,
    OwnerChanged,
    SlotGranted,
    WorkflowMigrated,
)
from mesh.core.inputs import CallEnded, EventMatched, EventOffered, ResultReceived, SignReceived
from mesh.core.replay import PartitionFold
from mesh.core.route import Route
from mesh.core.signing import Level
from mesh.core.state import Directory, Workflow
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.testing.promises.attempts import Attempts
from mesh.testing.promises.built_in import BuiltIns
from mesh.testing.promises.clocks import Clocks
from mesh.testing.promises.costs import Costs
from mesh.testing.promises.deadlines import Deadlines
from mesh.testing.promises.effects import EffectLedger
from mesh.testing.promises.electorate import Electorate
from mesh.testing.promises.ledger import Ledgers, PartitionLedger, Source, Step
from mesh.testing.promises.open_topic import OpenTopic
from mesh.testing.promises.parked import wrongly_parked
from mesh.testing.promises.people import PeopleLedger
from mesh.testing.promises.receipts import Receipts
from mesh.testing.promises.redecided import another_decision
from mesh.testing.promises.rules import broken_rules
from mesh.testing.promises.seals import Seals
from mesh.testing.promises.slots import SlotLedger, kept_needlessly
from mesh.testing.promises.tools import ToolApprovals
from mesh.testing.promises.usage import UsageLedger


class Promises:
    """Give it every record by `landed`; `findings` is empty while all promises are kept.

    `routes`: with them, each decision is made again and compared. Leave out routes whose approvals
    take their schema from an agent's card, which is not in the log. `roles`: who has which role, as
    the routers have it; without them, who may answer is not judged. `on_finding` is called with
    each finding at once.

    `afterwards`: the records do not come in the order in which they landed. So what was sent before
    its decision can't be told from what was sent after it. `unsent` still names what has no
    decision at all.

    `mesh`, `answers`: the mesh's name in signatures, and what it asks of every answer.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        routes: Sequence[Route] = (),
        roles: Mapping[str, frozenset[str]] | None = None,
        on_finding: Callable[[str], None] = lambda _: None,
        afterwards: bool = False,
        passed_ms: Callable[[], int] | None = None,
        mesh: str = "",
        answers: Level = "none",
    ) -> None:
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.effective: list[tuple[int, int, Decision]] = []
        self.timeline = Timeline()
        self._topics = topics
        self._routes = {route.digest: route for route in routes}
        self._clocks = Clocks(passed_ms, self.find)
        self._judged = 0  # partition
        self._costs = Costs({} if afterwards else self._routes)
        newest = {route.name: route.digest for route in routes}
        self._directory = Directory(roles=dict(roles or {}), routes=newest, topic_prefix=topics.prefix, answers=answers)
        self.people = PeopleLedger(self._directory, topics.people, mesh)
        # without the roles, or where the clock jumps, nobody can say who might answer when
        has_people = bool(roles) and passed_ms is None and not afterwards
        given = (self._directory, topics, self._routes, self.counts)
        self._electorate = Electorate(*given, mesh=mesh, is_judging=has_people)
        self._on_finding = on_finding
        self._afterwards = afterwards
        self._ledgers = Ledgers()
        self._sources: set[Source] = set()  # decided
        self._copied: dict[tuple[str, int, int], bool] = {}  # source records -> dealt with
        self._built_in = BuiltIns(self._expect, self.counts)
        self._slots = SlotLedger()
        self._usage = UsageLedger(in_order=not afterwards)
        self._receipts = Receipts()
        self._deadlines = Deadlines(
            routes=self._routes,
            people=self.people,
            sources=self._sources,
            is_settled=lambda number, topic, offset: self._is_settled(self._ledgers[number], topic, offset),
            counts=self.counts,
            find=self._find_by_stamps,
        )
        self._attempts = Attempts(self._expect, self.counts, self._deadlines)
        self._tools = ToolApprovals(self._expect)
        self._effects = EffectLedger(topics, self._ledgers, self.find, afterwards=afterwards)
        self._open = OpenTopic()
        self._task_prefix = topics.tasks("")
        self.seals = Seals()
        self._effect_topics = {
            topics.requests,
            topics.open_approvals,
            topics.receipts,
            topics.command_receipts,
            topics.outcomes,
            topics.dlq,
            topics.withdrawals,
        }

    # What the callers ask -------------------------------------------------------------------------

    def landed(self, record: Record) -> None:
        """Take a record that the broker has taken."""
        topics, topic = self._topics, record.topic
        self._built_in.now_ms = self._clocks.now_ms(max(self._built_in.now_ms, record.timestamp_ms))
        if topic == topics.log:
            self._log_record(record.partition, record.offset, record.timestamp_ms, self.seals.decode(record))
        elif topic == topics.keys:
            self.seals.take(record)
        elif topic in (topics.inbox, topics.results):
            self._input(record)
        elif topic in (topics.events, topics.responses, topics.commands):
            self._source_record(record)
            source = header(record, "ce_source") or ""
            # emitted by a step, or the word of a fork: an effect, too
            if (topic == topics.events and source.startswith("/mesh/")) or (
                topic == topics.commands and source == ROUTER_SOURCE
            ):
                self._effects.took((topic, header(record, "ce_id") or ""))
        elif topic == topics.definitions:
            self._definition(record)
        elif topic in (topics.people, topics.delegations):
            self.people.landed(record)
            self._electorate.landed(record)
            if topic == topics.delegations:
                self._effects.took((topic, header(record, "ce_id") or ""))
        elif topic in self._effect_topics or topic.startswith(self._task_prefix):
            self._effect(record)
        if topic == topics.open_approvals:
            self._open.take(record)

    def fold(self, partition: int) -> PartitionFold:
        return self._ledgers[partition].fold

    @property
    def ended(self) -> Mapping[tuple[str, str], str]:
        """The status of each run that ended, by workflow and run."""
        return self._attempts.ended

    def partitions(self) -> list[int]:
        return sorted(self._ledgers)

    def workflows(self) -> Iterator[Workflow]:
        for partition in self._ledgers.values():
            yield from partition.fold.state.workflows.values()

    def partition_of(self, attempt: str) -> int:
        """The partition that dispatched this attempt; -1 if none has."""
        return self._attempts.dispatched_in.get(attempt, -1)

    def settled_at(self, attempt: str) -> int | None:
        """The log offset of the decision after which nobody waited for this attempt."""
        return self._attempts.settled.get(attempt)

    def unfinished(self) -> list[str]:
        """What is owed now.

        That is inputs without a decision, effects that were never sent, and workflows that still
        run.
        """
        owed = self.unsent()
        owed += [
            f"lost: {topic}/{p}/{o} has become nothing" for (topic, p, o), done in self._copied.items() if not done
        ]
        for number, partition in sorted(self._ledgers.items()):
            owed += [
                f"lost: input {topic}/{number}/{offset} has no decision"
                for topic, offset in partition.inputs
                if not self._is_settled(partition, topic, offset)
            ]
            owed += [
                f"unended: {name}: { {n: s.status for n, s in w.steps.items()} }"
                for name, w in partition.fold.state.workflows.items()
                if w.status == "running"
            ]
        return owed + list(self._built_in.overdue(self.workflows()))

    def unsent(self) -> list[str]:
        """Findings on effects that the log has and the broker has not.

        Also the other way round, if that could not be told at once; and how the topic of open
        approvals differs from those that are open.
        """
        return self._effects.unsent() + self._open.findings(self.workflows())

    def find(self, finding: str) -> None:
        self.findings.append(finding)
        self._on_finding(finding)

    def _find_by_stamps(self, finding: str) -> None:
        """Note what the broker's stamps say of a deadline, unless they have jumped."""
        if not self._clocks.has_jumped(self._judged):
            self.find(finding)

    # Inputs ---------------------------------------------------------------------------------------

    def _source_record(self, record: Record) -> None:
        self._clocks.source_landed(record)
        self._copied[record.topic, record.partition, record.offset] = False
        if record.topic == self._topics.responses:
            self._electorate.landed(record)
            try:
                answer = decode_response(record)
            except MalformedRecord:
                return
            self._deadlines.answer(answer)
        if record.topic == self._topics.commands:
            self._hear_order(record)

    def _hear_order(self, record: Record) -> None:
        try:
            self._deadlines.order(decode_command(record))
        except MalformedRecord:
            return

    def unwanted(self, record: Record) -> None:
        """Note that no rule wants this source record, so nothing has to become of it."""
        self._copied[record.topic, record.partition, record.offset] = True

    def _definition(self, record: Record) -> None:
        try:
            activation = decode_activation(record)
        except MalformedRecord:
            return
        if activation is not None:
            self.timeline.add(activation)

    def _input(self, record: Record) -> None:
        place, inputs = (record.topic, record.offset), self._ledgers[record.partition].inputs
        self._judged = record.partition
        try:
            if record.topic == self._topics.inbox:
                given = inputs[place] = decode_inbox(record)
                if isinstance(given, Crossing):
                    if isinstance(given, CallEnded):
                        self._deadlines.call_end(record, given)
                    self._effects.crossing(record, given)
                elif isinstance(given, EventOffered):
                    self._deadlines.offer(given)
                return
            result = decode_reply(record)
        except MalformedRecord:
            inputs[place] = None
            return
        if isinstance(result, SignReceived):
            self._sign(record, result)
            return
        inputs[place] = result
        self._deadlines.result(record, result)

    def _sign(self, record: Record, sign: SignReceived) -> None:
        """Take a sign of life, which needs no decision.

        It may be parked, though, if owners died on it.
        """
        partition, place = self._ledgers[record.partition], (record.topic, record.offset)
        partition.inputs[place] = None
        partition.signs.add(place)
        self.counts[f"signs: {sign.status}"] += 1
        self._deadlines.sign(record, sign)

    def _is_settled(self, partition: PartitionLedger, topic: str, offset: int) -> bool:
        if (topic, offset) in partition.decided or (topic, offset) in partition.signs:
            return True
        given = partition.inputs.get((topic, offset))
        return (
            given is not None
            and not isinstance(given, ResultReceived)
            and (given.source_topic, given.source_partition, given.source_offset, given.source_index) in self._sources
        )

    # The log --------------------------------------------------------------------------------------

    def _log_record(self, number: int, offset: int, timestamp_ms: int, record: LogRecord) -> None:
        partition = self._ledgers[number]
        self._judged = number
        where = f"log {number}/{offset}"
        self._expect(offset == partition.fold.next_offset, f"{where} follows {partition.fold.next_offset - 1}")
        if isinstance(record, OwnerChanged):
            self._claim(partition, offset, timestamp_ms, record)
            return
        # a deposed owner's late decision has no effect, and so nothing to keep
        if record.epoch != partition.fold.epochs.current:
            self.counts["inert decisions"] += 1
            partition.fold.apply(offset, record)
            return
        self.counts["decisions"] += 1
        self.counts["marks"] += record.cause.kind == "mark"
        self.effective.append((number, offset, record))
        before = partition.fold.state.workflows.get(record.workflow_id)
        step = Step(partition, before, record, offset, where)
        self._clocks.begin(number, record)
        if record.cause.kind == "timer":
            self._clocks.fires(step, timestamp_ms)
        self._check_cause(step)
        self._check_positions(step)
        self._effects.check_mark(step)
        sequence = partition.fold.state.sequence if crossings(record.events) else 0
        self._expect(record.sequence == sequence, f"{where}: the sequence is {record.sequence}, not {sequence}")
        if self._routes:
            tried = [
                another_decision(step, self._routes, known, self.people.checked)
                for known in self.people.of_decision(record)
            ]
            self._expect("" in tried, f"{where}: {tried[0]}")
            for broken in broken_rules(before, record, self._routes):
                self.find(f"{where}: {broken}")
            for costly in self._costs.take(before, record):
                self.find(f"{where}: {costly}")
        for wrong in self._electorate.take(step):
            self.find(f"{where}: {wrong}")
        self._deadlines.wait(step)
        self._tools.check(record, where)
        for event in record.events:
            self.counts[type(event).__name__] += 1
            self._check_event(step, event)
            self._check_slot(step, event)
        try:
            partition.fold.apply(offset, record)
        except ValueError as error:
            self.find(f"{where}: the decision does not fit the state that the log has: {error}")
        for kept in kept_needlessly(partition.fold.state.workflows.get(record.workflow_id)):
            self.find(f"{where}: {kept}")
        made = effects(record)
        for finding in self._receipts.take(record, made):
            self.find(f"{where}: {finding}")
        for finding in self._usage.take(record, made, partition.fold.state.workflows.get(record.workflow_id)):
            self.find(f"{where}: {finding}")
        self._effects.decided(step, made)

    def _claim(self, partition: PartitionLedger, offset: int, timestamp_ms: int, record: OwnerChanged) -> None:
        self._effects.partitions = record.partitions
        epoch = partition.fold.epochs.current
        partition.fold.apply(offset, record)
        # a claim that lands twice is no second take-over
        if partition.fold.epochs.current != epoch:
            self.counts["take-overs"] += 1
            partition.claimed_ms = timestamp_ms
            self._effects.excuse(partition)

    def _check_cause(self, step: Step) -> None:
        partition, cause, where = step.partition, step.decision.cause, step.where
        if cause.topic:
            place = (cause.topic, cause.offset)
            self._expect(place not in partition.decided, f"{where}: input {place} has two decisions")
            self._expect(place in partition.inputs, f"{where}: input {place} is not there")
            partition.decided.add(place)
        if cause.source_topic:
            source = (cause.source_topic, cause.source_partition, cause.source_offset, cause.source_index)
            self._expect(source not in self._sources, f"{where}: {source} has two decisions")
            self._sources.add(source)
            self._copied[source[:3]] = True
        given = partition.inputs.get((cause.topic, cause.offset))
        if isinstance(given, EventMatched | EventOffered) and not self.timeline.is_empty:
            self._check_version(given, where)

    def _check_version(self, given: EventMatched | EventOffered, where: str) -> None:
        """Check that an event met the version that was in effect at its time.

        The activations that landed before the log's record are enough: each takes effect later than
        it lands, so all that apply to the event are among them.
        """
        if isinstance(given, EventOffered) and given.only_live:
            return
        self.counts["versions checked"] += 1
        wanted = self.timeline.at(given.source_at_ms).get(given.route)
        self._expect(
            wanted == given.digest,
            f"{where}: event {given.cloud_event.get('id')} of {given.source_at_ms} met {given.route} in version {given.digest[:19]}, and {(wanted or 'none')[:19]} was in effect",
        )

    def _check_positions(self, step: Step) -> None:
        partition, where = step.partition, step.where
        for topic, position in step.decision.positions.items():
            before = partition.positions.get(topic, 0)
            self._expect(position >= before, f"{where}: the position of {topic} falls from {before} to {position}")
            for offset in range(before, position):
                if not self._is_settled(partition, topic, offset):
                    self.find(f"{where}: the position of {topic} passes over {offset}, which is not decided")
            partition.positions[topic] = position

    def _check_event(self, step: Step, event: object) -> None:
        match event:
            case ApprovalClosed():
                self._deadlines.verdict(step, event)
            case AnswerRefused():
                self.counts[f"refused: {event.code}"] += 1
                self._clocks.refused(step, event)
            case IncidentRaised():
                self.counts[f"incident: {event.kind}"] += 1
                if event.kind == "expired":
                    self._deadlines.expiry(step.before, event.step, step.where)
            case WorkflowMigrated():
                self.counts["migrated"] += 1
            case CommandRefused():
                self.counts[f"refused: {event.command}, {event.code}"] += 1
            case InputParked():
                self.counts[f"parked: {event.code}"] += 1
                for wrong in wrongly_parked(step, event, self._effects.partitions):
                    self.find(f"{step.where}: {wrong}")
            case InputAttempted():
                step.partition.attempted[event.topic, event.offset].add(step.decision.epoch)
            case _:
                self._clocks.take(step, event)
                self._attempts.check(step, event)
                self._built_in.check(step, event)

    def _check_slot(self, step: Step, event: object) -> None:
        if isinstance(event, SlotGranted):
            self.counts["slots granted"] += 1
        if not self._afterwards:  # afterwards there is no order across partitions
            for finding in self._slots.take(step.decision, event):
                self.find(f"{step.where}: {finding}")

    # Effects --------------------------------------------------------------------------------------

    def _effect(self, record: Record) -> None:
        name = header(record, "ce_id") or ""
        if record.topic == self._topics.dlq:
            letter = decode_dead_letter(record)
            self.counts[f"dead letter: {letter.code}"] += 1
            if letter.component != "router":
                original = letter.original
                is_first = not self._copied.get((original.topic, original.partition, original.offset))
                self.counts["set aside by ingress"] += is_first and letter.code == "poison"
                self._copied[original.topic, original.partition, original.offset] = True
                return
            name = f"{letter.original.topic}/{letter.original.partition}/{letter.original.offset}/dead-letter"
        self._effects.took((record.topic, name))

    def _expect(self, kept: bool, finding: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not kept:
            self.find(finding)

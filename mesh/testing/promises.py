"""The architecture's promises, checked record by record against what the broker holds.

Owns the judgement alone: it is given the records of the mesh's topics and says which promise they break. It reads nothing itself, and knows no
router: what an owner believes does not count here, only what it wrote. Two callers feed it: the simulation, in the order in which records land, so that every
promise is checked after every step; and tests on real brokers, which read the topics `afterwards` (inputs and effects first, then the log).

What each effective decision must keep
--------------------------------------
* its input has no other decision, nor has the record that ingress copied it from
* `decide`, asked again with the state that the log has there, gives the same events (given `routes`; `mesh.testing.promise_redecided`)
* positions and the mark never fall; a position passes over nothing but decided inputs and repeated copies
* the mark covers no effect that has not reached the broker
* a finished step is not dispatched, an attempt is dispatched once, a task has one counted result, an approval one verdict, a run one end
* a deadline wins against nothing that reached the broker before it, be it an answer, a result, an event, the end of a call or a sign of life (`mesh.testing.promise_deadlines`)
* of two workflows that live no alias is both's; no time of a schedule starts two workflows, or none
* a limit is never exceeded (`mesh.testing.promise_slots`)
* every rule of its route holds (`mesh.testing.promise_rules`)
* each attempt and each call counts once in a budget, and what its calls took is what they told (`mesh.testing.promise_usage`)
* records to other workflows are counted without a gap, and none reaches its inbox before those counted before it
* an event meets the version of a route that was in effect at the event's own broker timestamp, whichever router matched it

What leaves must have its effective decision in the log already. `unfinished` says what is still owed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from mesh.codec.approvals import decode_response
from mesh.codec.cloudevents import header
from mesh.codec.dead_letters import decode_dead_letter
from mesh.codec.definitions import decode_activation
from mesh.codec.effects import effect_id
from mesh.codec.inbox import decode_inbox
from mesh.codec.log import decode_log_record
from mesh.codec.tasks import decode_reply
from mesh.core import ids
from mesh.core.activation import Timeline
from mesh.core.between import Crossing, crossings
from mesh.core.effects import AskApproval, Effect, SendInput, SendTask, effects
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    CallFailed,
    CallMade,
    CallSucceeded,
    CommandRefused,
    Decision,
    IncidentRaised,
    InputAttempted,
    InputParked,
    LogRecord,
    OwnerChanged,
    SlotGranted,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowMigrated,
)
from mesh.core.inputs import (
    CallEnded,
    EventMatched,
    EventOffered,
    ResultReceived,
    SignReceived,
)
from mesh.core.replay import PartitionFold
from mesh.core.route import Route
from mesh.core.state import Directory, Workflow
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.testing.promise_deadlines import Deadlines
from mesh.testing.promise_ledger import PartitionLedger, Sent, Source, Step, topic_of
from mesh.testing.promise_redecided import another_decision
from mesh.testing.promise_rules import broken_rules
from mesh.testing.promise_slots import SlotLedger, kept_needlessly
from mesh.testing.promise_usage import UsageLedger
from mesh.testing.promises_built_in import BuiltIns

__all__ = ["Promises"]

_SILENCES = frozenset({"start_timeout", "run_timeout", "heartbeat_timeout"})


class Promises:
    """Give it every record by `landed`; `findings` is empty while all promises are kept.

    `routes`: with them each decision is made again and compared (leave out routes whose approvals take their schema from an agent's card, which the log does not tell).
    `roles`: who has which role, as the routers have it (without them, who may answer is not judged). `on_finding` is told of each finding at once. `afterwards`: the order of the records is not that of their landing, so
    that what was sent before its decision can't be told from what was sent after it; `unsent` names what has no decision at all.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        routes: Sequence[Route] = (),
        roles: Mapping[str, frozenset[str]] | None = None,
        on_finding: Callable[[str], None] = lambda _: None,
        afterwards: bool = False,
    ) -> None:
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.sent: Counter[Sent] = Counter()
        self.ended: dict[tuple[str, str], str] = {}  # (workflow, run) -> status
        self.parked: list[InputParked] = []
        self.effective: list[tuple[int, int, Decision]] = []
        self.timeline = Timeline()
        self._topics = topics
        self._routes = {route.digest: route for route in routes}
        newest = {route.name: route.digest for route in routes}
        self._directory = Directory(roles=dict(roles or {}), routes=newest, topic_prefix=topics.prefix)
        self._on_finding = on_finding
        self._afterwards = afterwards
        self._partitions: dict[int, PartitionLedger] = {}
        self._sources: set[Source] = set()  # decided
        self._copied: dict[tuple[str, int, int], bool] = {}  # source records -> dealt with
        self._decided_effects: set[Sent] = set()
        self._dispatched_in: dict[str, int] = {}  # partition, by attempt
        self._succeeded: set[str] = set()  # tasks
        self._settled: dict[str, int] = {}  # attempt -> log offset from which nobody waits for it
        self._called: set[str] = set()  # attempts
        self._returned: set[str] = set()  # tasks whose call has succeeded
        self._crossed: dict[
            tuple[int, int], int
        ] = {}  # (sender partition, receiver partition) -> the last place in the sequence that has landed
        self._built_in = BuiltIns(self._expect, self.counts)
        self._slots = SlotLedger()
        self._usage = UsageLedger(in_order=not afterwards)
        self._deadlines = Deadlines(
            routes=self._routes,
            directory=self._directory,
            sources=self._sources,
            is_settled=lambda number, topic, offset: self._is_settled(self._at(number), topic, offset),
            counts=self.counts,
            find=self.find,
        )
        self._task_prefix = topics.tasks("")
        self._effect_topics = {topics.requests, topics.receipts, topics.outcomes, topics.dlq}

    # What the callers ask --------------------------------------------------------------------------------------------

    def landed(self, record: Record) -> None:
        """The broker took this record."""
        topics, topic = self._topics, record.topic
        self._built_in.now_ms = max(self._built_in.now_ms, record.timestamp_ms)
        if topic == topics.log:
            self._log_record(record.partition, record.offset, record.timestamp_ms, decode_log_record(record))
        elif topic in (topics.inbox, topics.results):
            self._input(record)
        elif topic in (topics.events, topics.responses, topics.commands):
            self._source_record(record)
            if topic == topics.events and (header(record, "ce_source") or "").startswith("/mesh/"):
                self._took((topic, header(record, "ce_id") or ""))  # a step has emitted it
        elif topic == topics.definitions:
            self._definition(record)
        elif topic in self._effect_topics or topic.startswith(self._task_prefix):
            self._effect(record)

    def fold(self, partition: int) -> PartitionFold:
        return self._at(partition).fold

    def partitions(self) -> list[int]:
        return sorted(self._partitions)

    def workflows(self) -> Iterator[Workflow]:
        for partition in self._partitions.values():
            yield from partition.fold.state.workflows.values()

    def partition_of(self, attempt: str) -> int:
        """The partition that dispatched this attempt; -1 where none has."""
        return self._dispatched_in.get(attempt, -1)

    def settled_at(self, attempt: str) -> int | None:
        """The log offset of the decision after which nobody waited for this attempt any more."""
        return self._settled.get(attempt)

    def unfinished(self) -> list[str]:
        """What is owed as of now: inputs without a decision, effects that were never sent, workflows that still run."""
        owed = self.unsent()
        owed += [
            f"lost: {topic}/{p}/{o} has become nothing" for (topic, p, o), done in self._copied.items() if not done
        ]
        for number, partition in sorted(self._partitions.items()):
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
        """Effects that the log has and the broker has not; and the other way round, where that could not be told at once."""
        owed = [
            f"lost: {topic} {name}, decided at log {number}/{offset}, was never sent"
            for number, partition in sorted(self._partitions.items())
            for (topic, name), (offset, _) in partition.owed.items()
        ]
        return owed + [
            f"phantom: {topic} {name} was sent, and no effective decision in the log says so"
            for topic, name in self.sent
            if (topic, name) not in self._decided_effects
        ]

    def find(self, finding: str) -> None:
        self.findings.append(finding)
        self._on_finding(finding)

    # Inputs ----------------------------------------------------------------------------------------------------------

    def _at(self, partition: int) -> PartitionLedger:
        known = self._partitions.get(partition)
        if known is None:
            known = self._partitions[partition] = PartitionLedger(partition)
        return known

    def _source_record(self, record: Record) -> None:
        self._copied[record.topic, record.partition, record.offset] = False
        if record.topic == self._topics.responses:
            try:
                answer = decode_response(record)
            except MalformedRecord:
                return
            self._deadlines.answer(answer)

    def unwanted(self, record: Record) -> None:
        """No rule wants this source record: nothing has to become of it."""
        self._copied[record.topic, record.partition, record.offset] = True

    def _definition(self, record: Record) -> None:
        try:
            activation = decode_activation(record)
        except MalformedRecord:
            return
        if activation is not None:
            self.timeline.add(activation)

    def _input(self, record: Record) -> None:
        place, inputs = (record.topic, record.offset), self._at(record.partition).inputs
        try:
            if record.topic == self._topics.inbox:
                given = inputs[place] = decode_inbox(record)
                if isinstance(given, Crossing):
                    self._crossing(record, given)
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
        """Nothing has to become of it, though it may be parked where owners died on it."""
        partition, place = self._at(record.partition), (record.topic, record.offset)
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

    # The log ---------------------------------------------------------------------------------------------------------

    def _log_record(self, number: int, offset: int, timestamp_ms: int, record: LogRecord) -> None:
        partition = self._at(number)
        where = f"log {number}/{offset}"
        self._expect(offset == partition.fold.next_offset, f"{where} follows {partition.fold.next_offset - 1}")
        if isinstance(record, OwnerChanged):
            self._count = record.partitions
            epoch = partition.fold.epochs.current
            partition.fold.apply(offset, record)
            if partition.fold.epochs.current != epoch:
                self.counts["take-overs"] += 1
                partition.claimed_ms = timestamp_ms
                self._excuse(partition)
            return
        if record.epoch != partition.fold.epochs.current:
            self.counts["inert decisions"] += 1
            partition.fold.apply(offset, record)
            return
        self.counts["decisions"] += 1
        self.counts["marks"] += record.cause.kind == "mark"
        self.effective.append((number, offset, record))
        before = partition.fold.state.workflows.get(record.workflow_id)
        if record.cause.kind == "timer" and timestamp_ms < record.cause.at_ms:
            self.find(f"{where}: {record.cause.id} fires {record.cause.at_ms - timestamp_ms} ms before its time")
        step = Step(partition, before, record, offset, where)
        self._check_cause(step)
        self._check_positions(step)
        self._check_mark(step)
        sequence = partition.fold.state.sequence if crossings(record.events) else 0
        self._expect(record.sequence == sequence, f"{where}: the sequence is {record.sequence}, not {sequence}")
        if self._routes:
            another = another_decision(step, self._routes, self._directory)
            self._expect(not another, f"{where}: {another}")
            for broken in broken_rules(before, record, self._routes):
                self.find(f"{where}: {broken}")
        self._deadlines.wait(step)
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
        for finding in self._usage.take(record, made, partition.fold.state.workflows.get(record.workflow_id)):
            self.find(f"{where}: {finding}")
        for effect in made:
            sent = (topic_of(effect, self._topics), self._name(effect, number))
            self._decided_effects.add(sent)
            if not (self._afterwards and sent in self.sent):
                partition.owed[sent] = (offset, effect)

    @staticmethod
    def _name(effect: Effect, number: int) -> str:
        """What an effect of partition `number` is known by: a record to another workflow by its place in the sender's sequence."""
        return f"{number}/{effect.input.source_offset}" if isinstance(effect, SendInput) else effect_id(effect)

    def _excuse(self, partition: PartitionLedger) -> None:
        """A new owner sends tasks and questions again for waiting steps alone: the others are owed no more."""
        for sent, (_, effect) in list(partition.owed.items()):
            if not isinstance(effect, SendTask | AskApproval):
                continue
            workflow = partition.fold.state.workflows.get(effect.workflow_id)
            step = workflow.steps.get(effect.step) if workflow else None
            if isinstance(effect, SendTask):
                waits = ("running", effect.task_id, effect.attempt)
                is_wanted = step is not None and (step.status, step.task_id, step.attempt) == waits
            else:
                is_wanted = step is not None and (step.status, step.task_id) == ("asking", effect.approval_id)
            if not is_wanted:
                del partition.owed[sent]

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
        """With the activations that landed before the log's record: all that bear on an event have, since one takes effect later than it lands."""
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

    def _check_mark(self, step: Step) -> None:
        partition, decision, where = step.partition, step.decision, step.where
        mark = decision.mark
        self._expect(partition.mark <= mark <= step.offset, f"{where}: the mark goes from {partition.mark} to {mark}")
        partition.mark = mark
        if decision.cause.kind == "undeliverable":  # decided now, and so owed no more
            undeliverable = decision.cause.id
            for sent in [sent for sent, (_, one) in partition.owed.items() if effect_id(one) == undeliverable]:
                del partition.owed[sent]
        for (topic, name), (at, _) in partition.owed.items():
            if at >= mark:
                break
            self.find(f"{where}: the mark {mark} covers {topic} {name} of {at}, which has not been sent")

    def _check_event(self, step: Step, event: object) -> None:
        partition, before, where = step.partition, step.before, step.where
        match event:
            case TaskDispatched():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                self._expect(
                    event.task_id not in self._succeeded, f"{where}: {event.task_id} is finished and dispatched again"
                )
                self._expect(not self._deadlines.is_out(attempt), f"{where}: {attempt} is dispatched twice")
                self._deadlines.went_out(attempt, event.due_at_ms)
                self._dispatched_in[attempt] = partition.fold.partition
            case TaskSucceeded():
                self._expect(event.task_id not in self._succeeded, f"{where}: two results count for {event.task_id}")
                self._succeeded.add(event.task_id)
                self._settle(before, event.step, step.offset)
            case TaskFailed():
                self._settle(before, event.step, step.offset)
                if event.kind == "timeout":
                    self.counts["timeouts"] += 1
                    self._deadlines.time_out(event, where)
                elif event.kind in _SILENCES and step.decision.cause.kind == "timer":
                    self.counts[event.kind] += 1
                    self._deadlines.silence(step, event)
            case ApprovalClosed():
                self._deadlines.verdict(step, event)
            case AnswerRefused():
                self.counts[f"refused: {event.code}"] += 1
            case IncidentRaised():
                self.counts[f"incident: {event.kind}"] += 1
                if event.kind == "expired":
                    self._deadlines.expiry(before, event.step, where)
            case WorkflowEnded():
                self._check_end(step, event)
            case WorkflowMigrated() | CommandRefused():
                self._count_command(event)
            case WorkflowForgotten():
                self._forget(step.decision.workflow_id)
            case InputParked():
                self._check_parked(step, event)
            case InputAttempted():
                partition.attempted[event.topic, event.offset] = step.decision.epoch
            case _:
                self._check_call(event, step.where)
                self._built_in.check(step, event)

    def _check_call(self, event: object, where: str) -> None:
        match event:
            case CallMade():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                self.counts["calls"] += 1
                self._expect(
                    event.task_id not in self._returned, f"{where}: {event.task_id} is finished and called again"
                )
                self._expect(attempt not in self._called, f"{where}: {attempt} is called twice")
                self._called.add(attempt)
                self._deadlines.went_out(attempt, event.due_at_ms or 0)
            case CallSucceeded():
                self._expect(event.task_id not in self._returned, f"{where}: two ends count for {event.task_id}")
                self._returned.add(event.task_id)
            case CallFailed():
                self.counts[f"call: {event.kind}"] += 1
                if event.kind == "timeout":
                    self._deadlines.call_time_out(event, where)
            case _:
                pass

    def _count_command(self, event: WorkflowMigrated | CommandRefused) -> None:
        self.counts[f"refused: {event.command}, {event.code}" if isinstance(event, CommandRefused) else "migrated"] += 1

    def _check_slot(self, step: Step, event: object) -> None:
        if isinstance(event, SlotGranted):
            self.counts["slots granted"] += 1
        if not self._afterwards:  # across partitions, which are read one after the other then
            for finding in self._slots.take(step.decision, event):
                self.find(f"{step.where}: {finding}")

    def _settle(self, before: Workflow | None, name: str, offset: int) -> None:
        step = before.steps.get(name) if before else None
        if step is not None and step.attempt:
            self._settled.setdefault(ids.attempt_id(step.task_id, step.attempt), offset)

    def _check_end(self, step: Step, event: WorkflowEnded) -> None:
        run = (step.decision.workflow_id, event.run_id)
        self._expect(run not in self.ended, f"{step.where}: {run} ends twice")
        self.ended[run] = event.status
        self.counts[event.status] += 1
        for name in step.before.steps if step.before else ():
            self._settle(step.before, name, step.offset)

    def _forget(self, workflow_id: str) -> None:
        """The same key may start afresh, with the same event too."""
        self.counts["forgotten"] += 1
        prefix = workflow_id + "/"
        self._succeeded = {task for task in self._succeeded if not task.startswith(prefix)}
        self._deadlines.forget(workflow_id)
        self._called = {attempt for attempt in self._called if not attempt.startswith(prefix)}
        self._returned = {task for task in self._returned if not task.startswith(prefix)}
        self._settled = {attempt: at for attempt, at in self._settled.items() if not attempt.startswith(prefix)}
        self.ended = {run: status for run, status in self.ended.items() if run[0] != workflow_id}

    def _check_parked(self, step: Step, event: InputParked) -> None:
        """An input that can be read, and what follows of it sent, is parked only after another owner announced it and was not heard of again."""
        self.counts[f"parked: {event.code}"] += 1
        self.parked.append(event)
        if event.code == "too_large" or step.partition.inputs.get((event.topic, event.offset)) is None:
            return
        by = step.partition.attempted.get((event.topic, event.offset))
        self._expect(
            event.code == "poison" and by is not None and by != step.decision.epoch,
            f"{step.where}: a sound input is parked: {event.code}: {event.message}",
        )

    # Between workflows -----------------------------------------------------------------------------------------------

    def _crossing(self, record: Record, given: Crossing) -> None:
        """What another workflow's decision sent has landed in an inbox: an input there, and an effect of the sender."""
        if isinstance(given, CallEnded):
            self._deadlines.call_end(record, given)
        sender, place = given.source_partition, given.source_offset
        for (_, name), (_, one) in self._at(sender).owed.items():
            if self._afterwards or not isinstance(one, SendInput) or one.input.source_offset > place:
                continue
            if one.input.source_offset == place:
                told = replace(one.input, source_topic=given.source_topic, source_partition=sender)
                self._expect(
                    told == given, f"{record.topic}/{record.partition}/{record.offset}: {name} says another thing"
                )
            elif self._inbox_of(one) == record.partition:
                self.find(f"{record.topic}/{record.partition}: {sender}/{place} has overtaken {name}")
        self._took((record.topic, f"{sender}/{place}"))

    def _inbox_of(self, effect: SendInput) -> int:
        return ids.partition_of_key(effect.input.workflow_id.encode(), self._count)

    # Effects ---------------------------------------------------------------------------------------------------------

    def _effect(self, record: Record) -> None:
        name = header(record, "ce_id") or ""
        if record.topic == self._topics.dlq:
            letter = decode_dead_letter(record)
            if letter.component != "router":
                original = letter.original
                self._copied[original.topic, original.partition, original.offset] = True
                return
            name = f"{letter.original.topic}/{letter.original.partition}/{letter.original.offset}/dead-letter"
        self._took((record.topic, name))

    def _took(self, sent: Sent) -> None:
        """The broker has taken this effect."""
        self.sent[sent] += 1
        if self._afterwards:
            return
        if sent not in self._decided_effects:
            self.find(f"phantom: {sent[0]} {sent[1]} was sent, and no effective decision in the log says so")
            return
        for partition in self._partitions.values():
            partition.owed.pop(sent, None)

    def _expect(self, kept: bool, finding: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not kept:
            self.find(finding)

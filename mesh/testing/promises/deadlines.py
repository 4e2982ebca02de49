"""Judges deadlines: none wins against what reached the broker before it.

Owns this part of what `mesh.testing.promises.judge` checks.

* a time-out of a task or a call wins against no result or end that came before, and a silence
  against no sign of life; its period began neither before the attempt nor before its owner
* the expiry of an approval wins against no answer that would have counted, and no answer counts
  after the deadline, without the role, or as a second one
* the time-out of a wait wins against no event that it waits for
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from mesh.core import ids
from mesh.core.decide import decide
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalEscalated,
    ApprovalReassigned,
    CallFailed,
    EventReceived,
    TaskFailed,
)
from mesh.core.inputs import (
    AnswerGiven,
    AnswerGiven2,
    CallEnded,
    CommandGiven,
    EventOffered,
    ResultReceived,
    SignReceived,
    TimerDue,
)
from mesh.core.json_values import digest
from mesh.core.people import person_of
from mesh.core.route import Route
from mesh.core.state import StepState, Workflow
from mesh.core.voting import verdict_of
from mesh.ports import Record
from mesh.testing.promises.ledger import Source, Step, input_of
from mesh.testing.promises.people import PeopleLedger

_SUCCESSES: Final = frozenset({"succeeded", "completed"})  # the status of a task, or of a call
_CHANGES: Final = (ApprovalEscalated, ApprovalReassigned)  # of who may answer
# between an owner's clock, corrected, and the broker's: both are cut to whole milliseconds
_SLACK_MS: Final = 2


class Deadlines:
    """Hears of all that could beat a deadline, and is asked when one has passed.

    It hears of `result`, `sign`, `call_end`, `answer` and `offer`. `is_settled`: whether an input
    (partition, topic, offset) is decided. `sources`: the source records of inputs that are.
    """

    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        people: PeopleLedger,
        sources: AbstractSet[Source],
        is_settled: Callable[[int, str, int], bool],
        counts: Counter[str],
        find: Callable[[str], None],
    ) -> None:
        self._routes = routes
        self._people = people
        self._directory = people.at
        self._sources = sources
        self._is_settled = is_settled
        self._counts = counts
        self._find = find
        self._results: dict[str, list[tuple[Record, ResultReceived]]] = {}  # by task
        # with the broker's time, by attempt
        self._signs: dict[str, list[tuple[int, SignReceived]]] = {}
        self._call_ends: dict[str, list[tuple[Record, CallEnded]]] = {}  # by task
        self._answers: dict[str, list[AnswerGiven | AnswerGiven2]] = {}  # by approval
        self._orders: dict[str, list[CommandGiven]] = {}  # of operators, by approval
        self._verdicts: set[str] = set()  # approvals
        self._due_ms: dict[str, int] = {}  # by attempt, of a task or a call
        self._given_up: dict[
            str, list[tuple[Workflow, str, int, str]]
        ] = {}  # waits that timed out, with their time, by workflow

    # What it hears ------------------------------------------------------------------------------

    def result(self, record: Record, result: ResultReceived) -> None:
        self._results.setdefault(result.task_id, []).append((record, result))

    def sign(self, record: Record, sign: SignReceived) -> None:
        self._signs.setdefault(ids.attempt_id(sign.task_id, sign.attempt), []).append((record.timestamp_ms, sign))

    def call_end(self, record: Record, ended: CallEnded) -> None:
        self._call_ends.setdefault(ended.task_id, []).append((record, ended))

    def answer(self, answer: AnswerGiven | AnswerGiven2) -> None:
        self._answers.setdefault(answer.approval_id, []).append(answer)

    def order(self, given: CommandGiven) -> None:
        if given.order is not None:
            self._orders.setdefault(given.order.approval_id, []).append(given)

    def offer(self, given: EventOffered) -> None:
        for waited in self._given_up.get(given.workflow_id, ()):
            self._check_waited(waited, given)

    def is_out(self, attempt: str) -> bool:
        """Whether this attempt of a task or a call went out."""
        return attempt in self._due_ms

    def went_out(self, attempt: str, due_at_ms: int) -> None:
        self._due_ms[attempt] = due_at_ms

    def forget(self, workflow_id: str) -> None:
        """Forget a workflow: the same key may start again, even with the same event."""
        prefix = workflow_id + "/"
        self._due_ms = {attempt: due for attempt, due in self._due_ms.items() if not attempt.startswith(prefix)}
        self._signs = {attempt: signs for attempt, signs in self._signs.items() if not attempt.startswith(prefix)}
        self._verdicts = {approval for approval in self._verdicts if not approval.startswith(prefix)}

    # What it is asked -----------------------------------------------------------------------------

    def time_out(self, event: TaskFailed, where: str) -> None:
        self._beaten(event, self._due_ms.get(ids.attempt_id(event.task_id, event.attempt), 0), where)

    def _beaten(self, event: TaskFailed, due: int, where: str) -> None:
        for offset, early_ms in self._in_time(event, due, self._results.get(event.task_id, ())):
            self._find(
                f"{where}: {event.task_id} times out, though the result at offset {offset} came {early_ms} ms before"
            )

    def call_time_out(self, event: CallFailed, where: str) -> None:
        due = self._due_ms.get(ids.attempt_id(event.task_id, event.attempt), 0)
        for offset, early_ms in self._in_time(event, due, self._call_ends.get(event.task_id, ())):
            self._find(
                f"{where}: the call {event.task_id} times out, though its end at offset {offset} came {early_ms} ms before"
            )

    def _in_time(
        self, event: TaskFailed | CallFailed, due: int, came: Iterable[tuple[Record, ResultReceived | CallEnded]]
    ) -> Iterator[tuple[int, int]]:
        """What beats a time-out: each input's offset, and how many milliseconds early it was.

        Such an input belongs to this attempt, or is a success of an earlier one.
        """
        for record, given in came:
            is_success = given.status in _SUCCESSES
            counts = given.attempt == event.attempt or (is_success and given.attempt < event.attempt)
            is_early = counts and record.timestamp_ms < due
            if is_early and not self._is_settled(record.partition, record.topic, record.offset):
                yield record.offset, due - record.timestamp_ms

    def silence(self, at: Step, event: TaskFailed) -> None:
        """Check that no sign of life came in the period that would have put the time-out off.

        The period began neither before the attempt nor before this owner.
        """
        self._beaten(event, at.decision.cause.at_ms, at.where)
        step = at.before.steps.get(event.step) if at.before else None
        period_s = step.periods.of(event.kind) if step is not None and step.periods is not None else None
        if period_s is None:
            self._find(f"{at.where}: {event.task_id} has a {event.kind}, and its route has not asked for it")
            return
        due = at.decision.cause.at_ms
        begin = due - int(period_s * 1000)
        signs = self._signs.get(ids.attempt_id(event.task_id, event.attempt), [])
        said = f"{at.where}: {event.task_id} has a {event.kind}"
        if event.kind == "run_timeout":
            claimed = at.partition.claimed_ms
            begun = [(at_ms, at_ms - int(sign.duration_ms)) for at_ms, sign in signs]
            heard = [begun_ms for at_ms, begun_ms in begun if claimed <= at_ms < due]
            counts_from = max(heard) if heard else min([claimed, *(begun_ms for _, begun_ms in begun)])
            self._expect(begin >= counts_from - _SLACK_MS, f"{said} {counts_from - begin} ms before its time")
            return
        self._expect(
            begin >= at.partition.claimed_ms - _SLACK_MS,
            f"{said}, of which {at.partition.claimed_ms - begin} ms were before its owner's claim",
        )
        for at_ms, sign in signs:
            if begin < at_ms < due and (event.kind == "start_timeout" or sign.status == "heartbeat"):
                self._find(f"{said}, though a sign ({sign.status}) came {due - at_ms} ms before")

    def verdict(self, at: Step, event: ApprovalClosed) -> None:
        before, decision, where = at.before, at.decision, at.where
        self._expect(event.approval_id not in self._verdicts, f"{where}: {event.approval_id} gets a second verdict")
        self._verdicts.add(event.approval_id)
        if event.expired:
            self._counts["expired"] += 1
            self.expiry(before, event.step, where)
            return
        self._counts[event.verdict + (" with an edit" if event.edited else "")] += 1
        step = before.steps.get(event.step) if before else None
        if step is None:
            return
        # without an answer, votes from before the deadline suffice: others may answer since
        late = event.answer_id != "" and step.due_at_ms is not None and decision.cause.at_ms > step.due_at_ms
        self._expect(not late, f"{where}: {event.answer_id} came after the deadline and counts")
        if isinstance(event, ApprovalClosed2):
            self._votes(at, step, event)
            return
        roles = self._directory(decision.cause.at_ms).roles
        is_entitled = not roles or step.role in roles.get(event.on_behalf or event.by, frozenset())
        self._expect(is_entitled, f"{where}: {event.by} has not the role {step.role}, and the answer counts")

    def _votes(self, at: Step, step: StepState, event: ApprovalClosed2) -> None:
        """Check that the votes are of distinct people, for this payload, and enough."""
        where = at.where
        # a delegate and the person that they vote for both take part
        people = [name for vote in event.votes for name in {person_of(vote.by), person_of(vote.person)}]
        self._expect(len(people) == len(set(people)), f"{where}: one person counts twice in {event.approval_id}")
        seen = {vote.digest for vote in event.votes}
        self._expect(seen <= {digest(event.payload)}, f"{where}: votes over different payloads in {event.approval_id}")
        asking = step.asking
        new = [one.change for one in at.decision.events if isinstance(one, _CHANGES) and one.step == event.step]
        found = None if asking is None else verdict_of(asking.terms, event.votes, (*asking.changes, *new))
        is_reached = found is not None and (found.verdict, found.choice) == (event.verdict, event.choice)
        self._expect(is_reached, f"{where}: {event.approval_id} is {event.verdict} without the votes for it")

    def expiry(self, before: Workflow | None, name: str, where: str) -> None:
        step = before.steps.get(name) if before else None
        if before is None or step is None or step.due_at_ms is None:
            return
        for answer in self._answers.get(step.task_id, ()):
            source = (answer.source_topic, answer.source_partition, answer.source_offset, 0)
            if answer.source_at_ms >= step.due_at_ms or source in self._sources:
                continue
            if self._would_count(before, answer):
                early_ms = step.due_at_ms - answer.source_at_ms
                self._find(f"{where}: {step.task_id} expires, though {answer.answer_id} came {early_ms} ms before")

        for order in self._orders.get(step.task_id, ()):
            source = (order.source_topic, order.source_partition, order.source_offset, 0)
            if order.command == "extend" and order.source_at_ms < step.due_at_ms and source not in self._sources:
                early_ms = step.due_at_ms - order.source_at_ms
                self._find(f"{where}: {step.task_id} expires, though {order.command_id} came {early_ms} ms before")

    def _would_count(self, before: Workflow, answer: AnswerGiven | AnswerGiven2) -> bool:
        route = self._routes.get(before.digest)
        if route is None:  # the route is not known here: then only the role can be checked
            return answer.digest is None and bool(self._directory(answer.source_at_ms).roles.get(answer.by))
        directory = self._people.for_answer(answer)
        given = self._people.checked(answer, directory)
        decided = decide(before, given, route=route, directory=directory, now_ms=answer.source_at_ms)
        return not any(isinstance(event, AnswerRefused) for event in decided.events)

    def wait(self, step: Step) -> None:
        """Check a wait that times out: nothing that it waits for may have come before.

        That holds even if it is unread, or not yet copied from its own topic.
        """
        timer = input_of(step.partition, step.decision)
        if not isinstance(timer, TimerDue) or timer.kind != "event_timeout" or step.before is None:
            return
        self._counts["waits timed out"] += 1
        waited = (step.before, timer.step, timer.due_at_ms, step.where)
        self._given_up.setdefault(timer.workflow_id, []).append(waited)
        for given in step.partition.inputs.values():
            if isinstance(given, EventOffered) and given.workflow_id == timer.workflow_id:
                self._check_waited(waited, given)

    def _check_waited(self, waited: tuple[Workflow, str, int, str], given: EventOffered) -> None:
        before, name, due, where = waited
        source = (given.source_topic, given.source_partition, given.source_offset, given.source_index)
        route = self._routes.get(before.digest)
        if given.source_at_ms >= due or source in self._sources or route is None:
            return
        directory = self._directory(given.source_at_ms)
        decided = decide(before, given, route=route, directory=directory, now_ms=given.source_at_ms)
        if any(isinstance(event, EventReceived) and event.step == name for event in decided.events):
            early_ms = due - given.source_at_ms
            self._find(
                f"{where}: {name} has waited in vain, though {given.cloud_event['id']} came {early_ms} ms before"
            )

    def _expect(self, kept: bool, finding: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not kept:
            self._find(finding)

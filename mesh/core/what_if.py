"""What if: one recorded run of a workflow, played through other rules, with the results and answers that it had.

Owns the sandbox. The pure core decides (`decide`, with the new route); this module gives it what the log holds: the start, each attempt's result after as long as it took, each answer after as
long as its person took, operators' commands when they came. Timers are those of the new rules, in virtual time. Nothing is sent, since nobody derives effects here.

What can't be known is not made up. A result that was never recorded (a new step, another agent, one attempt more, a time-out longer than the agent was given) stays out, and what hangs on it
is unknown from there. A recorded result is taken for good where only its input differs; that input is the difference that is told.

Compared are decisions, step by step, not their times: another time-out, backoff or deadline counts where it changes what happens.
`mesh.services.route_replay` reads runs off the log and calls it.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, zip_longest
from typing import Any, Final, Literal

import msgspec

from mesh.core import ids
from mesh.core.capabilities import stand_ins
from mesh.core.decide import decide
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    CommandAccepted,
    Decision,
    Event,
    IncidentRaised,
    IncidentResolved,
    StepBlocked,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowStarted,
)
from mesh.core.inputs import (
    AnswerGiven,
    CommandGiven,
    EventMatched,
    Input,
    ResultReceived,
    TaskError,
    TaskUndeliverable,
    TimerDue,
    TimerKind,
)
from mesh.core.matching import Match, RouteIndex
from mesh.core.route import Periods, Route
from mesh.core.state import Directory, Workflow

__all__ = ["Difference", "Fact", "Rehearsal", "Run", "Unknown", "rehearse"]

_TIMERS: Final[dict[str, TimerKind]] = {
    "running": "task_timeout",
    "retrying": "retry",
    "asking": "approval_deadline",
}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run as the log has it: its decisions, the start first."""

    workflow_id: str
    started: WorkflowStarted
    decisions: Sequence[Decision]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided of one step (or of the workflow: `step` is empty), without times."""

    step: str
    what: str
    detail: dict[str, Any] = {}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first decision of a step that is not the same. None: there is none. `fields`: what differs in it."""

    step: str
    before: Fact | None
    after: Fact | None
    fields: tuple[str, ...] = ()


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    step: str
    why: str


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """`verdict` unknown: nothing differs as far as it can be known. `before`, `after`: the workflow's status, `after` None where it is unknown."""

    workflow_id: str
    run_id: str
    digest: str
    verdict: Literal["same", "differs", "unknown"]
    before: str
    after: str | None
    first: Difference | None = None
    others: int = 0  # steps with differences, beyond the first
    unknown: tuple[Unknown, ...] = ()


def rehearse(run: Run, route: Route, roles: Mapping[str, frozenset[str]] | None = None) -> Rehearsal:
    """The run under `route`. `roles`: person to roles; None: whoever answered has the role that they had."""
    refusal = _refusal(run, route)
    if refusal is not None:
        started = Fact(step="", what="started", detail={"workflow": run.workflow_id})
        return _result(run, "not started", [Difference(step="", before=started, after=refusal)], ())
    stage = _Stage(run, route, roles)
    stage.play()
    ended = stage.ended
    found = _differences(run, stage.facts, route, complete=ended is not None)
    after = ended.status if ended is not None else (None if stage.unknown else "running")
    return _result(run, after, found, tuple(Unknown(step=name, why=why) for name, why in stage.unknown.items()))


def _refusal(run: Run, route: Route) -> Fact | None:
    """Why the new rules would not start this workflow with its event."""
    index = RouteIndex([route])
    matches = index.match(run.started.cloud_event)
    if not matches:
        return Fact(step="", what="not started", detail={"reason": index.explain(run.started.cloud_event)[0].reason})
    match = matches[0]
    if not isinstance(match, Match):
        return Fact(step="", what="not started", detail={"reason": match.message})
    if match.workflow_id != run.workflow_id:
        return Fact(step="", what="started", detail={"workflow": match.workflow_id})
    return None


def _result(run: Run, after: str | None, found: list[Difference], unknown: tuple[Unknown, ...]) -> Rehearsal:
    return Rehearsal(
        workflow_id=run.workflow_id,
        run_id=run.started.run_id,
        digest=run.started.digest,
        verdict="differs" if found else "unknown" if unknown else "same",
        before=next((event.status for event in _events(run) if isinstance(event, WorkflowEnded)), "running"),
        after=after,
        first=found[0] if found else None,
        others=max(0, len(found) - 1),
        unknown=unknown,
    )


def _events(run: Run) -> Iterator[Event]:
    return (event for decision in run.decisions for event in decision.events)


# What was recorded ----------------------------------------------------------------------------------------------------------------------


class _Attempt(msgspec.Struct):
    agent: str
    periods: Periods | None
    began_at_ms: int
    order: int = 0
    ended_at_ms: int | None = None
    result: TaskSucceeded | TaskFailed | None = None


class _Question(msgspec.Struct):
    asked_at_ms: int
    order: int = 0
    closed_at_ms: int | None = None
    closed: ApprovalClosed | None = None
    expired: bool = False


class _Recording:
    """A run's results, answers and commands, and how long each took. `order`: of decisions, for what came in one millisecond."""

    def __init__(self, run: Run) -> None:
        self.attempts: dict[tuple[str, int], _Attempt] = {}
        self.chosen: dict[str, str] = {}  # attempt id -> agent
        self.questions: dict[str, list[_Question]] = {}
        self.commands: list[tuple[int, int, CommandAccepted, tuple[str, ...]]] = []
        for order, decision in enumerate(run.decisions):
            for event in decision.events:
                self._note(event, decision, order)

    def _note(self, event: Event, decision: Decision, order: int) -> None:
        at_ms = decision.at_ms
        match event:
            case TaskDispatched():
                self.attempts[event.step, event.attempt] = _Attempt(event.agent, event.periods, at_ms)
                self.chosen[ids.attempt_id(event.task_id, event.attempt)] = event.agent
            case TaskSucceeded() | TaskFailed() if (event.step, event.attempt) in self.attempts:
                attempt = self.attempts[event.step, event.attempt]
                attempt.result, attempt.ended_at_ms, attempt.order = event, at_ms, order
            case ApprovalRequested():
                self.questions.setdefault(event.step, []).append(_Question(at_ms))
            case ApprovalClosed() if event.step in self.questions:
                question = self.questions[event.step][-1]
                question.closed, question.closed_at_ms, question.order = event, at_ms, order
                question.expired = event.expired
            case IncidentRaised(kind="expired") if event.step in self.questions:
                question = self.questions[event.step][-1]
                question.closed_at_ms, question.expired = at_ms, True
            case CommandAccepted() if event.command != "migrate":  # the whole run is played by one version
                steps = tuple(e.step for e in decision.events if isinstance(e, IncidentResolved))
                self.commands.append((at_ms, order, event, steps))
            case _:
                pass


# The sandbox ----------------------------------------------------------------------------------------------------------------------------


class _Stage:
    """The new rules at work on the recording, in virtual time."""

    def __init__(self, run: Run, route: Route, roles: Mapping[str, frozenset[str]] | None) -> None:
        self.run = run
        self.route = route
        self.recorded = _Recording(run)
        self.directory = Directory(
            roles=dict(roles) if roles is not None else _roles_of(run),
            registered=stand_ins(route),
            chosen=self.recorded.chosen,
        )
        self.workflow: Workflow | None = None
        self.now_ms = run.decisions[0].at_ms
        self.facts: list[Fact] = []
        self.unknown: dict[str, str] = {}  # step -> why nothing is known of it from here
        self.open: set[str] = set()  # steps that wait in the recording too
        self.ended: WorkflowEnded | None = None
        self._asked: dict[str, int] = {}
        self._tie = count()
        self._inputs: list[tuple[int, int, int, Input]] = []

    def play(self) -> None:
        """To its end: there are only so many recorded inputs, and time comes only to attempts and questions that were recorded."""
        self._start()
        while self.ended is None and (given := self._next()) is not None:
            self._give(given)

    def _start(self) -> None:
        for at_ms, order, command, steps in self.recorded.commands:
            for step in steps if command.command == "retry" else (None,):
                self._push(at_ms, order, self._command(command, step))
        started = self.run.started
        self._give(
            EventMatched(
                workflow_id=self.run.workflow_id,
                route=self.route.name,
                digest=self.route.digest,
                key=started.key,
                cloud_event=started.cloud_event,
                **_NOWHERE,
                source_at_ms=self.now_ms,
            )
        )

    def _command(self, command: CommandAccepted, step: str | None) -> CommandGiven:
        return CommandGiven(
            workflow_id=self.run.workflow_id,
            command_id=command.command_id,
            command="cancel" if command.command == "cancel" else "retry",
            by=command.by,
            reason=command.reason,
            step=step,
            **_NOWHERE,
            source_at_ms=0,
        )

    def _push(self, at_ms: int, order: int, given: Input) -> None:
        heapq.heappush(self._inputs, (at_ms, order, next(self._tie), given))

    def _next(self) -> Input | None:
        """The next input or timer; what came by a deadline beats it."""
        timer = min(self._timers(), default=None)
        if self._inputs and (timer is None or self._inputs[0][0] <= timer.due_at_ms):
            at_ms, _, _, given = heapq.heappop(self._inputs)
            self.now_ms = max(self.now_ms, at_ms)
            return given
        if timer is not None:
            self.now_ms = max(self.now_ms, timer.due_at_ms)
        return timer

    def _timers(self) -> Iterator[TimerDue]:
        """Of the steps that are known to wait for one."""
        for name, step in self.workflow.steps.items() if self.workflow is not None else ():
            if step.due_at_ms is None or name in self.unknown or name in self.open:
                continue
            yield TimerDue(
                due_at_ms=step.due_at_ms,
                workflow_id=self.run.workflow_id,
                kind=_TIMERS[step.status],
                step=name,
                run_id=self.run.started.run_id,
                attempt=step.attempt,
            )

    def _give(self, given: Input) -> None:
        decided = decide(self.workflow, given, route=self.route, directory=self.directory, now_ms=self.now_ms)
        self.workflow = decided.workflow
        for event in decided.events:
            self.facts += _facts(event)
            self._answer(event)

    def _answer(self, event: Event) -> None:
        """What the recording has to say to an event of the sandbox."""
        match event:
            case TaskDispatched():
                self.open.discard(event.step)
                self._result_of(event)
            case ApprovalRequested():
                self.open.discard(event.step)
                self._answer_to(event)
            case TaskSucceeded() | ApprovalClosed():
                self.unknown.pop(event.step, None)
            case AnswerRefused() if self.workflow is not None and not event.closed:
                step = event.approval_id.rpartition("/")[2]
                self.unknown[step] = f"the recorded answer would be refused: {event.message}"
            case WorkflowEnded():
                self.ended = event
                self.unknown.clear()
            case _:
                pass

    def _result_of(self, event: TaskDispatched) -> None:
        attempt = self.recorded.attempts.get((event.step, event.attempt))
        if attempt is None:
            made = sum(step == event.step for step, _ in self.recorded.attempts)
            self.unknown[event.step] = f"attempt {event.attempt} was never made" if made else "it never ran"
        elif attempt.agent != event.agent:
            self.unknown[event.step] = f"agent {event.agent} never did it: {attempt.agent} did"
        elif attempt.result is None or attempt.ended_at_ms is None:
            self.open.add(event.step)
        elif missed := _waited_longer_for(event.periods, attempt):
            self.unknown[event.step] = f"no sign of life came by its {missed}, which is longer now"
        else:
            self._schedule(event, attempt.result, attempt.ended_at_ms - attempt.began_at_ms, attempt.order)

    def _schedule(self, event: TaskDispatched, result: TaskSucceeded | TaskFailed, took_ms: int, order: int) -> None:
        if isinstance(result, TaskFailed) and result.kind == "timeout":
            if event.due_at_ms - self.now_ms > took_ms:
                self.unknown[event.step] = "no result came by the time-out, which is longer now"
            return
        self._push(self.now_ms + took_ms, order, _result_input(self.run.workflow_id, event, result))

    def _answer_to(self, event: ApprovalRequested) -> None:
        at = self._asked.get(event.step, 0)
        self._asked[event.step] = at + 1
        questions = self.recorded.questions.get(event.step, [])
        if at >= len(questions):
            self.unknown[event.step] = "it was never asked"
            return
        question = questions[at]
        if question.closed_at_ms is None:
            self.open.add(event.step)
        elif question.expired or question.closed is None:
            waited_ms = question.closed_at_ms - question.asked_at_ms
            if event.deadline_at_ms is None or event.deadline_at_ms - self.now_ms > waited_ms:
                self.unknown[event.step] = "nobody answered by the deadline, which is longer now"
        else:
            at_ms = self.now_ms + question.closed_at_ms - question.asked_at_ms
            self._push(at_ms, question.order, _answer_input(self.run.workflow_id, event, question.closed, at_ms))


_NOWHERE: Final[dict[str, Any]] = {"source_topic": "", "source_partition": 0, "source_offset": 0}


def _roles_of(run: Run) -> dict[str, frozenset[str]]:
    """The roles that people answered in."""
    roles: dict[str, set[str]] = {}
    for event in _events(run):
        if isinstance(event, ApprovalClosed) and event.by:
            roles.setdefault(event.by, set()).add(event.role)
    return {person: frozenset(held) for person, held in roles.items()}


def _result_input(workflow_id: str, event: TaskDispatched, result: TaskSucceeded | TaskFailed) -> Input:
    if isinstance(result, TaskFailed):
        if result.kind == "undeliverable":
            return TaskUndeliverable(
                workflow_id=workflow_id,
                task_id=event.task_id,
                attempt=event.attempt,
                code="recorded",
                message=result.message,
            )
        error = TaskError(kind=result.kind, message=result.message, retryable=result.retryable)
        return ResultReceived(
            task_id=event.task_id, attempt=event.attempt, workflow_id=workflow_id, status="failed", error=error
        )
    return ResultReceived(
        task_id=event.task_id, attempt=event.attempt, workflow_id=workflow_id, status="succeeded", output=result.output
    )


def _waited_longer_for(periods: Periods | None, attempt: _Attempt) -> str:
    """The time-out that the attempt failed by, for want of a sign of life that the new rules would have waited for; empty if that is not so."""
    if not isinstance(attempt.result, TaskFailed) or attempt.periods is None:
        return ""
    kind = attempt.result.kind
    before_s, now_s = attempt.periods.of(kind), periods.of(kind) if periods is not None else None
    return kind if before_s is not None and (now_s is None or now_s > before_s) else ""


def _answer_input(workflow_id: str, event: ApprovalRequested, closed: ApprovalClosed, at_ms: int) -> AnswerGiven:
    return AnswerGiven(
        workflow_id=workflow_id,
        approval_id=event.approval_id,
        answer_id=closed.answer_id,
        decision="approve" if closed.verdict == "approved" else "reject",
        by=closed.by,
        reason=closed.reason,
        payload=closed.payload if closed.edited else msgspec.UNSET,
        **_NOWHERE,
        source_at_ms=at_ms,
    )


# Comparing ----------------------------------------------------------------------------------------------------------------------------


def _facts(event: Event) -> Iterator[Fact]:
    match event:
        case TaskDispatched():
            detail = {"agent": event.agent, "input": event.input, "attempt": event.attempt}
            yield Fact(step=event.step, what="dispatched", detail=detail)
        case TaskSucceeded():
            yield Fact(step=event.step, what="succeeded")
        case TaskFailed():
            yield Fact(step=event.step, what="failed", detail={"kind": event.kind})
        case StepSkipped():
            yield Fact(step=event.step, what="skipped", detail={"output": event.output})
        case StepBlocked():
            yield Fact(step=event.step, what="blocked")
        case ApprovalRequested():
            detail = {"role": event.role, "question": event.question, "payload": event.payload}
            yield Fact(step=event.step, what="asked", detail=detail)
        case ApprovalClosed():
            by = "its deadline" if event.expired else event.by
            yield Fact(step=event.step, what=event.verdict, detail={"by": by, "payload": event.payload})
        case IncidentRaised():
            yield Fact(step=event.step, what="incident", detail={"kind": event.kind})
        case WorkflowEnded():
            yield Fact(step="", what=event.status, detail={"output": event.output})
        case _:
            pass


def _differences(run: Run, after: list[Fact], route: Route, *, complete: bool) -> list[Difference]:
    """The first of each step, in the order in which the new rules (then the old ones) came to them."""
    before = [fact for event in _events(run) for fact in _facts(event)]
    order = dict.fromkeys((*(fact.step for fact in after), *(fact.step for fact in before)))
    found = []
    for step in order:
        known = complete or (step != "" and step not in route.steps)
        difference = _difference(step, _of(step, before), _of(step, after), complete=known)
        if difference is not None:
            found.append(difference)
    return _by_time(found, before, after)


def _of(step: str, facts: list[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.step == step]


def _difference(step: str, before: list[Fact], after: list[Fact], *, complete: bool) -> Difference | None:
    """`complete`: that the new rules decide nothing more is certain."""
    for old, new in zip_longest(before, after):
        if old == new:
            continue
        if new is None and not complete:
            return None
        fields: tuple[str, ...] = ()
        if old is not None and new is not None and old.what == new.what:
            fields = tuple(name for name in old.detail if old.detail[name] != new.detail.get(name))
        return Difference(step=step, before=old, after=new, fields=fields)
    return None


def _by_time(found: list[Difference], before: list[Fact], after: list[Fact]) -> list[Difference]:
    """By where they stand in the new decisions; those that only the old ones have, by where they stood there."""

    def place(one: Difference) -> tuple[int, int]:
        facts, fact = (after, one.after) if one.after is not None else (before, one.before)
        at = next((number for number, known in enumerate(facts) if known is fact), len(facts))
        return (at, one.after is None)

    return sorted(found, key=place)

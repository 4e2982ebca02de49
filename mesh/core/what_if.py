"""What if: one recorded run of a workflow, played through other rules, with the results and answers that it had.

Owns the sandbox. The pure core decides (`decide`, with the new route); this module gives it what the log holds (`mesh.core.recording`): the start, each attempt's result after as long as it took, the end of each workflow
that it called, each answer after as long as its person took; operators' commands and events from outside when they came. Timers are those of the new rules, in virtual time. Nothing is sent, since nobody derives
effects here.

What can't be known is not made up. A result that was never recorded (a new step, another agent, one attempt more, a time-out longer than the agent was given) stays out, and what hangs on it
is unknown from there. So is an event that no step waited for, since the log does not have it. A recorded result is taken for good where only its input differs; that input is the difference that is told.

Compared are decisions, step by step, not their times: another time-out, backoff or deadline counts where it changes what happens.
`mesh.services.route_replay` reads runs off the log and calls it.
"""

import heapq
import re
from collections.abc import Iterator, Mapping
from itertools import count, zip_longest
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mesh.core import ids
from mesh.core.capabilities import stand_ins
from mesh.core.decide import Decided, decide
from mesh.core.events import (
    AliasSought,
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    BudgetRaised,
    BudgetTimeOver,
    CallFailed,
    CallMade,
    CallSucceeded,
    CallWithdrawn,
    CompensationStarted,
    Event,
    EventEmitted,
    EventKept,
    EventReceived,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    RoundStarted,
    SlotRequested,
    StepBlocked,
    StepCancelled,
    StepComputed,
    StepGivenUp,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskHeld,
    TaskSucceeded,
    WaitEnded,
    WaitStarted,
    WorkflowEnded,
)
from mesh.core.inputs import (
    AnswerGiven,
    CallCancelled,
    CallEnded,
    CommandGiven,
    EventMatched,
    EventOffered,
    Input,
    ResultReceived,
    SlotGiven,
    TaskError,
    TaskUndeliverable,
    TimerDue,
    TimerKind,
    Undeliverable,
    WorkflowCalled,
)
from mesh.core.matching import Match, RouteIndex
from mesh.core.recording import Attempt, Command, Outcome, Question, Recording, Run, Wait
from mesh.core.route import AgentWork, CallWork, Periods, Route
from mesh.core.schedules import FIRED_TYPE
from mesh.core.state import Directory, StepState, Workflow

__all__ = ["Difference", "Fact", "Rehearsal", "Run", "Unknown", "rehearse"]

_TIMERS: Final[dict[str, TimerKind]] = {
    "running": "task_timeout",
    "retrying": "retry",
    "asking": "approval_deadline",
    "calling": "call_timeout",
    "iterating": "portion",
}
_CALL_ENDS: Final = frozenset({"failed", "rejected", "cancelled", "refused"})
_REFUSED_TO: Final = re.compile(r" handed over to ([a-z0-9-]+), and ")
_NOWHERE: Final[dict[str, Any]] = {"source_topic": "", "source_partition": 0, "source_offset": 0}


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
    if run.started.caller is not None:
        return None  # a call names its route
    if route.on is not None and route.on.schedule is not None and run.started.cloud_event.get("type") == FIRED_TYPE:
        return None  # when it fires is not played
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


# The sandbox ----------------------------------------------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """`is_late`: it was given to what had become of a deadline, so that one of the same millisecond comes first."""

    at_ms: int
    order: int
    tie: int
    is_late: bool
    given: Input


class _Stage:
    """The new rules at work on the recording, in virtual time."""

    def __init__(self, run: Run, route: Route, roles: Mapping[str, frozenset[str]] | None) -> None:
        self.run = run
        self.route = route
        self.recorded = Recording(run)
        called = {step.work.route: "" for step in route.steps.values() if isinstance(step.work, CallWork)}
        self.directory = Directory(
            roles=dict(roles) if roles is not None else _roles_of(run),
            routes={**called, **self.recorded.called},
            registered=stand_ins(route),
            chosen=self.recorded.chosen,
        )
        self.workflow: Workflow | None = None
        self.now_ms = run.decisions[0].at_ms
        self.facts: list[Fact] = []
        self.unknown: dict[str, str] = {}  # place -> why nothing is known of it from here
        self.open: set[str] = set()  # places that wait in the recording too
        self.ended: WorkflowEnded | None = None
        self._asked: dict[str, int] = {}
        self._waited: dict[str, int] = {}
        self._came: set[tuple[str, str]] = set()
        self._elsewhere: set[tuple[str, str]] = set()  # events that the new rules find another workflow for
        self._lacking = dict(self.recorded.lacking)
        self._tie = count()
        self._inputs: list[_Given] = []

    def play(self) -> None:
        """To its end: there are only so many recorded inputs, and time comes only to what was recorded, or needs nobody."""
        self._start()
        while self.ended is None and (given := self._next()) is not None:
            self._give(given)
        for place in self.open if self.ended is None else ():
            if self.recorded.was_dropped(place):
                self.unknown[place] = "nobody waited for it to the end"

    def _start(self) -> None:
        for command in self.recorded.commands:
            for place in (None,) if command.places is None else command.places:
                self._push(command.at_ms, command.order, self._command(command, place), is_late=True)
        for offered in self.recorded.offered:
            if (given := self._offer(offered.cloud_event)) is not None:
                self._push(offered.at_ms, offered.order, given)
        if self.recorded.withdrawn is not None and self.run.started.caller is not None:
            at_ms, order, why = self.recorded.withdrawn
            caller, name = self.run.started.caller, self.run.workflow_id
            self._push(
                at_ms, order, CallCancelled(workflow_id=name, caller=caller, reason=why, **_NOWHERE, source_at_ms=at_ms)
            )
        kept = [e.kept.cloud_event for d in self.run.before for e in d.events if isinstance(e, EventKept)]
        for given in filter(None, map(self._offer, kept)):
            self._give(given)
        self._give(self._first())

    def _first(self) -> Input:
        started = self.run.started
        about: dict[str, Any] = {
            "workflow_id": self.run.workflow_id,
            "route": self.route.name,
            "digest": self.route.digest,
            "key": started.key,
            "cloud_event": started.cloud_event,
            **_NOWHERE,
            "source_at_ms": self.now_ms,
        }
        if started.caller is not None:
            return WorkflowCalled(caller=started.caller, **about)
        return EventMatched(**about)

    def _command(self, command: Command, place: str | None) -> CommandGiven:
        accepted = command.accepted
        return CommandGiven(
            workflow_id=self.run.workflow_id,
            command_id=accepted.command_id,
            command=_COMMANDS[accepted.command],
            by=accepted.by,
            reason=accepted.reason,
            step=place,
            **_NOWHERE,
            source_at_ms=0,
        )

    def _offer(self, cloud_event: dict[str, Any]) -> EventOffered | None:
        """None where the new rules find another workflow for it."""
        found = [offer.workflow_id for offer in RouteIndex([self.route]).offers(cloud_event)]
        if found and self.run.workflow_id not in found:
            self._elsewhere.add(_name(cloud_event))
            return None
        return EventOffered(
            workflow_id=self.run.workflow_id,
            route=self.route.name,
            digest=self.route.digest,
            key=self.run.started.key,
            cloud_event=cloud_event,
            **_NOWHERE,
            source_at_ms=0,
        )

    def _push(self, at_ms: int, order: int, given: Input, *, is_late: bool = False) -> None:
        heapq.heappush(self._inputs, _Given(at_ms, order, next(self._tie), is_late, given))

    def _next(self) -> Input | None:
        """The next input or timer; what came by a deadline beats it. What is still to come of a run that goes on is nobody's to know."""
        timer = min(self._timers(), default=None)
        if self._inputs and (timer is None or _beats(self._inputs[0], timer)):
            first = heapq.heappop(self._inputs)
            self.now_ms = max(self.now_ms, first.at_ms)
            return first.given
        if timer is not None:
            if not (self._inputs or self.recorded.is_over) and timer.due_at_ms > self.recorded.until_ms:
                return None
            self.now_ms = max(self.now_ms, timer.due_at_ms)
        return timer

    def _timers(self) -> Iterator[TimerDue]:
        """Of the steps that are known to wait for one, and of the budget."""
        expires = self.workflow.expires_at_ms if self.workflow is not None else None
        about: dict[str, Any] = {"workflow_id": self.run.workflow_id, "run_id": self.run.started.run_id}
        if expires is not None:
            yield TimerDue(due_at_ms=expires, kind="budget_time", **about)
        for name, step in self.workflow.steps.items() if self.workflow is not None else ():
            kind = _timer_of(step)
            if step.due_at_ms is not None and kind is not None and name not in self.unknown and name not in self.open:
                yield TimerDue(due_at_ms=step.due_at_ms, kind=kind, step=name, attempt=step.attempt, **about)

    def _give(self, given: Input) -> None:
        decided = self._decide(given)
        self.workflow = decided.workflow
        for event in decided.events:
            self.facts += _facts(event)
            self._answer(event)
        if isinstance(given, EventOffered):
            self._came.add(_name(given.cloud_event))
        self._miss()

    def _decide(self, given: Input) -> Decided:
        """Where the recording says that nobody could do what begins, nobody can."""
        directory = self.directory
        while True:
            decided = decide(self.workflow, given, route=self.route, directory=directory, now_ms=self.now_ms)
            lacking = [event for event in decided.events if self._is_lacking(event)]
            if not lacking:
                return decided
            capabilities = {event.capability for event in lacking if isinstance(event, TaskDispatched)}
            routes = {event.route for event in lacking if isinstance(event, CallMade)}
            directory = msgspec.structs.replace(
                directory,
                registered={name: who for name, who in directory.registered.items() if name not in capabilities},
                routes={name: digest for name, digest in directory.routes.items() if name not in routes},
                chosen={},
            )

    def _is_lacking(self, event: Event) -> bool:
        match event:
            case TaskDispatched(step=step, capability=capability) if capability:
                return self._lacking.get(step, 0) > 0
            case CallMade(step=step):
                return self._lacking.get(step, 0) > 0
            case _:
                return False

    def _answer(self, event: Event) -> None:
        """What the recording has to say to an event of the sandbox."""
        match event:
            case TaskDispatched() | CallMade():
                self.open.discard(event.step)
                self._result_of(event)
            case ApprovalRequested():
                self.open.discard(event.step)
                self._answer_to(event)
            case SlotRequested():
                self.open.discard(event.step)
                self._grant(event)
            case WaitStarted() if event.awaits:
                self.open.discard(event.step)
                self._event_for(event)
            case TaskSucceeded() | CallSucceeded() | ApprovalClosed() | EventReceived():
                self._is_known(event.step)
            case StepCancelled() | StepGivenUp() | StepSkipped() | ApprovalWithdrawn() | CallWithdrawn():
                self._is_known(event.step)
            case IncidentRaised(kind="no_agent" | "unknown_route") if self._lacking.get(event.step, 0):
                self._lacking[event.step] -= 1
            case AnswerRefused() if not event.closed and (asked := ids.parse_step_id(event.approval_id)):
                self.unknown[asked.step] = f"the recorded answer would be refused: {event.message}"
            case AliasSought():
                self.unknown[event.step] = "whether it got its alias is not played"
            case WorkflowEnded():
                self.ended = event
                self.unknown.clear()
            case _:
                pass

    def _is_known(self, settled: str) -> None:
        """A step is settled, and its items with it."""
        for place in [place for place in (*self.unknown, *self.open) if settled in (place, ids.step_of(place))]:
            self.unknown.pop(place, None)
            self.open.discard(place)

    def _grant(self, event: SlotRequested) -> None:
        """After as long as it took; at once where it never waited, since nobody else is in the sandbox. Once, if it is under several limits."""
        key = (event.task_id, event.attempt)
        if key in self.recorded.queued and key not in self.recorded.granted:
            self.open.add(event.step)
            return
        after_ms, order = self.recorded.granted.pop(key, (0, 0))
        given = SlotGiven(
            workflow_id=self.run.workflow_id,
            limit=event.limit,
            task_id=event.task_id,
            attempt=event.attempt,
            asked_at_ms=self.now_ms,
            **_NOWHERE,
            source_at_ms=self.now_ms,
        )
        self.recorded.queued.pop(key, None)
        self._push(self.now_ms + after_ms, order, given)

    def _result_of(self, event: TaskDispatched | CallMade) -> None:
        attempt = self.recorded.attempts.get((event.task_id, event.attempt))
        if attempt is None:
            self.unknown[event.step] = self._never(event)
        elif other := _done_by_another(event, attempt):
            self.unknown[event.step] = other
        elif not attempt.outcomes:
            self.open.add(event.step)
        else:
            self._hear(event, attempt)

    def _never(self, event: TaskDispatched | CallMade) -> str:
        made = [one.made for one in self.recorded.attempts.values() if one.made.step == event.step]
        if any(one.task_id == event.task_id for one in made):
            return f"attempt {event.attempt} was never made"
        if made and event.round > 1:
            return f"it was never in round {event.round}"
        return "it never came so far" if made else "it never ran"

    def _hear(self, event: TaskDispatched | CallMade, attempt: Attempt) -> None:
        """All that came of the attempt, each after as long as it took."""
        for after_ms, order, is_late, outcome in attempt.outcomes:
            why = self._unheard(event, attempt, outcome, after_ms)
            if why:
                self.unknown[event.step] = why
            elif not _is_time_out(outcome):
                given = _result_input(self.run.workflow_id, event, attempt, outcome)
                self._push(self.now_ms + max(0, after_ms), order, given, is_late=is_late)

    def _unheard(self, event: TaskDispatched | CallMade, attempt: Attempt, outcome: Outcome, after_ms: int) -> str:
        """Why it is not known what would have come in this outcome's stead; empty where it stands."""
        if not isinstance(outcome, TaskFailed | CallFailed):
            return ""
        if outcome is not attempt.outcomes[-1][-1]:
            return ""  # it was heard of after all
        if _is_time_out(outcome):
            longer = event.due_at_ms is None or event.due_at_ms - self.now_ms > after_ms
            return "no result came by the time-out, which is longer now" if longer else ""
        if isinstance(event, TaskDispatched) and (missed := _waited_longer_for(event.periods, attempt, outcome)):
            return f"no sign of life came by its {missed}, which is longer now"
        return self._lets_hand_over(event, outcome)

    def _lets_hand_over(self, event: TaskDispatched | CallMade, outcome: Outcome) -> str:
        """A hand-over that was refused, and would not be by the new rules."""
        work = self.route.steps[ids.step_of(event.step)].work
        if not isinstance(outcome, TaskFailed) or outcome.kind != "handover_refused" or not isinstance(work, AgentWork):
            return ""
        to = _REFUSED_TO.search(outcome.message)
        allowed = work.handover
        if to is None or allowed is None or to[1] not in allowed.to or _hop(event) > allowed.hops:
            return ""
        return f"it would be handed over to {to[1]}, who never had it"

    def _answer_to(self, event: ApprovalRequested) -> None:
        at = self._asked.get(event.approval_id, 0)
        self._asked[event.approval_id] = at + 1
        questions = self.recorded.questions.get(event.approval_id, [])
        if at >= len(questions):
            self.unknown[event.step] = "it was never asked" if not questions else "it was never asked so often"
            return
        question = questions[at]
        if question.after_ms is None:
            self.open.add(event.step)
            return
        at_ms = self.now_ms + question.after_ms
        given = _answer_input(self.run.workflow_id, event, question, at_ms)
        if given is not None:
            self._push(at_ms, question.order, given)
        elif event.deadline_at_ms is None or event.deadline_at_ms > at_ms:
            self.unknown[event.step] = "nobody answered by the deadline, which is longer now"

    def _event_for(self, event: WaitStarted) -> None:
        wait = self._wait_of(event.step)
        self._waited[event.step] = self._waited.get(event.step, 0) + 1
        if wait is None or wait.started.awaits != event.awaits:
            self.unknown[event.step] = f"it never waited for an event {event.awaits}"
        elif wait.gave_up_after_ms is not None:
            if event.due_at_ms is None or event.due_at_ms - self.now_ms > wait.gave_up_after_ms:
                self.unknown[event.step] = "no event came by the time-out, which is longer now"
        elif wait.took in self._elsewhere:
            self.unknown[event.step] = (
                "the event that it took finds another workflow, and which others came is not known"
            )
        elif wait.took is None:
            self.open.add(event.step)

    def _wait_of(self, step: str) -> Wait | None:
        waits, at = self.recorded.waits.get(step, []), self._waited.get(step, 0)
        return waits[at] if at < len(waits) else None

    def _miss(self) -> None:
        """A step that had the event by now in the recording, and goes on waiting for one of its type: which others came is not known."""
        for name, number in self._waited.items():
            state, waits = self.workflow.steps.get(name) if self.workflow is not None else None, self.recorded.waits
            wait = waits[name][number - 1] if number <= len(waits.get(name, ())) else None
            if wait is None or wait.took not in self._came or name in self.unknown:
                continue
            if state is not None and state.status == "waiting" and state.awaits == wait.started.awaits:
                self.unknown[name] = "it would not take the event that it took, and which others came is not known"


_COMMANDS: Final[dict[str, Literal["cancel", "retry", "skip", "fail"]]] = {
    "cancel": "cancel",
    "retry": "retry",
    "skip": "skip",
    "fail": "fail",
}


def _beats(first: _Given, timer: TimerDue) -> bool:
    return first.at_ms < timer.due_at_ms or (first.at_ms == timer.due_at_ms and not first.is_late)


def _name(cloud_event: dict[str, Any]) -> tuple[str, str]:
    return str(cloud_event["source"]), str(cloud_event["id"])


def _timer_of(step: StepState) -> TimerKind | None:
    if step.status == "waiting":
        return "event_timeout" if step.awaits else "wait"
    return _TIMERS.get(step.status)


def _roles_of(run: Run) -> dict[str, frozenset[str]]:
    """The roles that people answered in."""
    roles: dict[str, set[str]] = {}
    for event in _events(run):
        if isinstance(event, ApprovalClosed) and event.by:
            roles.setdefault(event.by, set()).add(event.role)
    return {person: frozenset(held) for person, held in roles.items()}


def _hop(event: TaskDispatched | CallMade) -> int:
    return event.hop if isinstance(event, TaskDispatched) else 1


def _done_by_another(event: TaskDispatched | CallMade, attempt: Attempt) -> str:
    before = attempt.made
    if isinstance(event, TaskDispatched) and isinstance(before, TaskDispatched):
        return "" if before.agent == event.agent else f"agent {event.agent} never did it: {before.agent} did"
    if isinstance(event, CallMade) and isinstance(before, CallMade):
        return "" if before.route == event.route else f"route {event.route} was never called: {before.route} was"
    return "it was no task" if isinstance(event, TaskDispatched) else "it was no call"


def _is_time_out(outcome: Outcome) -> bool:
    return isinstance(outcome, TaskFailed | CallFailed) and outcome.kind == "timeout"


def _result_input(workflow_id: str, event: TaskDispatched | CallMade, attempt: Attempt, outcome: Outcome) -> Input:
    about: dict[str, Any] = {"workflow_id": workflow_id, "task_id": event.task_id, "attempt": event.attempt}
    match outcome:
        case TaskSucceeded():
            return ResultReceived(status="succeeded", output=outcome.output, usage=outcome.usage, **about)
        case TaskHandedOver():
            return ResultReceived(status="handed_over", handover=attempt.handed, usage=outcome.usage, **about)
        case TaskFailed(kind="undeliverable"):
            return TaskUndeliverable(code="recorded", message=outcome.message, **about)
        case TaskFailed():
            error = TaskError(kind=outcome.kind, message=outcome.message, retryable=outcome.retryable)
            return ResultReceived(status="failed", error=error, usage=outcome.usage, **about)
        case CallSucceeded():
            ended = {**about, **_NOWHERE, "source_at_ms": 0, "called": outcome.called}
            return CallEnded(status="completed", output=outcome.output, **ended)
        case _:
            return _call_failed(about, event, outcome)


def _call_failed(about: dict[str, Any], event: TaskDispatched | CallMade, failed: CallFailed) -> Input:
    if failed.kind not in _CALL_ENDS:
        name = f"{ids.attempt_id(event.task_id, event.attempt)}/call"
        return Undeliverable(
            workflow_id=about["workflow_id"], effect_id=name, topic="", code="recorded", message=failed.message
        )
    ended = {**about, **_NOWHERE, "source_at_ms": 0, "called": failed.called, "status": failed.kind}
    return CallEnded(reason=failed.message, **ended)


def _waited_longer_for(periods: Periods | None, attempt: Attempt, failed: TaskFailed | CallFailed) -> str:
    """The time-out that the attempt failed by, for want of a sign of life that the new rules would have waited for; empty if that is not so."""
    if not isinstance(attempt.made, TaskDispatched) or attempt.made.periods is None:
        return ""
    before_s, now_s = attempt.made.periods.of(failed.kind), periods.of(failed.kind) if periods is not None else None
    return failed.kind if before_s is not None and (now_s is None or now_s > before_s) else ""


def _answer_input(
    workflow_id: str, event: ApprovalRequested, question: Question, at_ms: int
) -> AnswerGiven | Undeliverable | None:
    """None: nobody answered."""
    if question.undeliverable:
        return Undeliverable(
            workflow_id=workflow_id,
            effect_id=event.approval_id,
            topic="",
            code="recorded",
            message=question.undeliverable,
        )
    closed = question.closed
    if closed is None:
        return None
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
    found = _of_work(event) or _of_course(event) or _of_run(event)
    if found is not None:
        yield found


def _of_work(event: Event) -> Fact | None:
    """What agents, people and other workflows are asked, and say."""
    match event:
        case TaskDispatched():
            detail = {"agent": event.agent, "input": event.input, "attempt": event.attempt}
            return Fact(step=event.step, what="dispatched", detail=detail)
        case CallMade():
            detail = {"route": event.route, "input": event.input, "attempt": event.attempt}
            return Fact(step=event.step, what="called", detail=detail)
        case TaskSucceeded() | CallSucceeded():
            return Fact(step=event.step, what="succeeded")
        case TaskFailed() | CallFailed():
            return Fact(step=event.step, what="failed", detail={"kind": event.kind})
        case TaskHandedOver():
            return Fact(step=event.step, what="handed over", detail={"to": event.to})
        case TaskHeld():
            return Fact(step=event.step, what="held", detail={"input": event.input})
        case ApprovalRequested():
            detail = {"role": event.role, "question": event.question, "payload": event.payload}
            return Fact(step=event.step, what="asked", detail=detail)
        case ApprovalClosed():
            by = "its deadline" if event.expired else event.by
            return Fact(step=event.step, what=event.verdict, detail={"by": by, "payload": event.payload})
        case _:
            return None


def _of_course(event: Event) -> Fact | None:
    """What the rules do by themselves."""
    match event:
        case StepSkipped():
            return Fact(step=event.step, what="skipped", detail={"output": event.output})
        case StepBlocked():
            return Fact(step=event.step, what="blocked")
        case StepCancelled() | ApprovalWithdrawn() | CallWithdrawn():
            return Fact(step=event.step, what="cancelled")
        case StepGivenUp():
            return Fact(step=event.step, what="given up")
        case StepComputed():
            return Fact(step=event.step, what="computed", detail={"output": event.output})
        case EventEmitted(cloud_event=sent):
            detail = {name: sent.get(name) for name in ("type", "subject", "data")}
            return Fact(step=event.step, what="emitted", detail=detail)
        case ForEachStarted():
            return Fact(step=event.step, what="for each", detail={"items": event.items})
        case ForEachEnded():
            return Fact(step=event.step, what="all items done", detail={"failed": event.failed})
        case RoundStarted():
            return Fact(step=event.step, what="round", detail={"round": event.round})
        case IncidentRaised():
            return Fact(step=event.step, what="incident", detail={"kind": event.kind})
        case _:
            return None


def _of_run(event: Event) -> Fact | None:
    match event:
        case WaitStarted():
            return Fact(step=event.step, what="waits", detail={"for": event.awaits or "a time"})
        case WaitEnded():
            return Fact(step=event.step, what="time has come")
        case EventReceived():
            return Fact(step=event.step, what="received", detail={"event": event.cloud_event})
        case BudgetTimeOver():
            return Fact(step="", what="budget's time over")
        case BudgetRaised():
            return Fact(step="", what="budget raised", detail={"granted": event.granted})
        case CompensationStarted():
            return Fact(step="", what="undoing", detail={"status": event.status, "steps": list(event.steps)})
        case WorkflowEnded():
            return Fact(step="", what=event.status, detail={"output": event.output})
        case _:
            return None


def _differences(run: Run, after: list[Fact], route: Route, *, complete: bool) -> list[Difference]:
    """The first of each step, in the order in which the new rules (then the old ones) came to them."""
    before = [fact for event in _events(run) for fact in _facts(event)]
    order = dict.fromkeys((*(fact.step for fact in after), *(fact.step for fact in before)))
    found = []
    for step in order:
        known = complete or (step != "" and ids.step_of(step) not in route.steps)
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

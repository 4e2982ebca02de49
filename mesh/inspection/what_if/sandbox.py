"""The sandbox: the new rules at work on a recording, in virtual time.

Owns the order of inputs and timers, and what is unknown. It must not read a log or send anything:
it takes a `Run`, and its caller, `mesh.inspection.what_if.rehearsal`, reads the facts off it.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.approvals import Vote
from mesh.core.calendars import CalendarsAt, no_calendars
from mesh.core.calls import Caller
from mesh.core.capabilities import stand_ins
from mesh.core.crossings import CrossingId
from mesh.core.decide import Decided, decide, park
from mesh.core.delegations import Delegation, KnownDelegation
from mesh.core.inputs import (
    NOWHERE,
    AliasAnswered,
    AnswerGiven,
    AnswerGiven2,
    CallCancelled,
    EventForwarded,
    EventMatched,
    EventOffered,
    Input,
    TimerDue,
    TimerKind,
    WorkflowCalled,
)
from mesh.core.route import CallWork, Route
from mesh.core.signing import LEVELS
from mesh.core.state import Directory, StepState, Workflow
from mesh.inspection.what_if.arrivals import Arrival, Arrivals, event_name, event_of
from mesh.inspection.what_if.comparison import Fact, events_of, facts_of
from mesh.inspection.what_if.recording import Attempt, Offered, Recording, Run, Wait, too_large
from mesh.inspection.what_if.replayed_inputs import (
    answer_input,
    command_input,
    report_input,
    result_input,
    slot_input,
    word_input,
)
from mesh.inspection.what_if.unknowns import done_by_another, is_time_out, never, unheard

_TIMERS: Final[dict[str, TimerKind]] = {
    "running": "task_timeout",
    "retrying": "retry",
    "asking": "approval_deadline",
    "calling": "call_timeout",
    "iterating": "portion",
}


class _SetAside(NamedTuple):
    """An input that could not be processed, and what its record's name says."""

    parked: ev.InputParked
    about: CrossingId


class _Given(NamedTuple):
    """An input that is to come, in the order in which inputs come.

    `is_late`: a timer of the same millisecond comes first, because the timer had already had its
    effect when the input was given.
    """

    at_ms: int
    order: int
    tie: int
    is_late: bool
    given: "Input | _SetAside"


class Sandbox:
    """The new rules at work on the recording, in virtual time."""

    def __init__(
        self,
        run: Run,
        route: Route,
        roles: Mapping[str, frozenset[str]] | None,
        calendars_at: CalendarsAt = no_calendars,
    ) -> None:
        self.run = run
        self.route = route
        self._calendars_at = calendars_at
        self.recorded = Recording(run)
        called = {step.work.route: "" for step in route.steps.values() if isinstance(step.work, CallWork)}
        self.directory = Directory(
            roles=dict(roles) if roles is not None else _roles_of(run),
            knows_all_roles=roles is not None,
            routes={**called, **self.recorded.called},
            registered=stand_ins(route),
            chosen=self.recorded.chosen,
            delegations=tuple(_delegations_of(run)),
        )
        self.workflow: Workflow | None = None
        self.now_ms = run.decisions[0].at_ms
        self.facts: list[Fact] = []
        self.unknown: dict[str, str] = {}  # place -> why nothing is known of it from here
        self.open: set[str] = set()  # places that wait in the recording too
        self.ended: ev.WorkflowEnded | None = None
        self._asked: dict[str, int] = {}
        self._waited: dict[str, int] = {}
        self._sought: dict[str, int] = {}
        self._stuck: dict[str, int] = {}
        self._came: set[tuple[str, str]] = set()
        self._arrivals = Arrivals(run, route)
        self._lacking = dict(self.recorded.lacking)
        # What the broker takes is not in the log. So only under the same rules it is known that the
        # same things are too large.
        is_same = route.digest == run.started.digest
        self._too_large = {place: list(said) for place, said in self.recorded.too_large.items()} if is_same else {}
        self._tie = count()
        self._inputs: list[_Given] = []

    def play(self) -> None:
        """Play the run to its end.

        It does come to an end: the recorded inputs are finite, and time moves on only to what was
        recorded or to what needs nobody.
        """
        self._start()
        while self.ended is None and (given := self._next()) is not None:
            self._give(given)
        for place in self.open if self.ended is None else ():
            if self.recorded.was_dropped(place):
                self.unknown[place] = "nobody waited for it to the end"

    def _start(self) -> None:
        for at_ms, order, cancelled in self.recorded.cancels:
            self._push(at_ms, order, command_input(self.run.workflow_id, cancelled, None), is_late=True)
        for offered in self.recorded.offered:
            self._arrive(self._arrivals.of(offered))
        if self.recorded.withdrawn is not None and self.run.started.caller is not None:
            at_ms, order, why = self.recorded.withdrawn
            caller, name = self.run.started.caller, self.run.workflow_id
            self._push(
                at_ms, order, CallCancelled(workflow_id=name, caller=caller, reason=why, **NOWHERE, source_at_ms=at_ms)
            )
        kept = [e.kept.cloud_event for d in self.run.before for e in d.events if isinstance(e, ev.EventKept)]
        for event in kept:
            for arrival in self._arrivals.of(Offered(self.now_ms, 0, event)):
                self._give(arrival.given)
        self._give(self._first())

    def _first(self) -> Input:
        started = self.run.started
        about: dict[str, Any] = {
            "workflow_id": self.run.workflow_id,
            "route": self.route.name,
            "digest": self.route.digest,
            "key": started.key,
            "cloud_event": started.cloud_event,
            **NOWHERE,
            "source_at_ms": self.now_ms,
        }
        if started.caller is not None:
            return WorkflowCalled(caller=started.caller, slice=started.slice, **about)
        return EventMatched(**about)

    def _arrive(self, arrivals: Sequence[Arrival]) -> None:
        for at_ms, order, given in arrivals:
            # what comes by an alias is known only once the alias is
            # granted, and time does not go back
            self._push(max(at_ms, self.now_ms), order, given)

    def _push(self, at_ms: int, order: int, given: Input | _SetAside, *, is_late: bool = False) -> None:
        heapq.heappush(self._inputs, _Given(at_ms, order, next(self._tie), is_late, given))

    def _next(self) -> Input | _SetAside | None:
        """The next input or timer. An input that came by a deadline beats the deadline's timer.

        None at the end of the recording of a run that is still live: nobody knows what is to come.
        """
        timer = min(self._timers(), default=None)
        if self._inputs and (timer is None or _beats(self._inputs[0], timer)):
            first = heapq.heappop(self._inputs)
            self.now_ms = max(self.now_ms, first.at_ms)
            return first.given
        if timer is not None:
            # The run is still live: from here on, answers could come that nobody has recorded yet.
            if not (self._inputs or self.recorded.is_over) and timer.due_at_ms > self.recorded.until_ms:
                return None
            self.now_ms = max(self.now_ms, timer.due_at_ms)
        return timer

    def _timers(self) -> Iterator[TimerDue]:
        """The timers of the budget, and of the steps that are known to wait for one."""
        expires = self.workflow.expires_at_ms if self.workflow is not None else None
        about: dict[str, Any] = {"workflow_id": self.run.workflow_id, "run_id": self.run.started.run_id}
        if expires is not None:
            yield TimerDue(due_at_ms=expires, kind="budget_time", **about)
        for name, step in self.workflow.steps.items() if self.workflow is not None else ():
            kind = _timer_of(step)
            if step.due_at_ms is not None and kind is not None and name not in self.unknown and name not in self.open:
                yield TimerDue(due_at_ms=step.due_at_ms, kind=kind, step=name, attempt=step.attempt, **about)

    def _give(self, given: Input | _SetAside) -> None:
        decided = self._decide(given)
        self.workflow = decided.workflow
        for event in decided.events:
            if (begun := too_large(event)) is not None:
                # it has begun once more, as often as in the recording or not
                self._too_large[begun[0]] = self._too_large.get(begun[0], [])[1:]
            self.facts += facts_of(event)
            self._answer(event)
        if isinstance(given, EventOffered | EventForwarded):
            self._came.add(event_name(event_of(given)))
        self._miss()

    def _decide(self, given: Input | _SetAside) -> Decided:
        """Decide what the input brings about.

        If nobody could do a step's work in the recording, nobody can do it here: no agent is
        registered for the capability, or the route is unknown.
        """
        if isinstance(given, _SetAside):
            return park(self.workflow, given.parked, given.about, workflow_id=self.run.workflow_id, now_ms=self.now_ms)
        # a time of the sandbox, since changed rules may ask at another
        directory = msgspec.structs.replace(self.directory, calendars=self._calendars_at(self.now_ms))
        if isinstance(given, AnswerGiven | AnswerGiven2):
            given = self._as_seen(given)
        while True:
            decided = decide(
                self.workflow,
                given,
                route=self.route,
                directory=directory,
                now_ms=self.now_ms,
                withheld={place: said[0] for place, said in self._too_large.items() if said and said[0]},
            )
            lacking = [event for event in decided.events if self._is_lacking(event)]
            if not lacking:
                return decided
            capabilities = {event.capability for event in lacking if isinstance(event, ev.TaskDispatched)}
            routes = {event.route for event in lacking if isinstance(event, ev.CallMade)}
            directory = msgspec.structs.replace(
                directory,
                registered={name: who for name, who in directory.registered.items() if name not in capabilities},
                routes={name: digest for name, digest in directory.routes.items() if name not in routes},
                # a choice that is known would win, although nobody is registered any more
                chosen={},
            )

    def _as_seen(self, given: AnswerGiven | AnswerGiven2) -> AnswerGiven | AnswerGiven2:
        """A vote is for the payload that there is: the person would have seen that one."""
        asked = ids.parse_step_id(given.approval_id)
        step = self.workflow.steps.get(asked.step) if self.workflow is not None and asked is not None else None
        if step is None or step.asking is None:
            return given
        return msgspec.structs.replace(given, digest=step.digest)

    def _is_lacking(self, event: ev.Event) -> bool:
        match event:
            case ev.TaskDispatched(step=step, capability=capability) if capability:
                return self._lacking.get(step, 0) > 0
            case ev.CallMade(step=step):
                return self._lacking.get(step, 0) > 0
            case _:
                return False

    def _answer(self, event: ev.Event) -> None:
        """Give back what the recording has in answer to an event of the sandbox."""
        if isinstance(event, ev.CallWithdrawn | ev.CallFailed):
            self._report(event)
        match event:
            case ev.TaskDispatched() | ev.CallMade():
                self.open.discard(event.step)
                self._result_of(event)
            case ev.ApprovalRequested():
                self.open.discard(event.step)
                self._answer_to(event)
            case ev.SlotRequested():
                self.open.discard(event.step)
                self._grant(event)
            case ev.WaitStarted() if event.awaits:
                self.open.discard(event.step)
                self._event_for(event)
            case ev.TaskSucceeded() | ev.CallSucceeded() | ev.ApprovalClosed() | ev.EventReceived():
                self._is_known(event.step)
            case ev.StepCancelled() | ev.StepGivenUp() | ev.StepSkipped() | ev.ApprovalWithdrawn() | ev.CallWithdrawn():
                self._is_known(event.step)
            case ev.IncidentRaised():
                self._lack(event)
                self._resolve(event.step)
            case ev.AnswerRefused() if not event.closed and (asked := ids.parse_step_id(event.approval_id)):
                self.unknown[asked.step] = f"the recorded answer would be refused: {event.message}"
            case ev.AliasSought():
                self._claim(event)
            case ev.AliasGranted():
                self._is_known(event.step)
                self._arrive(self._arrivals.by(event.alias))
            case ev.AliasWaived():
                self._is_known(event.step)
            case ev.WorkflowEnded():
                self.ended = event
                self.unknown.clear()
            case _:
                pass

    def _lack(self, event: ev.IncidentRaised) -> None:
        if event.kind in {"no_agent", "unknown_route"} and self._lacking.get(event.step, 0):
            self._lacking[event.step] -= 1

    def _resolve(self, place: str) -> None:
        """Repeat what an operator did about the incident, after as long."""
        at = self._stuck.get(place, 0)
        self._stuck[place] = at + 1
        for stuck in self.recorded.incidents.get(place, [])[at : at + 1]:
            if stuck.command is not None:
                about = None if stuck.command.command == "fail" else place
                given = command_input(self.run.workflow_id, stuck.command, about)
                self._push(self.now_ms + stuck.after_ms, stuck.order, given, is_late=True)

    def _claim(self, event: ev.AliasSought) -> None:
        """Repeat what the alias answered, after as long."""
        at, claims = self._sought.get(event.alias, 0), self.recorded.claims.get(event.alias, [])
        self._sought[event.alias] = at + 1
        if at >= len(claims):
            self.unknown[event.step] = f"it never asked for {event.alias}{' so often' if claims else ''}"
            return
        claim = claims[at]
        if claim.after_ms is None:
            self.open.add(event.step)
            return
        claimant = Caller(workflow_id=self.run.workflow_id, task_id=event.task_id, attempt=event.claim)
        about: dict[str, Any] = {"workflow_id": self.run.workflow_id, **NOWHERE, "source_at_ms": self.now_ms}
        given = AliasAnswered(claimant=claimant, alias=event.alias, refusal=claim.refusal, **about)
        self._push(self.now_ms + claim.after_ms, claim.order, given)

    def _is_known(self, settled: str) -> None:
        """Note that a step and its items are settled: nothing about them is unknown any more."""
        for place in [place for place in (*self.unknown, *self.open) if settled in (place, ids.step_of(place))]:
            self.unknown.pop(place, None)
            self.open.discard(place)

    def _grant(self, event: ev.SlotRequested) -> None:
        """Grant the slot after as long as it took in the recording.

        If the attempt never waited there, it is granted at once, since nobody else is in the
        sandbox. An attempt under several limits waits only once.
        """
        key = (event.task_id, event.attempt)
        if key in self.recorded.denied:
            self._deny(event, *self.recorded.denied[key])
            return
        if key in self.recorded.queued and key not in self.recorded.granted:
            self.open.add(event.step)
            return
        after_ms, order = self.recorded.granted.pop(key, (0, 0))
        self.recorded.queued.pop(key, None)
        self._push(self.now_ms + after_ms, order, slot_input(self.run.workflow_id, event, self.now_ms))

    def _deny(self, event: ev.SlotRequested, after_ms: int, order: int, incident: ev.IncidentRaised) -> None:
        """Repeat that the slot could not be asked for.

        If the incident was of another kind, what would have come of the request is unknown.
        """
        if incident.kind != "limit":
            self.unknown[event.step] = f"its slot could not be asked for: {incident.message}"
            return
        given = slot_input(self.run.workflow_id, event, self.now_ms, denied=True)
        self._push(self.now_ms + after_ms, order, given)

    def _report(self, event: ev.CallWithdrawn | ev.CallFailed) -> None:
        """Repeat what a call has used that nobody waits for, after as long.

        Only if the recording has the report.
        """
        reported = self.recorded.reported.get((event.task_id, event.attempt))
        if reported is None:
            return
        given: Input | _SetAside = report_input(self.run.workflow_id, event, reported.told.usage)
        if reported.parked is not None:
            caller = Caller(workflow_id=self.run.workflow_id, task_id=event.task_id, attempt=event.attempt)
            given = _SetAside(reported.parked, CrossingId(caller=caller, what="end"))
        self._push(self.now_ms + reported.after_ms, reported.order, given)

    def _result_of(self, event: ev.TaskDispatched | ev.CallMade) -> None:
        attempt = self.recorded.attempts.get((event.task_id, event.attempt))
        if attempt is None:
            self.unknown[event.step] = never(self.recorded, event)
        elif other := done_by_another(event, attempt):
            self.unknown[event.step] = other
        elif not attempt.outcomes:
            self.open.add(event.step)
        else:
            self._hear(event, attempt)

    def _hear(self, event: ev.TaskDispatched | ev.CallMade, attempt: Attempt) -> None:
        """Give back every outcome of the attempt, each after as long as it took."""
        for after_ms, order, is_late, outcome in attempt.outcomes:
            why = unheard(self.route, event, attempt, outcome, after_ms=after_ms, now_ms=self.now_ms)
            if why:
                self.unknown[event.step] = why
            elif not is_time_out(outcome):
                given = result_input(self.run.workflow_id, event, attempt, outcome)
                self._push(self.now_ms + max(0, after_ms), order, given, is_late=is_late)

    def _answer_to(self, event: ev.ApprovalRequested) -> None:
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
        given = answer_input(self.run.workflow_id, event, question, at_ms)
        if isinstance(event, ev.ApprovalRequested2) and question.words:
            for after_ms, order, word in question.words:
                said_ms = self.now_ms + after_ms
                self._push(said_ms, order, word_input(self.run.workflow_id, event.approval_id, word, said_ms))
        elif given is not None:
            self._push(at_ms, question.order, given)
        elif event.deadline_at_ms is None or event.deadline_at_ms > at_ms:
            self.unknown[event.step] = "nobody answered by the deadline, which is longer now"

    def _event_for(self, event: ev.WaitStarted) -> None:
        wait = self._wait_of(event.step)
        self._waited[event.step] = self._waited.get(event.step, 0) + 1
        if wait is None or wait.started.awaits != event.awaits:
            self.unknown[event.step] = f"it never waited for an event {event.awaits}"
        elif wait.gave_up_after_ms is not None:
            if event.due_at_ms is None or event.due_at_ms - self.now_ms > wait.gave_up_after_ms:
                self.unknown[event.step] = "no event came by the time-out, which is longer now"
        elif wait.took in self._arrivals.elsewhere:
            self.unknown[event.step] = (
                "the event that it took finds another workflow, and which others came is not known"
            )
        elif wait.took is None:
            self.open.add(event.step)

    def _wait_of(self, step: str) -> Wait | None:
        waits, at = self.recorded.waits.get(step, []), self._waited.get(step, 0)
        return waits[at] if at < len(waits) else None

    def _miss(self) -> None:
        """Note the steps that still wait although they had their event in the recording.

        Which other events of the type came is not known, so neither is what they do.
        """
        for name, number in self._waited.items():
            state, waits = self.workflow.steps.get(name) if self.workflow is not None else None, self.recorded.waits
            wait = waits[name][number - 1] if number <= len(waits.get(name, ())) else None
            if wait is None or wait.took is None or name in self.unknown:
                continue
            if state is not None and state.status == "waiting" and state.awaits == wait.started.awaits:
                if wait.took in self._came:
                    self.unknown[name] = "it would not take the event that it took, and which others came is not known"
                elif wait.took in self._arrivals.never_came():
                    self.unknown[name] = "the event that it took comes by an alias that the workflow does not have"


def _beats(first: _Given, timer: TimerDue) -> bool:
    return first.at_ms < timer.due_at_ms or (first.at_ms == timer.due_at_ms and not first.is_late)


def _timer_of(step: StepState) -> TimerKind | None:
    if step.status == "waiting":
        return "event_timeout" if step.awaits else "wait"
    return _TIMERS.get(step.status)


def _roles_of(run: Run) -> dict[str, frozenset[str]]:
    """The roles in which people answered in the recording."""
    roles: dict[str, set[str]] = {}
    for event in events_of(run):
        if isinstance(event, ev.ApprovalClosed) and event.by:
            roles.setdefault(event.on_behalf or event.by, set()).add(event.role)
        if isinstance(event, ev.VoteCast):
            roles.setdefault(event.vote.person, set()).update(event.vote.roles)
    return {person: frozenset(held) for person, held in roles.items()}


def _delegations_of(run: Run) -> Iterator[KnownDelegation]:
    """The delegations under which people answered in the recording, which has their ids alone."""
    for event in events_of(run):
        said = event.vote if isinstance(event, ev.VoteCast) else event
        if isinstance(said, Vote | ev.ApprovalClosed) and said.delegation:
            one = Delegation(
                id=said.delegation, giver=said.on_behalf, to=said.by, start_ms=0, until_ms=1, signed=LEVELS[-1]
            )
            yield KnownDelegation(delegation=one, from_ms=0)

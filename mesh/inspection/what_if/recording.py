"""A recording: what a run of a workflow was given, read off its decisions.

Owns the reading; `mesh.inspection.what_if` plays the run again. It knows what came of
a task, a call, a question, an alias that a step asked for and an incident, and after how long. Of
cancels and of events from outside it knows when they came. The log does not have an input that
changed nothing (a repeated result, a refused answer, an event that no step waited for), so what
depends on one is not known.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.inputs import HandOver
from mesh.core.tool_approvals import Wanted


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run as the log has it: its decisions, the start first.

    `before`: the decisions to keep events for it, from before it started.
    """

    workflow_id: str
    started: ev.WorkflowStarted
    decisions: Sequence[ev.Decision]
    before: Sequence[ev.Decision] = ()


class Runs:
    """Collects the runs of one partition, decision by decision."""

    def __init__(self) -> None:
        self.found: list[Run] = []
        self._live: dict[str, list[ev.Decision]] = {}
        self._before: dict[str, list[ev.Decision]] = {}

    def take(self, decision: ev.Decision, *, is_wanted: bool = True) -> None:
        """Take the next decision. `is_wanted`: whether to collect a run that starts with it."""
        name = decision.workflow_id
        started = next((event for event in decision.events if isinstance(event, ev.WorkflowStarted)), None)
        if started is not None:
            self._live.pop(name, None)
            before = self._before.pop(name, [])
            # what a fork has from another run is not in its own decisions
            is_fork = any(isinstance(event, ev.WorkflowForked) for event in decision.events)
            if is_wanted and not is_fork:
                decisions = self._live[name] = [decision]
                self.found.append(Run(workflow_id=name, started=started, decisions=decisions, before=before))
        elif any(isinstance(event, ev.WorkflowForgotten) for event in decision.events):
            self._live.pop(name, None)
            self._before.pop(name, None)
        elif name in self._live:
            self._live[name].append(decision)
        elif any(isinstance(event, ev.EventKept) for event in decision.events):
            self._before.setdefault(name, []).append(decision)


Outcome = ev.TaskSucceeded | ev.TaskFailed | ev.TaskHandedOver | ev.ApprovalWanted | ev.CallSucceeded | ev.CallFailed


class Attempt(msgspec.Struct):
    """One attempt at a task or a call.

    `outcomes`: there may be several, since an attempt that was given up may still succeed later.

    `was_read_late_ms`: how long after the time-out the first outcome was read, although it was in
    time. The others are taken to have come earlier by as much.
    """

    made: ev.TaskDispatched | ev.CallMade
    at_ms: int
    # (after how long, order, is late, outcome): see `Recording`
    outcomes: list[tuple[int, int, bool, Outcome]] = msgspec.field(default_factory=list)
    was_read_late_ms: int = 0
    handed: HandOver | None = None
    wanted: Wanted | None = None


Word = ev.VoteCast | ev.VoteTakenBack | ev.PayloadEdited


class Question(msgspec.Struct):
    """A question to people, and its answer. `after_ms` None: it was not closed."""

    asked: ev.ApprovalRequested
    at_ms: int
    after_ms: int | None = None
    order: int = 0
    closed: ev.ApprovalClosed | None = None  # by a person
    # what people said where several vote, with how long after the question, and the order
    words: list[tuple[int, int, Word]] = []
    undeliverable: str = ""


class Wait(msgspec.Struct):
    """A wait for an event. `took`: the source and id of the event."""

    started: ev.WaitStarted
    at_ms: int
    took: tuple[str, str] | None = None
    gave_up_after_ms: int | None = None


class Stuck(msgspec.Struct):
    """An incident, and what an operator did about it after how long.

    `command` None: nobody did anything.
    """

    at_ms: int
    after_ms: int = 0
    order: int = 0
    command: ev.CommandAccepted | None = None
    is_over: bool = False


class Claim(msgspec.Struct):
    """A step's request for an alias.

    `after_ms` None: it got no answer. `refusal` empty: it got the alias.
    """

    at_ms: int
    after_ms: int | None = None
    order: int = 0
    refusal: str = ""


class Offered(msgspec.Struct):
    at_ms: int
    order: int
    cloud_event: dict[str, Any]


class Reported(msgspec.Struct):
    """What a call has used that nobody waited for any more.

    `parked`: the end of the call was set aside, so the usage is not known from it.
    """

    after_ms: int
    order: int
    told: ev.UsageReported
    parked: ev.InputParked | None


_BEGINS = (
    ev.TaskDispatched
    | ev.TaskHeld
    | ev.SlotRequested
    | ev.CallMade
    | ev.ApprovalRequested
    | ev.StepComputed
    | ev.StepSkipped
    | ev.EventEmitted
    | ev.ForEachStarted
)
"""What a place sends or makes, unless that is too large."""


class Recording:
    """What a run was given.

    `order` is the number of a decision, and sorts what came within one millisecond. An outcome has
    the time that it took, its order, and whether a timer of the same millisecond came first.
    """

    def __init__(self, run: Run) -> None:
        self.attempts: dict[tuple[str, int], Attempt] = {}  # by task and number
        self.chosen: dict[str, str] = {}  # attempt id -> agent
        self.questions: dict[str, list[Question]] = {}  # by approval id: it may have been asked again
        self.waits: dict[str, list[Wait]] = {}
        self.cancels: list[tuple[int, int, ev.CommandAccepted]] = []  # when, and its order
        self.incidents: dict[str, list[Stuck]] = {}  # by place
        self.claims: dict[str, list[Claim]] = {}  # by alias
        self.offered: list[Offered] = []
        self.called: dict[str, str] = {}  # route -> digest
        # usage of calls that nobody waited for, by task and attempt
        self.reported: dict[tuple[str, int], Reported] = {}
        self.queued: dict[tuple[str, int], int] = {}  # by task and number: since when
        self.granted: dict[tuple[str, int], tuple[int, int]] = {}  # after how long, and its order
        self.denied: dict[tuple[str, int], tuple[int, int, ev.IncidentRaised]] = {}
        self.lacking: dict[str, int] = {}  # place -> how often its work began when nobody could do it
        # by place, for each time that it began: what was said of what was too large, or ""
        self.too_large: dict[str, list[str]] = {}
        self.withdrawn: tuple[int, int, str] | None = None  # taken back by its caller: when, order, why
        self.until_ms = max(decision.at_ms for decision in run.decisions if not _is_idle(decision))
        self.is_over = any(isinstance(event, ev.WorkflowEnded) for event in _events(run))
        self._newest: dict[str, Attempt] = {}  # by place
        self._queueing: dict[str, tuple[str, int]] = {}  # by place
        self._claiming: dict[str, Claim] = {}  # by step
        self._unwaited: dict[tuple[str, int], int] = {}  # calls: since when
        self._timer_at_ms = -1
        self._dropped: set[str] = set()
        for order, decision in enumerate(run.decisions):
            if decision.cause.kind == "timer":
                self._timer_at_ms = decision.at_ms
            if decision.cause.kind == "call_cancelled":
                self.withdrawn = self.withdrawn or (decision.at_ms, order, "its caller does not want it any more")
            for event in decision.events:
                if (said := too_large(event)) is not None:
                    self.too_large.setdefault(said[0], []).append(said[1])
                self._of_tasks(event, decision, order)
                self._of_people(event, decision, order)
                self._of_events(event, decision.at_ms, order)
                self._of_aliases(event, decision.at_ms, order)
                self._of_operators(event, decision, order)

    def was_dropped(self, place: str) -> bool:
        """Whether nobody waited to the end for what was under way at this place."""
        return self.is_over or place in self._dropped or ids.step_of(place) in self._dropped

    def _of_tasks(self, event: ev.Event, decision: ev.Decision, order: int) -> None:
        match event:
            case ev.TaskDispatched() | ev.CallMade():
                self.attempts[event.task_id, event.attempt] = self._newest[event.step] = Attempt(event, decision.at_ms)
                if (key := (event.task_id, event.attempt)) in self.queued:
                    self.granted[key] = decision.at_ms - self.queued[key], order
                    self._queueing.pop(event.step, None)
                if isinstance(event, ev.TaskDispatched):
                    self.chosen[ids.attempt_id(event.task_id, event.attempt)] = event.agent
                else:
                    self.called[event.route] = event.digest
            case ev.SlotRequested():
                key = self._queueing[event.step] = event.task_id, event.attempt
                self.queued.setdefault(key, decision.at_ms)
                self.chosen[ids.attempt_id(event.task_id, event.attempt)] = event.agent
            case (
                ev.TaskSucceeded()
                | ev.TaskFailed()
                | ev.TaskHandedOver()
                | ev.ApprovalWanted()
                | ev.CallSucceeded()
                | ev.CallFailed()
            ):
                self._heard(event, decision, order)
            case ev.StepCompleted():
                self._completed(event, decision, order)
            case ev.UsageReported():
                key = event.task_id, event.attempt
                parked = next((one for one in decision.events if isinstance(one, ev.InputParked)), None)
                self.reported[key] = Reported(decision.at_ms - self._unwaited[key], order, event, parked)
            case ev.IncidentRaised() if (key := self._queueing.pop(event.step, ("", 0))) in self.queued:
                self.denied[key] = decision.at_ms - self.queued[key], order, event
            case ev.IncidentRaised(kind="no_agent" | "unknown_route"):
                self.lacking[event.step] = self.lacking.get(event.step, 0) + 1
            case ev.StepCancelled() | ev.StepGivenUp() | ev.ApprovalWithdrawn() | ev.CallWithdrawn():
                self._dropped.add(event.step)
                if isinstance(event, ev.CallWithdrawn):
                    self._unwaited[event.task_id, event.attempt] = decision.at_ms
            case _:
                pass

    def _completed(self, event: ev.StepCompleted, decision: ev.Decision, order: int) -> None:
        """Take an output by hand for the result of the newest attempt, as which it counts."""
        newest = self._newest.get(event.step)
        if newest is None or not isinstance(newest.made, ev.TaskDispatched):
            self._dropped.add(event.step)
            return
        task, attempt = newest.made.task_id, newest.made.attempt
        made = ev.TaskSucceeded(step=event.step, task_id=task, attempt=attempt, output=event.output)
        self._heard(made, decision, order)

    def _heard(self, event: Outcome, decision: ev.Decision, order: int) -> None:
        attempt = self.attempts[event.task_id, event.attempt]
        due = attempt.made.due_at_ms
        if not attempt.outcomes and due is not None:
            attempt.was_read_late_ms = max(0, decision.at_ms - due)
        was_in_time = not attempt.outcomes and attempt.was_read_late_ms > 0
        after = decision.at_ms - attempt.at_ms - attempt.was_read_late_ms
        is_late = decision.at_ms == self._timer_at_ms and not was_in_time
        attempt.outcomes.append((after, order, is_late, event))
        if isinstance(event, ev.CallFailed):
            self._unwaited[event.task_id, event.attempt] = decision.at_ms
        if isinstance(event, ev.ApprovalWanted):
            attempt.wanted = _wanted(event, decision)
        if isinstance(event, ev.TaskHandedOver):
            sent = (one for one in decision.events if isinstance(one, ev.TaskDispatched | ev.TaskHeld))
            attempt.handed = HandOver(to=event.to, input=next(one.input for one in sent if one.step == event.step))

    def _of_people(self, event: ev.Event, decision: ev.Decision, order: int) -> None:
        match event:
            case ev.ApprovalRequested():
                self.questions.setdefault(event.approval_id, []).append(Question(event, decision.at_ms))
            case ev.VoteCast() | ev.VoteTakenBack() | ev.PayloadEdited() if event.approval_id in self.questions:
                question = self.questions[event.approval_id][-1]
                at_ms = _in_time(decision.at_ms, question.asked.deadline_at_ms)
                question.words.append((at_ms - question.at_ms, order, event))
            case ev.ApprovalClosed() if event.approval_id in self.questions:
                question = self.questions[event.approval_id][-1]
                question.after_ms, question.order = _in_time(decision.at_ms, question.asked.deadline_at_ms), order
                question.after_ms -= question.at_ms
                question.closed = None if event.expired else event
            case ev.IncidentRaised(kind="expired"):
                for question in self._asked_last(event.step):
                    question.after_ms = decision.at_ms - question.at_ms
            case ev.EffectUndeliverable() if any(isinstance(e, ev.IncidentRaised) for e in decision.events):
                for question in self.questions.get(event.effect_id, [])[-1:]:
                    question.after_ms, question.order = _in_time(decision.at_ms, question.asked.deadline_at_ms), order
                    question.after_ms -= question.at_ms
                    question.undeliverable = event.message
            case _:
                pass

    def _of_operators(self, event: ev.Event, decision: ev.Decision, order: int) -> None:
        """Record what operators did.

        What they did about an incident is kept with it, and a cancel by itself. A migration is left
        out, since the whole run is played by one version.
        """
        match event:
            case ev.IncidentRaised():
                self.incidents.setdefault(event.step, []).append(Stuck(decision.at_ms))
            case ev.IncidentResolved():
                stuck = self.incidents[event.step][-1]
                stuck.is_over = True
                if event.action in {"retry", "skip"}:
                    self._keep(_accepted(decision), stuck, decision.at_ms, order)
            case ev.CommandAccepted(command="fail"):
                # a `fail` names no step: it is taken to be about the newest incident that is open
                stuck = max((one[-1] for one in self.incidents.values() if not one[-1].is_over), key=_began)
                self._keep(event, stuck, decision.at_ms, order)
            case ev.CommandAccepted(command="cancel"):
                self.cancels.append((decision.at_ms, order, event))
            case _:
                pass

    def _keep(self, command: ev.CommandAccepted, stuck: Stuck, at_ms: int, order: int) -> None:
        stuck.command, stuck.after_ms, stuck.order = command, at_ms - stuck.at_ms, order

    def _of_aliases(self, event: ev.Event, at_ms: int, order: int) -> None:
        match event:
            case ev.AliasSought():
                claim = self._claiming[event.step] = Claim(at_ms)
                self.claims.setdefault(event.alias, []).append(claim)
            case ev.AliasGranted():
                claim = self._claiming.pop(event.step)
                claim.after_ms, claim.order = at_ms - claim.at_ms, order
            case ev.IncidentRaised(kind="alias") if event.step in self._claiming:
                claim = self._claiming.pop(event.step)
                claim.after_ms, claim.order, claim.refusal = at_ms - claim.at_ms, order, event.message
            case _:
                pass

    def _asked_last(self, place: str) -> list[Question]:
        """The open question at this place, as a list of one or none."""
        asked = (questions[-1] for questions in self.questions.values() if questions[-1].asked.step == place)
        return [question for question in asked if question.after_ms is None][-1:]

    def _of_events(self, event: ev.Event, at_ms: int, order: int) -> None:
        match event:
            case ev.WaitStarted() if event.awaits:
                self.waits.setdefault(event.step, []).append(Wait(event, at_ms))
            case ev.EventReceived():
                wait = self.waits[event.step][-1]
                wait.took = _name(event.cloud_event)
                # one that was kept has been offered before, when it came
                if not event.kept:
                    self.offered.append(Offered(_in_time(at_ms, wait.started.due_at_ms), order, event.cloud_event))
            case ev.EventKept():
                self.offered.append(Offered(at_ms, order, event.kept.cloud_event))
            case ev.StepSkipped() | ev.IncidentRaised(kind="timeout") if event.step in self.waits:
                self._gave_up(event.step, at_ms)
            case ev.WorkflowEnded():
                for step in self.waits:
                    self._gave_up(step, at_ms)
            case _:
                pass

    def _gave_up(self, step: str, at_ms: int) -> None:
        """Record that no event came by the time-out."""
        wait = self.waits[step][-1]
        due = wait.started.due_at_ms
        if wait.took is None and wait.gave_up_after_ms is None and due is not None and due <= at_ms:
            wait.gave_up_after_ms = due - wait.at_ms


def too_large(event: ev.Event) -> tuple[str, str] | None:
    """The place that has begun, and what is said to be too large there, or "".

    None: the event is of neither.
    """
    match event:
        case ev.IncidentRaised(kind="too_large"):
            return event.step, event.message
        case _ if isinstance(event, _BEGINS):
            return event.step, ""
        case _:
            return None


def _accepted(decision: ev.Decision) -> ev.CommandAccepted:
    return next(event for event in decision.events if isinstance(event, ev.CommandAccepted))


def _began(stuck: Stuck) -> int:
    return stuck.at_ms


def _is_idle(decision: ev.Decision) -> bool:
    """Whether the decision changed nothing.

    Then a timer that was due before it may still be to come.
    """
    return all(
        isinstance(e, ev.InputDismissed | ev.StartRepeated | ev.AnswerRefused | ev.CommandRefused)
        for e in decision.events
    )


def _events(run: Run) -> Iterator[ev.Event]:
    return (event for decision in run.decisions for event in decision.events)


def _in_time(at_ms: int, due_at_ms: int | None) -> int:
    """When an input came: at the latest at its deadline.

    An input that counted had reached the broker by its deadline, even if it was read after it.
    """
    return at_ms if due_at_ms is None else min(at_ms, due_at_ms)


def _name(cloud_event: dict[str, object]) -> tuple[str, str]:
    return str(cloud_event["source"]), str(cloud_event["id"])


def _wanted(event: ev.ApprovalWanted, decision: ev.Decision) -> Wanted:
    """What the agent asked. The question is in the same decision, unless nobody could be asked."""
    place = ids.tool_place(event.step, event.name)
    asked = next((one for one in decision.events if isinstance(one, ev.ApprovalRequested) and one.step == place), None)
    if asked is None:
        return Wanted(name=event.name, question="(it was not asked, so the log does not have it)")
    schema = asked.payload_schema
    return Wanted(name=event.name, question=asked.question, payload=asked.payload, payload_schema=schema)

"""The voice for everybody: who was asked what, who answered what, and why.

It needs the log's decisions and nothing else.

No line holds a time or an offset: times are told as what is left until then, so that the same
course of things reads the same whenever and on whatever broker it happens. An event that has no
words of its own here is told by its name and its fields.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from mesh.core import events as ev
from mesh.core.amounts import as_amounts
from mesh.core.effects import (
    AskApproval,
    PublishEvent,
    PublishOutcome,
    SendDeadLetter,
    SendInput,
    SendReceipt,
    SendTask,
    effects,
)
from mesh.core.ids import attempt_id
from mesh.testing.transcript.fields import fields_of, schedule_words
from mesh.testing.transcript.headings import heading
from mesh.testing.transcript.phrases import event_words, lasting, named, short, step_words, timeless
from mesh.testing.transcript.words_of_slots import slot_words
from mesh.testing.transcript.writer import as_json

_EFFECTS_WITH_WORDS: Final = (
    SendTask,
    AskApproval,
    SendReceipt,
    PublishOutcome,
    PublishEvent,
    SendDeadLetter,
    SendInput,
)


class Told(NamedTuple):
    """What came in, in a line, and what came of it, in some."""

    heading: str
    body: list[str]


class Words:
    """Tells decisions, one after the other as the log has them: it remembers which agent had a
    task, for an answer does not say it.
    """

    def __init__(self) -> None:
        self._agents: dict[str, str] = {}  # of attempts, by id

    def tell(self, decision: ev.Decision) -> Told:
        sent = effects(decision)
        tasks = {attempt_id(effect.task_id, effect.attempt) for effect in sent if isinstance(effect, SendTask)}
        lines = [line for event in decision.events for line in _lines(event, decision, tasks)]
        others: list[object] = [effect for effect in sent if not isinstance(effect, _EFFECTS_WITH_WORDS)]
        lines += [f"-> {named(effect)}" for effect in others]
        told = Told(heading(decision, self._agents), lines)
        for event in decision.events:
            if isinstance(event, ev.TaskDispatched):
                self._agents[attempt_id(event.task_id, event.attempt)] = event.agent
        return told


def _lines(event: ev.Event, decision: ev.Decision, sent: AbstractSet[str]) -> Iterator[str]:
    match event:
        case ev.TaskDispatched():
            task = f"task {event.step} to {event.agent}: {as_json(event.input)} ({timeless(event.reason)})"
            is_sent = attempt_id(event.task_id, event.attempt) in sent
            yield f"-> {task}" if is_sent else f"needless before it was sent: {task}"
        case ev.ApprovalRequested():
            yield f"-> question {event.step} to {event.role}: {event.question} {as_json(event.payload)} ({_terms(event, decision)})"
        case ev.WorkflowEnded():
            why = "" if event.status == "completed" else f" ({timeless(event.reason)})"
            taken = f"; it has taken {as_amounts(event.usage)}" if event.usage else ""
            yield f"-> outcome {event.status}: {as_json(event.output)}{why}{taken}"
        case ev.CallMade():
            limits = event.slice.limits if event.slice is not None else {}
            part = f", with {as_amounts(limits)} of the budget" if limits else ""
            yield f"-> call {event.step} of {event.called}: {as_json(event.input)}{part} ({event.reason})"
        case ev.EventEmitted():
            yield f"-> {event_words(event.cloud_event)} ({event.reason})"
        case ev.TaskFailed() if decision.cause.kind == "timer":
            yield f"that attempt has failed: {timeless(event.message)}"
        case (
            ev.TaskSucceeded()
            | ev.TaskFailed()
            | ev.TaskHandedOver()
            | ev.CallSucceeded()
            | ev.CallFailed()
            | ev.CommandAccepted()
            | ev.WaitEnded()
            | ev.WorkflowForgotten()
        ):
            pass  # the heading says it
        case ev.ApprovalClosed():
            if event.expired:
                yield f"{event.step} is {event.verdict}: {event.reason}"
        case _:
            yield _said(event, decision)


def _said(event: ev.Event, decision: ev.Decision) -> str:
    """Events that send nothing, or no more than a receipt."""
    said = (
        _of_a_step(event, decision)
        or _of_several(event, decision)
        or _of_an_input(event, decision)
        or _of_built_in(event)
        or slot_words(event)
    )
    if said:
        return said
    fields = fields_of(event, lambda ms: f"in {lasting(ms - decision.at_ms)}")
    name = f"{named(event)} {getattr(event, 'step', '')}".strip()
    return f"{name}: {fields}" if fields else name


def _of_a_step(event: ev.Event, decision: ev.Decision) -> str:
    match event:
        case ev.RetryScheduled():
            return f"{event.step} will be tried again in {lasting(event.due_at_ms - decision.at_ms)}"
        case ev.StepSkipped():
            return f"{event.step} is skipped: {timeless(event.reason)}"
        case ev.StepBlocked():
            return f"{event.step} is blocked: {event.reason}"
        case ev.StepCancelled():
            return f"{event.step} is cancelled: {event.reason}"
        case ev.StepGivenUp():
            return f"{event.step} has failed, and the rest goes on: {timeless(event.reason)}"
        case ev.StepComputed():
            return f"{event.step} comes to {as_json(event.output)} ({event.reason})"
        case ev.WaitStarted():
            what = f" for an event {event.awaits}" if event.awaits else ""
            left = f", {lasting(event.due_at_ms - decision.at_ms)}" if event.due_at_ms is not None else ""
            return f"{event.step} waits{what}{left} ({event.reason})"
        case ev.EventReceived():
            return f"{event.step} has its event" + (", which had come before" if event.kept else "")
        case ev.TaskHeld():
            what = f"task {event.step} to {event.agent}" if event.agent else event.step
            return f"{what} is held: {event.reason}"
        case ev.UsageReported():
            told = "does not say what it has taken" if event.usage is None else f"has taken {as_amounts(event.usage)}"
            return f"the call of {event.step} that was taken back {told}"
        case ev.CallWithdrawn():
            return f"-> call {event.step} of {event.called} is taken back: {event.reason}"
        case ev.IncidentRaised():
            return f"! {event.step} needs an operator: {timeless(event.message)}"
        case ev.IncidentResolved():
            return f"{event.step} goes on: {event.action} by {event.by}"
        case _:
            return ""


def _of_several(event: ev.Event, decision: ev.Decision) -> str:
    match event:
        case ev.ForEachStarted():
            return f"{event.step} begins for each of {len(event.items)} items ({event.reason})"
        case ev.PortionScheduled():
            return f"more of {event.step} in {lasting(event.due_at_ms - decision.at_ms)}"
        case ev.ForEachEnded():
            failed = f", but for {event.failed} that failed" if event.failed else ""
            return f"{event.step} is done for each item{failed}"
        case ev.RoundStarted():
            return f"round {event.round} begins, with {event.steps[0]}: {event.reason}"
        case ev.CompensationStarted(steps=()):
            return f"nothing more is undone, it ends as {event.status} ({event.reason})"
        case ev.CompensationStarted():
            return f"before it ends as {event.status}, this is undone: {', '.join(event.steps)} ({event.reason})"
        case ev.EventKept():
            left = lasting(event.expires_at_ms - decision.at_ms)
            return f"the event is kept for whoever will wait for it, for {left}"
        case ev.EventUnclaimed():
            return f"-> dead letter, {event_words(event.kept.cloud_event)} ({event.reason})"
        case _:
            return ""


def _of_an_input(event: ev.Event, decision: ev.Decision) -> str:
    match event:
        case ev.WorkflowStarted():
            return f"it begins, as {event.run_id}"
        case ev.StartRepeated():
            return f"nothing begins: {event.reason}"
        case ev.ApprovalWithdrawn():
            return f"-> question {event.step} is withdrawn: {event.reason}"
        case ev.AnswerRefused():
            return f"-> {event.by or 'nobody'} is told: refused ({event.code}), {event.message}"
        case ev.CallRefused():
            return f"-> {step_words(event.caller.task_id)} is told: refused ({event.code}), {event.message}"
        case ev.BudgetRaised():
            return f"{event.by or 'nobody'} grants {_granted(event, decision)} more"
        case ev.BudgetTimeOver():
            return "no task goes out until there is more of it"
        case ev.WorkflowMigrated():
            anew = f", where {', '.join(event.begins_anew)} begins anew" if event.begins_anew else ""
            return f"{event.by or 'nobody'} moves it to another version of its route{anew}"
        case ev.CommandRefused():
            return f"-> {event.by or 'nobody'} is told: refused ({event.code}), {event.message}"
        case ev.InputDismissed():
            return f"nothing changes: {event.message}"
        case ev.InputParked():
            return f"! set aside ({event.code}): {event.message}"
        case ev.EffectUndeliverable():
            return f"! {short(event.effect_id)} can't be sent: {event.message}"
        case _:
            return ""


def _granted(event: ev.BudgetRaised, decision: ev.Decision) -> str:
    expires_at_ms = event.expires_at_ms
    return as_amounts(event.granted, time="" if expires_at_ms is None else lasting(expires_at_ms - decision.at_ms))


def _of_built_in(event: ev.Event) -> str:
    match event:
        case ev.AliasSought():
            return f"-> {event.step} asks for its alias {event.alias}"
        case ev.AliasGranted():
            return f"{event.step} has its alias"
        case ev.AliasWaived():
            return f"{event.step} goes on without its alias: {event.reason}"
        case ev.AliasReturned():
            return f"-> the alias {event.alias} is given back"
        case ev.AliasBound():
            return f"-> it is the alias of {event.claimant.workflow_id} now"
        case ev.AliasRefused():
            return f"-> {event.claimant.workflow_id} can't have it: {event.message}"
        case ev.EventRedirected():
            return f"-> {event_words(event.kept.cloud_event)}, on to {event.to}"
        case ev.ScheduleChanged():
            return f"{event.route} starts {schedule_words(event.schedule)}"
        case ev.ScheduleFired():
            return f"-> start of {event.route}, for {event.key}"
        case _:
            return ""


def _terms(event: ev.ApprovalRequested, decision: ev.Decision) -> str:
    if event.deadline_at_ms is None:
        return f"{event.reason}; no deadline"
    return f"{event.reason}; {lasting(event.deadline_at_ms - decision.at_ms)} to answer, else {event.on_expiry}"

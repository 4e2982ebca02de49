"""The voice for everybody: who was asked what, who answered what, and why. It needs the log's decisions and nothing else.

No line holds a time or an offset: times are told as what is left until then, so that the same course of things reads the same whenever and on whatever broker it happens. An event
that has no words of its own here is told by its name and its fields.
"""

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

from mesh.core.amounts import as_amounts
from mesh.core.calls import Caller
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
from mesh.core.events import (
    AliasBound,
    AliasGranted,
    AliasRefused,
    AliasReturned,
    AliasSought,
    AliasWaived,
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    BudgetRaised,
    BudgetTimeOver,
    CallFailed,
    CallMade,
    CallRefused,
    CallSucceeded,
    CallWithdrawn,
    CommandAccepted,
    CommandRefused,
    CompensationStarted,
    Decision,
    EffectUndeliverable,
    Event,
    EventEmitted,
    EventKept,
    EventReceived,
    EventRedirected,
    EventUnclaimed,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    IncidentResolved,
    InputDismissed,
    InputParked,
    PortionScheduled,
    RetryScheduled,
    RoundStarted,
    ScheduleChanged,
    ScheduleFired,
    StartRepeated,
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
    UsageReported,
    WaitEnded,
    WaitStarted,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowMigrated,
    WorkflowStarted,
)
from mesh.core.ids import attempt_id, parse_step_id
from mesh.testing.transcript.fields import fields_of, schedule_words
from mesh.testing.transcript.words_of_slots import slot_heading, slot_words
from mesh.testing.transcript.writer import as_json

__all__ = ["Told", "Words", "event_words", "lasting"]

_EFFECTS_WITH_WORDS: Final = (
    SendTask,
    AskApproval,
    SendReceipt,
    PublishOutcome,
    PublishEvent,
    SendDeadLetter,
    SendInput,
)
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WAITED: Final = re.compile(r"\b(?:after|in|for) [0-9.]+ s\b")
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))
_EXACT_BELOW_S: Final = 10
_IN_HOURS_BELOW_S: Final = 2 * 86_400  # people say 24h, and 36h


class Told(NamedTuple):
    """What came in, in a line, and what came of it, in some."""

    heading: str
    body: list[str]


class Words:
    """Tells decisions, one after the other as the log has them: it remembers which agent had a task, for an answer does not say it."""

    def __init__(self) -> None:
        self._agents: dict[str, str] = {}  # of attempts, by id

    def tell(self, decision: Decision) -> Told:
        sent = effects(decision)
        tasks = {attempt_id(effect.task_id, effect.attempt) for effect in sent if isinstance(effect, SendTask)}
        lines = [line for event in decision.events for line in _lines(event, decision, tasks)]
        others: list[object] = [effect for effect in sent if not isinstance(effect, _EFFECTS_WITH_WORDS)]
        lines += [f"-> {_named(effect)}" for effect in others]
        heading = self._heading(decision)
        for event in decision.events:
            if isinstance(event, TaskDispatched):
                self._agents[attempt_id(event.task_id, event.attempt)] = event.agent
        return Told(heading, lines)

    # What came in ----------------------------------------------------------------------------------------------------------------------

    def _heading(self, decision: Decision) -> str:
        cause = decision.cause
        match cause.kind:
            case "event":
                return _event_heading(decision)
            case "result":
                return self._result_heading(decision)
            case "answer":
                return _answer_heading(decision)
            case "command":
                return _command_heading(decision)
            case "timer":
                return self._timer_heading(decision)
            case "call" | "call_ended" | "call_cancelled":
                return _call_heading(decision)
            case "schedule" | "scheduled_start" | "claim" | "claim_answered" | "alias_released" | "forwarded_event":
                return _built_in_heading(decision)
            case "slot_wanted" | "slot_given" | "slot_returned" | "slot_denied":
                return slot_heading(cause.kind, cause.id)
            case "undeliverable":
                return f"what could not be sent: {_short(cause.id)}"
            case _:
                return f"{cause.kind} {cause.id}"

    def _result_heading(self, decision: Decision) -> str:
        agent = self._agents.get(decision.cause.id, "an agent")
        for event in decision.events:
            match event:
                case TaskSucceeded():
                    return f"{agent} answers {event.step}: {as_json(event.output)}"
                case TaskFailed():
                    again = "" if event.retryable else ", and need not try again"
                    return f"{agent} fails at {event.step}: {event.kind}: {event.message}{again}"
                case TaskHandedOver():
                    return f"{agent} hands {event.step} over to {event.to}"
                case _:
                    continue
        return f"{agent} answers {_short(decision.cause.id)}"

    def _timer_heading(self, decision: Decision) -> str:
        for event in decision.events:
            match event:
                case TaskFailed():
                    agent = self._agents.get(attempt_id(event.task_id, event.attempt), "the agent")
                    has_begun = event.kind in {"timeout", "run_timeout"}
                    late = "has not answered" if has_begun else "gives no sign of life at"
                    return f"{agent} {late} {event.step} in time"
                case CallFailed():
                    return f"{event.called} has not come to an end for {event.step} in time"
                case ApprovalClosed() | IncidentRaised(kind="expired"):
                    return f"nobody has answered {event.step} in time"
                case _:
                    continue
        step, kind = decision.cause.id.rsplit("/", 3)[-3:-1]
        match kind:
            case "retry":
                return f"it is time to try {step} again"
            case "budget_time":
                return "its budget's time is over"
            case "rate":
                return "one more is within the rate"
            case "forget":
                return "it is remembered no longer"
            case "wait":
                return f"the time that {step} waits for has come"
            case "schedule":
                return "it is time to start"
            case "event_timeout":
                return f"no event has come for {step} in time"
            case _:
                return f"it is time: {kind} of {step}"

    # What came of it -------------------------------------------------------------------------------------------------------------------


def _lines(event: Event, decision: Decision, sent: AbstractSet[str]) -> Iterator[str]:
    match event:
        case TaskDispatched():
            task = f"task {event.step} to {event.agent}: {as_json(event.input)} ({_timeless(event.reason)})"
            is_sent = attempt_id(event.task_id, event.attempt) in sent
            yield f"-> {task}" if is_sent else f"needless before it was sent: {task}"
        case ApprovalRequested():
            yield f"-> question {event.step} to {event.role}: {event.question} {as_json(event.payload)} ({_terms(event, decision)})"
        case WorkflowEnded():
            why = "" if event.status == "completed" else f" ({_timeless(event.reason)})"
            taken = f"; it has taken {as_amounts(event.usage)}" if event.usage else ""
            yield f"-> outcome {event.status}: {as_json(event.output)}{why}{taken}"
        case CallMade():
            limits = event.slice.limits if event.slice is not None else {}
            part = f", with {as_amounts(limits)} of the budget" if limits else ""
            yield f"-> call {event.step} of {event.called}: {as_json(event.input)}{part} ({event.reason})"
        case EventEmitted():
            yield f"-> {event_words(event.cloud_event)} ({event.reason})"
        case TaskFailed() if decision.cause.kind == "timer":
            yield f"that attempt has failed: {_timeless(event.message)}"
        case (
            TaskSucceeded()
            | TaskFailed()
            | TaskHandedOver()
            | CallSucceeded()
            | CallFailed()
            | CommandAccepted()
            | WaitEnded()
            | WorkflowForgotten()
        ):
            pass  # the heading says it
        case ApprovalClosed():
            if event.expired:
                yield f"{event.step} is {event.verdict}: {event.reason}"
        case _:
            yield _said(event, decision)


def _said(event: Event, decision: Decision) -> str:
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
    name = f"{_named(event)} {getattr(event, 'step', '')}".strip()
    return f"{name}: {fields}" if fields else name


def _of_a_step(event: Event, decision: Decision) -> str:
    match event:
        case RetryScheduled():
            return f"{event.step} will be tried again in {lasting(event.due_at_ms - decision.at_ms)}"
        case StepSkipped():
            return f"{event.step} is skipped: {_timeless(event.reason)}"
        case StepBlocked():
            return f"{event.step} is blocked: {event.reason}"
        case StepCancelled():
            return f"{event.step} is cancelled: {event.reason}"
        case StepGivenUp():
            return f"{event.step} has failed, and the rest goes on: {_timeless(event.reason)}"
        case StepComputed():
            return f"{event.step} comes to {as_json(event.output)} ({event.reason})"
        case WaitStarted():
            what = f" for an event {event.awaits}" if event.awaits else ""
            left = f", {lasting(event.due_at_ms - decision.at_ms)}" if event.due_at_ms is not None else ""
            return f"{event.step} waits{what}{left} ({event.reason})"
        case EventReceived():
            return f"{event.step} has its event" + (", which had come before" if event.kept else "")
        case TaskHeld():
            what = f"task {event.step} to {event.agent}" if event.agent else event.step
            return f"{what} is held: {event.reason}"
        case UsageReported():
            told = "does not say what it has taken" if event.usage is None else f"has taken {as_amounts(event.usage)}"
            return f"the call of {event.step} that was taken back {told}"
        case CallWithdrawn():
            return f"-> call {event.step} of {event.called} is taken back: {event.reason}"
        case IncidentRaised():
            return f"! {event.step} needs an operator: {_timeless(event.message)}"
        case IncidentResolved():
            return f"{event.step} goes on: {event.action} by {event.by}"
        case _:
            return ""


def _of_several(event: Event, decision: Decision) -> str:
    match event:
        case ForEachStarted():
            return f"{event.step} begins for each of {len(event.items)} items ({event.reason})"
        case PortionScheduled():
            return f"more of {event.step} in {lasting(event.due_at_ms - decision.at_ms)}"
        case ForEachEnded():
            failed = f", but for {event.failed} that failed" if event.failed else ""
            return f"{event.step} is done for each item{failed}"
        case RoundStarted():
            return f"round {event.round} begins, with {event.steps[0]}: {event.reason}"
        case CompensationStarted(steps=()):
            return f"nothing more is undone, it ends as {event.status} ({event.reason})"
        case CompensationStarted():
            return f"before it ends as {event.status}, this is undone: {', '.join(event.steps)} ({event.reason})"
        case EventKept():
            left = lasting(event.expires_at_ms - decision.at_ms)
            return f"the event is kept for whoever will wait for it, for {left}"
        case EventUnclaimed():
            return f"-> dead letter, {event_words(event.kept.cloud_event)} ({event.reason})"
        case _:
            return ""


def _of_an_input(event: Event, decision: Decision) -> str:
    match event:
        case WorkflowStarted():
            return f"it begins, as {event.run_id}"
        case StartRepeated():
            return f"nothing begins: {event.reason}"
        case ApprovalWithdrawn():
            return f"-> question {event.step} is withdrawn: {event.reason}"
        case AnswerRefused():
            return f"-> {event.by or 'nobody'} is told: refused ({event.code}), {event.message}"
        case CallRefused():
            return f"-> {_caller(event.caller.task_id)} is told: refused ({event.code}), {event.message}"
        case BudgetRaised():
            return f"{event.by or 'nobody'} grants {_granted(event, decision)} more"
        case BudgetTimeOver():
            return "no task goes out until there is more of it"
        case WorkflowMigrated():
            anew = f", where {', '.join(event.begins_anew)} begins anew" if event.begins_anew else ""
            return f"{event.by or 'nobody'} moves it to another version of its route{anew}"
        case CommandRefused():
            return f"-> {event.by or 'nobody'} is told: refused ({event.code}), {event.message}"
        case InputDismissed():
            return f"nothing changes: {event.message}"
        case InputParked():
            return f"! set aside ({event.code}): {event.message}"
        case EffectUndeliverable():
            return f"! {_short(event.effect_id)} can't be sent: {event.message}"
        case _:
            return ""


def _granted(event: BudgetRaised, decision: Decision) -> str:
    if event.expires_at_ms is None:
        return as_amounts(event.granted)
    time = f"{lasting(event.expires_at_ms - decision.at_ms)} of time"
    return f"{as_amounts(event.granted)}, {time}" if event.granted else time


def _of_built_in(event: Event) -> str:
    match event:
        case AliasSought():
            return f"-> {event.step} asks for its alias {event.alias}"
        case AliasGranted():
            return f"{event.step} has its alias"
        case AliasWaived():
            return f"{event.step} goes on without its alias: {event.reason}"
        case AliasReturned():
            return f"-> the alias {event.alias} is given back"
        case AliasBound():
            return f"-> it is the alias of {event.claimant.workflow_id} now"
        case AliasRefused():
            return f"-> {event.claimant.workflow_id} can't have it: {event.message}"
        case EventRedirected():
            return f"-> {event_words(event.kept.cloud_event)}, on to {event.to}"
        case ScheduleChanged():
            return f"{event.route} starts {schedule_words(event.schedule)}"
        case ScheduleFired():
            return f"-> start of {event.route}, for {event.key}"
        case _:
            return ""


def _built_in_heading(decision: Decision) -> str:
    name = decision.cause.id
    match decision.cause.kind:
        case "schedule":
            return "a router tells when the route starts"
        case "scheduled_start":
            return f"its schedule starts it, for {name}"
        case "claim":
            return f"{_caller(name.rpartition('/')[0])} asks for it"
        case "claim_answered":
            return f"the alias of {_short(name.rpartition('/')[0])} answers"
        case "alias_released":
            return f"{name.rpartition('/')[0]} gives it back"
        case _:
            return f"event {name}, by an alias"


def _terms(event: ApprovalRequested, decision: Decision) -> str:
    if event.deadline_at_ms is None:
        return f"{event.reason}; no deadline"
    return f"{event.reason}; {lasting(event.deadline_at_ms - decision.at_ms)} to answer, else {event.on_expiry}"


def event_words(event: dict[str, Any]) -> str:
    """A CloudEvent in a line."""
    subject = f" {event['subject']}" if event.get("subject") else ""
    return f"event {event['id']}, {event['type']}{subject}: {as_json(event.get('data'))}"


def _event_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case WorkflowStarted() | EventReceived():
                return event_words(event.cloud_event)
            case EventKept():
                return event_words(event.kept.cloud_event)
            case _:
                continue
    return f"event {decision.cause.id}"


def _answer_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case ApprovalClosed():
                edit = f", but with {as_json(event.payload)}" if event.edited else ""
                why = f", because: {event.reason}" if event.reason else ""
                return f"{event.by} answers {event.step}: {event.verdict}{edit}{why}"
            case AnswerRefused():
                return f"{event.by or 'nobody'} answers {_short(event.approval_id)}"
            case _:
                continue
    return f"answer {decision.cause.id}"


def _command_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case CommandAccepted():
                return f"{event.by} orders: {event.command}" + (f", because: {event.reason}" if event.reason else "")
            case CommandRefused():
                return f"{event.by} orders: {event.command}"
            case _:
                continue
    return f"command {decision.cause.id}"


def _call_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case WorkflowStarted(caller=Caller(task_id=task_id)):
                return f"{_caller(task_id)} calls it: {as_json(event.cloud_event.get('data'))}"
            case CallSucceeded():
                return f"{event.called} comes back for {event.step}: {as_json(event.output)}"
            case CallFailed():
                return f"{event.called or 'the call'} fails {event.step}: {event.kind}: {event.message}"
            case CallRefused():
                return f"{_caller(event.caller.task_id)} calls it"
            case _:
                continue
    return (
        "its caller takes the call back"
        if decision.cause.kind == "call_cancelled"
        else f"the end of a call, {decision.cause.id}"
    )


def _caller(task_id: str) -> str:
    parts = parse_step_id(task_id)
    return f"{parts.step} of {parts.workflow_id}" if parts else task_id


def _short(name: str) -> str:
    """What an id says of the step: `draft`, `draft/2`. Another id as it is."""
    for whole, tail in ((name, ""), name.rpartition("/")[::2]):
        parts = parse_step_id(whole)
        if parts is not None and len(parts.run_id) == len("4f2a9c01"):
            return parts.step + (f", attempt {tail}" if tail else "")
    return name


def _timeless(message: str) -> str:
    """How long exactly something was waited for differs from run to run."""
    return _WAITED.sub("in time", message)


def _named(value: object) -> str:
    return _WORD.sub(" ", type(value).__name__).lower()


def lasting(ms: float) -> str:
    """A duration as a route would say it: `24h`, `1m 30s`, `0.9s`."""
    seconds = ms / 1000
    if seconds < _EXACT_BELOW_S:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    left, parts = round(seconds), []
    for unit, size in _UNITS:
        if unit == "d" and left < _IN_HOURS_BELOW_S:
            continue
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts + ([f"{left}s"] if left else []))

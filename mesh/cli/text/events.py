"""An event of the log as one line for people: what, and why. Rendering alone; `mesh.cli.text.timeline` makes tables of these."""

from typing import Any, Final, NamedTuple

from mesh.cli.text import limits
from mesh.cli.text.built_in import built_in_words
from mesh.cli.text.format import clock_time, counted, duration
from mesh.core.amounts import as_amounts
from mesh.core.events import (
    AliasRefused,
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
    Cause,
    CommandAccepted,
    CommandRefused,
    CompensationStarted,
    Decision,
    EffectUndeliverable,
    Event,
    EventEmitted,
    EventKept,
    EventReceived,
    EventUnclaimed,
    ForEachEnded,
    ForEachStarted,
    IncidentRaised,
    IncidentResolved,
    InputAttempted,
    InputDismissed,
    InputParked,
    PortionScheduled,
    RetryScheduled,
    RoundStarted,
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

GOOD: Final = "green"
BAD: Final = "red"
PEOPLE: Final = "yellow"
WORK: Final = "cyan"
QUIET: Final = "dim"

END_STYLES: Final = {
    "completed": GOOD,
    "failed": BAD,
    "rejected": PEOPLE,
    "cancelled": QUIET,
    "running": WORK,
    "expected": QUIET,
    "standing": WORK,
}
STEP_STYLES: Final = {
    "running": WORK,
    "iterating": WORK,
    "calling": WORK,
    "claiming": WORK,
    "retrying": PEOPLE,
    "asking": PEOPLE,
    "waiting": PEOPLE,
    "held": PEOPLE,
    "queued": PEOPLE,
    "incident": BAD,
}


class Line(NamedTuple):
    """One event for people. `payloads`: named values that `--payloads` shows below it."""

    step: str
    what: str
    style: str
    why: str = ""
    payloads: tuple[tuple[str, Any], ...] = ()


def describe(event: Event, decision: Decision) -> Line:
    """Every event has its line: the last case is a newer version's that this one does not know how to tell."""
    return (
        _of_task(event, decision)
        or _of_question(event)
        or _of_call(event)
        or _of_step(event, decision)
        or _of_wait(event, decision)
        or _of_built_in(event)
        or _of_slot(event)
        or _of_workflow(event, decision)
        or _of_input(event, decision)
    )


def _of_slot(event: Event) -> Line | None:
    found = limits.told(event)
    return None if found is None else Line(found[0], found[1], QUIET, found[2])


def event_name(cloud_event: dict[str, Any]) -> str:
    """`event o1 (com.shop.paid)`."""
    return f"event {cloud_event.get('id', '')} ({cloud_event.get('type', '')})"


# Tasks and questions ------------------------------------------------------------------------------------------------------------------


def _of_task(event: Event, decision: Decision) -> Line | None:
    match event:
        case TaskDispatched():
            return _dispatched(event)
        case TaskSucceeded():
            what = f"succeeded after {duration(event.duration_ms)}"
            return Line(event.step, what, GOOD, _agent(event), (("output", event.output),))
        case TaskFailed():
            taken = f" after {duration(event.duration_ms)}" if event.duration_ms else ""
            why = f"{event.kind}: {event.message}{'' if event.retryable else ' (not to be retried)'}"
            return Line(event.step, f"attempt {event.attempt} failed{taken}", BAD, f"{why} {_agent(event)}".strip())
        case TaskHandedOver():
            taken = f" after {duration(event.duration_ms)}" if event.duration_ms else ""
            return Line(event.step, f"handed over to {event.to}{taken}", WORK, _agent(event))
        case RetryScheduled():
            wait = duration(max(0, event.due_at_ms - decision.at_ms))
            return Line(event.step, f"attempt {event.attempt} in {wait}", PEOPLE)
        case StepGivenUp():
            return Line(event.step, "failed for good", BAD, event.reason)
        case TaskHeld():
            return Line(event.step, f"held before attempt {event.attempt}", PEOPLE, event.reason)
        case _:
            return None


def _dispatched(event: TaskDispatched) -> Line:
    what = f"dispatched to {event.agent}"
    what += f", round {event.round}" if event.round > 1 else ""
    what += f", attempt {event.attempt}" if event.attempt > 1 else ""
    return Line(event.step, what, WORK, event.reason, (("input", event.input),))


def _agent(event: TaskSucceeded | TaskFailed | TaskHandedOver) -> str:
    version = f"version {event.agent_version}" if event.agent_version else ""
    return f"({version}{' on ' if version else 'on '}{event.agent_instance})" if event.agent_instance else version


def _of_question(event: Event) -> Line | None:
    match event:
        case ApprovalRequested():
            again = f", round {event.round}" if event.round > 1 else ""
            what = f"asks role {event.role}{again}: {event.question}"
            return Line(event.step, what, PEOPLE, event.reason, (("payload", event.payload),))
        case ApprovalClosed():
            return _closed(event)
        case ApprovalWithdrawn():
            return Line(event.step, "question withdrawn", QUIET, event.reason)
        case _:
            return None


def _closed(event: ApprovalClosed) -> Line:
    edited = ", with an edit" if event.edited else ""
    by = "by its deadline" if event.expired else f"by {event.by} (unverified)"
    style = GOOD if event.verdict == "approved" else PEOPLE
    return Line(event.step, f"{event.verdict} {by}{edited}", style, event.reason, (("payload", event.payload),))


def _of_call(event: Event) -> Line | None:
    match event:
        case CallMade():
            part = event.slice.limits if event.slice is not None else {}
            why = event.reason + (f"; it may spend {as_amounts(part)}" if part else "")
            return Line(event.step, f"calls {event.called}", WORK, why, (("input", event.input),))
        case CallSucceeded():
            return Line(event.step, f"{event.called} completed", GOOD, "", (("output", event.output),))
        case CallFailed():
            return Line(event.step, f"call {event.attempt} failed", BAD, f"{event.kind}: {event.message}")
        case CallWithdrawn():
            return Line(event.step, f"call of {event.called} taken back", QUIET, event.reason)
        case CallRefused():
            return Line("", f"call refused ({event.code})", BAD, event.message)
        case UsageReported():
            return Line(event.step, f"call {event.attempt} has ended, unwaited for", QUIET, _usage(event.usage))
        case _:
            return None


def _usage(usage: dict[str, float] | None) -> str:
    """What was taken of a budget: `taken: 1200 tokens, 0.3 usd`."""
    if usage is None:
        return "taken: all that was reserved for it, since it says nothing"
    return f"taken: {as_amounts(usage)}"


# Steps ----------------------------------------------------------------------------------------------------------------------------------


def _of_step(event: Event, decision: Decision) -> Line | None:
    match event:
        case StepSkipped():
            return Line(event.step, "skipped", QUIET, event.reason)
        case StepBlocked():
            return Line(event.step, "blocked", QUIET, event.reason)
        case StepCancelled():
            return Line(event.step, "cancelled", QUIET, event.reason)
        case StepComputed():
            return Line(event.step, _computed(event, decision), GOOD, event.reason, (("output", event.output),))
        case EventEmitted():
            sent = event.cloud_event
            return Line(event.step, f"emitted {event_name(sent)}", GOOD, event.reason, (("data", sent.get("data")),))
        case IncidentRaised():
            return Line(event.step, f"incident: {event.kind}", BAD, event.message)
        case IncidentResolved():
            return Line(event.step, f"incident resolved: {event.action}", GOOD, f"by {event.by}")
        case ForEachStarted():
            what = f"for each of {counted(len(event.items), 'item')}"
            return Line(event.step, what, WORK, event.reason, (("items", event.items),))
        case PortionScheduled():
            return Line(event.step, "more items in a moment", QUIET)
        case ForEachEnded():
            return Line(
                event.step, "succeeded" + (f", {event.failed:,} of its items failed" * (event.failed > 0)), GOOD
            )
        case RoundStarted():
            return Line(event.step, f"round {event.round} of {', '.join(event.steps)}", WORK, event.reason)
        case _:
            return None


def _computed(event: StepComputed, decision: Decision) -> str:
    """A value, a wait for a time that was past, or an end: that one's step is the reason of the workflow's end."""
    reasons = [one.reason for one in decision.events if isinstance(one, WorkflowEnded | CompensationStarted)]
    if any(reason.partition(":")[0] == event.step for reason in reasons):
        return "reached: the workflow ends here"
    return "the time has come already" if event.reason.endswith("; the time has come") else "computed"


def _of_wait(event: Event, decision: Decision) -> Line | None:
    match event:
        case WaitStarted():
            what = f"waits for event {event.awaits}" if event.awaits else "waits"
            return Line(event.step, f"{what}{_until(event.due_at_ms, decision.at_ms)}", PEOPLE, event.reason)
        case WaitEnded():
            return Line(event.step, "the time has come", GOOD)
        case EventReceived():
            kept = ", kept from before" if event.kept else ""
            data = (("data", event.cloud_event.get("data")),)
            return Line(event.step, f"received {event_name(event.cloud_event)}{kept}", GOOD, payloads=data)
        case EventKept():
            data = (("data", event.kept.cloud_event.get("data")),)
            why = "no step waits for it yet"
            return Line("", f"kept {event_name(event.kept.cloud_event)}", PEOPLE, why, data)
        case EventUnclaimed():
            what = f"unclaimed: {event_name(event.kept.cloud_event)}"
            return Line("", what, PEOPLE, f"{event.reason}; it is a dead letter now")
        case _:
            return None


def _until(due_at_ms: int | None, at_ms: int) -> str:
    return ", without a time-out" if due_at_ms is None else f" until {clock_time(due_at_ms, at_ms)}"


def _of_built_in(event: Event) -> Line | None:
    said = built_in_words(event)
    if said is None:
        return None
    style = PEOPLE if isinstance(event, AliasRefused | AliasWaived) else WORK
    return Line(getattr(event, "step", ""), said.what, style, said.why)


# Workflows ------------------------------------------------------------------------------------------------------------------------------


def _of_workflow(event: Event, decision: Decision) -> Line | None:
    match event:
        case WorkflowStarted():
            kind = event.cloud_event.get("type", "")
            why = f"event {decision.cause.id} ({kind})"
            return Line("", f"started by route {event.route}", GOOD, why, (("event", event.cloud_event.get("data")),))
        case CompensationStarted(steps=()):
            return Line("", f"{event.status}; nothing more is undone", PEOPLE, event.reason)
        case CompensationStarted():
            return Line("", f"{event.status}; undoes {', '.join(event.steps)} first", PEOPLE, event.reason)
        case WorkflowEnded():
            spent = f" ({_usage(event.usage)})" if event.usage else ""
            why = f"{event.reason}{spent}"
            return Line("", event.status, END_STYLES[event.status], why, (("output", event.output),))
        case BudgetRaised():
            return Line("", f"budget raised by {event.by}", GOOD, f"more: {_granted(event, decision)}")
        case BudgetTimeOver():
            return Line("", "the budget's time is over", PEOPLE)
        case WorkflowForgotten():
            return Line("", "forgotten: the id may start afresh", QUIET)
        case EffectUndeliverable():
            return Line("", f"could not be sent to {event.topic}", BAD, f"{event.code}: {event.message}")
        case _:
            return None


def _granted(event: BudgetRaised, decision: Decision) -> str:
    expires_at_ms = event.expires_at_ms
    return as_amounts(event.granted, time="" if expires_at_ms is None else duration(expires_at_ms - decision.at_ms))


def _of_input(event: Event, decision: Decision) -> Line:
    match event:
        case StartRepeated():
            return Line("", "start repeated: nothing changes", QUIET, event.reason)
        case AnswerRefused():
            return Line("", f"answer refused ({event.code})", PEOPLE, f"{event.message} (by {event.by})")
        case CommandAccepted():
            return Line("", f"{event.command} by {event.by}", WORK, event.reason)
        case CommandRefused():
            return Line("", f"{event.command} refused ({event.code})", PEOPLE, event.message)
        case WorkflowMigrated():
            return Line("", f"goes over to rules {event.digest[7:19]}", WORK, f"from {event.before[7:19]}")
        case InputDismissed():
            return Line("", f"{_named(decision.cause)} dismissed ({event.code})", QUIET, event.message)
        case InputParked():
            return Line("", f"{_named(decision.cause)} parked ({event.code})", BAD, event.message)
        case InputAttempted():
            return Line("", "input tried on its own", QUIET, f"{event.topic}, offset {event.offset}")
        case _:
            return Line("", type(event).__name__, QUIET)


def _named(cause: Cause) -> str:
    return f"{cause.kind} {cause.id}".strip()

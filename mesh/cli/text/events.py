"""An event of the log as one line for people: what, and why.

Rendering alone; `mesh.cli.text.timeline` makes tables of these.
"""

from typing import Any, Final, NamedTuple

from mesh.cli.text import limits
from mesh.cli.text.built_in import built_in_words
from mesh.cli.text.format import clock_time, counted, duration
from mesh.core import events as ev
from mesh.core.amounts import as_amounts

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


def describe(event: ev.Event, decision: ev.Decision) -> Line:
    """Every event has its line: the last case is a newer version's that this one does not know how
    to tell.
    """
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


def _of_slot(event: ev.Event) -> Line | None:
    found = limits.told(event)
    return None if found is None else Line(found[0], found[1], QUIET, found[2])


def event_name(cloud_event: dict[str, Any]) -> str:
    """`event o1 (com.shop.paid)`."""
    return f"event {cloud_event.get('id', '')} ({cloud_event.get('type', '')})"


# Tasks and questions ------------------------------------------------------------------------------


def _of_task(event: ev.Event, decision: ev.Decision) -> Line | None:
    match event:
        case ev.TaskDispatched():
            return _dispatched(event)
        case ev.TaskSucceeded():
            what = f"succeeded after {duration(event.duration_ms)}"
            return Line(event.step, what, GOOD, _agent(event), (("output", event.output),))
        case ev.TaskFailed():
            taken = f" after {duration(event.duration_ms)}" if event.duration_ms else ""
            why = f"{event.kind}: {event.message}{'' if event.retryable else ' (not to be retried)'}"
            return Line(event.step, f"attempt {event.attempt} failed{taken}", BAD, f"{why} {_agent(event)}".strip())
        case ev.TaskHandedOver():
            taken = f" after {duration(event.duration_ms)}" if event.duration_ms else ""
            return Line(event.step, f"handed over to {event.to}{taken}", WORK, _agent(event))
        case ev.RetryScheduled():
            wait = duration(max(0, event.due_at_ms - decision.at_ms))
            return Line(event.step, f"attempt {event.attempt} in {wait}", PEOPLE)
        case ev.StepGivenUp():
            return Line(event.step, "failed for good", BAD, event.reason)
        case ev.TaskHeld():
            return Line(event.step, f"held before attempt {event.attempt}", PEOPLE, event.reason)
        case _:
            return None


def _dispatched(event: ev.TaskDispatched) -> Line:
    what = f"dispatched to {event.agent}"
    what += f", round {event.round}" if event.round > 1 else ""
    what += f", attempt {event.attempt}" if event.attempt > 1 else ""
    return Line(event.step, what, WORK, event.reason, (("input", event.input),))


def _agent(event: ev.TaskSucceeded | ev.TaskFailed | ev.TaskHandedOver) -> str:
    version = f"version {event.agent_version}" if event.agent_version else ""
    return f"({version}{' on ' if version else 'on '}{event.agent_instance})" if event.agent_instance else version


def _of_question(event: ev.Event) -> Line | None:
    match event:
        case ev.ApprovalRequested():
            again = f", round {event.round}" if event.round > 1 else ""
            what = f"asks role {event.role}{again}: {event.question}"
            return Line(event.step, what, PEOPLE, event.reason, (("payload", event.payload),))
        case ev.ApprovalClosed():
            return _closed(event)
        case ev.ApprovalWithdrawn():
            return Line(event.step, "question withdrawn", QUIET, event.reason)
        case _:
            return None


def _closed(event: ev.ApprovalClosed) -> Line:
    edited = ", with an edit" if event.edited else ""
    by = "by its deadline" if event.expired else f"by {event.by} (unverified)"
    style = GOOD if event.verdict == "approved" else PEOPLE
    return Line(event.step, f"{event.verdict} {by}{edited}", style, event.reason, (("payload", event.payload),))


def _of_call(event: ev.Event) -> Line | None:
    match event:
        case ev.CallMade():
            part = event.slice.limits if event.slice is not None else {}
            why = event.reason + (f"; it may spend {as_amounts(part)}" if part else "")
            return Line(event.step, f"calls {event.called}", WORK, why, (("input", event.input),))
        case ev.CallSucceeded():
            return Line(event.step, f"{event.called} completed", GOOD, "", (("output", event.output),))
        case ev.CallFailed():
            return Line(event.step, f"call {event.attempt} failed", BAD, f"{event.kind}: {event.message}")
        case ev.CallWithdrawn():
            return Line(event.step, f"call of {event.called} taken back", QUIET, event.reason)
        case ev.CallRefused():
            return Line("", f"call refused ({event.code})", BAD, event.message)
        case ev.UsageReported():
            return Line(event.step, f"call {event.attempt} has ended, unwaited for", QUIET, _usage(event.usage))
        case _:
            return None


def _usage(usage: dict[str, float] | None) -> str:
    """What was taken of a budget: `taken: 1200 tokens, 0.3 usd`."""
    if usage is None:
        return "taken: all that was reserved for it, since it says nothing"
    return f"taken: {as_amounts(usage)}"


# Steps --------------------------------------------------------------------------------------------


def _of_step(event: ev.Event, decision: ev.Decision) -> Line | None:
    match event:
        case ev.StepSkipped():
            return Line(event.step, "skipped", QUIET, event.reason)
        case ev.StepBlocked():
            return Line(event.step, "blocked", QUIET, event.reason)
        case ev.StepCancelled():
            return Line(event.step, "cancelled", QUIET, event.reason)
        case ev.StepComputed():
            return Line(event.step, _computed(event, decision), GOOD, event.reason, (("output", event.output),))
        case ev.EventEmitted():
            sent = event.cloud_event
            return Line(event.step, f"emitted {event_name(sent)}", GOOD, event.reason, (("data", sent.get("data")),))
        case ev.IncidentRaised():
            return Line(event.step, f"incident: {event.kind}", BAD, event.message)
        case ev.IncidentResolved():
            return Line(event.step, f"incident resolved: {event.action}", GOOD, f"by {event.by}")
        case ev.ForEachStarted():
            what = f"for each of {counted(len(event.items), 'item')}"
            return Line(event.step, what, WORK, event.reason, (("items", event.items),))
        case ev.PortionScheduled():
            return Line(event.step, "more items in a moment", QUIET)
        case ev.ForEachEnded():
            return Line(
                event.step, "succeeded" + (f", {event.failed:,} of its items failed" * (event.failed > 0)), GOOD
            )
        case ev.RoundStarted():
            return Line(event.step, f"round {event.round} of {', '.join(event.steps)}", WORK, event.reason)
        case _:
            return None


def _computed(event: ev.StepComputed, decision: ev.Decision) -> str:
    """A value, a wait for a time that was past, or an end: that one's step is the reason of the
    workflow's end.
    """
    reasons = [one.reason for one in decision.events if isinstance(one, ev.WorkflowEnded | ev.CompensationStarted)]
    if any(reason.partition(":")[0] == event.step for reason in reasons):
        return "reached: the workflow ends here"
    return "the time has come already" if event.reason.endswith("; the time has come") else "computed"


def _of_wait(event: ev.Event, decision: ev.Decision) -> Line | None:
    match event:
        case ev.WaitStarted():
            what = f"waits for event {event.awaits}" if event.awaits else "waits"
            return Line(event.step, f"{what}{_until(event.due_at_ms, decision.at_ms)}", PEOPLE, event.reason)
        case ev.WaitEnded():
            return Line(event.step, "the time has come", GOOD)
        case ev.EventReceived():
            kept = ", kept from before" if event.kept else ""
            data = (("data", event.cloud_event.get("data")),)
            return Line(event.step, f"received {event_name(event.cloud_event)}{kept}", GOOD, payloads=data)
        case ev.EventKept():
            data = (("data", event.kept.cloud_event.get("data")),)
            why = "no step waits for it yet"
            return Line("", f"kept {event_name(event.kept.cloud_event)}", PEOPLE, why, data)
        case ev.EventUnclaimed():
            what = f"unclaimed: {event_name(event.kept.cloud_event)}"
            return Line("", what, PEOPLE, f"{event.reason}; it is a dead letter now")
        case _:
            return None


def _until(due_at_ms: int | None, at_ms: int) -> str:
    return ", without a time-out" if due_at_ms is None else f" until {clock_time(due_at_ms, at_ms)}"


def _of_built_in(event: ev.Event) -> Line | None:
    said = built_in_words(event)
    if said is None:
        return None
    style = PEOPLE if isinstance(event, ev.AliasRefused | ev.AliasWaived) else WORK
    return Line(getattr(event, "step", ""), said.what, style, said.why)


# Workflows ----------------------------------------------------------------------------------------


def _of_workflow(event: ev.Event, decision: ev.Decision) -> Line | None:
    match event:
        case ev.WorkflowStarted():
            kind = event.cloud_event.get("type", "")
            why = f"event {decision.cause.id} ({kind})"
            return Line("", f"started by route {event.route}", GOOD, why, (("event", event.cloud_event.get("data")),))
        case ev.CompensationStarted(steps=()):
            return Line("", f"{event.status}; nothing more is undone", PEOPLE, event.reason)
        case ev.CompensationStarted():
            return Line("", f"{event.status}; undoes {', '.join(event.steps)} first", PEOPLE, event.reason)
        case ev.WorkflowEnded():
            spent = f" ({_usage(event.usage)})" if event.usage else ""
            why = f"{event.reason}{spent}"
            return Line("", event.status, END_STYLES[event.status], why, (("output", event.output),))
        case ev.BudgetRaised():
            return Line("", f"budget raised by {event.by}", GOOD, f"more: {_granted(event, decision)}")
        case ev.BudgetTimeOver():
            return Line("", "the budget's time is over", PEOPLE)
        case ev.WorkflowForgotten():
            return Line("", "forgotten: the id may start afresh", QUIET)
        case ev.EffectUndeliverable():
            return Line("", f"could not be sent to {event.topic}", BAD, f"{event.code}: {event.message}")
        case _:
            return None


def _granted(event: ev.BudgetRaised, decision: ev.Decision) -> str:
    expires_at_ms = event.expires_at_ms
    return as_amounts(event.granted, time="" if expires_at_ms is None else duration(expires_at_ms - decision.at_ms))


def _of_input(event: ev.Event, decision: ev.Decision) -> Line:
    match event:
        case ev.StartRepeated():
            return Line("", "start repeated: nothing changes", QUIET, event.reason)
        case ev.AnswerRefused():
            return Line("", f"answer refused ({event.code})", PEOPLE, f"{event.message} (by {event.by})")
        case ev.CommandAccepted():
            return Line("", f"{event.command} by {event.by}", WORK, event.reason)
        case ev.CommandRefused():
            return Line("", f"{event.command} refused ({event.code})", PEOPLE, event.message)
        case ev.WorkflowMigrated():
            return Line("", f"goes over to rules {event.digest[7:19]}", WORK, f"from {event.before[7:19]}")
        case ev.InputDismissed():
            return Line("", f"{_named(decision.cause)} dismissed ({event.code})", QUIET, event.message)
        case ev.InputParked():
            return Line("", f"{_named(decision.cause)} parked ({event.code})", BAD, event.message)
        case ev.InputAttempted():
            return Line("", "input tried on its own", QUIET, f"{event.topic}, offset {event.offset}")
        case _:
            return Line("", type(event).__name__, QUIET)


def _named(cause: ev.Cause) -> str:
    return f"{cause.kind} {cause.id}".strip()

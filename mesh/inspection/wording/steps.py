"""Words for steps: what the rules decide of one, and what it waits for.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from mesh.core import events as ev
from mesh.inspection.wording.phrases import (
    as_json,
    clock_time,
    counted,
    data_of,
    event_name,
    event_words,
    lasting,
    timeless,
)
from mesh.inspection.wording.said import Said


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:
    return _of_a_step(event, decision) or _of_several(event, decision) or _of_a_wait(event, decision)


def _of_a_step(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.StepSkipped():
            told = f"{event.step} is skipped: {timeless(event.reason)}"
            return Said(event.step, "skipped", "quiet", event.reason, told)
        case ev.StepBlocked():
            return Said(event.step, "blocked", "quiet", event.reason, f"{event.step} is blocked: {event.reason}")
        case ev.StepCancelled():
            return Said(event.step, "cancelled", "quiet", event.reason, f"{event.step} is cancelled: {event.reason}")
        case ev.StepComputed():
            told = f"{event.step} comes to {as_json(event.output)} ({event.reason})"
            shows = (("output", event.output),)
            return Said(event.step, _computed(event, decision), "good", event.reason, told, shows)
        case ev.StepCompleted():
            told = f"{event.by} gives the output of {event.step}: {as_json(event.output)}"
            return Said(event.step, f"completed by {event.by}", "good", event.reason, told, (("output", event.output),))
        case ev.EventEmitted(cloud_event=sent):
            told = f"-> {event_words(sent)} ({event.reason})"
            return Said(event.step, f"emitted {event_name(sent)}", "good", event.reason, told, data_of(sent))
        case _:
            return None


def _computed(event: ev.StepComputed, decision: ev.Decision) -> str:
    """What a computed step was: a value, a wait for a past time, or an end.

    An end's step is the reason why the workflow ends.
    """
    reasons = [one.reason for one in decision.events if isinstance(one, ev.WorkflowEnded | ev.CompensationStarted)]
    if any(reason.partition(":")[0] == event.step for reason in reasons):
        return "reached: the workflow ends here"
    return "the time has come already" if event.reason.endswith("; the time has come") else "computed"


def _of_several(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.ForEachStarted():
            told = f"{event.step} begins for each of {len(event.items)} items ({event.reason})"
            what, shows = f"for each of {counted(len(event.items), 'item')}", (("items", event.items),)
            return Said(event.step, what, "work", event.reason, told, shows)
        case ev.PortionScheduled():
            told = f"more of {event.step} in {lasting(event.due_at_ms - decision.at_ms)}"
            return Said(event.step, "more items in a moment", "quiet", told=told)
        case ev.ForEachEnded():
            failed = f", but for {event.failed} that failed" if event.failed else ""
            what = "succeeded" + (f", {event.failed:,} of its items failed" if event.failed else "")
            return Said(event.step, what, "good", told=f"{event.step} is done for each item{failed}")
        case ev.LoopLeft():
            told = f"{event.step} leaves its loop: {event.reason}"
            return Said(event.step, "the loop is done after all", "good", event.reason, told)
        case ev.RoundStarted():
            told = f"round {event.round} begins, with {event.steps[0]}: {event.reason}"
            what = f"round {event.round} of {', '.join(event.steps)}"
            return Said(event.step, what, "work", event.reason, told)
        case _:
            return None


def _of_a_wait(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.WaitStarted():
            return _waits(event, decision)
        case ev.WaitEnded():
            return Said(event.step, "the time has come", "good")
        case ev.EventReceived(cloud_event=came):
            kept = ", kept from before" if event.kept else ""
            told = f"{event.step} has its event" + (", which had come before" if event.kept else "")
            what, shows = f"received {event_name(came)}{kept}", data_of(came)
            return Said(event.step, what, "good", "", told, shows)
        case ev.EventKept():
            left, came = lasting(event.expires_at_ms - decision.at_ms), event.kept.cloud_event
            told = f"the event is kept for a step that waits for it, for {left}"
            what, shows = f"kept {event_name(came)}", data_of(came)
            return Said("", what, "people", "no step waits for it yet", told, shows)
        case ev.EventUnclaimed():
            told = f"-> dead letter, {event_words(event.kept.cloud_event)} ({event.reason})"
            what = f"unclaimed: {event_name(event.kept.cloud_event)}"
            return Said("", what, "people", f"{event.reason}; it is a dead letter now", told)
        case _:
            return None


def _waits(event: ev.WaitStarted, decision: ev.Decision) -> Said:
    due_at_ms = event.due_at_ms
    what = f"waits for event {event.awaits}" if event.awaits else "waits"
    what += ", without a time-out" if due_at_ms is None else f" until {clock_time(due_at_ms, decision.at_ms)}"
    awaited = f" for an event {event.awaits}" if event.awaits else ""
    left = f", {lasting(due_at_ms - decision.at_ms)}" if due_at_ms is not None else ""
    told = f"{event.step} waits{awaited}{left} ({event.reason})"
    return Said(event.step, what, "people", event.reason, told)

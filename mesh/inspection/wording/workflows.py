"""Words for workflows: a run's start and end, its budget, and what became of an input.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from typing import Final

from mesh.core import events as ev
from mesh.core.amounts import as_amounts
from mesh.inspection.wording.calls import usage_words
from mesh.inspection.wording.phrases import as_json, data_of, duration, lasting, short, timeless
from mesh.inspection.wording.said import Said, Tone

TONES: Final[dict[str, Tone]] = {
    "completed": "good",
    "failed": "bad",
    "rejected": "people",
    "cancelled": "quiet",
    "running": "work",
    "expected": "quiet",
    "standing": "work",
}
"""Of a workflow, by its status."""


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:
    return _of_a_run(event, decision) or _of_a_budget(event, decision) or _of_an_input(event, decision)


def _of_a_run(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.WorkflowStarted(cloud_event=came):
            why = f"event {decision.cause.id} ({came.get('type', '')})"
            told, shows = f"it begins, as {event.run_id}", data_of(came, "event")
            return Said("", f"started by route {event.route}", "good", why, told, shows)
        case ev.StartRepeated():
            told = f"nothing begins: {event.reason}"
            return Said("", "start repeated: nothing changes", "quiet", event.reason, told)
        case ev.CompensationStarted(steps=()):
            told = f"nothing more is undone, it ends as {event.status} ({event.reason})"
            return Said("", f"{event.status}; nothing more is undone", "people", event.reason, told)
        case ev.CompensationStarted():
            steps = ", ".join(event.steps)
            told = f"before it ends as {event.status}, this is undone: {steps} ({event.reason})"
            return Said("", f"{event.status}; undoes {steps} first", "people", event.reason, told)
        case ev.WorkflowEnded():
            return _ended(event)
        case ev.WorkflowMigrated():
            again = f", where {', '.join(event.begins_anew)} begins again" if event.begins_anew else ""
            told = f"{event.by or 'nobody'} moves it to another version of its route{again}"
            return Said("", f"goes over to rules {event.digest[7:19]}", "work", f"from {event.before[7:19]}", told)
        case ev.WorkflowForked(into=""):
            kept = ", ".join(event.steps or ()) or "nothing"
            told = f"it goes on from {event.step} of {event.of}, with the results of {kept}"
            return Said("", f"forked from {event.of} at {event.step}, by {event.by}", "work", event.reason, told)
        case ev.WorkflowForked():
            told = f"{event.by} forks it from {event.step} into {event.into}; nothing changes here"
            return Said("", f"forked into {event.into} from {event.step}, by {event.by}", "quiet", event.reason, told)
        case ev.WorkflowPaused():
            told = f"{event.by} pauses it: nothing new is sent or begun"
            return Said("", f"paused by {event.by}", "people", event.reason, told)
        case ev.WorkflowResumed():
            return Said("", f"resumed by {event.by}", "work", event.reason, f"{event.by} lets it go on")
        case ev.PayloadsSealed():
            return Said("", "sealed: its key is deleted or missing, and nobody can read it", "quiet")
        case ev.PayloadsErased():
            told = f"{event.by} erases the payloads of the workflow: {len(event.keys)} keys are deleted"
            return Said("", f"erased by {event.by}", "people", event.reason, told)
        case ev.WorkflowForgotten():
            return Said("", "forgotten: the id may start afresh", "quiet")
        case _:
            return None


def _ended(event: ev.WorkflowEnded) -> Said:
    why = f"{event.reason}{f' ({usage_words(event.usage)})' if event.usage else ''}"
    because = "" if event.status == "completed" else f" ({timeless(event.reason)})"
    taken = f"; it has taken {as_amounts(event.usage)}" if event.usage else ""
    told = f"-> outcome {event.status}: {as_json(event.output)}{because}{taken}"
    # without an output, unless it completed with null
    shows = (("output", event.output),) if event.output is not None or event.status == "completed" else ()
    return Said("", event.status, TONES[event.status], why, told, shows)


def _of_a_budget(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.BudgetRaised():
            left_ms = None if event.expires_at_ms is None else event.expires_at_ms - decision.at_ms
            more = as_amounts(event.granted, time="" if left_ms is None else duration(left_ms))
            granted = as_amounts(event.granted, time="" if left_ms is None else lasting(left_ms))
            told = f"{event.by or 'nobody'} grants {granted} more"
            return Said("", f"budget raised by {event.by}", "good", f"more: {more}", told)
        case ev.BudgetTimeOver():
            return Said("", "the budget's time is over", "people", told="no task goes out until there is more of it")
        case _:
            return None


def _of_an_input(event: ev.Event, decision: ev.Decision) -> Said | None:
    name = f"{decision.cause.kind} {decision.cause.id}".strip()
    match event:
        case ev.InputDismissed():
            told = f"nothing changes: {event.message}"
            return Said("", f"{name} dismissed ({event.code})", "quiet", event.message, told)
        case ev.InputParked():
            told = f"! set aside ({event.code}): {event.message}"
            return Said("", f"{name} parked ({event.code})", "bad", event.message, told)
        case ev.InputAttempted():
            where = f"{event.topic}, offset {event.offset}"
            return Said(
                "",
                "input tried on its own",
                "quiet",
                where,
                f"input attempted: topic: {event.topic} | offset: {event.offset}",
            )
        case ev.EffectUndeliverable():
            told = f"! {short(event.effect_id)} can't be sent: {event.message}"
            return Said("", f"could not be sent to {event.topic}", "bad", f"{event.code}: {event.message}", told)
        case _:
            return None

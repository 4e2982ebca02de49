"""Words for limits: who waits for a slot, who is granted one, and who gives it back.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from mesh.core import events as ev
from mesh.core.amounts import as_number
from mesh.core.limits import limiter_name
from mesh.inspection.wording.phrases import step_words
from mesh.inspection.wording.said import Said


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:  # noqa: ARG001 - as the other nouns'
    match event:
        case ev.SlotRequested():
            limit = limiter_name(event.limit)
            told = f"-> task {event.step} to {event.agent} waits for limit {limit} ({event.reason})"
            return Said(event.step, f"queued for limit {limit}", "quiet", event.reason, told)
        case ev.SlotReleased():
            limit = limiter_name(event.limit)
            told = f"-> {event.step} gives its slot of {limit} back"
            return Said(event.step, f"slot of limit {limit} given back", "quiet", told=told)
        case ev.SlotQueued():
            priority = f", priority {as_number(event.priority)}" if event.priority else ""
            what = f"{event.task_id}/{event.attempt} wants a slot{priority}"
            return Said("", what, "quiet", told=f"{step_words(event.task_id)} waits its turn{priority}")
        case ev.SlotGranted():
            what = f"slot granted to {event.task_id}/{event.attempt}"
            return Said("", what, "quiet", told=f"-> {step_words(event.task_id)} is granted a slot")
        case ev.SlotFreed():
            what = f"slot given back by {event.task_id}/{event.attempt}"
            return Said("", what, "quiet", told=f"the slot of {step_words(event.task_id)} is free")
        case ev.SlotRefused():
            told = f"-> to {step_words(event.task_id)}: no slot, {event.message}"
            return Said("", f"{event.task_id}/{event.attempt} gets no slot", "quiet", event.message, told)
        case _:
            return None

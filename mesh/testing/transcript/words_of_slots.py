"""The words for limits: who waits for a slot, who is granted one, and who gives it back."""

from mesh.core.amounts import as_number
from mesh.core.events import Event, SlotFreed, SlotGranted, SlotQueued, SlotRefused, SlotReleased, SlotRequested
from mesh.core.limits import limiter_name
from mesh.testing.transcript.phrases import step_words

_HEADINGS = {
    "slot_wanted": "{who} wants a slot",
    "slot_given": "{who} has been granted a slot",
    "slot_returned": "{who} gives its slot back",
    "slot_denied": "{who} can't be given a slot",
}


def slot_heading(kind: str, attempt: str) -> str:
    return _HEADINGS[kind].format(who=step_words(attempt.rpartition("/")[0]))


def slot_words(event: Event) -> str:
    match event:
        case SlotRequested():
            return f"-> task {event.step} to {event.agent} waits for limit {limiter_name(event.limit)} ({event.reason})"
        case SlotReleased():
            return f"-> {event.step} gives its slot of {limiter_name(event.limit)} back"
        case SlotQueued():
            return f"{step_words(event.task_id)} waits its turn" + (
                f", priority {as_number(event.priority)}" if event.priority else ""
            )
        case SlotGranted():
            return f"-> {step_words(event.task_id)} is granted a slot"
        case SlotFreed():
            return f"the slot of {step_words(event.task_id)} is free"
        case SlotRefused():
            return f"-> {step_words(event.task_id)} is told: no slot, {event.message}"
        case _:
            return ""

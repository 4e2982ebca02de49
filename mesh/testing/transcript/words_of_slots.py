"""The words for limits: who waits for a slot, who is granted one, and who gives it back."""

from mesh.core.amounts import as_number
from mesh.core.events import Event, SlotFreed, SlotGranted, SlotQueued, SlotRefused, SlotReleased, SlotRequested
from mesh.core.ids import parse_step_id
from mesh.core.limits import limiter_name

__all__ = ["slot_heading", "slot_words"]

_HEADINGS = {
    "slot_wanted": "{who} wants a slot",
    "slot_given": "{who} has been granted a slot",
    "slot_returned": "{who} gives its slot back",
    "slot_denied": "{who} can't be given a slot",
}


def slot_heading(kind: str, attempt: str) -> str:
    return _HEADINGS[kind].format(who=_who(attempt.rpartition("/")[0]))


def slot_words(event: Event) -> str:
    match event:
        case SlotRequested():
            return f"-> task {event.step} to {event.agent} waits for limit {limiter_name(event.limit)} ({event.reason})"
        case SlotReleased():
            return f"-> {event.step} gives its slot of {limiter_name(event.limit)} back"
        case SlotQueued():
            return f"{_who(event.task_id)} waits its turn" + (
                f", priority {as_number(event.priority)}" if event.priority else ""
            )
        case SlotGranted():
            return f"-> {_who(event.task_id)} is granted a slot"
        case SlotFreed():
            return f"the slot of {_who(event.task_id)} is free"
        case SlotRefused():
            return f"-> {_who(event.task_id)} is told: no slot, {event.message}"
        case _:
            return ""


def _who(task: str) -> str:
    parsed = parse_step_id(task)
    return f"{parsed.step} of {parsed.workflow_id}" if parsed is not None else task

"""What of a decision is too large to be sent, and what to say of it.

Owns the choice of the steps that are to blame. A result is paid for, and an answer was given: they
count, whatever follows of them. What follows and does not fit is an incident of the step that would
have sent it. Called by the owner when a decision is larger than the broker takes; it then decides
again, with these places withheld.
"""

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from mesh.codec.log import event_size_bytes
from mesh.core.events import (
    ApprovalRequested,
    CallMade,
    Event,
    EventEmitted,
    ForEachStarted,
    SlotRequested,
    StepComputed,
    StepSkipped,
    TaskDispatched,
    TaskHeld,
    WorkflowEnded,
)

_ROOM: Final = 4_096  # for what is around the events, and for the incidents that replace some
_SMALL: Final = 1_024  # an event of this size is not what makes a decision too large

_Blamable = (
    TaskDispatched
    | TaskHeld
    | SlotRequested
    | CallMade
    | ApprovalRequested
    | StepComputed
    | StepSkipped
    | EventEmitted
    | ForEachStarted
    | WorkflowEnded
)


def to_withhold(events: Sequence[Event], limit_bytes: int, withheld: Mapping[str, str]) -> dict[str, str]:
    """The places to withhold besides `withheld`, and what to say of each.

    The largest first, until the rest fits into one record. Empty: nothing that follows is to blame,
    so it is the input.
    """
    sizes = [(event_size_bytes(event), event) for event in events]
    total, found = sum(size for size, _ in sizes), dict[str, str]()
    blamable = [
        (size, event)
        for size, event in sizes
        if isinstance(event, _Blamable) and size > _SMALL and _place(event) not in withheld
    ]
    left = total
    for size, event in sorted(blamable, key=lambda one: -one[0]):
        # the estimate said that it fits, and it did not: then at least the largest is withheld
        if found and left <= limit_bytes - _ROOM:
            break
        if _place(event) not in found:
            found[_place(event)] = _message(event, size, total, limit_bytes)
        left -= size
    return found


def _place(event: _Blamable) -> str:
    return "" if isinstance(event, WorkflowEnded) else event.step


def _message(event: _Blamable, size: int, total: int, limit_bytes: int) -> str:
    what = f"{_what(event)} has {size:,} bytes"
    if size > limit_bytes - _ROOM:
        return (
            f"{what}, and the broker takes {limit_bytes:,} in one record: let the route pass on less, or a reference "
            "to where the bulk is; then `mesh workflows migrate` and `mesh workflows retry`"
        )
    return (
        f"{what}, and finds no room beside what else is sent at once: that is {total:,} bytes, and the broker takes "
        f"{limit_bytes:,} in one record. `mesh workflows retry` sends it by itself"
    )


def _what(event: _Blamable) -> str:
    match event:
        case TaskDispatched() | TaskHeld() | SlotRequested() | CallMade():
            return f"the input of {event.step}"
        case ApprovalRequested():
            return f"the question of {event.step}"
        case EventEmitted():
            return f"the event that {event.step} emits"
        case ForEachStarted():
            return f"the list of {event.step}"
        case StepComputed() | StepSkipped():
            return f"the output of {event.step}"
        case WorkflowEnded():
            return "the output of the workflow"
        case _:
            assert_never(event)

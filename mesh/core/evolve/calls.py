"""What the events of a call change in its step.

`evolve`'s part for `mesh.core.decide.begin.call`.
"""

from typing import Final, assert_never

from msgspec.structs import replace

from mesh.core.events import CallFailed, CallMade, CallSucceeded, CallWithdrawn
from mesh.core.state import StepState

CallEvent = CallMade | CallSucceeded | CallFailed | CallWithdrawn

_MAY_HAVE_COMPLETED: Final = frozenset({"timeout", "parked"})
"""Failures of a call that say nothing of how its workflow ended, or will end.

Any other failure is the called workflow's own word: it has completed nothing, or has undone it.
"""


def evolve_call(step: StepState | None, event: CallEvent, at_ms: int, *, acted: bool) -> StepState:
    """The step after the call's event. `acted`: whether the step may have done something before.

    Raises `ValueError` for the end of a call that was never made.
    """
    if isinstance(event, CallMade):
        return StepState(
            status="calling",
            task_id=event.task_id,
            attempt=event.attempt,
            since_ms=at_ms,
            due_at_ms=event.due_at_ms,
            input=event.input,
            called=event.called,
            error=step.error if step else "",
            # of the last round: it can be read until this one gives something
            output=step.output if step else None,
            round=event.round,
            reserved=event.slice.limits if event.slice is not None else None,
            acted=acted,
        )
    if step is None:
        raise ValueError(f"{type(event).__name__} for step {event.step}, which has called nothing")
    step = replace(step, since_ms=at_ms, due_at_ms=None, reserved=None)
    match event:
        case CallSucceeded():
            return replace(step, status="succeeded", input=None, output=event.output, error="")
        case CallFailed():
            did = step.acted or event.kind in _MAY_HAVE_COMPLETED
            return replace(step, status="failed", error=f"{event.kind}: {event.message}", acted=did)
        case CallWithdrawn():
            # the called workflow may have completed before the cancellation reaches it
            return replace(step, status="cancelled", input=None, acted=True)
        case _:
            assert_never(event)

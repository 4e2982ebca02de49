"""What the events of a call make of its step: `evolve`'s part for `mesh.core.deciding.calling`."""

from typing import assert_never

from msgspec.structs import replace

from mesh.core.events import CallFailed, CallMade, CallSucceeded, CallWithdrawn
from mesh.core.state import StepState

__all__ = ["CallEvent", "evolve_call"]

CallEvent = CallMade | CallSucceeded | CallFailed | CallWithdrawn


def evolve_call(step: StepState | None, event: CallEvent, at_ms: int) -> StepState:
    """Raises `ValueError` for the end of a call that was never made."""
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
            output=step.output if step else None,
            round=event.round,
        )
    if step is None:
        raise ValueError(f"{type(event).__name__} for step {event.step}, which has called nothing")
    match event:
        case CallSucceeded():
            return replace(
                step, status="succeeded", since_ms=at_ms, due_at_ms=None, input=None, output=event.output, error=""
            )
        case CallFailed():
            error = f"{event.kind}: {event.message}"
            return replace(step, status="failed", since_ms=at_ms, due_at_ms=None, error=error)
        case CallWithdrawn():
            return replace(step, status="cancelled", since_ms=at_ms, due_at_ms=None, input=None)
        case _:
            assert_never(event)

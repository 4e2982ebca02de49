"""Tasks that nobody wants any more: their agents hear of it.

This is done once for each decision that ends or cancels something, so no other rule has to think of
it.
"""

from typing import Final

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import Event, StepCancelled, StepCompleted, StepGivenUp, TasksWithdrawn, Withdrawn, WorkflowEnded
from mesh.core.inputs import Input, ResultReceived, TaskUndeliverable
from mesh.core.state import Workflow

ENDS_TASKS: Final = (WorkflowEnded, StepCancelled, StepGivenUp, StepCompleted)
"""What may end tasks that are out."""

_OWN_WORD: Final = (ResultReceived, TaskUndeliverable)
_MOST: Final = 200  # of one decision: it must not grow too large for the sake of what only saves work


def withdraw(draft: Draft, before: Workflow, given: Input) -> None:
    """Withdraw the attempts that were out before this decision, and are not after it.

    The one whose own word brought it about needs no telling.
    """
    if not any(map(_may_end_others, draft.events)):
        return
    told = (given.task_id, given.attempt) if isinstance(given, _OWN_WORD) else None
    after = draft.workflow.steps if draft.workflow is not None else {}
    gone = []
    for place, step in before.steps.items():
        if step.status != "running" or (step.task_id, step.attempt) == told:
            continue
        now = after.get(place)
        # the states before and after are compared, so that it does not matter which rule ended it
        if now is None or (now.status, now.task_id, now.attempt) != ("running", step.task_id, step.attempt):
            gone.append(Withdrawn(task_id=step.task_id, attempt=step.attempt, agent=step.agent))
    if gone:
        # those beyond the bound run for nothing, and their results are dismissed: no harm (ADR 12)
        draft.add(TasksWithdrawn(tasks=tuple(gone[:_MOST])))


def _may_end_others(event: Event) -> bool:
    """An item that has failed ends nothing but itself."""
    return isinstance(event, ENDS_TASKS) and not (isinstance(event, StepGivenUp) and ids.is_item(event.step))

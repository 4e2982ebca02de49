"""What an event must say of an open approval, so that its effects need no state.

Owns the fields that `mesh.core.open_approvals` reads: the tally after a vote, and at an end how far
the approval had come. They are added where a decision takes an event, and not where each is made.
So no way in which an approval ends can be forgotten. The draft of a decision calls `completed`, and
the owner for an event that it makes itself.
"""

from typing import Final

from msgspec.structs import replace

from mesh.core.approvals import Tally, tally_of
from mesh.core.events import (
    ApprovalClosed2,
    ApprovalWithdrawn,
    Event,
    IncidentRaised,
    PayloadEdited,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.evolve.voting import evolve_voting
from mesh.core.state import StepState, Workflow

TO_COMPLETE: Final = frozenset(
    {VoteCast, VoteTakenBack, PayloadEdited, ApprovalClosed2, ApprovalWithdrawn, IncidentRaised}
)


def completed(event: Event, workflow: Workflow | None) -> Event:
    """The event with what it must say. `workflow`: before the event."""
    place = getattr(event, "step", "")
    step = None if workflow is None else workflow.steps.get(place)
    # an incident of any other step ends no approval
    if step is None or step.status != "asking":
        return event
    if isinstance(event, VoteCast | VoteTakenBack | PayloadEdited):
        return replace(event, tally=_tally(evolve_voting(step, event)))
    edition, notes = (0, 0) if step.asking is None else (step.asking.edition, step.asking.notes)
    if isinstance(event, ApprovalClosed2):
        return replace(event, notes=notes)
    if isinstance(event, ApprovalWithdrawn | IncidentRaised):
        return replace(event, approval_id=step.task_id, edition=edition, notes=notes)
    return event


def _tally(step: StepState) -> Tally | None:
    return None if step.asking is None else tally_of(step.asking, step.digest, step.due_at_ms)

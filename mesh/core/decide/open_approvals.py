"""What an event must say of an open approval, so that its effects need no state.

Owns the fields that `mesh.core.open_approvals` reads: the tally after each event that changes it,
and at an end how far the approval had come. They are added where a decision takes an event, and not
where each is made. So no way in which an approval ends can be forgotten. The draft of a decision
calls `completed`.
"""

from typing import Final, get_args

from msgspec.structs import replace

from mesh.core.approvals import Tally, tally_of
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused2,
    ApprovalClaimed,
    ApprovalClosed2,
    ApprovalEscalated,
    ApprovalReassigned,
    ApprovalReleased,
    ApprovalWithdrawn,
    DeadlineMoved,
    Event,
    IncidentRaised,
    NoteAdded,
    PayloadEdited,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.evolve.voting import evolve_voting
from mesh.core.state import StepState, Workflow

_Told = (
    VoteCast
    | VoteTakenBack
    | PayloadEdited
    | ApprovalEscalated
    | DeadlineMoved
    | ApprovalClaimed
    | ApprovalReleased
    | ApprovalReassigned
    | AnswerHeld
)
_Ends = ApprovalClosed2 | ApprovalWithdrawn | IncidentRaised
_Judged = NoteAdded | AnswerRefused2  # they change what is told only if the answer was held
TO_COMPLETE: Final[frozenset[type]] = frozenset({*get_args(_Told), *get_args(_Ends), *get_args(_Judged)})


def completed(event: Event, workflow: Workflow | None) -> Event:
    """The event with what it must say. `workflow`: before the event."""
    place = getattr(event, "step", "")
    step = None if workflow is None else workflow.steps.get(place)
    # an incident of any other step ends no approval
    if step is None or step.status != "asking":
        return event
    if isinstance(event, _Told) or (isinstance(event, _Judged) and _was_held(event, step)):
        return replace(event, tally=_tally(evolve_voting(step, event)))
    edition, notes = (0, 0) if step.asking is None else (step.asking.edition, step.asking.notes)
    if isinstance(event, ApprovalClosed2):
        return replace(event, notes=notes)
    if isinstance(event, ApprovalWithdrawn | IncidentRaised):
        return replace(event, approval_id=step.task_id, edition=edition, notes=notes)
    return event


def _was_held(event: NoteAdded | AnswerRefused2, step: StepState) -> bool:
    # of an approval that has just ended, another may be open at its step by now
    return event.source is not None and event.approval_id == step.task_id


def _tally(step: StepState) -> Tally | None:
    return None if step.asking is None else tally_of(step.asking, step.digest, step.due_at_ms)

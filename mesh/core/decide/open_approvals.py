"""What an event must say of an open approval, so that its effects need no state.

Owns the fields that `mesh.core.open_approvals` reads: the tally after each event that changes it,
and at an end how far the approval had come. They are added where a decision takes an event, and not
where each is made. So no way in which an approval ends can be forgotten. The draft of a decision
calls `completed`.
"""

from typing import Final, get_args

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.approvals import Tally
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
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.evolve.voting import evolve_voting
from mesh.core.questions import Reply
from mesh.core.state import StepState, Workflow
from mesh.core.voting import tally_of

_Told = (
    VoteCast
    | VoteTakenBack
    | PayloadEdited
    | ApprovalEscalated
    | DeadlineMoved
    | QuestionAsked
    | QuestionAnswered
    | ApprovalClaimed
    | ApprovalReleased
    | ApprovalReassigned
    | AnswerHeld
)
_Ends = ApprovalClosed2 | ApprovalWithdrawn | IncidentRaised
_Judged = NoteAdded | AnswerRefused2  # they change what people see only if the answer was held
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


def questions_out(event: Event, workflow: Workflow | None) -> tuple[str, ...]:
    """The tasks of questions that nobody wants once this event has ended their approval.

    `workflow`: before the event.
    """
    step = None if workflow is None else workflow.steps.get(getattr(event, "step", ""))
    if not isinstance(event, _Ends) or step is None or step.status != "asking" or step.asking is None:
        return ()
    return tuple(ids.question_place(event.step, one.number) for one in step.asking.questions if one.to.agent)


def unanswered(event: IncidentRaised, workflow: Workflow, at_ms: int) -> QuestionAnswered:
    """That an agent could not answer a question. `event`: what would stop another task."""
    approval, number = ids.asked_by(event.step)
    step = workflow.steps[approval]
    return QuestionAnswered(
        step=approval,
        approval_id=step.task_id,
        by="",
        at_ms=at_ms,
        answer_id="",
        question=number,
        note=1 if step.asking is None else step.asking.notes + 1,
        reply=Reply(text=event.message),
        agent=workflow.steps[event.step].agent,
        failed=True,
    )


def _was_held(event: NoteAdded | AnswerRefused2, step: StepState) -> bool:
    # of an approval that has just ended, another may be open at its step by now
    return event.source is not None and event.approval_id == step.task_id


def _tally(step: StepState) -> Tally | None:
    return None if step.asking is None else tally_of(step.asking, step.digest, step.due_at_ms)

"""Closing an approval: the one verdict, by a person's answer or by its deadline, and what follows of it."""

from mesh.core import ids
from mesh.core.deciding.asking import find_open, is_edit, refusal
from mesh.core.deciding.budgeting import on_budget_answer
from mesh.core.deciding.draft import Draft
from mesh.core.deciding.ending import end, rejection_is_taken, rejection_reason
from mesh.core.deciding.progress import settled
from mesh.core.events import AnswerRefused, ApprovalClosed, IncidentRaised
from mesh.core.inputs import AnswerGiven
from mesh.core.state import StepState

__all__ = ["expire", "on_answer"]


def on_answer(draft: Draft, given: AnswerGiven) -> None:
    found = find_open(draft, given)
    if isinstance(found, AnswerRefused):
        draft.add(found)
        return
    name, step = found
    refused = refusal(draft, given, step)
    if refused is not None:
        draft.add(refused)
        return
    edited = is_edit(given, step)
    _close(
        draft,
        ApprovalClosed(
            step=name,
            approval_id=given.approval_id,
            verdict="approved" if given.decision == "approve" else "rejected",
            payload=given.payload if edited else step.input,
            by=given.by,
            role=step.role,
            answer_id=given.answer_id,
            reason=given.reason,
            edited=edited,
        ),
    )


def expire(draft: Draft, name: str, step: StepState) -> None:
    """Nobody has answered by the deadline."""
    if step.on_expiry == "incident":
        message = f"nobody with role {step.role} answered by the deadline"
        draft.add(IncidentRaised(step=name, kind="expired", message=message))
        return
    _close(
        draft,
        ApprovalClosed(
            step=name,
            approval_id=step.task_id,
            verdict="approved" if step.on_expiry == "approve" else "rejected",
            payload=step.input,
            reason=f"no answer by the deadline; on_expiry: {step.on_expiry}",
            expired=True,
        ),
    )


def _close(draft: Draft, closed: ApprovalClosed) -> None:
    draft.add(closed)
    if ids.is_budget(closed.step):
        on_budget_answer(draft, closed)
        return
    if closed.verdict == "rejected" and not rejection_is_taken(draft.route, closed.step):
        end(draft, "rejected", rejection_reason(draft.live.steps[closed.step], closed.step))
        return
    settled(draft, closed.step)

"""The stages of an approval: who may answer too, once it has been open for some time.

A stage comes about by its timer, or by the first answer that reached the broker after its instant,
whichever is decided first; both come to the same.
"""

from mesh.core.approvals import Stage
from mesh.core.decide.settle.words import asking_of
from mesh.core.events import ApprovalEscalated
from mesh.core.state import StepState
from mesh.core.voting import stage_change


def due_stage(step: StepState, up_to_ms: int) -> Stage | None:
    """The next stage, if its instant is not after `up_to_ms`."""
    stage = None if step.asking is None else step.asking.next_stage
    return stage if stage is not None and stage.at_ms <= up_to_ms else None


def escalated(name: str, step: StepState, stage: Stage) -> ApprovalEscalated:
    return ApprovalEscalated(
        step=name, approval_id=step.task_id, stage=asking_of(step).stage + 1, change=stage_change(stage)
    )


def why_escalated(stage: Stage) -> str:
    """Why the votes suffice, where no answer has brought the verdict."""
    return f"it was escalated to {stage.who}, and the votes that were there suffice"

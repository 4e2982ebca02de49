"""Which effects of older decisions are still worth sending.

A new owner asks it of the effects that may not have left, and an import of those that lie on the
old broker.
"""

from mesh.core.effects import AskApproval, Effect, SendTask
from mesh.core.state import Workflow


def is_wanted(effect: Effect, workflow: Workflow | None) -> bool:
    """Whether to send the effect again.

    A task or a question only while its step waits for it. All others are records of what happened.
    """
    # Receivers know these by their ids, so once more does no harm; a
    # task may cost a paid model call.
    return not isinstance(effect, SendTask | AskApproval) or is_awaited(effect, workflow)


def is_awaited(effect: SendTask | AskApproval, workflow: Workflow | None) -> bool:
    """Whether the step of this task or question waits for just this one."""
    step = workflow.steps.get(effect.step) if workflow is not None else None
    if step is None:
        return False
    if isinstance(effect, SendTask):
        return step.status == "running" and step.task_id == effect.task_id and step.attempt == effect.attempt
    return step.status == "asking" and step.task_id == effect.approval_id

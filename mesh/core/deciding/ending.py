"""Ending: when a workflow is done, and as what."""

from typing import Any, Final

from mesh.core.deciding.draft import Draft
from mesh.core.events import ApprovalWithdrawn, EndStatus, WorkflowEnded
from mesh.core.route import ExpressionError, Step
from mesh.core.state import FINISHED, StepState

__all__ = ["end", "end_if_done", "rejection_reason", "takes_rejection"]

_RAN: Final = frozenset({"succeeded", "rejected"})


def end_if_done(draft: Draft) -> None:
    """End the workflow if every step is settled."""
    workflow, route = draft.live, draft.route
    if len(workflow.steps) < len(route.steps) or any(s.status not in FINISHED for s in workflow.steps.values()):
        return
    refused = [name for name, step in workflow.steps.items() if step.status == "rejected" and not _taken(draft, name)]
    if refused:
        end(draft, "rejected", rejection_reason(workflow.steps[refused[0]], refused[0]))
        return
    try:
        output = _output(draft)
    except ExpressionError as error:
        end(draft, "failed", f"all steps are done, but the route's output could not be made: {error}")
        return
    end(draft, "completed", "all steps are done", output)


def takes_rejection(step: Step, approval: str) -> bool:
    """Whether the step's `if` speaks of the approval, and so takes its rejection into its own hands."""
    if step.condition is None:
        return False
    whole = f"steps.{approval}"
    return any(path == whole or path.startswith(whole + ".") for path in step.condition.paths)


def _taken(draft: Draft, approval: str) -> bool:
    """Whether a step took this approval's rejection and ran."""
    route, steps = draft.route, draft.live.steps
    return any(
        takes_rejection(route.steps[d], approval) and steps[d].status in _RAN for d in route.dependents[approval]
    )


def rejection_reason(step: StepState, name: str) -> str:
    by = step.output["by"] or "its deadline"
    why = step.output["reason"]
    return f"{name} was rejected by {by}" + (f": {why}" if why else "")


def _output(draft: Draft) -> Any:
    """The outcome's data. Raises `ExpressionError`."""
    route = draft.route
    if route.output is not None:
        return route.output.render(draft.scope())
    leaves = [name for name in route.steps if not route.dependents[name]]
    return {name: draft.live.steps[name].output for name in leaves}


def end(draft: Draft, status: EndStatus, reason: str, output: Any = None) -> None:
    """End the workflow, whatever is still under way; open questions are withdrawn."""
    workflow = draft.live
    for name, step in workflow.steps.items():
        if step.status == "asking":
            draft.add(ApprovalWithdrawn(step=name, approval_id=step.task_id, reason=f"the workflow {status}: {reason}"))
    draft.add(
        WorkflowEnded(
            status=status,
            reason=reason,
            run_id=workflow.run_id,
            traceparent=draft.traceparent(workflow.workflow_id, workflow.run_id),
            output=output,
            forget_at_ms=draft.now_ms + int(workflow.closed_retention_s * 1000),
        )
    )

"""Results: what became of an attempt, and whether it still counts. The router counts one result for each task."""

from typing import Final, NamedTuple

from mesh.core import ids
from mesh.core.deciding.attempts import fail
from mesh.core.deciding.draft import Draft
from mesh.core.deciding.progress import go_on
from mesh.core.events import IncidentRaised, IncidentResolved, InputDismissed, TaskFailed, TaskSucceeded
from mesh.core.inputs import ResultReceived, TaskError, TaskUndeliverable
from mesh.core.state import StepState

__all__ = ["on_result", "on_task_undeliverable"]

_UNSETTLED: Final = frozenset({"running", "retrying", "incident"})
_NO_REASON: Final = TaskError(kind="unknown", message="the agent gave no reason")


class _Waits(NamedTuple):
    """The step that waits for an attempt."""

    name: str
    step: StepState


def on_result(draft: Draft, given: ResultReceived) -> None:
    waits = _waiting(draft, given.task_id, given.attempt, success=given.status == "succeeded")
    if isinstance(waits, InputDismissed):
        draft.add(waits)
    elif given.status == "succeeded":
        _succeed(draft, waits, given)
    else:
        error = given.error or _NO_REASON
        fail(
            draft,
            TaskFailed(
                step=waits.name,
                task_id=given.task_id,
                attempt=given.attempt,
                kind=error.kind,
                message=error.message,
                retryable=error.retryable,
                agent_version=given.agent_version,
                agent_instance=given.agent_instance,
                duration_ms=given.duration_ms,
            ),
        )


def _succeed(draft: Draft, waits: _Waits, given: ResultReceived) -> None:
    if waits.step.status == "incident":
        by = f"the late result of attempt {given.attempt}"
        draft.add(IncidentResolved(step=waits.name, action="result", by=by))
    draft.add(
        TaskSucceeded(
            step=waits.name,
            task_id=given.task_id,
            attempt=given.attempt,
            output=given.output,
            agent_version=given.agent_version,
            agent_instance=given.agent_instance,
            duration_ms=given.duration_ms,
            usage=given.usage,
        )
    )
    go_on(draft, draft.route.dependents[waits.name])


def on_task_undeliverable(draft: Draft, given: TaskUndeliverable) -> None:
    waits = _waiting(draft, given.task_id, given.attempt, success=False)
    if isinstance(waits, InputDismissed):
        draft.add(waits)
        return
    message = f"the task for agent {waits.step.agent} could not be sent: {given.message}"
    draft.add(
        TaskFailed(
            step=waits.name,
            task_id=given.task_id,
            attempt=given.attempt,
            kind="undeliverable",
            message=message,
            retryable=False,
        )
    )
    draft.add(IncidentRaised(step=waits.name, kind="undeliverable", message=message))


def _waiting(draft: Draft, task: str, attempt: int, *, success: bool) -> _Waits | InputDismissed:
    """The step that waits for this attempt, or why none does.

    A success of any attempt counts as long as the step is not settled, be it an operator who has it by now: the work is done, under the same idempotency key.
    A failure counts for the attempt under way alone.
    """
    parsed, workflow = ids.parse_step_id(task), draft.workflow
    if parsed is None or workflow is None:
        return InputDismissed(code="unknown", message=f"no workflow knows task {task}")
    if parsed.run_id != workflow.run_id:
        message = f"task {task} is of an earlier run; the run is {workflow.run_id}"
        return InputDismissed(code="late", message=message)
    if workflow.status != "running":
        return InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}")
    step = workflow.steps.get(parsed.step)
    if step is None or step.task_id != task or not 1 <= attempt <= step.attempt:
        return InputDismissed(code="unknown", message=f"task {task}, attempt {attempt}, was never dispatched")
    if step.status in _UNSETTLED if success else step.status == "running" and attempt == step.attempt:
        return _Waits(parsed.step, step)
    message = f"task {task}, attempt {attempt}, counts no more: the step is {step.status}"
    return InputDismissed(code="repeated", message=message)

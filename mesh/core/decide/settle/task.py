"""Results: what became of an attempt, and whether it still counts.

The router counts one result for each task.
"""

from typing import Final, NamedTuple

from mesh.core import ids
from mesh.core.decide.begin.task import agent_work, dispatch
from mesh.core.decide.begin.undo import end_tools
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import settled
from mesh.core.decide.settle.attempt import fail
from mesh.core.decide.settle.questions import answered
from mesh.core.decide.settle.tools import REFUSED, terms_for, want
from mesh.core.events import (
    IncidentRaised,
    IncidentResolved,
    InputDismissed,
    TaskFailed,
    TaskHandedOver,
    TaskSucceeded,
)
from mesh.core.inputs import HandOver, ResultReceived, TaskError, TaskUndeliverable
from mesh.core.route import MOST_DEATHS
from mesh.core.state import StepState, Workflow
from mesh.core.tool_approvals import Wanted

_NO_REASON: Final = TaskError(kind="unknown", message="the agent gave no reason")


class _Waits(NamedTuple):
    """The step that waits for an attempt: the place of its state, and the state."""

    name: str
    step: StepState


def on_result(draft: Draft, given: ResultReceived) -> None:
    waits = _waiting(draft, given.task_id, given.attempt, success=given.status == "succeeded")
    if isinstance(waits, InputDismissed):
        draft.add(waits)
    elif given.status == "succeeded":
        _succeed(draft, waits, given)
    elif given.handover is not None:
        _hand_over(draft, waits, given, given.handover)
    elif given.approval is not None:
        _want(draft, waits, given, given.approval)
    elif given.status == "interrupted":
        _interrupt(draft, waits, given)
    else:
        _fail(draft, waits, given, given.error or _NO_REASON)


def _fail(draft: Draft, waits: _Waits, given: ResultReceived, error: TaskError) -> None:
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
            usage=given.usage,
            retry_after_s=error.retry_after_s,
        ),
    )


def _interrupt(draft: Draft, waits: _Waits, given: ResultReceived) -> None:
    """The agent's process died with the task in its hands.

    It goes out again, until too many have died over it.
    """
    deaths = (*waits.step.deaths, given.agent_instance)
    is_too_much = len(deaths) >= MOST_DEATHS
    fail(
        draft,
        TaskFailed(
            step=waits.name,
            task_id=given.task_id,
            attempt=given.attempt,
            kind="agent_died" if is_too_much else "interrupted",
            message=_died(waits.step.agent, deaths),
            retryable=not is_too_much,
            agent_version=given.agent_version,
            agent_instance=given.agent_instance,
            usage=given.usage,
            deaths=deaths,
        ),
    )


def _died(agent: str, deaths: tuple[str, ...]) -> str:
    if len(deaths) == 1:
        return f"the process {deaths[0] or '(name unknown)'} of agent {agent} died while it worked on the task"
    names = ", ".join(name or "(name unknown)" for name in deaths)
    return f"{len(deaths)} processes of agent {agent} died while they worked on the task: {names}"


def _hand_over(draft: Draft, waits: _Waits, given: ResultReceived, handover: HandOver) -> None:
    work = agent_work(draft, waits.name)
    allowed = work.handover
    if allowed is None:
        refusal = "its route lets it hand over to nobody"
    elif handover.to not in allowed.to:
        refusal = f"its route lets it hand over to {', '.join(sorted(allowed.to))}"
    # the first agent is hop 1, so this is one more than the hand-overs so far
    elif waits.step.hop > allowed.hops:
        refusal = f"the task has been handed over {allowed.hops} times, which is the limit"
    else:
        draft.add(
            TaskHandedOver(
                step=waits.name,
                task_id=given.task_id,
                attempt=given.attempt,
                to=handover.to,
                agent_version=given.agent_version,
                agent_instance=given.agent_instance,
                duration_ms=given.duration_ms,
                usage=given.usage,
            )
        )
        reason, hop = f"handed over by {waits.step.agent}", waits.step.hop + 1
        # from attempt 1: another hop is another task, with an id and a key of its own
        dispatch(draft, waits.name, work, handover.input, reason, attempt=1, agent=handover.to, hop=hop)
        return
    message = f"{waits.step.agent} handed over to {handover.to}, and {refusal}"
    # not retryable: the route forbids it, however often it is tried
    _fail(draft, waits, given, TaskError(kind="handover_refused", message=message, retryable=False))


def _want(draft: Draft, waits: _Waits, given: ResultReceived, wanted: Wanted) -> None:
    terms = terms_for(draft, waits.name, waits.step, wanted)
    if isinstance(terms, str):
        # not retryable: the same agent would ask for the same
        _fail(draft, waits, given, TaskError(kind=REFUSED, message=terms, retryable=False))
    else:
        want(draft, waits.name, given, wanted, terms)


def _succeed(draft: Draft, waits: _Waits, given: ResultReceived) -> None:
    if waits.step.status == "incident":
        by = f"the late result of attempt {given.attempt}"
        draft.add(IncidentResolved(step=waits.name, action="result", by=by))
    end_tools(draft, waits.name, waits.step, f"attempt {given.attempt} has succeeded late")
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
    if ids.is_question(waits.name):
        answered(draft, waits.name, given.output)
    else:
        settled(draft, waits.name)


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
    """The step that waits for this attempt, or why no step does.

    A success of any attempt counts as long as the step is not settled, even if it is an incident by
    now: the work is done, under the same idempotency key. A failure counts only for the attempt
    under way.
    """
    workflow = draft.workflow
    # nearly always: a step that has its first task out has that task's id, with this run in it
    if success and workflow is not None and workflow.status == "running":
        name = task[task.rfind("/") + 1 :]
        step = workflow.steps.get(name)
        if step is not None and step.status == "running" and step.task_id == task and 1 <= attempt <= step.attempt:
            return _Waits(name, step)
    parsed = ids.parse_step_id(task)
    # without a run (only kept events, or a built-in workflow) no task can be out
    if parsed is None or workflow is None or parsed.workflow_id != workflow.workflow_id or not workflow.run_id:
        return InputDismissed(code="unknown", message=f"no workflow knows task {task}")
    # an id may run again, and a late result of the run before must not count
    if parsed.run_id != workflow.run_id:
        message = f"task {task} is of an earlier run; the run is {workflow.run_id}"
        return InputDismissed(code="late", message=message)
    if workflow.status != "running":
        return InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}")
    step = workflow.steps.get(parsed.step)
    if step is None or not step.task_id:
        return _of_nobody(workflow, parsed, f"task {task}, attempt {attempt},")
    if step.task_id != task:
        return InputDismissed(code="late", message=f"task {task} is not the step's any more: that is {step.task_id}")
    # an attempt that is queued for a slot is not sent yet, so nobody can answer it
    if not 1 <= attempt <= step.attempt - (step.status == "queued"):
        return InputDismissed(code="unknown", message=f"task {task}, attempt {attempt}, was never dispatched")
    if _is_unsettled(step) if success else step.status == "running" and attempt == step.attempt:
        return _Waits(parsed.step, step)
    message = f"task {task}, attempt {attempt}, counts no more: the step is {step.status}"
    return InputDismissed(code="repeated", message=message)


def _of_nobody(workflow: Workflow, parsed: ids.TaskId, task: str) -> InputDismissed:
    """Why no task is out at this place."""
    name = ids.step_of(parsed.step)
    step = workflow.steps.get(name)
    if step is not None and ids.is_item(parsed.step):
        return InputDismissed(code="late", message=f"{task} counts no more: its for-each is {step.status}")
    if step is not None and step.round > 1:
        return InputDismissed(code="late", message=f"{task} counts no more: {name} is in round {step.round}")
    return InputDismissed(code="unknown", message=f"{task} was never dispatched")


def _is_unsettled(step: StepState) -> bool:
    """Whether the step still waits for a result of its task."""
    # an agent's result never ends a call
    if step.called:
        return False
    # where its loop or its alias is the incident, its work is done already
    if step.incident is not None:
        return step.incident.kind not in {"loop", "alias"}
    return step.status in {"running", "retrying", "held", "queued", "suspended"}

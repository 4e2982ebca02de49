"""Calling: a step that is a workflow of another route. The call, its taking back, and a call that can't begin one."""

from typing import Any

from mesh.core import ids
from mesh.core.calls import MAX_CALLED_ID, Caller, called_key
from mesh.core.deciding.dispatching import round_of
from mesh.core.deciding.draft import Draft
from mesh.core.events import CallMade, CallRefused, CallWithdrawn, IncidentRaised
from mesh.core.route import CallWork
from mesh.core.state import StepState

__all__ = ["call", "call_again", "call_work", "refuse", "withdraw"]


def call(draft: Draft, name: str, work: CallWork, value: Any, reason: str, *, attempt: int = 1) -> None:
    """Call the newest known version of the route; an incident where there is none."""
    workflow, turn = draft.live, round_of(draft, name)
    task = ids.task_id(workflow.workflow_id, workflow.run_id, ids.instance(name, round=turn))
    called = ids.workflow_id(work.route, called_key(task, attempt))
    digest = draft.directory.routes.get(work.route)
    if digest is None:
        message = f"no version of route {work.route} is active: `mesh routes apply` makes one so, then retry"
        draft.add(IncidentRaised(step=name, kind="unknown_route", message=message))
        return
    if len(called) > MAX_CALLED_ID:
        message = f"the id of the called workflow would have {len(called)} characters ({MAX_CALLED_ID} at the most): calls nest too deep"
        draft.add(IncidentRaised(step=name, kind="too_deep", message=message))
        return
    draft.add(
        CallMade(
            step=name,
            task_id=task,
            attempt=attempt,
            route=work.route,
            digest=digest,
            called=called,
            input=value,
            traceparent=draft.traceparent(task, str(attempt)),
            reason=reason,
            due_at_ms=None if work.timeout_s is None else draft.now_ms + int(work.timeout_s * 1000),
            round=turn,
        )
    )


def call_again(draft: Draft, name: str, work: CallWork, step: StepState) -> None:
    """Another workflow, with the input of the first."""
    call(draft, name, work, step.input, f"called again, after {step.error}", attempt=step.attempt + 1)


def call_work(draft: Draft, name: str) -> CallWork:
    work = draft.route.steps[name].work
    if not isinstance(work, CallWork):
        raise TypeError(f"step {name} of {draft.workflow_id} has called a workflow, but its route calls none there")
    return work


def withdraw(draft: Draft, name: str, step: StepState, reason: str) -> None:
    """Take back the call that is under way."""
    draft.add(CallWithdrawn(step=name, task_id=step.task_id, attempt=step.attempt, called=step.called, reason=reason))


def refuse(draft: Draft, caller: Caller, run: str, reason: str) -> None:
    """The id has a workflow that will not end for this call: the caller must not wait for it. One that runs because of this very call will."""
    workflow = draft.live
    if workflow.run_id != run or workflow.status != "running":
        draft.add(CallRefused(caller=caller, code="repeated", message=f"{draft.workflow_id} can't begin: {reason}"))

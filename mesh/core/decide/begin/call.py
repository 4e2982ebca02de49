"""Call a workflow of another route, take a call back, or refuse a call that can't begin one."""

from typing import Any

from mesh.core import ids, traces
from mesh.core.calls import MAX_CALLED_ID, Caller, Slice, called_key
from mesh.core.decide.begin.task import round_of
from mesh.core.decide.draft import Draft
from mesh.core.events import ApprovalWithdrawn, CallMade, CallRefused, CallWithdrawn, IncidentRaised, TaskHeld
from mesh.core.route import AgentWork, ApprovalWork, CallWork, Work
from mesh.core.state import Account, StepState


def call(draft: Draft, place: str, work: CallWork, value: Any, reason: str, *, attempt: int = 1) -> None:
    """Call the newest known version of the route.

    Holds the call if the budget does not have its slice, or the workflow is paused. An unknown
    route is an incident.
    """
    workflow, turn = draft.live, round_of(draft, place)
    task = ids.task_id(workflow.workflow_id, workflow.run_id, ids.instance(place, round=turn))
    called = ids.workflow_id(work.route, called_key(task, attempt))
    # chosen here and logged, so the called workflow's owner need not know the same versions
    digest = draft.directory.routes.get(work.route)
    if digest is None:
        message = f"no version of route {work.route} is active: `mesh routes apply` makes one so, then retry"
        draft.add(IncidentRaised(step=place, kind="unknown_route", message=message))
        return
    # the called workflow's id holds its caller's, so ids grow with the depth of the calls
    if len(called) > MAX_CALLED_ID:
        message = f"the id of the called workflow would have {len(called)} characters ({MAX_CALLED_ID} at the most): calls nest too deep"
        draft.add(IncidentRaised(step=place, kind="too_deep", message=message))
        return
    # after the checks above: a call that can't be made must not wait for budget first
    short = draft.shortage(work.reserve, is_call=True)
    paused = draft.why_paused()
    why = paused or ("" if short is None else draft.why_short(short))
    if why:
        draft.add(TaskHeld(step=place, attempt=attempt, agent="", input=value, reason=why, is_paused=bool(paused)))
        return
    draft.add(
        CallMade(
            step=place,
            task_id=task,
            attempt=attempt,
            route=work.route,
            digest=digest,
            called=called,
            input=value,
            traceparent=draft.traceparent(task, str(attempt)),
            tracestate=traces.tracestate(workflow),
            reason=reason,
            due_at_ms=None if work.timeout_s is None else draft.now_ms + int(work.timeout_s * 1000),
            round=turn,
            slice=None if workflow.account is None else _slice(workflow.account, work),
        )
    )


def _slice(account: Account, work: CallWork) -> Slice:
    """What the called workflow may spend of the budget.

    It reports what it has spent of the rest. Hops are counted by each workflow for itself.
    """
    names = (*account.limits, *account.counted)
    return Slice(
        limits=work.reserve, counted=tuple(name for name in names if name != "hops" and name not in work.reserve)
    )


def call_again(draft: Draft, place: str, work: CallWork, step: StepState) -> None:
    """Call another workflow with the input of the first."""
    # another attempt makes another id, so that the ends of the two workflows can be told apart
    call(draft, place, work, step.input, f"called again, after {step.error}", attempt=step.attempt + 1)


def withdraw(draft: Draft, place: str, step: StepState, reason: str) -> None:
    """Take back the call that is under way."""
    draft.add(CallWithdrawn(step=place, task_id=step.task_id, attempt=step.attempt, called=step.called, reason=reason))


def withdraw_items(draft: Draft, name: str, reason: str) -> None:
    """Take back the calls and approvals of a for-each's items, before it is closed as a whole."""
    # items have no event of their own when their for-each is closed, so without this the workflows
    # that they called would run on for nobody, and people would be asked in vain
    if _may_wait(draft.route.steps[name].work):
        for place, step in draft.live.steps.items():
            if ids.step_of(place) != name:
                continue
            if step.status == "calling":
                withdraw(draft, place, step, reason)
            elif step.status == "asking" and place != name:
                draft.add(ApprovalWithdrawn(step=place, approval_id=step.task_id, reason=reason))


def _may_wait(work: Work) -> bool:
    """Whether others may be at work for an item, or people asked."""
    return isinstance(work, CallWork | ApprovalWork) or (isinstance(work, AgentWork) and work.approve is not None)


def refuse(draft: Draft, caller: Caller, run: str, reason: str) -> None:
    """Refuse a call whose id has a workflow that will not end for this call.

    The caller must not wait for it. A workflow that runs because of this same call does end for it.
    """
    workflow = draft.live
    if workflow.run_id != run or workflow.status != "running":
        draft.add(CallRefused(caller=caller, code="repeated", message=f"{draft.workflow_id} can't begin: {reason}"))

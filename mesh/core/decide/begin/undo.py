"""Undo: a workflow that does not end as completed first undoes what it did, the last step first.

It undoes every step with an `undo` that succeeded, and every one that may have been done: its task
or call is still out, or timed out. One at a time; each is a task with retries, and an incident if
they don't help. An operator's `fail` gives up that one and undoes the rest. A `cancel` while it is
under way ends the workflow as it is.
"""

from typing import Any

from mesh.core import ids, traces
from mesh.core.decide.begin.alias import is_done_but_for_its_alias, return_aliases
from mesh.core.decide.begin.call import withdraw, withdraw_items
from mesh.core.decide.begin.limit import release_all
from mesh.core.decide.begin.task import dispatch
from mesh.core.decide.draft import Draft
from mesh.core.events import (
    AliasWaived,
    ApprovalWithdrawn,
    CompensationStarted,
    EndStatus,
    EventUnclaimed,
    IncidentRaised,
    StepCancelled,
    StepSkipped,
    WorkflowEnded,
)
from mesh.core.evolve.budget import taken
from mesh.core.evolve.steps import may_be_done
from mesh.core.route import ExpressionError
from mesh.core.state import FINISHED, Ending, StepState


def close(draft: Draft, status: EndStatus, reason: str, output: Any = None) -> None:
    """End the workflow now.

    Open questions and calls are withdrawn, aliases and slots are given back, and events that no
    step took go to the dead letters.
    """
    workflow = draft.live
    # before `WorkflowEnded`: after it no step is asking or calling any more, and nobody would tell
    # the approvers and the called workflows
    for name, step in workflow.steps.items():
        if step.status == "asking":
            draft.add(ApprovalWithdrawn(step=name, approval_id=step.task_id, reason=f"the workflow {status}: {reason}"))
        elif step.status == "calling":
            withdraw(draft, name, step, f"the workflow {status}: {reason}")
    return_aliases(draft)
    for kept in workflow.kept:
        draft.add(EventUnclaimed(kept=kept, reason=f"no step took it before the workflow {status}"))
    release_all(draft)
    # read after the withdrawals above, which change it
    account = draft.live.account
    draft.add(
        WorkflowEnded(
            status=status,
            reason=reason,
            run_id=workflow.run_id,
            traceparent=draft.traceparent(workflow.workflow_id, workflow.run_id),
            output=output,
            forget_at_ms=draft.now_ms + int(workflow.closed_retention_s * 1000),
            caller=workflow.caller,
            usage=None if account is None else taken(account, draft.live.steps, draft.unsent()),
            # the outcome is made of this event alone, so what it says of the start has to be in it
            event_id=str(workflow.cloud_event.get("id", "")),
            event_source=str(workflow.cloud_event.get("source", "")),
            tracestate=traces.tracestate(workflow),
        )
    )


def compensate(draft: Draft, status: EndStatus, reason: str) -> bool:
    """Begin to undo what was done. False: there is nothing to undo."""
    # another end while it is being undone closes the workflow as it is
    if status == "completed" or draft.live.ending is not None:
        return False
    steps = draft.live.steps
    undone = [name for name, step in draft.route.steps.items() if step.undo is not None and name in steps]
    # what another run did is that run's to undo
    kept = () if draft.live.origin is None else draft.live.origin.kept
    done = [name for name in undone if may_be_done(steps[name]) and (name not in kept or steps[name].task_id)]
    if not done:
        return False
    done.sort(key=lambda name: steps[name].since_ms)  # equal times keep the route's order
    done.reverse()
    # before the cancellations: from here on a cancelled step keeps the output to be undone by
    draft.add(CompensationStarted(status=status, reason=reason, steps=tuple(done)))
    # items go with their for-each, questions with their approval, and that with its step
    own = [place for place in steps if not ids.is_of_item(place) and not _is_aside(place)]
    for place in [place for place in own if steps[place].status not in FINISHED]:
        # its work is done and may have to be undone, so it must not end as cancelled
        if is_done_but_for_its_alias(steps[place]):
            draft.add(AliasWaived(step=place, reason=f"the workflow {status}: {reason}"))
        else:
            cancel_step(draft, place, f"the workflow {status}: {reason}")
    undo_next(draft)
    return True


def _is_aside(place: str) -> bool:
    return ids.is_question(place) or ids.is_tool(place)


def undo_next(draft: Draft) -> None:
    """Undo one more step, or end the workflow if all are undone."""
    ending = _ending(draft)
    if not ending.undo:
        close(draft, ending.status, ending.reason)
        return
    begin_undo(draft, ending.undo[0])


def leave_undone(draft: Draft, place: str, reason: str) -> None:
    """Give up undoing this step. The rest is still undone, and the workflow ends as failed.

    Its reason says why it was to end, and what was not undone.
    """
    # a skipped compensation leaves the list of what is to be undone, so that the rest goes on
    draft.add(StepSkipped(step=place, reason=reason))
    ending = _ending(draft)
    draft.add(CompensationStarted(status="failed", reason=f"{ending.reason}; {reason}", steps=ending.undo))
    undo_next(draft)


def _ending(draft: Draft) -> Ending:
    ending = draft.live.ending
    if ending is None:
        raise AssertionError(f"{draft.workflow_id} is not being undone")
    return ending


def begin_undo(draft: Draft, name: str) -> None:
    work, place = draft.route.steps[name].undo, ids.undo_place(name)
    if work is None:
        raise AssertionError(f"{name} of {draft.workflow_id} has nothing to undo")
    try:
        # null where it was not heard of
        scope, output = draft.scope_of(name), draft.live.steps[name].output
        # put in here, because a cancelled step is not among those whose outputs expressions see
        value = work.input.render({**scope, "steps": {**scope["steps"], name: output}})
    except ExpressionError as error:
        draft.add(IncidentRaised(step=place, kind="expression", message=str(error)))
        return
    dispatch(draft, place, work, value, f"undo {name}", attempt=1)


def cancel_step(draft: Draft, place: str, reason: str) -> None:
    """Cancel what is under way at this place."""
    step = draft.live.steps.get(place)
    if step is not None and step.status == "asking":
        draft.add(ApprovalWithdrawn(step=place, approval_id=step.task_id, reason=reason))
    elif step is not None and step.status == "calling":
        withdraw(draft, place, step, reason)
    else:
        if step is not None and step.fan is not None:
            withdraw_items(draft, place, reason)
        if step is not None:
            end_tools(draft, place, step, reason)
        # what was never sent costs nothing, and only this decision knows that it was not
        unsent = () if draft.live.account is None else draft.unsent(place)
        draft.add(StepCancelled(step=place, reason=reason, unsent=unsent))


def end_tools(draft: Draft, place: str, step: StepState, reason: str) -> None:
    """End the approval that the agent of a step waits for, if it does."""
    if step.status == "suspended" and step.tools is not None:
        cancel_step(draft, ids.tool_place(place, step.tools.waits_for), reason)

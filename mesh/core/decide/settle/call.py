"""The end of a call: the called workflow has ended, the time is up, or the caller takes it back."""

from mesh.core import ids
from mesh.core.decide.begin.call import withdraw
from mesh.core.decide.begin.end import end
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import settled
from mesh.core.decide.settle.attempt import give_up
from mesh.core.events import CallFailed, CallSucceeded, IncidentRaised, IncidentResolved, InputDismissed, UsageReported
from mesh.core.inputs import CallCancelled, CallEnded
from mesh.core.state import StepState


def on_call_ended(draft: Draft, given: CallEnded) -> None:
    found = _waiting(draft, given)
    if isinstance(found, InputDismissed):
        # nobody waits for the call, but its slice may be set aside until this end is heard
        if not account_for(draft, ids.attempt_id(given.task_id, given.attempt), given.usage):
            draft.add(found)
        return
    name, step = found
    if given.status == "completed":
        _succeed(draft, name, step, given)
        return
    message = f"{given.called} was {given.status}" if given.status != "failed" else f"{given.called} failed"
    _fail(
        draft,
        CallFailed(
            step=name,
            task_id=given.task_id,
            attempt=given.attempt,
            kind=given.status,
            message=f"{message}: {given.reason}",
            usage=given.usage,
        ),
    )


def account_for(draft: Draft, attempt: str, usage: dict[str, float] | None) -> bool:
    """Account for a call that nobody waits for. False: nothing is reserved for it any more."""
    workflow = draft.workflow
    if workflow is None or workflow.status != "running" or workflow.account is None:
        return False
    task, _, number = attempt.rpartition("/")
    parsed = ids.parse_step_id(task)
    if parsed is None or attempt not in workflow.account.unheard:
        return False
    draft.add(UsageReported(step=parsed.step, task_id=task, attempt=int(number), usage=usage))
    return True


def _waiting(draft: Draft, given: CallEnded) -> tuple[str, StepState] | InputDismissed:
    """The step that waits for this call, or why no step does.

    As for tasks, a success of any attempt counts while the step is not settled, and a failure only
    for the attempt under way.
    """
    task, attempt = given.task_id, given.attempt
    parsed, workflow = ids.parse_step_id(task), draft.workflow
    if parsed is None or workflow is None:
        return InputDismissed(code="unknown", message=f"no workflow knows call {task}")
    if parsed.run_id != workflow.run_id:
        message = f"call {task} is of an earlier run; the run is {workflow.run_id}"
        return InputDismissed(code="late", message=message)
    if workflow.status != "running":
        return InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}")
    step = workflow.steps.get(parsed.step)
    if step is None and ids.is_item(parsed.step) and ids.step_of(parsed.step) in workflow.steps:
        return InputDismissed(code="late", message=f"call {task} counts no more: its for-each is settled")
    if step is not None and step.task_id and step.task_id != task:
        return InputDismissed(code="late", message=f"call {task} is not the step's any more: that is {step.task_id}")
    if step is not None and not step.task_id and step.round > 1:
        return InputDismissed(code="late", message=f"call {task} counts no more: the step is in round {step.round}")
    if step is None or not step.task_id or not 1 <= attempt <= step.attempt:
        return InputDismissed(code="unknown", message=f"call {task}, attempt {attempt}, was never made")
    if _counts(step, given):
        return parsed.step, step
    message = f"call {task}, attempt {attempt}, counts no more: the step is {step.status}"
    return InputDismissed(code="repeated", message=message)


def _counts(step: StepState, given: CallEnded) -> bool:
    """Whether this end still counts for the step."""
    if given.status != "completed":
        return step.status == "calling" and given.attempt == step.attempt
    # where its loop or its alias is the incident, its work is done already
    if step.incident is not None:
        return step.incident.kind not in {"loop", "alias"}
    # held: the next call waits for budget, and the one before it may still complete
    return step.status in {"calling", "held"}


def _succeed(draft: Draft, name: str, step: StepState, given: CallEnded) -> None:
    if step.status == "incident":
        draft.add(IncidentResolved(step=name, action="result", by=f"the late end of {given.called}"))
    # an earlier call has completed after all, so the one under way is not needed
    elif step.status == "calling" and step.attempt != given.attempt:
        withdraw(draft, name, step, f"{given.called} has completed after all")
    draft.add(
        CallSucceeded(
            step=name,
            task_id=given.task_id,
            attempt=given.attempt,
            called=given.called,
            output=given.output,
            usage=given.usage,
        )
    )
    settled(draft, name)


def _fail(draft: Draft, failed: CallFailed) -> None:
    draft.add(failed)
    give_up(draft, failed.step, failed.message, kind="call")


def time_out_call(draft: Draft, name: str, step: StepState) -> None:
    """Fail a call whose workflow has not ended in time, and cancel that workflow."""
    waited_s = (draft.now_ms - step.since_ms) / 1000
    _fail(
        draft,
        CallFailed(
            step=name,
            task_id=step.task_id,
            attempt=step.attempt,
            kind="timeout",
            message=f"{step.called} had not ended after {waited_s:.1f} s",
            # with this, the failure also cancels the called workflow, which still runs
            called=step.called,
        ),
    )


def on_call_undeliverable(draft: Draft, effect: str, message: str) -> None:
    """A call that could not be sent needs an operator. Other records are only noted."""
    for name, step in draft.live.steps.items():
        if step.status == "calling" and effect == f"{ids.attempt_id(step.task_id, step.attempt)}/call":
            failed = CallFailed(
                step=name,
                task_id=step.task_id,
                attempt=step.attempt,
                kind="undeliverable",
                message=f"the call of {step.called} could not be sent: {message}",
                # it never left, so its slice comes back whole
                usage={},
            )
            draft.add(failed)
            draft.add(IncidentRaised(step=name, kind="undeliverable", message=failed.message))
            return
    if effect.endswith("/call"):
        account_for(draft, effect.removesuffix("/call"), {})


def on_call_cancelled(draft: Draft, given: CallCancelled) -> None:
    workflow = draft.workflow
    if workflow is None:
        draft.add(InputDismissed(code="unknown", message=f"no workflow {given.workflow_id} to cancel"))
    # only the very call that began this run may end it
    elif workflow.caller != given.caller:
        draft.add(InputDismissed(code="unknown", message=f"run {workflow.run_id} is not of this call"))
    elif workflow.status != "running":
        draft.add(InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}"))
    elif workflow.ending is not None:
        message = f"the workflow ends as {workflow.ending.status} once what it did is undone"
        draft.add(InputDismissed(code="closed", message=message))
    else:
        end(draft, "cancelled", f"its caller {given.caller.workflow_id} does not want it any more: {given.reason}")

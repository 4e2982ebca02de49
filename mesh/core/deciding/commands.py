"""What operators order, and effects that the broker would not take: both end at a person."""

from mesh.core import ids
from mesh.core.deciding.attempts import dispatch_again
from mesh.core.deciding.draft import Draft
from mesh.core.deciding.ending import end
from mesh.core.deciding.progress import begin, go_on
from mesh.core.events import CommandAccepted, CommandRefused, EffectUndeliverable, IncidentRaised, IncidentResolved
from mesh.core.inputs import CommandGiven, Undeliverable
from mesh.core.state import StepState, Workflow

__all__ = ["on_command", "on_undeliverable"]


def on_command(draft: Draft, given: CommandGiven) -> None:
    workflow = draft.workflow
    if workflow is None:
        _refuse(draft, given, "unknown", f"no workflow {given.workflow_id}: `mesh workflows` lists them")
    elif workflow.status != "running":
        _refuse(draft, given, "ended", f"the workflow has ended: {workflow.status}")
    elif given.command == "cancel":
        _accept(draft, given)
        end(draft, "cancelled", f"cancelled by {given.by}" + (f": {given.reason}" if given.reason else ""))
    else:
        _on_retry(draft, given, workflow)


def _on_retry(draft: Draft, given: CommandGiven, workflow: Workflow) -> None:
    steps = draft.route.steps
    if given.step is not None and given.step not in steps:
        _refuse(draft, given, "unknown_step", f"the route has no step {given.step}: {', '.join(steps)}")
        return
    stuck = {n: s for n, s in workflow.steps.items() if s.status == "incident" and given.step in {None, n}}
    if not stuck:
        which = f"step {given.step}" if given.step else "the workflow"
        _refuse(draft, given, "no_incident", f"{which} has no incident to retry")
        return
    _accept(draft, given)
    for name, step in stuck.items():
        draft.add(IncidentResolved(step=name, action="retry", by=given.by))
        _begin_again(draft, name, step)


def _begin_again(draft: Draft, name: str, step: StepState) -> None:
    """A task gets new attempts, with the input it had; what never got so far begins afresh."""
    if step.attempt:
        dispatch_again(draft, name, step, anew=True)
    elif begin(draft, draft.route.steps[name]):
        go_on(draft, draft.route.dependents[name])


def _accept(draft: Draft, given: CommandGiven) -> None:
    draft.add(CommandAccepted(command_id=given.command_id, command=given.command, by=given.by, reason=given.reason))


def _refuse(draft: Draft, given: CommandGiven, code: str, message: str) -> None:
    draft.add(
        CommandRefused(command_id=given.command_id, command=given.command, code=code, message=message, by=given.by)
    )


def on_undeliverable(draft: Draft, given: Undeliverable) -> None:
    """A question that could not be sent needs an operator; other records are for the record."""
    draft.add(EffectUndeliverable(effect_id=given.effect_id, topic=given.topic, code=given.code, message=given.message))
    workflow, parsed = draft.workflow, ids.parse_step_id(given.effect_id)
    if workflow is None or parsed is None:
        return
    step = workflow.steps.get(parsed.step)
    if step is not None and step.status == "asking" and step.task_id == given.effect_id:
        message = f"the approval request could not be sent: {given.message}"
        draft.add(IncidentRaised(step=parsed.step, kind="undeliverable", message=message))

"""An operator's `fork`: a new run that goes on from a step of another run.

The command to the new workflow brings the start event and the results of the other run, which its
sender has from the log. When the new run has begun, its owner tells the other workflow by a second
command (`mesh.core.effects.TellForked`), which notes it and stays as it is. So each of the two says
where the other is.
"""

import msgspec

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import go_on
from mesh.core.decide.settle.refusing import REPEATED, Refusal, accept_command, refuse_command
from mesh.core.decide.settle.retry import begin_with
from mesh.core.events import WorkflowForked, WorkflowStarted
from mesh.core.forks import Fork, from_on
from mesh.core.inputs import CommandGiven
from mesh.core.route import AgentWork, CallWork, Route
from mesh.core.searching import attributes


def on_fork(draft: Draft, given: CommandGiven, target: Route | None) -> None:
    fork, step = given.fork, given.step
    if fork is None or step is None:
        refuse_command(draft, given, "malformed", "fork needs a step, and what to fork")
    elif fork.into:
        _note(draft, given, fork, step)
    elif target is None:
        refuse_command(draft, given, "no_version", f"there is no version {given.to} that can be read here")
    else:
        why_not = _why_not(draft, given, fork, step, target)
        if why_not is not None:
            refuse_command(draft, given, why_not.code, why_not.message)
        else:
            accept_command(draft, given)
            _begin(draft, given, fork, step, target)


def _note(draft: Draft, given: CommandGiven, fork: Fork, step: str) -> None:
    if draft.workflow is None or not draft.workflow.run_id:
        refuse_command(draft, given, "unknown", f"no workflow {given.workflow_id}: `mesh workflows` lists them")
        return
    # a new owner of the other run may tell it again
    if given.operation and given.operation in draft.workflow.operations:
        refuse_command(draft, given, REPEATED, f"the fork {fork.into} has been noted here before")
        return
    accept_command(draft, given)
    draft.add(WorkflowForked(into=fork.into, step=step, by=given.by, reason=given.reason))


def _why_not(draft: Draft, given: CommandGiven, fork: Fork, step: str, target: Route) -> Refusal | None:
    if draft.workflow is not None:
        return Refusal("already", f"there is a workflow {given.workflow_id}: fork again, with another id")
    if target.name != ids.route_of(given.workflow_id):
        return Refusal("other_route", f"version {given.to} is of route {target.name}")
    if step not in target.steps:
        return Refusal("unknown_step", f"the route has no step {step}: {', '.join(target.steps)}")
    wrong = [name for name in fork.steps if name not in target.steps or name in from_on(target, step)]
    if wrong:
        return Refusal("misfit", f"{', '.join(wrong)} can't be kept: the version has no such step before {step}")
    if given.task_input is msgspec.UNSET:
        return None
    missing = [need for need in target.steps[step].needs if need not in fork.steps]
    work = target.steps[step].work
    if missing or target.steps[step].for_each is not None or not isinstance(work, AgentWork | CallWork):
        waits = f", and waits for {', '.join(missing)}" if missing else ""
        return Refusal("input", f"{step} takes no input: that is for a task or a call that begins at once{waits}")
    return None


def _begin(draft: Draft, given: CommandGiven, fork: Fork, step: str, target: Route) -> None:
    draft.go_over(target)
    # of the command, not of the start event: the other run has that one's
    run, budget, event = ids.run_id("/mesh/operators", given.command_id), target.budget, fork.event
    draft.add(
        WorkflowStarted(
            route=target.name,
            digest=target.digest,
            run_id=run,
            key=given.workflow_id.partition(":")[2],
            cloud_event=event,
            trace_id=ids.trace_id(given.workflow_id, run),
            closed_retention_s=target.closed_retention_s,
            budget=None if budget is None else budget.limits,
            expires_at_ms=None if budget is None or budget.time_s is None else draft.now_ms + int(budget.time_s * 1000),
            search=attributes(target.search, event) if target.search else None,
            # what was private stays so, whatever the version that it goes on with
            private=target.private or fork.private,
        )
    )
    draft.add(
        WorkflowForked(
            of=fork.of, of_run_id=fork.run_id, step=step, by=given.by, reason=given.reason, steps=dict(fork.steps)
        )
    )
    if given.task_input is not msgspec.UNSET:
        begin_with(draft, step, given.task_input, f"forked by {given.by}, with an input of theirs")
    go_on(draft, target.steps)

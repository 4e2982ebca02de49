"""The answer to a step's claim to its alias.

Also what an operator may do if another workflow has the alias.
"""

from typing import Literal

from mesh.core import ids
from mesh.core.decide.begin.alias import seek
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import beyond, go_on
from mesh.core.events import AliasGranted, AliasWaived, IncidentRaised, InputDismissed
from mesh.core.inputs import AliasAnswered
from mesh.core.state import StepState


def on_alias_answered(draft: Draft, given: AliasAnswered) -> None:
    found = _claiming(draft, given)
    if isinstance(found, InputDismissed):
        draft.add(found)
    elif given.refusal:
        draft.add(IncidentRaised(step=found, kind="alias", message=given.refusal))
    else:
        # then `beyond`, not `settled`: that would ask for the alias once more
        draft.add(AliasGranted(step=found, alias=given.alias))
        go_on(draft, beyond(draft, found))


def _claiming(draft: Draft, given: AliasAnswered) -> str | InputDismissed:
    """The step that waits for this answer, or why no step does."""
    parsed, workflow = ids.parse_step_id(given.claimant.task_id), draft.workflow
    if parsed is None or workflow is None:
        return InputDismissed(code="unknown", message=f"no workflow asked for {given.alias}")
    if parsed.run_id != workflow.run_id:
        return InputDismissed(code="late", message=f"an earlier run asked for {given.alias}: {parsed.run_id}")
    if workflow.status != "running":
        return InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}")
    step = workflow.steps.get(parsed.step)
    if step is None or step.status != "claiming" or (step.alias, step.claim) != (given.alias, given.claimant.attempt):
        return InputDismissed(code="repeated", message=f"{parsed.step} does not wait for {given.alias} any more")
    return parsed.step


def resolve_alias(draft: Draft, name: str, state: StepState, command: Literal["retry", "skip"], by: str) -> None:
    """Ask again for the alias of a step whose work is done, or continue without it."""
    template = draft.route.steps[name].alias
    if command == "retry" and template is not None:
        seek(draft, name, template, state)
        return
    draft.add(AliasWaived(step=name, reason=f"without its alias, by {by}"))
    go_on(draft, beyond(draft, name))


def on_claim_undeliverable(draft: Draft, effect: str, message: str) -> None:
    """A claim that could not be sent needs an operator."""
    for name, step in draft.live.steps.items():
        claim = ids.task_id(draft.workflow_id, draft.live.run_id, ids.instance(name, round=step.round))
        if step.status == "claiming" and effect == f"{ids.attempt_id(claim, step.claim)}/claim":
            why = f"{step.alias} could not be asked for: {message}"
            draft.add(IncidentRaised(step=name, kind="alias", message=why))
            return

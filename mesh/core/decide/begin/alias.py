"""Aliases, from the side of the workflow that has them: a step that has succeeded asks for its own,
and is settled when the alias says yes; the workflow gives them back when it ends.

An alias is a built-in workflow in the partition of its own id (`mesh.core.decide.built_in.alias`),
so that of two workflows that ask for the same one the first has it, wherever they are.
"""

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import AliasReturned, AliasSought, IncidentRaised
from mesh.core.ids import MAX_KEY_LENGTH
from mesh.core.matching import made_key
from mesh.core.route import ExpressionError, Template
from mesh.core.state import StepState


def claim(draft: Draft, name: str) -> bool:
    """Ask for the alias of a step that has just succeeded. True: so it is not settled yet."""
    template, state = draft.route.steps[name].alias, draft.live.steps[name]
    if template is None or state.status != "succeeded":
        return False
    seek(draft, name, template, state)
    return True


def seek(draft: Draft, name: str, template: Template, state: StepState) -> None:
    """An incident where the alias can't be made."""
    workflow, scope = draft.live, draft.scope_of(name)
    try:
        value = _checked(made_key(template, {**scope, "steps": {**scope["steps"], name: state.output}}))
    except ExpressionError as error:
        draft.add(IncidentRaised(step=name, kind="alias", message=f"the alias can't be made: {error}"))
        return
    draft.add(
        AliasSought(
            step=name,
            task_id=ids.task_id(workflow.workflow_id, workflow.run_id, ids.instance(name, round=state.round)),
            claim=state.claim + 1,
            alias=ids.alias_id(workflow.route, name, value),
        )
    )


def _checked(value: str) -> str:
    """Raises `ExpressionError`."""
    if not value.strip():
        raise ExpressionError("it is empty")
    if len(value) > MAX_KEY_LENGTH:
        raise ExpressionError(f"it has {len(value)} characters, and {MAX_KEY_LENGTH} are taken at the most")
    return value


def is_done_but_for_its_alias(step: StepState) -> bool:
    """Its work is done: nothing of it is to be cancelled, and it may have to be undone."""
    return step.status == "claiming" or (step.incident is not None and step.incident.kind == "alias")


def return_aliases(draft: Draft) -> None:
    workflow = draft.live
    for alias in workflow.aliases:
        draft.add(AliasReturned(alias=alias, run_id=workflow.run_id))

"""Aliases, from the side of the workflow that wants one.

A step that has succeeded asks for its alias, and is settled when the alias is granted. The workflow
gives its aliases back when it ends.

An alias is a built-in workflow in the partition of its own id (`mesh.core.decide.built_in.alias`).
So if two workflows ask for the same alias, the first one gets it, whichever partitions they are in.
"""

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import AliasReturned, AliasSought, IncidentRaised
from mesh.core.ids import MAX_KEY_LENGTH
from mesh.core.matching import made_key
from mesh.core.route import ExpressionError, Template
from mesh.core.state import StepState


def claim(draft: Draft, name: str) -> bool:
    """Ask for the alias of a step that has just succeeded. True: the step is not settled yet."""
    template = draft.route.steps[name].alias
    if template is None:
        return False
    state = draft.live.steps[name]
    # a step that was skipped has given nothing that an alias could be made of
    if state.status != "succeeded":
        return False
    seek(draft, name, template, state)
    return True


def seek(draft: Draft, name: str, template: Template, state: StepState) -> None:
    """Ask for the alias, or raise an incident if the alias can't be made."""
    workflow, scope = draft.live, draft.scope_of(name)
    try:
        # the step's own output is put in, since a step that asks again does not count as done
        value = _checked(made_key(template, {**scope, "steps": {**scope["steps"], name: state.output}}))
    except ExpressionError as error:
        draft.add(IncidentRaised(step=name, kind="alias", message=f"the alias can't be made: {error}"))
        return
    draft.add(
        AliasSought(
            step=name,
            task_id=ids.task_id(workflow.workflow_id, workflow.run_id, ids.instance(name, round=state.round)),
            # numbered, so that a late answer to an earlier claim is not taken for this one's
            claim=state.claim + 1,
            alias=ids.alias_id(workflow.route, name, value),
        )
    )


def _checked(value: str) -> str:
    """The value, if it can be an alias. Raises `ExpressionError`."""
    if not value.strip():
        raise ExpressionError("it is empty")
    # it becomes part of an id, and of the keys of records
    if len(value) > MAX_KEY_LENGTH:
        raise ExpressionError(f"it has {len(value)} characters, and {MAX_KEY_LENGTH} are taken at the most")
    return value


def is_done_but_for_its_alias(step: StepState) -> bool:
    """Whether the step's work is done and only its alias is missing.

    There is nothing to cancel then, and it may have to be undone.
    """
    return step.status == "claiming" or (step.incident is not None and step.incident.kind == "alias")


def return_aliases(draft: Draft) -> None:
    workflow = draft.live
    # also those that were only asked for: the claim may be on its way, and would bind the alias to
    # a workflow that has ended; the release follows it in the same sequence (ADR 6)
    for alias in workflow.aliases:
        draft.add(AliasReturned(alias=alias, run_id=workflow.run_id))

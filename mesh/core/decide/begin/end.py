"""End a workflow: when it is done, and with which status."""

from typing import Any, Final

from mesh.core import ids
from mesh.core.decide.begin.undo import close, compensate
from mesh.core.decide.draft import Draft, TooLarge
from mesh.core.events import EndStatus
from mesh.core.joins import takes_rejection
from mesh.core.loops import are_settled
from mesh.core.route import ExpressionError
from mesh.core.state import StepState

_RAN: Final = frozenset({"succeeded", "rejected"})


def end_if_done(draft: Draft) -> None:
    """End the workflow if every step is settled."""
    steps = draft.live.steps
    if not are_settled(draft.route.steps, steps):
        return
    # a rejection that some step took and acted on is handled: the workflow is complete
    # of a call that an agent wanted to make, the agent has taken it
    rejected = [name for name, step in steps.items() if step.status == "rejected" and not ids.is_tool(name)]
    refused = [name for name in rejected if not _taken(draft, name)]
    if refused:
        end(draft, "rejected", rejection_reason(steps[refused[0]], refused[0]))
        return
    try:
        # an incident belongs to a step, and all of them are settled: what can't be made fails the
        # run
        output = outputs(draft)
    except ExpressionError as error:
        end(draft, "failed", f"all steps are done, but the route's output could not be made: {error}")
        return
    end(draft, "completed", "all steps are done", output)


def _taken(draft: Draft, approval: str) -> bool:
    """Whether a step took this approval's rejection and ran."""
    route, steps = draft.route, draft.live.steps
    return any(
        takes_rejection(route.steps[d], approval) and steps[d].status in _RAN for d in route.dependents[approval]
    )


def rejection_reason(step: StepState, name: str) -> str:
    by = step.output["by"] or "its deadline"
    why = step.output["reason"]
    return f"{name} was rejected by {by}" + (f": {why}" if why else "")


def outputs(draft: Draft) -> Any:
    """The outcome's data. Raises `ExpressionError`, also if it is known to be too large."""
    route = draft.route
    if "" in draft.withheld:
        raise TooLarge(draft.withheld[""])
    if route.output is not None:
        return route.output.render(draft.scope())
    steps, dependents = draft.live.steps, route.dependents
    # what no other step needs was made for the outcome
    return {name: steps[name].output if name in steps else None for name in route.steps if not dependents[name]}


def end(draft: Draft, status: EndStatus, reason: str, output: Any = None) -> None:
    """End the workflow, whatever is still under way.

    What it did is undone first, if its route says how.
    """
    if not compensate(draft, status, reason):
        close(draft, status, reason, output)

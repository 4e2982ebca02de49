"""Going on: which steps can act now, and what they do."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from mesh.core.deciding.asking import ask
from mesh.core.deciding.attempts import dispatch
from mesh.core.deciding.draft import Draft
from mesh.core.deciding.ending import end_if_done, takes_rejection
from mesh.core.events import IncidentRaised, StepBlocked, StepSkipped
from mesh.core.evolve import approval_output
from mesh.core.route import AgentWork, ApprovalWork, ExpressionError, Step
from mesh.core.state import FINISHED

__all__ = ["begin", "go_on"]

_SATISFIES: Final = frozenset({"succeeded", "skipped"})


def go_on(draft: Draft, candidates: Iterable[str]) -> None:
    """Let every candidate act whose needs are settled, then those that need what was settled by that; end the workflow if all is done."""
    route = draft.route
    todo = deque(candidates)
    while todo:
        name = todo.popleft()
        if name not in draft.live.steps and _act(draft, route.steps[name]):
            todo.extend(route.dependents[name])
    end_if_done(draft)


def _act(draft: Draft, step: Step) -> bool:
    """Begin or settle one step if it can be. True if it was settled at once (skipped or blocked)."""
    steps = draft.live.steps
    for need in step.needs:
        state = steps.get(need)
        if state is None or state.status not in FINISHED:
            return False
        if state.status not in _SATISFIES and not (state.status == "rejected" and takes_rejection(step, need)):
            draft.add(StepBlocked(step=step.name, reason=f"needs {need}, which was {state.status}"))
            return True
    return begin(draft, step)


def begin(draft: Draft, step: Step) -> bool:
    """Dispatch, ask or skip; an incident where an expression can't be evaluated. True if the step was settled at once (skipped)."""
    try:
        return _begin(draft, step)
    except ExpressionError as error:
        draft.add(IncidentRaised(step=step.name, kind="expression", message=str(error)))
        return False


def _begin(draft: Draft, step: Step) -> bool:
    if step.condition is not None and not step.condition.is_true(draft.scope()):
        output = None
        if isinstance(step.work, ApprovalWork):
            output = approval_output("skipped", step.work.payload.render(draft.scope()))
        draft.add(StepSkipped(step=step.name, reason=f"{step.condition.source} is false", output=output))
        return True
    if isinstance(step.work, AgentWork):
        dispatch(draft, step.name, step.work, step.work.input.render(draft.scope()), _why(step), attempt=1)
    else:
        ask(draft, step.name, step.work, _why(step))
    return False


def _why(step: Step) -> str:
    needs = f"{', '.join(step.needs)} done" if step.needs else "the workflow started"
    return f"{needs}, and {step.condition.source}" if step.condition else needs

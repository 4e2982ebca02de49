"""Judges pauses of agents and routes by the log alone, for `mesh.testing.promises.judge`.

Nothing goes out to an agent while its pause is in effect in a partition, and nothing of a paused
route is begun. It must not ask `evolve` what is paused.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from mesh.core import ids
from mesh.core.events import PauseLifted, PauseSet, SlotRequested, TaskDispatched
from mesh.core.state import Pause, Workflow
from mesh.testing.promises.ledger import Step
from mesh.testing.promises.rules import BEGINS

_SENT: Final = (TaskDispatched, SlotRequested)


def wrongly_begun(step: Step, event: object) -> Iterator[str]:
    """What is wrong with an event while something is paused. Notes what is, in the ledger."""
    paused = step.partition.paused
    match event:
        case PauseSet(target=target):
            if target in paused:
                yield f"{step.where}: {target} is paused twice"
            paused[target] = Pause(by=event.by, at_ms=step.decision.at_ms, reason=event.reason)
        case PauseLifted(target=target):
            if paused.pop(target, None) is None:
                yield f"{step.where}: {target} resumes, and was not paused"
        case _ if paused and isinstance(event, BEGINS):
            place, route = event.step, ids.route_of(step.decision.workflow_id)
            # an approval that an agent wants for a task that is out is asked
            if f"route/{route}" in paused and not ids.is_tool(place):
                yield f"{step.where}: {place} begins ({type(event).__name__}), and route {route} is paused"
            if isinstance(event, _SENT) and f"agent/{event.agent}" in paused:
                yield f"{step.where}: {place} goes to {event.agent}, which is paused"
        case _:
            pass


def unsettled_pauses(workflows: Iterable[Workflow]) -> Iterator[str]:
    """What is left of pauses once all have resumed, and all inputs are decided."""
    for workflow in workflows:
        left = workflow.pauses
        if left is not None and (left.paused or left.releasing):
            yield f"unended: {workflow.workflow_id} holds {[*left.paused]}, and releases {[*left.releasing]}"

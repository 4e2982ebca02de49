"""The rows of the steps that are under way: what `mesh status` counts and judges.

Owns which steps of a live workflow have a row, and what is in it. A for-each may have ten thousand
items under way, and its rows are rewritten with every batch of the log. So the items that move by
themselves share one row for each agent. Those that wait for an operator, or over whose task a
process has died, have their own. `mesh.inspection.read_model.projection` calls it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from mesh.core import ids
from mesh.core.state import FINISHED, StepState, Workflow

# statuses of steps that wait for nothing: settled, or still without their needs
_ASIDE: Final = frozenset({*FINISHED, "again"})

DEATHS: Final = "deaths"


class OpenStep(NamedTuple):
    """A step of a live workflow that has begun and not ended: the columns of `open_steps`.

    `status`: running, retrying, asking, calling, waiting, iterating, held, incident. `awaits`: the
    type of the event that it waits for. `settled`, `total`: a for-each's items.

    The items of a for-each that run on one agent, or wait for a retry, share one row: `alike` of
    them, with the `since_ms` of the oldest. With the incident kind `DEATHS` the row is not an
    incident: the task is out, or will be again, and processes have died over it.
    """

    workflow_id: str
    step: str
    status: str
    agent: str
    role: str
    attempt: int
    task_id: str
    since_ms: int
    due_at_ms: int | None
    incident_kind: str
    incident_message: str
    awaits: str
    alike: int
    settled: int
    total: int


def rows_of(workflow: Workflow) -> Iterator[OpenStep]:
    """The rows of a workflow; none if it is not running."""
    if workflow.status != "running":
        return
    shared: dict[tuple[str, str, str], OpenStep] = {}
    for place, step in workflow.steps.items():
        if step.status in _ASIDE:
            continue
        # All rows of a workflow are written again when it changes, and a for-each may have
        # thousands of items. An incident or a death has a message of its own, and so a row.
        if ids.is_item(place) and step.incident is None and not step.deaths:
            name = ids.step_of(place)
            kind = (name, step.status, step.agent)
            shared[kind] = _joined(shared.get(kind), _row(workflow, name, step))
        else:
            yield _row(workflow, place, step)
    yield from shared.values()


def _row(workflow: Workflow, place: str, step: StepState) -> OpenStep:
    return OpenStep(
        workflow_id=workflow.workflow_id,
        step=place,
        status=step.status,
        agent=step.agent,
        role=step.role,
        attempt=step.attempt,
        task_id=step.task_id,
        since_ms=step.since_ms,
        due_at_ms=step.due_at_ms,
        incident_kind=step.incident.kind if step.incident else DEATHS if step.deaths else "",
        incident_message=step.incident.message if step.incident else step.error if step.deaths else "",
        awaits=step.awaits,
        alike=1,
        settled=step.fan.settled if step.fan else 0,
        total=step.fan.total if step.fan else 0,
    )


def _joined(known: OpenStep | None, row: OpenStep) -> OpenStep:
    """The row of several items: the oldest one's, with how many there are."""
    if known is None:
        return row
    oldest = known if known.since_ms <= row.since_ms else row
    due = min((at for at in (known.due_at_ms, row.due_at_ms) if at is not None), default=None)
    return oldest._replace(alike=known.alike + 1, due_at_ms=due)

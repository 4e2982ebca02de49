"""How many workflows of which route wait at which step: what a preview of a bulk command counts."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import apsw

from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import WorkflowRow

_MOST_STEPS: Final = 20  # of one workflow; more of them make no other kind


def count_kinds(db: apsw.Connection, rows: Iterable[WorkflowRow], step: str | None) -> Counter[tuple[str, str]]:
    """The workflows by route and step. `step`: the one that the command is for."""
    return Counter((row.route, name) for row in rows for name in _steps(db, row, step))


def _steps(db: apsw.Connection, row: WorkflowRow, step: str | None) -> list[str]:
    """The steps of a workflow that wait for an operator, without items' numbers."""
    if step is not None:
        return [step]
    incidents = queries.incidents_of(db, row.workflow_id, limit=_MOST_STEPS) if row.incidents else ()
    return sorted({one.step.partition("[")[0] for one in incidents}) or [""]

"""How many workflows of which route wait at which step: what a preview of a bulk command counts."""

from collections import Counter
from collections.abc import Sequence

import apsw

from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import WorkflowRow


def count_kinds(db: apsw.Connection, rows: Sequence[WorkflowRow], step: str | None) -> Counter[tuple[str, str]]:
    """The workflows by route and step, without items' numbers.

    `step`: the one that the command is for. Without it, those that wait for an operator.
    """
    if step is not None:
        return Counter((row.route, step) for row in rows)
    found = Counter((row.route, "") for row in rows if not row.incidents)
    with_incidents = [row.workflow_id for row in rows if row.incidents]
    found.update({(route, name): count for route, name, count in queries.kinds_of(db, with_incidents)})
    return found

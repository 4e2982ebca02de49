"""Pauses of agents and routes."""

import apsw

from mesh.codec.state import decode_workflow
from mesh.core.pauses import paused_by
from mesh.core.state import Pause
from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select

# a range of the primary key: all that begin with `mesh.pauses:`
_HOLDERS = (
    "SELECT state FROM workflows WHERE workflow_id >= 'mesh.pauses:' AND workflow_id < 'mesh.pauses;' AND NOT forgotten"
)


class PauseRow(Row, frozen=True, array_like=True):
    """An agent or a route that is paused (`mesh.core.pauses`).

    `pause`: of the partition in which it took effect first. `partitions`: those in which it is in
    effect.
    """

    target: str
    pause: Pause
    partitions: int


def pauses(db: apsw.Connection) -> list[PauseRow]:
    """All that is paused, by target."""
    found: dict[str, list[Pause]] = {}
    for (state,) in select(db, _HOLDERS):
        for target, pause in paused_by(decode_workflow(state)).items():
            found.setdefault(target, []).append(pause)
    return [PauseRow(target, min(each, key=lambda one: one.at_ms), len(each)) for target, each in sorted(found.items())]

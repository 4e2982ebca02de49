"""How much happens over time: what ended and how long it took, incidents, and what was spent.

Owns the table `rates`: sums for each five minutes, so that a plot reads some hundreds of rows and
no workflow. `mesh.inspection.read_model.projection` calls it for each decision.
"""

from collections.abc import Iterator
from math import log2
from typing import Final

import apsw

from mesh.core.events import Decision, IncidentRaised, WorkflowEnded
from mesh.core.ids import BUILT_IN

EVERY_MS: Final = 300_000
TOOK: Final = "took/"  # and a class of durations
SPENT: Final = "spent/"  # and the amount's name
INCIDENTS: Final = "incidents"
_CLASSES: Final = 4  # of durations, for each doubling: none is off by more than a tenth
_ADD: Final = "INSERT INTO rates VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET n = n + ?3"


def take_rates(db: apsw.Connection, decision: Decision, started_at_ms: int) -> None:
    """Take in a decision. `started_at_ms`: of its run; 0: it has none."""
    if decision.workflow_id.startswith(BUILT_IN):
        return
    at_ms = decision.at_ms - decision.at_ms % EVERY_MS
    for what, amount in _amounts(decision, started_at_ms):
        db.execute(_ADD, (at_ms, what, amount))


def _amounts(decision: Decision, started_at_ms: int) -> Iterator[tuple[str, float]]:
    for event in decision.events:
        match event:
            case IncidentRaised():
                yield INCIDENTS, 1
            case WorkflowEnded():
                yield event.status, 1
                if started_at_ms:
                    yield f"{TOOK}{class_of(decision.at_ms - started_at_ms)}", 1
                for name, amount in (event.usage or {}).items():
                    yield f"{SPENT}{name}", amount
            case _:
                pass


def class_of(duration_ms: int) -> int:
    """The class of a duration: a number that grows by four with each doubling."""
    return round(_CLASSES * log2(max(1, duration_ms)))


def duration_of(number: int) -> int:
    """The duration in milliseconds that a class stands for."""
    return round(2 ** (number / _CLASSES))

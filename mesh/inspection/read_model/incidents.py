"""Incidents in the read model: each with its cause, so that those that are alike can be counted.

Owns the tables `incidents` and `causes`. `mesh.inspection.read_model.projection` calls it for each
decision and for each workflow that it writes.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import apsw

from mesh.core import ids
from mesh.core.events import Event, IncidentRaised, TaskFailed
from mesh.core.state import Workflow
from mesh.inspection.causes import Cause, pattern_of
from mesh.inspection.read_model.open_steps import OpenStep
from mesh.inspection.read_model.schema import select

INCIDENT: Final = "incident"  # the status of such a step

_ITEM: Final = re.compile(r"\[\d+\]")


class IncidentFold:
    """Writes the incidents of workflows. Each connection needs its own."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        # of the incidents that decisions of this batch raised, by workflow and step
        self._versions: dict[tuple[str, str], str] = {}

    def hear(self, workflow_id: str, events: Sequence[Event]) -> None:
        """Remember which version of an agent an incident comes from: the state does not say."""
        raised = [event.step for event in events if isinstance(event, IncidentRaised)]
        if raised:
            failed = {event.step: event.agent_version for event in events if isinstance(event, TaskFailed)}
            self._versions |= {(workflow_id, step): failed.get(step, "") for step in raised}

    def write(self, workflow: Workflow, steps: Iterable[OpenStep]) -> None:
        """Replace what the tables have of a workflow by its incidents now."""
        workflow_id = workflow.workflow_id
        sql = "SELECT step, agent_version FROM incidents WHERE workflow_id = ?"
        known: dict[str, str] = dict(select(self._db, sql, workflow_id))
        if known:
            self._db.execute("DELETE FROM incidents WHERE workflow_id = ?", (workflow_id,))
        for step in steps:
            if step.status == INCIDENT:
                version = self._versions.get((workflow_id, step.step), known.get(step.step, ""))
                self._insert(_cause(workflow, step, version), step)

    def end_batch(self) -> None:
        self._versions.clear()

    def _insert(self, cause: Cause, step: OpenStep) -> None:
        self._db.execute("INSERT OR IGNORE INTO causes VALUES (?, ?, ?, ?, ?, ?, ?)", (cause.id, *cause))
        self._db.execute(
            "INSERT INTO incidents VALUES (?, ?, ?, ?, ?)",
            (step.workflow_id, step.step, cause.id, step.since_ms, cause.agent_version),
        )


def _cause(workflow: Workflow, step: OpenStep, version: str) -> Cause:
    return Cause(
        kind=step.incident_kind,
        route=workflow.route or ids.route_of(workflow.workflow_id),
        step=_ITEM.sub("", step.step),
        agent=step.agent,
        agent_version=version,
        pattern=pattern_of(step.incident_message, workflow_id=workflow.workflow_id),
    )

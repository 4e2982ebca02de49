"""Judges the mesh's own workflows: aliases, schedules and pauses.

Two live workflows never have the same alias. Each time of a schedule starts exactly one workflow.
Owns this part of what `mesh.testing.promises.judge` checks.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from mesh.core.events import AliasGranted, AliasReturned, AliasSought, EventRedirected, ScheduleFired
from mesh.core.state import Workflow
from mesh.testing.promises.ledger import Step
from mesh.testing.promises.pauses import unsettled_pauses, wrongly_begun

_OVERDUE_MS = 30_000


class BuiltIns:
    """What the log says of built-in workflows so far.

    `expect` notes a finding unless its first argument is true.
    """

    def __init__(self, expect: Callable[[bool, str], None], counts: Counter[str]) -> None:
        self._expect = expect
        self._counts = counts
        self._holders: dict[
            str, str
        ] = {}  # alias -> the workflow that was told that it has it, and has not given it back
        self._fired: dict[str, int] = {}  # schedule -> the last time at which it fired
        self.now_ms = 0  # when the broker took the newest record

    def check(self, step: Step, event: object) -> None:
        workflow_id, where = step.decision.workflow_id, step.where
        for wrong in wrongly_begun(step, event):
            self._expect(False, wrong)  # noqa: FBT003 - a finding
        match event:
            case AliasSought():
                self._counts["aliases sought"] += 1
            case AliasGranted():
                holder = self._holders.setdefault(event.alias, workflow_id)
                self._expect(holder == workflow_id, f"{where}: {event.alias} is {holder}'s, and {workflow_id}'s too")
            case AliasReturned():
                if self._holders.get(event.alias) == workflow_id:
                    del self._holders[event.alias]
            case EventRedirected():
                self._counts["events by alias"] += 1
            case ScheduleFired():
                self._counts["schedules fired"] += 1
                self._counts["schedules fired late"] += event.cloud_event["data"]["late_s"] > 0
                last = self._fired.get(workflow_id, 0)
                self._expect(event.scheduled_at_ms > last, f"{where}: {workflow_id} fires {event.key} again")
                self._fired[workflow_id] = event.scheduled_at_ms
            case _:
                pass

    def overdue(self, workflows: Iterable[Workflow]) -> Iterator[str]:
        """Findings on schedules whose time has come without a start, and on pauses left over."""
        workflows = list(workflows)
        yield from unsettled_pauses(workflows)
        for workflow in workflows:
            due_ms = workflow.plan.next_at_ms if workflow.plan is not None else None
            if due_ms is not None and due_ms < self.now_ms - _OVERDUE_MS:
                late_s = (self.now_ms - due_ms) / 1000
                yield f"overdue: {workflow.workflow_id} should have fired {late_s:g} s ago"

"""What is due, and when: a heap over the times in a partition's workflows.

Entries are not taken back: one that no longer fits its workflow changes nothing when it fires, and the heap is made anew when too many have piled up.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from mesh.core.inputs import TimerDue, TimerKind
from mesh.core.state import Workflow

__all__ = ["BARRIER_KINDS", "Timers"]

_KINDS: Final[dict[str, TimerKind]] = {"running": "task_timeout", "retrying": "retry", "asking": "approval_deadline"}

BARRIER_KINDS: Final = frozenset({"task_timeout", "approval_deadline"})
"""Those that an input can beat: they fire only when every input that came before them has been read."""

_Entry = tuple[int, str, str, str]  # due_at_ms, workflow id, step (empty: forget), run id
_REBUILD_AT: Final = 50_000


class Timers:
    __slots__ = ("_heap", "_rebuild_at")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._rebuild_at = _REBUILD_AT

    def arm(self, workflow: Workflow) -> None:
        """Take in all times of a workflow, as at a take-over."""
        self._heap.extend(_entries(workflow))

    def rebuild(self, workflows: Iterable[Workflow]) -> None:
        self._heap.clear()
        for workflow in workflows:
            self.arm(workflow)
        heapify(self._heap)
        self._rebuild_at = max(_REBUILD_AT, 4 * len(self._heap))

    @property
    def is_overgrown(self) -> bool:
        return len(self._heap) > self._rebuild_at

    def push(self, due_at_ms: int, workflow_id: str, step: str, run_id: str) -> None:
        heappush(self._heap, (due_at_ms, workflow_id, step, run_id))

    def next_due_at_ms(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def pop_due(self, up_to_ms: int, workflows: dict[str, Workflow]) -> list[TimerDue]:
        """Those that are due by `up_to_ms` and still fit their workflow, in order of time."""
        due: list[TimerDue] = []
        heap = self._heap
        while heap and heap[0][0] <= up_to_ms:
            timer = _timer(heappop(heap), workflows)
            if timer is not None:
                due.append(timer)
        return due

    def put_back(self, timers: Iterable[TimerDue]) -> None:
        for timer in timers:
            self.push(timer.due_at_ms, timer.workflow_id, timer.step, timer.run_id)


def _timer(entry: _Entry, workflows: dict[str, Workflow]) -> TimerDue | None:
    due_at_ms, workflow_id, name, run_id = entry
    workflow = workflows.get(workflow_id)
    if workflow is None or workflow.run_id != run_id:
        return None
    if not name:
        if workflow.forget_at_ms != due_at_ms:
            return None
        return TimerDue(due_at_ms=due_at_ms, workflow_id=workflow_id, kind="forget", run_id=run_id)
    step = workflow.steps.get(name)
    if step is None or step.due_at_ms != due_at_ms:
        return None
    return TimerDue(
        due_at_ms=due_at_ms,
        workflow_id=workflow_id,
        kind=_KINDS[step.status],
        step=name,
        run_id=run_id,
        attempt=step.attempt,
    )


def _entries(workflow: Workflow) -> Iterator[_Entry]:
    if workflow.forget_at_ms is not None:
        yield workflow.forget_at_ms, workflow.workflow_id, "", workflow.run_id
    for name, step in workflow.steps.items():
        if step.due_at_ms is not None:
            yield step.due_at_ms, workflow.workflow_id, name, workflow.run_id

"""What is due, and when: heaps over the times in a partition's workflows.

One heap for each thing that a timer waits for besides its time: nothing; every result and every
record of another workflow that came before it; every answer; every event. So timers that must wait
hold up no others, and none is looked at twice. Entries are not taken back. One that no longer fits
its workflow is dropped when it comes up, and the heaps are rebuilt when too many have piled up.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from mesh.core.inputs import TimerDue, TimerKind
from mesh.core.limits import next_grant_at_ms
from mesh.core.state import StepState, Workflow
from mesh.services.router.releasing import Releasing

Awaited = Literal["nothing", "results", "answers", "events"]
AWAITED: Final[tuple[Awaited, ...]] = ("nothing", "results", "answers", "events")

# due_at_ms, workflow id, place of a step (empty: forget), run id
_Entry = tuple[int, str, str, str]
_BUDGET: Final = "~budget"  # in the place of a place
_SCHEDULE: Final = "~schedule"
_RATE: Final = "~rate"  # likewise
_STAGE: Final = "~stage/"  # before the place of an approval
_REBUILD_AT: Final = 50_000


class Timers:
    """`releasing`: what a pause had held, which goes on with the timers that wait for nothing."""

    __slots__ = ("_heaps", "_rates", "_rebuild_at", "releasing")

    def __init__(self) -> None:
        self._heaps: dict[Awaited, list[_Entry]] = {awaited: [] for awaited in AWAITED}
        self._rates: dict[str, int] = {}  # limiters that are armed, and for when
        self._rebuild_at = _REBUILD_AT
        self.releasing = Releasing()

    def rebuild(self, workflows: Iterable[Workflow]) -> None:
        """Take all times of all workflows, as at a take-over, and nothing else."""
        for heap in self._heaps.values():
            heap.clear()
        self._rates.clear()
        for workflow in workflows:
            for awaited, entry in _entries(workflow):
                self._heaps[awaited].append(entry)
        for heap in self._heaps.values():
            heapify(heap)
        # It grows with what is really armed, or a partition with many
        # timers would rebuild all the time.
        self._rebuild_at = max(_REBUILD_AT, 4 * self._size)

    @property
    def _size(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def is_overgrown(self) -> bool:
        return self._size > self._rebuild_at

    def arm(self, due_at_ms: int, workflow_id: str, place: str, run_id: str, step: StepState) -> None:
        """A step has taken a status that ends at a time."""
        heappush(self._heaps[_timing(step)[1]], (due_at_ms, workflow_id, place, run_id))

    def arm_stage(self, workflow: Workflow, place: str, step: StepState) -> None:
        """An approval waits for its next stage, if it has one."""
        due = _stage_due_at_ms(step)
        if due is not None:
            heappush(self._heaps["answers"], (due, workflow.workflow_id, _STAGE + place, workflow.run_id))

    def arm_forget(self, due_at_ms: int, workflow_id: str, run_id: str) -> None:
        """A workflow has ended, and will be forgotten."""
        heappush(self._heaps["nothing"], (due_at_ms, workflow_id, "", run_id))

    def arm_budget(self, due_at_ms: int, workflow_id: str, run_id: str) -> None:
        """A workflow has a budget of time, or has got more of it."""
        heappush(self._heaps["nothing"], (due_at_ms, workflow_id, _BUDGET, run_id))

    def arm_schedule(self, due_at_ms: int, workflow_id: str) -> None:
        """A schedule has its next time."""
        heappush(self._heaps["nothing"], (due_at_ms, workflow_id, _SCHEDULE, ""))

    def arm_rate(self, workflow: Workflow) -> None:
        """A limiter has decided: its queue may go on at a time."""
        due, known = rate_due_at_ms(workflow), self._rates.get(workflow.workflow_id)
        if due is not None and due != known:
            self._rates[workflow.workflow_id] = due
            heappush(self._heaps["nothing"], (due, workflow.workflow_id, _RATE, workflow.run_id))

    def next_due_at_ms(self, awaited: Awaited) -> int | None:
        """The nearest time of one heap."""
        heap = self._heaps[awaited]
        return heap[0][0] if heap else None

    def nearest_at_ms(self) -> int | None:
        """The nearest time of all heaps. Asked of each partition in each turn of the router."""
        nearest = self.releasing.next_due_at_ms()
        for heap in self._heaps.values():
            if heap and (nearest is None or heap[0][0] < nearest):
                nearest = heap[0][0]
        return nearest

    def pop_due(
        self, awaited: Awaited, up_to_ms: int, workflows: Mapping[str, Workflow], *, limit: int
    ) -> Iterator[TimerDue]:
        """Up to `limit` timers that are due and still fit their workflow.

        They are due by `up_to_ms`, in order of time.
        """
        heap, count = self._heaps[awaited], 0
        while heap and heap[0][0] <= up_to_ms and count < limit:
            entry = heappop(heap)
            # the limiter may be armed for this time again
            if entry[2] == _RATE and self._rates.get(entry[1]) == entry[0]:
                del self._rates[entry[1]]
            timer = _timer(entry, workflows)
            # one that no longer fits costs no decision, so it does not count
            if timer is not None:
                count += 1
                yield timer
        if awaited == "nothing":
            yield from self.releasing.pop_due(up_to_ms, limit=limit - count)

    def put_back(self, awaited: Awaited, timer: TimerDue) -> None:
        if timer.kind == "resumed":
            self.releasing.put_back(timer)
            return
        places = {"budget_time": _BUDGET, "schedule": _SCHEDULE, "rate": _RATE}
        # a `forget` has no step, and an empty place means just that
        place = places.get(timer.kind, timer.step)
        if timer.kind == "approval_stage":
            place = _STAGE + timer.step
        heappush(self._heaps[awaited], (timer.due_at_ms, timer.workflow_id, place, timer.run_id))


def rate_due_at_ms(workflow: Workflow) -> int | None:
    """When a limiter's queue goes on by itself.

    At once, if one decision could not hold all that there was room for.
    """
    due = None if workflow.limiter is None else next_grant_at_ms(workflow.limiter)
    return None if due is None else max(due, workflow.updated_at_ms)


def _timing(step: StepState) -> tuple[TimerKind, Awaited]:
    """What it means that the step's time has come, and what must have been read before it may."""
    match step.status:
        case "running":
            return "task_timeout", "results"
        case "retrying":
            return "retry", "nothing"
        case "asking":
            return "approval_deadline", "answers"
        case "calling":
            # their barrier covers the inbox as well, where the end of a
            # call arrives (docs/adr/0006)
            return "call_timeout", "results"
        case "waiting":
            # a wait for a time alone is beaten by nothing
            return ("event_timeout", "events") if step.awaits else ("wait", "nothing")
        case "iterating":
            return "portion", "nothing"
        case status:
            raise AssertionError(f"a step that is {status} waits for no time")


def _timer(entry: _Entry, workflows: Mapping[str, Workflow]) -> TimerDue | None:
    due_at_ms, workflow_id, name, run_id = entry
    workflow = workflows.get(workflow_id)
    # the id may have a new run by now
    if workflow is None or workflow.run_id != run_id:
        return None
    if not name:
        if workflow.forget_at_ms != due_at_ms:
            return None
        return TimerDue(due_at_ms=due_at_ms, workflow_id=workflow_id, kind="forget", run_id=run_id)
    if name == _BUDGET:
        if workflow.expires_at_ms != due_at_ms:
            return None
        return TimerDue(due_at_ms=due_at_ms, workflow_id=workflow_id, kind="budget_time", run_id=run_id)
    if name == _SCHEDULE:
        if workflow.plan is None or workflow.plan.next_at_ms != due_at_ms:
            return None
        return TimerDue(due_at_ms=due_at_ms, workflow_id=workflow_id, kind="schedule")
    if name == _RATE:
        if rate_due_at_ms(workflow) != due_at_ms:
            return None
        return TimerDue(due_at_ms=due_at_ms, workflow_id=workflow_id, kind="rate", run_id=run_id)
    if name.startswith(_STAGE):
        return _stage_timer(entry, workflow)
    step = workflow.steps.get(name)
    if step is None or step.due_at_ms != due_at_ms:
        return None
    return TimerDue(
        due_at_ms=due_at_ms,
        workflow_id=workflow_id,
        kind=_timing(step)[0],
        step=name,
        run_id=run_id,
        attempt=step.attempt,
    )


def _stage_timer(entry: _Entry, workflow: Workflow) -> TimerDue | None:
    due_at_ms, workflow_id, name, run_id = entry
    place = name.removeprefix(_STAGE)
    step = workflow.steps.get(place)
    if step is None or _stage_due_at_ms(step) != due_at_ms:
        return None
    return TimerDue(due_at_ms=due_at_ms, workflow_id=workflow_id, kind="approval_stage", step=place, run_id=run_id)


def _stage_due_at_ms(step: StepState) -> int | None:
    """When an open approval's next stage comes about."""
    stage = step.asking.next_stage if step.asking is not None and step.status == "asking" else None
    return None if stage is None else stage.at_ms


def _entries(workflow: Workflow) -> Iterator[tuple[Awaited, _Entry]]:
    if workflow.forget_at_ms is not None:
        yield "nothing", (workflow.forget_at_ms, workflow.workflow_id, "", workflow.run_id)
    if workflow.expires_at_ms is not None:
        yield "nothing", (workflow.expires_at_ms, workflow.workflow_id, _BUDGET, workflow.run_id)
    if workflow.plan is not None and workflow.plan.next_at_ms is not None:
        yield "nothing", (workflow.plan.next_at_ms, workflow.workflow_id, _SCHEDULE, "")
    rate_due = rate_due_at_ms(workflow)
    if rate_due is not None:
        yield "nothing", (rate_due, workflow.workflow_id, _RATE, workflow.run_id)
    for name, step in workflow.steps.items():
        if step.due_at_ms is not None:
            yield _timing(step)[1], (step.due_at_ms, workflow.workflow_id, name, workflow.run_id)
        stage_due = _stage_due_at_ms(step)
        if stage_due is not None:
            yield "answers", (stage_due, workflow.workflow_id, _STAGE + name, workflow.run_id)

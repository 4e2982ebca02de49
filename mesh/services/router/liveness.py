"""Agents' signs of life, and the time-outs that they put off.

Soft state of a partition's owner, which no log holds. A sign is not an input and has no decision:
it only moves a time. What has to be decided is the time-out of an attempt that gave none
(docs/adr/0009). Times are the broker's, when it took the signs.

    dispatched ---- start_timeout ----> failed
        |  started (or any other sign)
        v
      begun ------- run_timeout ------> failed
        |  ^------- heartbeat_timeout -> failed
        '--' heartbeat

A new owner has heard nothing, and gives each period in full from then on.

Each attempt has one watch, and each watch one entry in the heap, which is looked at when it comes
up. So a sign costs one look-up, and moves nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from mesh.core.inputs import SignReceived, TimerDue, TimerKind
from mesh.core.route import Periods
from mesh.core.state import StepState, Workflow

_Entry = tuple[int, str, int]  # due_at_ms, task id, attempt
_REBUILD_AT: Final = 50_000


class Liveness:
    """The attempts under way whose signs of life are waited for."""

    __slots__ = ("_heap", "_watches")

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}  # by task id
        self._heap: list[_Entry] = []

    def rebuild(self, workflows: Iterable[Workflow], now_ms: int) -> None:
        """Listen for every attempt under way, as at a take-over at `now_ms`.

        Nothing has been heard of any attempt yet.
        """
        self._watches.clear()
        self._heap.clear()
        for workflow in workflows:
            for name, step in workflow.steps.items():
                if step.status == "running" and step.periods is not None:
                    self._add(_Watch(workflow, name, step, step.periods, now_ms, is_new=False))

    def watch(self, workflow: Workflow, name: str, step: StepState) -> None:
        """Listen for an attempt that has just been dispatched.

        Does nothing if no sign is asked for.
        """
        if step.periods is not None:
            self._add(_Watch(workflow, name, step, step.periods, step.since_ms, is_new=True))

    def forget(self, task_id: str) -> None:
        """Nobody waits for it any more."""
        self._watches.pop(task_id, None)

    def hear(self, sign: SignReceived, at_ms: int) -> None:
        """The broker took `sign` at `at_ms`."""
        watch = self._watches.get(sign.task_id)
        if watch is not None and watch.attempt == sign.attempt:
            watch.hear(sign, at_ms)
            self._queue(watch)

    def next_due_at_ms(self) -> int | None:
        """The nearest time at which an attempt has been silent for too long.

        It goes by all that was heard until now.
        """
        heap = self._heap
        while heap:
            queued_ms, task, attempt = heap[0]
            watch = self._watches.get(task)
            if watch is None or watch.attempt != attempt or watch.queued_ms != queued_ms:
                heappop(heap)
                continue
            due_ms = watch.next_ms
            if due_ms is None or due_ms <= queued_ms:
                return queued_ms
            watch.queued_ms = due_ms
            # signs have put its time off since it was queued, so look again then
            heapreplace(heap, (due_ms, task, attempt))
        return None

    def pop_due(self, up_to_ms: int, workflows: Mapping[str, Workflow], *, limit: int) -> Iterator[TimerDue]:
        """Up to `limit` of the time-outs that are due and fit their workflow.

        They are due by `up_to_ms`, in order of time. One at whose decision the caller stops stays
        due.
        """
        count = 0
        while count < limit and (due_ms := self.next_due_at_ms()) is not None and due_ms <= up_to_ms:
            task = self._heap[0][1]
            watch = self._watches[task]
            timer = watch.timer(workflows)
            if timer is not None:
                count += 1
                yield timer
            # The decision may have sent out the next attempt, whose
            # watch is under the same task id.
            if self._watches.get(task) is watch:
                del self._watches[task]

    def _add(self, watch: "_Watch") -> None:
        self._watches[watch.task_id] = watch
        self._queue(watch)

    def _queue(self, watch: "_Watch") -> None:
        """See to it that the heap comes to this watch in time: at its time or before."""
        due_ms = watch.next_ms
        if due_ms is None or (watch.queued_ms is not None and watch.queued_ms <= due_ms):
            return
        watch.queued_ms = due_ms
        heappush(self._heap, (due_ms, watch.task_id, watch.attempt))
        if len(self._heap) > max(_REBUILD_AT, 4 * len(self._watches)):
            self._heap = [
                (w.queued_ms, task, w.attempt) for task, w in self._watches.items() if w.queued_ms is not None
            ]
            heapify(self._heap)


class _Watch:
    """What was heard of one attempt.

    `from_ms`: its dispatch, or the take-over; `begun_ms`: None while nobody has it; `queued_ms`:
    its time in the heap, None if it is not there.
    """

    __slots__ = ("attempt", "beat_ms", "begun_ms", "dispatched_ms", "from_ms", "is_heard", "periods", "queued_ms", "run_id", "step", "task_id", "workflow_id")  # fmt: skip

    def __init__(
        self, workflow: Workflow, name: str, step: StepState, periods: Periods, from_ms: int, *, is_new: bool
    ) -> None:
        self.workflow_id = workflow.workflow_id
        self.run_id = workflow.run_id
        self.step = name
        self.task_id = step.task_id
        self.attempt = step.attempt
        self.periods = periods
        self.dispatched_ms = step.since_ms
        self.from_ms = from_ms
        self.beat_ms = from_ms
        # At a take-over nobody knows whether it has begun. With a `start_timeout`, its agent says
        # so again well before that ends. Without one it counts as begun, or nobody would miss an
        # agent that died together with the owner before.
        self.begun_ms = None if is_new or periods.start_timeout_s is not None else from_ms
        self.is_heard = False
        self.queued_ms: int | None = None

    def hear(self, sign: SignReceived, at_ms: int) -> None:
        # whatever the agent's clock says, it began after the dispatch and before this sign
        begun_ms = min(at_ms, max(self.dispatched_ms, at_ms - int(sign.duration_ms)))
        if (
            not self.is_heard or self.begun_ms is None or begun_ms > self.begun_ms
        ):  # a task may be begun again, by its agent's next instance
            self.begun_ms, self.is_heard = begun_ms, True
        if sign.status == "heartbeat":
            self.beat_ms = max(self.beat_ms, at_ms)

    @property
    def next_ms(self) -> int | None:
        """The nearest time-out, as far as was heard; None: there is none before it has begun."""
        return min((due_ms for due_ms, _ in self._dues()), default=None)

    def _dues(self) -> Iterator[tuple[int, TimerKind]]:
        periods = self.periods
        if self.begun_ms is None:
            if periods.start_timeout_s is not None:
                yield self.from_ms + int(periods.start_timeout_s * 1000), "start_timeout"
            return
        if periods.run_timeout_s is not None:
            yield self.begun_ms + int(periods.run_timeout_s * 1000), "run_timeout"
        if periods.heartbeat_s is not None:
            yield max(self.begun_ms, self.beat_ms) + int(periods.heartbeat_s * 1000), "heartbeat_timeout"

    def timer(self, workflows: Mapping[str, Workflow]) -> TimerDue | None:
        """The time-out that has come; None where nobody waits for this attempt any more."""
        workflow = workflows.get(self.workflow_id)
        step = workflow.steps.get(self.step) if workflow is not None and workflow.run_id == self.run_id else None
        due = min(self._dues(), default=None)
        if due is None or step is None or step.status != "running":
            return None
        if (step.task_id, step.attempt) != (self.task_id, self.attempt):
            return None
        due_ms, kind = due
        return TimerDue(
            due_at_ms=due_ms,
            workflow_id=self.workflow_id,
            kind=kind,
            step=self.step,
            run_id=self.run_id,
            attempt=self.attempt,
        )

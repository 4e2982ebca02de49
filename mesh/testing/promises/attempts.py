"""Judges attempts and runs: each goes out once, and comes to one end.

Owns this part of what `mesh.testing.promises.judge` checks.

* a finished step is not dispatched or called again, an attempt is dispatched or called once
* a task has one counted result, a call one counted end, a run one end
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from mesh.core import ids
from mesh.core.events import (
    ApprovalWanted,
    CallFailed,
    CallMade,
    CallSucceeded,
    StepCompleted,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowForgotten,
)
from mesh.core.state import Workflow
from mesh.testing.promises.deadlines import Deadlines
from mesh.testing.promises.ledger import Step

_SILENCES: Final = frozenset({"start_timeout", "run_timeout", "heartbeat_timeout"})


class Attempts:
    """What the log says of attempts and runs so far.

    `expect` notes a finding unless its first argument is true. `deadlines` hears of every attempt,
    and is asked when one has failed because its time was over.
    """

    def __init__(self, expect: Callable[[bool, str], None], counts: Counter[str], deadlines: Deadlines) -> None:
        self.ended: dict[tuple[str, str], str] = {}  # (workflow, run) -> status
        self.dispatched_in: dict[str, int] = {}  # partition, by attempt
        self.settled: dict[str, int] = {}  # attempt -> log offset from which nobody waits for it
        self._expect = expect
        self._counts = counts
        self._deadlines = deadlines
        self._succeeded: set[str] = set()  # tasks
        self._called: set[str] = set()  # attempts
        self._returned: set[str] = set()  # tasks whose call has succeeded

    def check(self, step: Step, event: object) -> None:
        where = step.where
        match event:
            case TaskDispatched():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                self._expect(
                    event.task_id not in self._succeeded, f"{where}: {event.task_id} is finished and dispatched again"
                )
                self._expect(not self._deadlines.is_out(attempt), f"{where}: {attempt} is dispatched twice")
                self._deadlines.went_out(attempt, event.due_at_ms)
                self.dispatched_in[attempt] = step.partition.fold.partition
            case TaskSucceeded():
                self._expect(event.task_id not in self._succeeded, f"{where}: two results count for {event.task_id}")
                self._succeeded.add(event.task_id)
                self._settle(step.before, event.step, step.offset)
            case StepCompleted():
                self._complete(step, event)
            case TaskFailed():
                self._settle(step.before, event.step, step.offset)
                if event.kind == "timeout":
                    self._counts["timeouts"] += 1
                    self._deadlines.time_out(event, where)
                elif event.kind in _SILENCES and step.decision.cause.kind == "timer":
                    self._counts[event.kind] += 1
                    self._deadlines.silence(step, event)
            case ApprovalWanted():
                self._settle(step.before, event.step, step.offset)
            case WorkflowEnded():
                self._end(step, event)
            case WorkflowForgotten():
                self._forget(step.decision.workflow_id)
            case _:
                self._check_call(event, where)

    def _check_call(self, event: object, where: str) -> None:
        match event:
            case CallMade():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                self._counts["calls"] += 1
                self._expect(
                    event.task_id not in self._returned, f"{where}: {event.task_id} is finished and called again"
                )
                self._expect(attempt not in self._called, f"{where}: {attempt} is called twice")
                self._called.add(attempt)
                self._deadlines.went_out(attempt, event.due_at_ms or 0)
            case CallSucceeded():
                self._expect(event.task_id not in self._returned, f"{where}: two ends count for {event.task_id}")
                self._returned.add(event.task_id)
            case CallFailed():
                self._counts[f"call: {event.kind}"] += 1
                if event.kind == "timeout":
                    self._deadlines.call_time_out(event, where)
            case _:
                pass

    def _settle(self, before: Workflow | None, name: str, offset: int) -> None:
        step = before.steps.get(name) if before else None
        if step is not None and step.attempt:
            self.settled.setdefault(ids.attempt_id(step.task_id, step.attempt), offset)

    def _complete(self, step: Step, event: StepCompleted) -> None:
        """An output by hand: from here on no result of the step's task counts."""
        state = step.before.steps.get(event.step) if step.before else None
        self._expect(state is not None, f"{step.where}: {event.step} is completed, and has not begun")
        if state is not None and state.task_id:
            self._expect(state.task_id not in self._succeeded, f"{step.where}: {state.task_id} is finished twice")
            self._succeeded.add(state.task_id)
        self._settle(step.before, event.step, step.offset)

    def _end(self, step: Step, event: WorkflowEnded) -> None:
        run = (step.decision.workflow_id, event.run_id)
        self._expect(run not in self.ended, f"{step.where}: {run} ends twice")
        self.ended[run] = event.status
        self._counts[event.status] += 1
        for name in step.before.steps if step.before else ():
            self._settle(step.before, name, step.offset)

    def _forget(self, workflow_id: str) -> None:
        """Forget a workflow: the same key may start again, even with the same event."""
        self._counts["forgotten"] += 1
        prefix = workflow_id + "/"
        self._succeeded = {task for task in self._succeeded if not task.startswith(prefix)}
        self._deadlines.forget(workflow_id)
        self._called = {attempt for attempt in self._called if not attempt.startswith(prefix)}
        self._returned = {task for task in self._returned if not task.startswith(prefix)}
        self.settled = {attempt: at for attempt, at in self.settled.items() if not attempt.startswith(prefix)}
        self.ended = {run: status for run, status in self.ended.items() if run[0] != workflow_id}

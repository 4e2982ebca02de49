"""Handlers that run: the one place that begins, bounds, cancels and ends them.

The agent runtime's workers and the test kit use it. Owns the time limits and what each handler
comes to. It must not know partitions, records to send or a broker. Each work that is run ends once,
by `ended`, or is abandoned.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from mesh.core.inputs import TaskError
from mesh.ports import Clock
from mesh.services.agent_runtime.call import AgentCall, Answer
from mesh.services.agent_runtime.limits import CANCELLED, begin_by_ms, time_limit, timed_out
from mesh.services.agent_runtime.work import Work


class Handlers:
    """Runs one agent's handlers. `can_cancel`: they are async; a thread can't be cancelled.

    `ended` gets a work, what it came to, and the traceparent of its span.
    """

    def __init__(
        self,
        call: AgentCall,
        *,
        can_cancel: bool,
        is_traced: bool,
        clock: Clock,
        ended: Callable[[Work, Answer, str | None], None],
        log: Any,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:
        # in the order in which they began, which no memory address decides
        self.running: dict[Work, None] = {}
        self._call = call
        self._can_cancel = can_cancel
        self._is_traced = is_traced
        self._clock = clock
        self._ended = ended
        self._log: structlog.stdlib.BoundLogger = log
        self._ticks = ticks

    def is_too_late(self, work: Work) -> bool:
        """Whether it need not be begun any more: a result would not count."""
        assert work.task is not None  # noqa: S101 - decoded by the caller
        work.deadline_ms = begin_by_ms(work.task, work.record.timestamp_ms)
        return work.deadline_ms <= self._clock.now_ms()

    async def run(self, work: Work, me: asyncio.Task[Any], beat: Callable[[], None] | None = None) -> None:
        """Call the handler, in the asyncio task `me`, which `expire` and `abandon` cancel.

        Only after `is_too_late`. `beat`: what its heartbeat calls.
        """
        assert work.task is not None  # noqa: S101 - decoded by the caller
        # without the two, its limit is its deadline, which `is_too_late` has noted
        if work.task.run_timeout_s is not None or work.task.start_timeout_s is not None:
            work.task, work.deadline_ms, work.time_out_kind = time_limit(work.task, self._clock.now_ms())
        task, traceparent = work.task, None
        answer: Answer
        work.runner = me
        work.started_s = self._ticks()
        self.running[work] = None
        try:
            if self._is_traced:
                answer, traceparent = await self._call.traced_answer(task, beat, work.usage)
            else:
                answer = await self._call.answer(task, beat, work.usage)
        except asyncio.CancelledError:
            # the worker itself is to end, and not only this work
            if not work.is_over and me.cancelling():
                raise
            answer = CANCELLED
        finally:
            self.running.pop(work, None)
            work.runner = None
        if work.is_over:
            work.ended_s = 0.0
            self._forget(task.attempt_id, me)
        else:
            self._end(work, answer, traceparent)

    def time_out(self) -> list[Work]:
        """End what is past its deadline, and return it."""
        if not self.running:
            return []
        now_ms = self._clock.now_ms()
        late = [work for work in self.running if work.deadline_ms <= now_ms and not work.is_over]
        for work in late:
            self.expire(work)
        return late

    def expire(self, work: Work) -> None:
        """End it: its deadline has come."""
        # Its end first: whatever the handler makes of the cancellation counts for nothing then.
        self._end(work, timed_out(work.time_out_kind), None)
        self._cancel(work)

    def abandon(self, work: Work) -> bool:
        """Stop working on it, and say nothing of it.

        False if it is over already: it is left to end.
        """
        if work.is_over or work not in self.running:
            return False
        work.is_over = True
        self._cancel(work)
        return True

    def _end(self, work: Work, answer: Answer, traceparent: str | None) -> None:
        work.is_over = True
        if isinstance(answer, TaskError):
            self._log_failure(work, answer)
        self._ended(work, answer, traceparent)

    def _cancel(self, work: Work) -> None:
        if self._can_cancel and work.runner is not None:
            work.runner.cancel()

    def _forget(self, attempt_id: str, me: asyncio.Task[Any]) -> None:
        """A handler ended after its end was decided."""
        self._log.info("handler_ended_late", attempt_id=attempt_id)
        if self._can_cancel:
            # the cancellation was meant for the handler; the worker goes on
            me.uncancel()
        # what is left of it was for the worker itself, which is to end
        if me.cancelling():
            raise asyncio.CancelledError

    def _log_failure(self, work: Work, error: TaskError) -> None:
        assert work.task is not None  # noqa: S101 - it was begun
        self._log.warning(
            "task_failed",
            workflow_id=work.task.workflow_id,
            step=work.task.step,
            attempt=work.task.attempt,
            kind=error.kind,
            error=error.message,
            retryable=error.retryable,
        )

"""The handlers of real agents and a test's own functions, run as the agent runtime runs them.

Owns the call, on `mesh.services.agent_runtime.handlers`: the same code begins, bounds, cancels and
ends a handler in both. Time is the test's. In production a plain function has a thread of its own.
Here it is called in the running loop, and the real time that it takes counts against its limit,
since nothing else can pass meanwhile. `cast` calls it.
"""

import asyncio
import time
from functools import partial
from typing import Any, Final

import structlog

from mesh.agent.definition import Agent
from mesh.codec.tasks import Task
from mesh.ports import Clock, Record, TopicPartition
from mesh.services.agent_runtime.begins import Life
from mesh.services.agent_runtime.call import AgentCall, Answer
from mesh.services.agent_runtime.handlers import Handlers
from mesh.services.agent_runtime.limits import timed_out
from mesh.services.agent_runtime.threads import DaemonThreads
from mesh.services.agent_runtime.work import AssignedPartition, Work

_NO_THREADS: Final = DaemonThreads(0, "none")
_LIFE: Final = Life("test", "0")
_QUIET: Final = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])  # the test sees what comes of it


class Handling:
    """The handling of one agent, whose handler is async.

    `waits`: the handler may wait for something, and so can be cancelled.
    """

    def __init__(self, agent: Agent[Any, Any], clock: Clock, *, waits: bool) -> None:
        self._clock = clock
        self._waits = waits
        self._ends: dict[Work, asyncio.Future[Answer]] = {}
        self._late: set[asyncio.Task[None]] = set()  # handlers whose end was decided before they ended
        self._handlers = Handlers(
            AgentCall(agent, threads=_NO_THREADS),
            can_cancel=waits,
            is_traced=False,
            clock=clock,
            ended=self._ended,
            log=_QUIET,
            ticks=time.monotonic,
        )

    async def answer(self, task: Task, arrived_ms: int, usage: dict[str, float]) -> Answer | None:
        """What the handler answers. None if it is too late to begin."""
        place = TopicPartition("", 0)
        work = Work(AssignedPartition(place, None, _LIFE), Record(*place, 0, arrived_ms, None, None, ()))
        work.task, work.usage = task, usage
        if self._handlers.is_too_late(work):
            return None
        loop = asyncio.get_running_loop()
        end: asyncio.Future[Answer] = loop.create_future()
        self._ends[work] = end
        running = loop.create_task(self._run(work), name=f"handler {task.attempt_id}")
        self._late.add(running)
        running.add_done_callback(partial(self._done, work))
        try:
            answer = await end
        except asyncio.CancelledError:
            running.cancel()
            raise
        return answer

    async def _run(self, work: Work) -> None:
        assert work.task is not None
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        assert me is not None
        left_s = (work.task.deadline_at.timestamp() * 1000 - self._clock.now_ms()) / 1000
        if work.task.run_timeout_s is not None:
            left_s = min(left_s, work.task.run_timeout_s)
        timer = loop.call_later(left_s, self._handlers.expire, work) if self._waits else None
        try:
            await self._handlers.run(work, me)
        finally:
            if timer is not None:
                timer.cancel()

    def _done(self, work: Work, running: asyncio.Task[None]) -> None:
        """Give an error from outside of the handler to the caller that waits."""
        self._late.discard(running)
        end = self._ends.pop(work, None)
        if end is None or end.done():
            return
        error = None if running.cancelled() else running.exception()
        if error is not None:
            end.set_exception(error)
        else:
            end.cancel()

    def _ended(self, work: Work, answer: Answer, _: str | None) -> None:
        took_ms = (time.monotonic() - work.started_s) * 1000
        if not self._waits and self._clock.now_ms() + took_ms >= work.deadline_ms:
            answer = timed_out(work.time_out_kind)
        end = self._ends.get(work)
        if end is not None and not end.done():
            end.set_result(answer)

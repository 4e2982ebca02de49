"""The workers: up to `concurrency` asyncio tasks that live on.

Each has one task record in its hands at a time. Owns the waiting queue, and what must hold before a
task begins. It must not know partitions or commits; what a handler may do is `handlers`' business.
A work that it is given ends as a record in the outbox (`deliver`), or comes back undone (`drop`),
or needs no record at all (`settle`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import copy_context
from typing import Any, Final

import structlog

from mesh.codec.tasks import Task, decode_task
from mesh.core.inputs import TaskError
from mesh.errors import MalformedRecord
from mesh.ports import Clock, OutRecord
from mesh.services.agent_runtime.call import AgentCall, Answer
from mesh.services.agent_runtime.handlers import Handlers
from mesh.services.agent_runtime.heartbeats import Heartbeats
from mesh.services.agent_runtime.replies import Replies
from mesh.services.agent_runtime.settings import Counts
from mesh.services.agent_runtime.solitude import DEATHS, Solitude
from mesh.services.agent_runtime.withdrawals import Withdrawals, Withdrawn
from mesh.services.agent_runtime.work import Work

_WARN_EVERY_S: Final = 60.0  # of tasks past their deadline
_SLICE_S: Final = 0.005  # a worker lets the loop breathe after this long: heartbeats run in it


class Workers:
    """`can_cancel`: handlers are async; a thread can't be cancelled.

    Before a task begins: `is_in_doubt` and then `confirm`, whether its partition is ours; `name`,
    whether it may begin although processes have died with it (`name_now`: once it may; false if its
    partition is lost before). `near_line`: it has begun, and others wait for the begin line behind
    it. `withdrawals`: what was read of what nobody wants any more; `withdrawn`: that of this agent.
    `measure`: gets each end of a handler, with how long it took; None: nobody measures.
    """

    def __init__(
        self,
        call: AgentCall,
        replies: Replies,
        signs: Heartbeats,
        *,
        concurrency: int,
        can_cancel: bool,
        is_traced: bool,
        clock: Clock,
        counts: Counts,
        deliver: Callable[[Work, OutRecord], None],
        settle: Callable[[Sequence[Work]], None],
        drop: Callable[[Work], None],
        is_in_doubt: Callable[[], bool],
        confirm: Callable[[], Awaitable[None]],
        name: Callable[[Work], bool],
        name_now: Callable[[Work], Awaitable[bool]],
        near_line: Callable[[Work], None],
        solitude: Solitude,
        withdrawals: Withdrawals,
        withdrawn: Withdrawn,
        log: Any,
        measure: Callable[[float, Answer], None] | None = None,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.waiting_bytes = 0
        self._measure = measure
        self._ticks = ticks
        self._handlers = Handlers(
            call,
            can_cancel=can_cancel,
            is_traced=is_traced,
            clock=clock,
            ended=self._ended if measure is None else self._measured,
            log=log,
            ticks=ticks,
        )
        self._replies = replies
        self._signs = signs
        self._concurrency = concurrency
        self._clock = clock
        self._counts = counts
        self._deliver = deliver
        self._settle = settle
        self._drop = drop
        self._is_in_doubt = is_in_doubt
        self._confirm = confirm
        self._name = name
        self._name_now = name_now
        self._near_line = near_line
        self._solitude = solitude
        self._withdrawals = withdrawals
        self._withdrawn = withdrawn
        self._is_stopping = False
        self._log: structlog.stdlib.BoundLogger = log
        self._waiting: deque[Work] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._clean = copy_context()
        self._expired_untold = 0
        self._next_warning_s = float("-inf")

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start the workers as tasks of `group`. Each begins with the current context variables."""
        self._group = group
        self._clean = copy_context()

    def add(self, works: Iterable[Work]) -> None:
        """Do these in this order, as workers are free."""
        for work in works:
            self._waiting.append(work)
            self.waiting_bytes += len(work.record.value or b"")
        wanted = len(self._waiting)
        while wanted > 0 and self._idle:
            wanted -= self._wake()
        while wanted > 0 and len(self._workers) < self._concurrency:
            self._hire()
            wanted -= 1

    def drop_waiting(self) -> None:
        """Give back what is not begun, also what waits to run alone."""
        self._is_stopping = True
        while self._waiting:
            self._drop(self._next())

    def abandon(self, work: Work) -> None:
        """Stop working on it: another member has it, or this process must stop.

        Nothing is sent for it. What is already over is left to end.
        """
        if self._handlers.abandon(work):
            self._counts.abandoned += 1
            self._drop(work)

    def abandon_all(self) -> None:
        for work in list(self._handlers.running):
            self.abandon(work)

    def time_out(self) -> None:
        """End what is past its deadline."""
        self._counts.timed_out += len(self._handlers.time_out())

    def dismiss(self) -> None:
        """End the workers. A thread that still runs ends by itself."""
        for worker in self._workers:
            worker.cancel()

    # One worker -----------------------------------------------------------------------------------

    def _hire(self) -> None:
        worker = self._group.create_task(self._run_worker(), context=self._clean.copy())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _run_worker(self) -> None:
        """Do what waits, until cancelled, or until a handler has changed context variables."""
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - a coroutine that runs is in a task
        slice_end_s = self._ticks() + _SLICE_S
        while True:
            if not self._waiting:
                await self._rest()
                slice_end_s = self._ticks() + _SLICE_S
                continue
            work = self._next()
            if self._must_wait(work):
                await self._wait_to_begin(work)
            task = self._opened(work)
            if task is not None:
                await (self._do_suspect(work, task, me) if task.deaths else self._do_task(work, task, me))
            # the next handler must not see what this one has set
            if copy_context() != self._clean:
                self._workers.discard(me)
                self._hire()
                return
            # A clock costs a good part of a small task, and the task's result was made just now.
            if (work.ended_s or self._ticks()) > slice_end_s:
                await asyncio.sleep(0)
                slice_end_s = self._ticks() + _SLICE_S

    def _next(self) -> Work:
        work = self._waiting.popleft()
        self.waiting_bytes -= len(work.record.value or b"")
        return work

    async def _rest(self) -> None:
        bell = asyncio.get_running_loop().create_future()
        self._idle.append(bell)
        try:
            await bell
        finally:
            if bell in self._idle:
                self._idle.remove(bell)

    def _wake(self) -> int:
        bell = self._idle.pop()
        # its worker was cancelled while it rested, so nobody hears the bell
        if bell.done():
            return 0
        bell.set_result(None)
        return 1

    def _must_wait(self, work: Work) -> bool:
        """Whether something must be known before this may begin. Most tasks wait for nothing."""
        return self._is_in_doubt() or self._solitude.is_sought or self._withdrawals.since_ms > work.record.timestamp_ms

    async def _wait_to_begin(self, work: Work) -> None:
        # A process that was away may have lost its share. Nothing begins before the broker has said
        # what is ours as of now (docs/adr/0012).
        if self._is_in_doubt():
            await self._confirm()
        if self._solitude.is_sought:
            await self._solitude.wait_open()
        if self._withdrawals.since_ms > work.record.timestamp_ms:
            await self._withdrawals.catch_up(work.record.timestamp_ms)

    def _opened(self, work: Work) -> Task | None:
        """The task of a work; None if there is nothing to do for it."""
        # each of the waits before it may have been long enough to lose the partition
        if work.share.is_released:
            self._drop(work)
            return None
        try:
            work.task = task = decode_task(work.record)
        except MalformedRecord as error:
            # under way until its dead letter is at the broker: a revocation waits for that
            work.share.working[work.record.offset] = work
            self._counts.dead_lettered += 1
            self._log.warning("task_malformed", task_record=work.place, error=str(error))
            self._deliver(work, self._replies.malformed(work.record, error))
            return None
        if self._withdrawn.ids and self._is_withdrawn(work, task):
            return None
        return task

    async def _do_suspect(self, work: Work, task: Task, me: asyncio.Task[Any]) -> None:
        """Do a task with deaths: once it is named, and alone if there were several."""
        is_lone = task.deaths >= DEATHS
        # alone first: one that is named and waits would count as begun if another one kills us
        if is_lone and not await self._is_alone(work):
            return
        if is_lone and not await self._name_now(work):
            self._solitude.leave()
            self._drop(work)
            return
        if not self._name(work):
            return
        try:
            await self._do_task(work, task, me)
        finally:
            if is_lone:
                self._solitude.leave()

    def _is_withdrawn(self, work: Work, task: Task) -> bool:
        if task.attempt_id not in self._withdrawn.ids:
            return False
        self._withdraw(work, task)
        return True

    def withdraw(self, attempt_id: str) -> None:
        """Nobody wants this attempt any more: cut it short, if it runs."""
        for work in list(self._handlers.running):
            if work.task is not None and work.task.attempt_id == attempt_id and self._handlers.abandon(work):
                self._withdraw(work, work.task)

    def _withdraw(self, work: Work, task: Task) -> None:
        self._counts.withdrawn += 1
        self._log.info("task_withdrawn", workflow_id=task.workflow_id, step=task.step, attempt=task.attempt)
        self._settle((work,))

    async def _is_alone(self, work: Work) -> bool:
        """Wait until no handler runs; false if the work is given back before."""
        if await self._solitude.wait_alone(lambda: self._is_stopping or work.share.is_released):
            # the wait may have been longer than our session
            if not self._is_in_doubt() and not work.share.is_released:
                return True
            self._solitude.leave()
            if self._is_in_doubt():
                await self._confirm()
                if not work.share.is_released:
                    return await self._is_alone(work)
        self._drop(work)
        return False

    async def _do_task(self, work: Work, task: Task, me: asyncio.Task[Any]) -> None:
        work.share.working[work.record.offset] = work
        if self._handlers.is_too_late(work):
            self._expire(work, task)
            return
        solitude = self._solitude
        solitude.running += 1
        share = work.share
        share.begins.begin(work.record.offset)
        if share.beyond:
            self._near_line(work)
        beat = self._signs.begin(work, task)
        try:
            await self._handlers.run(work, me, beat)
        finally:
            if beat is not None:
                self._signs.end(work)
            solitude.running -= 1
            if solitude.is_sought:
                solitude.changed()

    # Ends -----------------------------------------------------------------------------------------

    def _expire(self, work: Work, task: Task) -> None:
        """Log that a task was dropped because it came too late."""
        self._counts.expired += 1
        self._expired_untold += 1
        # At once, then at most once a minute. Nothing else here says so, and a clock that runs
        # ahead would drop every task like this.
        if self._ticks() >= self._next_warning_s:
            now_ms = self._clock.now_ms()
            self._log.warning(
                "tasks_expired",
                count=self._expired_untold,
                workflow_id=task.workflow_id,
                step=task.step,
                attempt=task.attempt,
                late_s=round((now_ms - work.deadline_ms) / 1000, 1),
                **_skew(now_ms - work.record.timestamp_ms),
            )
            self._expired_untold = 0
            self._next_warning_s = self._ticks() + _WARN_EVERY_S
        # no result: the router has timed it out by itself
        self._settle((work,))

    @property
    def running(self) -> int:
        """How many handlers run."""
        return len(self._handlers.running)

    def _measured(self, work: Work, answer: Answer, traceparent: str | None) -> None:
        if self._measure is not None:
            self._measure(self._ticks() - work.started_s, answer)
        self._ended(work, answer, traceparent)

    def _ended(self, work: Work, answer: Answer, traceparent: str | None) -> None:
        if isinstance(answer, TaskError):
            self._counts.failed += 1
        else:
            self._counts.succeeded += 1
        self._deliver(work, self._replies.result(work, answer, traceparent))


def _skew(ahead_ms: float) -> dict[str, float | str]:
    """How far our clock is ahead of the broker's timestamp of a record.

    Either the record has waited that long, or our clock is wrong.
    """
    if ahead_ms <= 0:
        return {}
    hint = "if the task did not wait that long, this machine's clock is ahead of the broker's: set it right"
    return {"ahead_of_record_s": round(ahead_ms / 1000, 1), "hint": hint}

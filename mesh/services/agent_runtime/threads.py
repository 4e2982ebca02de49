"""Threads for handlers that are plain functions.

Owns a bounded pool of daemon threads. The standard library's pool joins its threads when the
interpreter ends, so one handler that never returns would keep a stopped agent alive. This one does
not. Called by `mesh.services.agent_runtime.call`.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

_Job = tuple["asyncio.Future[Any]", Callable[[], Any]]


class DaemonThreads:
    """At most `size` threads, started when needed.

    `run` waits for its turn. Cancelling it leaves the thread to end by itself.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = 0
        self._busy = 0

    async def run(self, function: Callable[[], Any]) -> Any:
        """What `function` returns or raises, in a thread, with the caller's context variables."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        context = copy_context()
        self._busy += 1
        if self._busy > self._started and self._started < self._size:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        self._jobs.put((future, lambda: context.run(function)))
        return await future

    def close(self) -> None:
        """Let idle threads end, and busy ones as soon as they can."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:  # noqa: BLE001 - it is handed on, whatever it is, to the one who waits
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(self._settle, future, result, error)
            del (
                job,
                future,
                function,
                result,
                error,
            )  # while it waits for the next one a thread must not keep the last one alive

    def _settle(self, future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):  # a future can't carry it
            future.set_exception(RuntimeError("the handler raised StopIteration"))
        else:
            future.set_exception(error)

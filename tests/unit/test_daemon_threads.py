"""The threads that plain handlers run in."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from mesh.services.agent_runtime.threads import DaemonThreads

GENEROUS_S = 30.0


async def test_no_more_threads_are_started_than_are_needed_at_once() -> None:
    threads = DaemonThreads(3, "t")
    names = {await threads.run(lambda: threading.current_thread().name) for _ in range(5)}
    assert names == {"t-1"}
    gate = threading.Barrier(3)
    async with asyncio.timeout(GENEROUS_S):
        await asyncio.gather(*(threads.run(lambda: gate.wait(GENEROUS_S)) for _ in range(3)))
    threads.close()


async def test_the_callers_context_variables_are_seen_and_what_is_raised_is_raised() -> None:
    threads = DaemonThreads(1, "t")
    variable: ContextVar[int] = ContextVar("variable")
    variable.set(7)
    assert await threads.run(variable.get) == 7
    with pytest.raises(KeyError):
        await threads.run(lambda: dict[str, int]()["x"])
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(lambda: next(iter(())))
    threads.close()


async def test_a_cancelled_call_leaves_its_thread_to_end_by_itself() -> None:
    threads = DaemonThreads(1, "t")
    gate = threading.Event()
    call = asyncio.create_task(threads.run(lambda: gate.wait(GENEROUS_S)))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    gate.set()
    async with asyncio.timeout(GENEROUS_S):
        assert await threads.run(lambda: 1) == 1
    threads.close()

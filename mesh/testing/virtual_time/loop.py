"""An event loop whose time is virtual and whose order is seeded. Simulations run on it.

Owns time and order, and lets no step of a dead process run. When nothing is ready, time jumps to
the next timer. With a seed, what is ready runs in an order drawn from it, so one seed is one run.
(But new tasks begin in the order in which they were created, because code may rely on that.) There
are no threads, sockets or processes: asking for one raises.

A simulated process is an `Incarnation` (`mesh.testing.virtual_time.incarnation`): after its `kill`
not one more step of it runs. When the run is over, the dead tasks are unwound by cancelling. Nobody
can see that any more, because their ports do nothing then.

    async def main(loop: VirtualTimeLoop) -> None:
        cluster = MemoryCluster(VirtualClock(loop))
        router = loop.incarnation("router-1")
        connection = cluster.connect("router-1")
        router.on_kill(connection.kill)
        router.start(run_router(connection))
        await asyncio.sleep(3600)                 # takes no time
        router.kill()

    run(main, seed=7)

Used by tests and by `mesh.testing` alone.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple, Unpack

from mesh.testing.virtual_time.incarnation import INCARNATION, Incarnation

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_EPOCH_MS: Final = 1_767_225_600_000  # 2026-01-01T00:00:00Z, where virtual time begins unless told
_STEP_S: Final = 1e-6  # what a step costs, so that time moves on for those who never wait
_BUSY_STEPS: Final = 10_000_000  # this many steps without a pause are a loop that waits for nothing
_HELD: Final = 1_000  # tasks after which those that are done are let go
_UNWINDINGS: Final = 100  # a task that outlives this many cancellations will not end


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, but the run has not ended.

    The message lists which task waits where.
    """


class VirtualTimeLimit(AssertionError):
    """The run did not end within its limit of virtual time, or is busy without a pause."""


class _Runnable:
    """What is ready to run. Without a seed it is in order, and with one it is drawn.

    The first steps of tasks keep their order in both cases.
    """

    def __init__(self, rng: random.Random | None) -> None:
        self._bits = rng.getrandbits if rng is not None else None
        self._first_steps: deque[asyncio.Handle] = deque()
        self._others: list[asyncio.Handle] = []
        self._in_order: deque[asyncio.Handle] = deque()

    def __bool__(self) -> bool:
        return bool(self._others or self._first_steps or self._in_order)

    def put(self, handle: asyncio.Handle, *, first_step: bool) -> None:
        if self._bits is None:
            self._in_order.append(handle)
        elif first_step:
            self._first_steps.append(handle)
        else:
            self._others.append(handle)

    def take(self) -> asyncio.Handle:
        if self._bits is None:
            return self._in_order.popleft()
        first, others = len(self._first_steps), self._others
        count = first + len(others)
        # as `randrange` draws, which costs three calls more: this is a run's hottest place
        drawn = self._bits(count.bit_length())
        while drawn >= count:
            drawn = self._bits(count.bit_length())
        if drawn < first:
            return self._first_steps.popleft()
        drawn -= first
        # swapped with the last one, so that taking it out costs nothing
        others[drawn], others[-1] = others[-1], others[drawn]
        return others.pop()


class _Task(asyncio.Task[T]):
    """A task that is hashed by its number.

    So the order of a set of tasks, such as the one that a `TaskGroup` cancels, does not depend on
    memory addresses.
    """

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        number: int,
        loop: asyncio.AbstractEventLoop,
        name: str | None,
        context: contextvars.Context | None,
    ) -> None:
        self._number = number
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An asyncio event loop without an outside.

    Time begins at 0.0 and is in seconds. With `seed` None, asyncio's own order is kept.

    `step_s`: how much time a step takes. With 0, time does not pass while there is something to do,
    and every time is exact. `steps`: how many have run. It measures work, whatever the machine's
    speed.
    """

    def __init__(self, *, seed: int | None = None, limit_s: float = float("inf"), step_s: float = _STEP_S) -> None:
        self._running = False  # the base's constructor asks already
        super().__init__()
        self.steps = 0
        self.unhandled: list[BaseException] = []
        self._step_s = step_s
        self._runnable = _Runnable(random.Random(seed) if seed is not None else None)  # noqa: S311 - an order, no secret
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_numbers = itertools.count()
        self._frozen: list[asyncio.Handle] = []
        self._owners: dict[int, Incarnation] = {}  # of handles, by id while they are held here
        self._tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[int, Incarnation | None]] = (
            weakref.WeakKeyDictionary()
        )
        self._task_numbers = itertools.count()
        self._held: list[
            asyncio.Task[Any]
        ] = []  # a dead one's `finally` must not run when the collector happens to find it
        self._now_s = 0.0
        self._limit_s = limit_s
        self._busy_steps = 0
        self._creating_task = False
        self._stopping = False
        self._closed = False
        self._unwinding = False

    def incarnation(self, name: str) -> Incarnation:
        """Make a new life of a simulated process."""
        return Incarnation(self, name)

    # time and callbacks

    def time(self) -> float:
        return self._now_s

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._own(handle, context)
        self._runnable.put(handle, first_step=self._creating_task)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._own(handle, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def _own(self, handle: asyncio.Handle, context: contextvars.Context) -> None:
        owner = context.get(INCARNATION)
        if owner is not None:
            self._owners[id(handle)] = owner

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Ignore asyncio's report of a cancelled timer: it is passed over when its time comes."""

    def create_task(  # type: ignore[override]  # typeshed allows a Generator too, which no caller here has
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        owner = (context or contextvars.copy_context()).get(INCARNATION)
        # the task's constructor schedules its first step by `call_soon`
        self._creating_task = True
        try:
            number = next(self._task_numbers)
            task = _Task(coro, number=number, loop=self, name=name, context=context)
        finally:
            self._creating_task = False
        self._tasks[task] = (number, owner)
        if owner is not None:
            self._hold(task)
        return task

    def _hold(self, task: asyncio.Task[Any]) -> None:
        self._held.append(task)
        if len(self._held) % _HELD == 0:
            self._held = [one for one in self._held if not one.done()]

    # running

    def run_until_complete(self, future: Any) -> Any:
        """Run until the coroutine or future has a result; everything else stays as it is."""
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._stop_for)
        try:
            while not task.done():
                self.run_forever()
        finally:
            task.remove_done_callback(self._stop_for)
        return task.result()

    def _stop_for(self, _: object) -> None:
        self.stop()

    def run_forever(self) -> None:
        with self._as_the_running_one():
            while not self._stopping:
                self._step()

    def run_until(self, until_s: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Run everything that happens up to `until_s`, and stop the time there.

        Stops earlier at the first moment in which nothing is ready and `done()` holds. True in that
        case.

        If `until_s` is the current time, everything runs that needs no time.
        """
        with self._as_the_running_one():
            while True:
                while self._is_something_ready():
                    self._run_next()
                if done():
                    return True
                next_s = self.next_timer_s()
                if next_s is None or next_s > until_s:
                    self._now_s = max(self._now_s, until_s)
                    return False
                self._move_on()

    @contextmanager
    def _as_the_running_one(self) -> Iterator[None]:
        if self._running or self._closed:
            raise RuntimeError("this loop runs already, or is closed")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._finalize)
        asyncio._set_running_loop(self)  # noqa: SLF001 - offered to authors of event loops
        self._running, self._stopping = True, False
        try:
            yield
        finally:
            self._running = False
            asyncio._set_running_loop(None)  # noqa: SLF001
            sys.set_asyncgen_hooks(*hooks)

    def next_timer_s(self, of: Incarnation | None = None) -> float | None:
        """When the next timer is due, of all or of one process. None if there is no timer."""
        self._drop_cancelled()
        if of is None:
            return self._timers[0][0] if self._timers else None
        dues = (due for due, _, timer in self._timers if self._owners.get(id(timer)) is of and not timer.cancelled())
        return min(dues, default=None)

    def leap(self, to_s: float) -> None:
        """Let time be `to_s`, as for a machine that slept.

        What was due in between is late, and runs once each, in its order. This is for stretches in
        which only polls wake up.
        """
        self._now_s = max(self._now_s, to_s)

    def stop(self) -> None:
        self._stopping = True

    def _step(self) -> None:
        """Run one callback; if none is ready, move on to the next timer."""
        if self._is_something_ready():
            self._run_next()
        else:
            self._move_on()

    def _run_next(self) -> None:
        handle = self._runnable.take()
        owner = self._owners.pop(id(handle), None)
        if handle.cancelled():
            return
        # kept, so that its task can be unwound at the end of the run
        if owner is not None and owner.is_killed and not self._unwinding:
            self._frozen.append(handle)
            return
        if owner is not None and owner.is_paused and not self._unwinding:
            owner.held.append(handle)
            return
        self._now_s += self._step_s
        self.steps += 1
        self._busy_steps += 1
        if self._busy_steps > _BUSY_STEPS:
            raise VirtualTimeLimit(f"{_BUSY_STEPS} steps without a pause at {self._now_s:.3f} s; {_waiting(self)}")
        handle._run()  # noqa: SLF001 - there is no public way to run a handle

    def _is_something_ready(self) -> bool:
        """Whether a callback is ready to run now. Timers that are due count."""
        timers = self._timers
        while timers:
            due_s, _, timer = timers[0]
            if timer.cancelled():
                self._drop_cancelled()
            elif due_s <= self._now_s:
                heapq.heappop(timers)
                self._runnable.put(timer, first_step=False)
            else:
                break
        return bool(self._runnable)

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            # the id may be given to another handle once this one is gone
            self._owners.pop(id(heapq.heappop(self._timers)[2]), None)

    def _move_on(self) -> None:
        self._busy_steps = 0
        if not self._timers:
            raise Deadlock(f"nothing is ready and no timer is set at {self._now_s:.3f} s; {_waiting(self)}")
        self._now_s = max(self._now_s, self._timers[0][0])
        if self._now_s > self._limit_s:
            raise VirtualTimeLimit(f"not at an end after {self._limit_s} s of virtual time; {_waiting(self)}")

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._closed:
            self.call_soon(lambda: self.create_task(generator.aclose()))

    # the end

    def unwind(self) -> None:
        """Cancel everything that is left, the living first, then the dead, and close."""
        # unwinding must come to its end, whatever time that takes
        self._limit_s = float("inf")
        # A process that is paused runs no step, so it would never see that it is cancelled.
        for owner in {owner for _, owner in self._tasks.values() if owner is not None and owner.is_paused}:
            owner.resume()
        self._cancel_until_done(self.pending(dead=False))
        self._unwinding = True
        for handle in self._frozen:
            self._runnable.put(handle, first_step=False)
        self._frozen.clear()
        self._cancel_until_done(self.pending())
        self.close()

    def _cancel_until_done(self, tasks: list["asyncio.Task[Any]"]) -> None:
        for _ in range(_UNWINDINGS):
            tasks = [task for task in tasks if not task.done()]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            ended = self.create_task(_wait_for(tasks), name="unwinding")
            try:
                self.run_until_complete(ended)
            except Deadlock:
                ended.cancel()
        raise Deadlock(f"{len(tasks)} tasks can't be cancelled; {_waiting(self)}")

    def pending(self, *, dead: bool = True) -> list["asyncio.Task[Any]"]:
        """The tasks that are not done, the oldest first. `dead` false: only those of the living."""
        known = [(number, task) for task, (number, owner) in self._tasks.items() if dead or not _is_dead(owner)]
        return [task for _, task in sorted(known, key=lambda pair: pair[0]) if not task.done()]

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    # faults, and what there is not

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the exception: `run` raises what nobody handled."""
        if not self._unwinding:
            self.unhandled.append(context.get("exception") or RuntimeError(context["message"]))

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]  # refuses any arguments
        raise _no("threads")

    def run_in_executor(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]  # refuses any arguments
        raise _no("threads")

    async def getaddrinfo(self, *_: Any, **__: Any) -> NoReturn:
        raise _no("sockets")

    async def create_connection(self, *_: Any, **__: Any) -> NoReturn:
        raise _no("sockets")

    async def create_server(self, *_: Any, **__: Any) -> NoReturn:
        raise _no("sockets")

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> NoReturn:
        raise _no("sockets")

    async def subprocess_exec(self, *_: Any, **__: Any) -> NoReturn:
        raise _no("processes")

    async def subprocess_shell(self, *_: Any, **__: Any) -> NoReturn:
        raise _no("processes")


class VirtualClock:
    """Wall time in a simulation, as `mesh.ports.Clock`.

    It is the loop's time after an epoch, plus `skew_ms`.
    """

    def __init__(self, loop: VirtualTimeLoop, *, epoch_ms: int = _EPOCH_MS, skew_ms: int = 0) -> None:
        self.skew_ms = skew_ms
        self._loop = loop
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        # the hair makes a timer of n ms see its own millisecond, in spite of binary fractions
        return self._epoch_ms + self.skew_ms + int(self._loop.time() * 1000 + 1e-4)


class SeededEntropy:
    """Randomness in a simulation, as `mesh.ports.Entropy`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def token(self) -> str:
        return f"{self._rng.getrandbits(128):032x}"


def run(
    main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, T]],
    *,
    seed: int | None = 0,
    limit_s: float = 30 * 86_400.0,
) -> T:
    """Run `main(loop)` in virtual time and return its result. Equal seeds give equal runs.

    What is still running at its end is cancelled. Raises `Deadlock`, `VirtualTimeLimit`, or what
    nobody handled.
    """
    loop = VirtualTimeLoop(seed=seed, limit_s=limit_s)
    try:
        result: T = loop.run_until_complete(main(loop))
    finally:
        loop.unwind()
    if loop.unhandled:
        raise BaseExceptionGroup("nobody handled these in the simulation", loop.unhandled)
    return result


def _is_dead(owner: Incarnation | None) -> bool:
    return owner is not None and owner.is_killed


async def _wait_for(tasks: list["asyncio.Task[Any]"]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _waiting(loop: VirtualTimeLoop) -> str:
    lines = [f"  {task.get_name()} at {_place(task)}" for task in loop.pending(dead=False)]
    return "\n".join(["these tasks are pending:", *lines])


def _place(task: "asyncio.Task[Any]") -> str:
    """Where a task waits: the innermost coroutine, by file and line."""
    inner: Any = task.get_coro()
    while (awaited := getattr(inner, "cr_await", None)) is not None and hasattr(awaited, "cr_frame"):
        inner = awaited
    frame = getattr(inner, "cr_frame", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame else repr(inner)


def _no(what: str) -> RuntimeError:
    return RuntimeError(f"there are no {what} in virtual time; use a port, or a loop of the real kind")

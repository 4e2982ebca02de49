"""A simulated process, which may die.

Owns which tasks belong to which process. A crash differs from a cancelled task, whose `finally`
would run and might commit. The tasks of an `Incarnation`, and whatever they start, belong to it (by
context variable). After `kill` the loop runs not one more step of them. `on_kill` kills its
connections. `mesh.testing.virtual_time.loop` makes incarnations, and respects their end.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")


class Incarnation:
    """One life of one simulated process. Made by `VirtualTimeLoop.incarnation`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.name = name
        self.is_killed = False
        self.tasks: list[asyncio.Task[Any]] = []
        self._loop = loop
        self.is_paused = False
        self.held: list[asyncio.Handle] = []  # steps that are due while it is paused
        self._on_kill: list[Callable[[], None]] = []

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run this as a task of the process.

        After a kill the task stays pending, so wait for something else then.
        """
        context = copy_context()
        context.run(INCARNATION.set, self)
        task = self._loop.create_task(coroutine, name=self.name, context=context)
        self.tasks.append(task)
        return task

    def on_kill(self, callback: Callable[[], None]) -> None:
        """Call this when the process is killed. `MemoryBroker.kill` is an example."""
        self._on_kill.append(callback)

    def pause(self) -> None:
        """Stop the process as `SIGSTOP` does: no step of it runs until `resume`."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on where the process was stopped, as after `SIGCONT`.

        Only its clock tells it that time has passed.
        """
        self.is_paused = False
        held, self.held = self.held, []
        for handle in [] if self.is_killed else held:
            self._loop.call_soon(_run, handle)

    def kill(self) -> None:
        """End the process as `kill -9` would: no step of it runs from here on.

        A step that itself calls this runs up to its next wait.
        """
        if self.is_killed:
            return
        self.is_killed = True
        for callback in self._on_kill:
            callback()


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()  # noqa: SLF001 - as the loop itself runs it


INCARNATION: Final[ContextVar[Incarnation | None]] = ContextVar("incarnation", default=None)
"""The process of these steps. What its tasks start inherits the context and belongs to it."""


def current_incarnation() -> Incarnation | None:
    """The simulated process that the caller runs in."""
    return INCARNATION.get()

"""What every service's process has: its event loop, its signals, its heartbeat, its one error."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from mesh.errors import MeshError
from mesh.heartbeat_file import beat, remove_heartbeat
from mesh.settings import (
    Settings,
)

_log = structlog.get_logger()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's coroutine on the fastest event loop there is."""
    _tune_collector()
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 - not there on Windows

    uvloop.run(main)


def _tune_collector() -> None:
    """Tune the garbage collector for services.

    They hold many values that live long and form no cycles. By default the collector would walk all
    of them again and again while the loop waits.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that people are to see, where what ended several tasks is said by one."""
    errors = [error for error in _flat(group) if not isinstance(error, asyncio.CancelledError)]
    is_said = len(errors) == 1 or (bool(errors) and all(isinstance(error, MeshError) for error in errors))
    return errors[0] if is_said else group


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        e for error in group.exceptions for e in (_flat(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Stop gracefully at the first signal, and at once at the second."""
    loop = asyncio.get_running_loop()

    def first(number: int) -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first, number)


async def beat_until_cancelled(
    settings: Settings, waits_for: Callable[[], str], ready: asyncio.Event | None = None
) -> None:
    """Touch the heartbeat file from the event loop itself, from `ready` on.

    So a blocked loop shows. `waits_for`: why the service is not ready for work, empty if it is. The
    file says so, for `mesh health --ready`. What a predecessor has left there goes at once.
    """
    path = settings.heartbeat_path
    with suppress(OSError):
        remove_heartbeat(path, of_others=True)
    if ready is not None:
        await ready.wait()
    is_told = False
    try:
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                beat(path, waits_for())
                is_told = False
            except OSError as error:
                if not is_told:
                    is_told = True
                    _log.warning(
                        "heartbeat_not_written", file=str(path), error=str(error), effect="`mesh health` fails"
                    )
            await asyncio.sleep(settings.heartbeat_interval_s)
    finally:
        with suppress(OSError):
            # a successor may have taken the file over already
            remove_heartbeat(path, of_others=False)

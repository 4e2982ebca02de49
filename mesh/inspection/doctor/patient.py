"""What the checks read: this machine's settings, and once they are open, broker and read model.

Owns no judgement. `examine` opens and closes it.
"""

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from mesh.core.topics import Topics
from mesh.inspection.mesh_status import MeshStatus, assess_twice
from mesh.inspection.mesh_status.disk import full_disk
from mesh.inspection.read_model import ReadModel
from mesh.ports import Broker, Clock
from mesh.settings import Settings

T = TypeVar("T")


class Patient:
    """`broker` and `model` may be asked for only by checks that need them (`table`)."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.topics = Topics(settings.topic_prefix)
        self.clock = clock
        self.opened: Broker | None = None
        self.caught_up: ReadModel | None = None
        self.opening_ms = 0
        self.unread_before = 0
        self._status: asyncio.Task[MeshStatus] | None = None

    @property
    def broker(self) -> Broker:
        if self.opened is None:
            raise RuntimeError("this check does not say that it needs the broker")
        return self.opened

    @property
    def model(self) -> ReadModel:
        if self.caught_up is None:
            raise RuntimeError("this check does not say that it needs the read model")
        return self.caught_up

    async def status(self) -> MeshStatus:
        """The mesh as `mesh status` sees it: looked at once, for all checks that ask."""
        if self._status is None:
            url = self.settings.broker
            looking = assess_twice(
                self.broker, self.topics, self.model, clock=self.clock, broker_url=url, hindrance=full_disk(url)
            )
            self._status = asyncio.create_task(looking)
        # a check whose time is over must not end the look of others
        return await asyncio.shield(self._status)

    async def close(self) -> None:
        """End a look that still goes on."""
        if self._status is not None:
            self._status.cancel()
            await asyncio.wait([self._status])


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises. A disk that hangs must not hang the command, nor its end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is handed on to the one who waits
            _tell(loop, settle, None, error)
        else:
            _tell(loop, settle, result, None)

    Thread(target=run, name="doctor", daemon=True).start()
    return await done


def _tell(loop: asyncio.AbstractEventLoop, settle: Callable[..., None], *said: object) -> None:
    try:
        loop.call_soon_threadsafe(settle, *said)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return

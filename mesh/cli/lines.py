"""Lines of a stream as they come.

A thread reads, so that the event loop never waits for a producer; it is a daemon, since nothing can
end a read that waits. Called by `mesh publish -`.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

_CHUNK_BYTES: Final = 1 << 16
_AHEAD: Final = 64  # chunks that are read before the first of them is taken
_QUIET_S: Final = 0.2  # after a stop: a pipe that gives nothing for so long is empty
_LONGEST_S: Final = 2.0  # after a stop, of a producer that goes on

_Chunk = bytes | OSError | None  # None: `stop` was called


class Lines:
    """The lines of a binary stream, in batches. Use it in the loop that made it."""

    def __init__(self, stream: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = _reader_of(stream)
        self._chunks: asyncio.Queue[_Chunk] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._until: float | None = None
        threading.Thread(target=self._keep_reading, name="lines", daemon=True).start()

    @property
    def is_stopped(self) -> bool:
        return self._until is not None

    def stop(self) -> None:
        """End soon: with the lines that the stream holds already."""
        if not self.is_stopped:
            self._until = self._loop.time() + _LONGEST_S
            self._chunks.put_nowait(None)

    async def batches(self) -> AsyncIterator[list[bytes]]:
        """Give whole lines, as soon as there are some.

        The last line may lack its line feed. After a stop such a line is only a part, and is left
        out.
        """
        rest = b""
        while chunk := await self._next():
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield lines
        if rest and chunk is not None:
            yield [rest]

    async def _next(self) -> bytes | None:
        """Empty at the end, None where a stop left it open."""
        wait_s = None if self._until is None else min(_QUIET_S, self._until - self._loop.time())
        try:
            async with asyncio.timeout(wait_s):
                chunk = await self._chunks.get()
        except TimeoutError:
            return None
        if chunk is None:
            return await self._next()
        self._room.release()
        if isinstance(chunk, OSError):
            raise chunk
        return chunk

    def _keep_reading(self) -> None:
        chunk: bytes | OSError = b"-"
        with suppress(RuntimeError):  # the loop has ended
            while chunk and not isinstance(chunk, OSError):
                self._room.acquire()
                try:
                    chunk = self._read()
                except OSError as error:
                    chunk = error
                self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)


def _reader_of(stream: Any) -> Callable[[], bytes]:
    """What reads as much as there is.

    From the descriptor where there is one: a thread that waits within Python's own buffer would
    hold its lock when the process ends.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return lambda: bytes(stream.read1(_CHUNK_BYTES))
    return lambda: os.read(descriptor, _CHUNK_BYTES)

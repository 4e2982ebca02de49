"""Which tasks of one partition are done.

A group's commit says so, and a new owner of the partition reads it.

Owns `TaskOffsets`, one for each partition that an agent holds. No I/O, no clock. The agent runtime
is its only caller.

A commit says "everything below this offset is done"; tasks end in any order, so the ones done above
the lowest unfinished would be done again (and paid for again) after a crash. They go into the
commit's metadata:

    offsets    4   5   6   7   8   9  10
    state      .   x   x   .   x   .          x done, . begun
               ^ committed offset 4, metadata "t1:1+2,1+1": from 4 on, pass over 1, 2 are done,
                 pass over 1, 1 is done

At most 4,096 characters of it (Kafka's `offset.metadata.max.bytes`); what does not fit, highest
first, would be done again. Room is left for what `begins` has to say behind it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mesh.ports import Committed
from mesh.services.agent_runtime.base36 import base36

MAX_METADATA_CHARS: Final = 4096  # Kafka's default for offset.metadata.max.bytes; the text is ASCII
_FORMAT: Final = "t1:"
_RUN: Final = re.compile(r"([0-9a-z]+)\+([0-9a-z]+)")
_MAX_DIGITS: Final = 13  # of a 64-bit offset in base 36

Span = tuple[int, int]  # [first, end)


class TaskOffsets:
    """The state of one partition's tasks.

    Every offset below `next_offset` is either open (begun, or waiting to begin) or done.
    `done_ahead` are done and not yet read again.
    """

    __slots__ = ("_done_ahead", "_floor", "_next", "_open")

    def __init__(self, committed: Committed | None = None) -> None:
        self._floor = committed.offset if committed is not None else 0
        self._next = self._floor
        # in the order of offsets, since they are opened in that order
        self._open: dict[int, None] = {}
        self._done_ahead = _parse(committed) if committed is not None else []

    @property
    def open(self) -> Iterable[int]:
        """The offsets that are begun and not done, ascending."""
        return self._open.keys()

    def is_done_elsewhere(self, offset: int) -> bool:
        """Whether what was committed before us says that the task at `offset` is done."""
        return offset < self._floor or any(first <= offset < end for first, end in self._done_ahead)

    def begin(self, offset: int) -> bool:
        """Take the record at `offset`; false if it is done, or was taken before.

        Offsets must be given in ascending order.
        """
        if offset < self._next:
            return False
        self._next = offset + 1
        while self._done_ahead and self._done_ahead[0][1] <= offset:
            self._done_ahead.pop(0)
        if self._done_ahead and self._done_ahead[0][0] <= offset:
            return False
        self._open[offset] = None
        return True

    def finish(self, offset: int) -> None:
        """The task at `offset` is done: its result is at the broker, or none is needed.

        A second call changes nothing.
        """
        self._open.pop(offset, None)

    def committed(self, more: Callable[[int], str] | None = None) -> Committed:
        """What may be committed now.

        Everything below `offset` is done, and so is what the metadata names. `more`: what to say
        behind that, of the offset; it begins with a comma.
        """
        # offsets are opened in order, so the first one is the lowest
        lowest = next(iter(self._open), self._next)
        spans = self._done_spans()
        # nothing is open, and an earlier owner has done what comes next, so it can be committed too
        if lowest == self._next and spans and spans[0][0] == lowest:
            lowest = spans.pop(0)[1]
        return Committed(lowest, _metadata(lowest, spans, more(lowest) if more is not None else ""))

    def _done_spans(self) -> list[Span]:
        """What is done above the lowest open offset.

        Between open offsets, and by an earlier owner.
        """
        spans: list[Span] = []
        after: int | None = None
        for offset in self._open:
            if after is not None and offset > after:
                spans.append((after, offset))
            after = offset + 1
        if after is not None and self._next > after:
            spans.append((after, self._next))
        for first, end in self._done_ahead:
            _add(spans, max(first, self._next), end)
        return spans


def _add(spans: list[Span], first: int, end: int) -> None:
    if first >= end:
        return
    if spans and spans[-1][1] == first:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((first, end))


def _metadata(lowest: int, spans: Iterable[Span], more: str = "") -> str:
    runs: list[str] = []
    size, at = len(_FORMAT) + len(more), lowest
    for first, end in spans:
        run = f"{base36(first - at)}+{base36(end - first)}"
        size += len(run) + 1
        # Kafka bounds this text. What finds no room is done again after a death, which is allowed.
        if size > MAX_METADATA_CHARS:
            break
        runs.append(run)
        at = end
    return _FORMAT + ",".join(runs) + more if runs or more else ""


def _parse(committed: Committed) -> list[Span]:
    """The done spans of a commit's metadata.

    A text that is not ours has none: those tasks are done again, which is allowed.
    """
    return list(_spans(committed.offset, committed.metadata))


def _spans(at: int, text: str) -> Iterator[Span]:
    if not text.startswith(_FORMAT):
        return
    for run in text[len(_FORMAT) :].split(","):
        match = _RUN.fullmatch(run)
        if match is None or len(run) > 2 * _MAX_DIGITS + 1:
            return
        first = at + int(match[1], 36)
        at = first + int(match[2], 36)
        yield first, at

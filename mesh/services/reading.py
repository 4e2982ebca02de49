"""Reading partitions to their ends, and not a moment longer.

Owns the rule of when all up to an end has been read: the reader's own position tells, never the
last record. An offset may hold no record (a transaction's marker, what was rolled back or
compacted), also the last one before an end, and a reader that waited for a record there would wait
without end. Called wherever the mesh reads up to "now": definitions, cards, the log, single
records.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, TypeVar

from mesh.errors import BrokerUnavailable
from mesh.ports import Broker, Reader, Record, TopicPartition

Found = TypeVar("Found")

SILENCE_S: Final = 30.0  # without a record, although an end was not reached
BATCH: Final = 1_000
LOOK_S: Final = 0.25  # a poll that meets nothing but markers comes back only now


async def read_up_to(
    reader: Reader, ends: Mapping[TopicPartition, int], *, silence_s: float = SILENCE_S
) -> AsyncIterator[Sequence[Record]]:
    """Batches of records until the reader, which has these partitions assigned, has passed `ends`.

    The last ones may hold records behind an end. Raises `BrokerUnavailable`, which names what is
    unread, where nothing comes and nothing moves for `silence_s`.
    """
    silent, before = 0, dict[TopicPartition, int]()
    while left := unread(reader, ends):
        if silent * LOOK_S >= silence_s:
            raise BrokerUnavailable(
                f"{names(left)} can't be read to its end: nothing came for {silence_s:.0f} s; is the broker well?"
            )
        records = await reader.poll(max_records=BATCH, timeout_s=LOOK_S, partitions=list(left))
        silent, before = 0 if left != before else silent + 1, left
        if records:
            yield records
        await asyncio.sleep(0)


def unread(reader: Reader, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """How many offsets of each partition are still unread before its end.

    Partitions that are read to their end are left out.
    """
    left = {at: end - reader.position(at) for at, end in ends.items()}
    return {at: count for at, count in left.items() if count > 0}


def names(left: Mapping[TopicPartition, int]) -> str:
    """The partitions in words for a message, with how much of each is left."""
    few = [f"{at.topic}/{at.partition} ({left[at]} left)" for at in sorted(left)[:3]]
    return ", ".join(few) + (f" and {len(left) - 3} more" if len(left) > 3 else "")  # noqa: PLR2004 - three are enough


async def first_at(broker: Broker, where: TopicPartition, offset: int) -> Record | None:
    """The first record of a partition at or behind `offset`; None where it has none."""
    begins, ends = await broker.begin_offsets([where]), await broker.end_offsets([where])
    start = max(offset, begins[where])
    if start >= ends[where]:
        return None
    reader = await broker.reader()
    try:
        reader.assign({where: start})
        async for records in read_up_to(reader, ends):
            return records[0]
    finally:
        await reader.close()
    return None


async def search_last(
    reader: Reader, ends: Mapping[TopicPartition, int], match: Callable[[Record], Found | None], timeout_s: float
) -> Found | None:
    """The last match below `ends`; if there is none, the first to come. None: none in time."""
    deadline = time.monotonic() + timeout_s
    last: Found | None = None
    while (left := deadline - time.monotonic()) > 0 and (last is None or unread(reader, ends)):
        # with a match in hand, what is left may hold no record (a
        # marker), and must not be waited for
        wait_s = 1.0 if last is None else LOOK_S
        for record in await reader.poll(max_records=BATCH, timeout_s=min(left, wait_s)):
            found = match(record)
            last = found if found is not None else last
        await asyncio.sleep(0)
    return last

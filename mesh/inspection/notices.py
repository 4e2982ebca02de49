"""What people were told, as `mesh.approvals.notices` has it.

Owns reading the topic from a time on. It keeps nothing: notices are read now and then, by people.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from mesh.codec.notices import Notice, decode_notice, is_about
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to


class Told(NamedTuple):
    """A notice at one address as it is now, and when the broker took that."""

    recorded_ms: int
    notice: Notice


async def told_since(broker: Broker, topics: Topics, since_ms: int) -> list[Told]:
    """All notices of which the topic says something since then, the last first."""
    found: dict[tuple[str, str], Told] = {}
    async with aclosing(_records(broker, topics, since_ms)) as records:
        async for record in records:
            try:
                notice = decode_notice(record)
            except MalformedRecord:
                continue
            found[notice.id, notice.channel] = Told(record.timestamp_ms, notice)
    return sorted(found.values(), key=lambda one: one.recorded_ms, reverse=True)


async def count_undelivered(broker: Broker, topics: Topics, since_ms: int) -> int:
    """How many notices could not be delivered since then."""
    count = 0
    async with aclosing(_records(broker, topics, since_ms)) as records:
        async for record in records:
            # by the headers alone: most are of another status
            count += is_about(record, "undelivered")
    return count


async def _records(broker: Broker, topics: Topics, since_ms: int) -> AsyncGenerator[Record, None]:
    info = (await broker.topics()).get(topics.notices)
    if info is None:  # of a mesh of before
        return
    places = [TopicPartition(topics.notices, number) for number in range(info.partitions)]
    ends, starts = await broker.end_offsets(places), await broker.offsets_at(places, since_ms)
    reader = await broker.reader()
    try:
        reader.assign(starts)
        async for records in read_up_to(reader, {at: end for at, end in ends.items() if starts[at] < end}):
            for record in records:
                yield record
    finally:
        await reader.close()

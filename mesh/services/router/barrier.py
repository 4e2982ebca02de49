"""Barriers: a timer waits until every earlier input that could beat it has been read.

For results, the barrier is the end of the results partition, asked for after the timer's time. A
person's answer or an operator's command, and an event that a step waits for, need one more step,
because they lie on their own topic until ingress has copied them. So the broker is first asked
whether the ingress group has committed past every such record that came before the time (it commits
only what the inbox has), and only then for the end of the inbox.
"""

from collections.abc import Sequence
from typing import Final

from mesh.core.topics import Topics
from mesh.ports import Broker, TopicPartition
from mesh.services.router.deadlines import Barrier
from mesh.services.router.owner import Owner
from mesh.services.router.timers import Awaited

_CLOCK_SLACK_MS: Final = 1
"""Broker timestamps are whole milliseconds.

An answer of the deadline's own millisecond is in time.
"""


async def raise_barriers(owners: Sequence[tuple[Owner, int]], broker: Broker, topics: Topics) -> None:
    """Give each owner its barrier for its time. Raises `BrokerUnavailable`."""
    # One question for all: the latest time covers the earlier ones.
    up_to_ms = max(up_to + owner.clock.ahead_ms for owner, up_to in owners)
    # where the broker's clock was put back, its timestamps don't tell what came before a time
    asked_ms = None if any(owner.clock.has_stale_stamps for owner, _ in owners) else up_to_ms + _CLOCK_SLACK_MS
    asked = _sources(topics)
    due = {awaited for owner, up_to in owners for awaited in owner.deadlines.beatable(up_to)}
    copied = frozenset(
        [
            awaited
            for awaited, sources in asked.items()
            if awaited in due and all([await _copied(topic, asked_ms, broker, topics) for topic in sources])
        ]
    )
    inputs = [TopicPartition(t, owner.partition) for owner, _ in owners for t in (topics.inbox, topics.results)]
    # Asked last: a copy that ingress has committed is below an end that is asked for after it.
    ends = await broker.end_offsets(inputs)
    for owner, up_to in owners:
        targets = {t: ends[TopicPartition(t, owner.partition)] for t in (topics.inbox, topics.results)}
        owner.deadlines.barrier = Barrier(up_to, targets, copied)


def _sources(topics: Topics) -> dict[Awaited, tuple[str, ...]]:
    """The topics whose records may beat a timer, and that ingress copies."""
    # an operator's extension that came in time beats a deadline, as an answer does
    return {"answers": (topics.responses, topics.commands), "events": (topics.events,)}


async def _copied(topic: str, asked_ms: int | None, broker: Broker, topics: Topics) -> bool:
    """Whether ingress has copied all that came to this topic before the time; None: until now."""
    info = (await broker.topics()).get(topic)
    # there is nothing on it to wait for
    if info is None:
        return True
    partitions = [TopicPartition(topic, p) for p in range(info.partitions)]
    needed = await (broker.end_offsets(partitions) if asked_ms is None else broker.offsets_at(partitions, asked_ms))
    begins = await broker.begin_offsets(partitions)
    committed = await broker.committed(topics.ingress_group, partitions)
    return all(
        # what retention has dropped can't be copied any more, and must not hold up a deadline
        offset <= max(begins[tp], done.offset if (done := committed[tp]) is not None else 0)
        for tp, offset in needed.items()
    )

"""A mesh on SQLite whose workflows were decided by the core itself.

The tools have to show every rule of the language in it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from one_partition import Partition

from mesh.adapters.sqlite import SqliteBroker
from mesh.codec.cloudevents import to_record
from mesh.codec.commands import decode_command
from mesh.codec.definitions import encode_definition
from mesh.codec.effects import EffectEncoder
from mesh.codec.open_approvals import OPEN_PARTITIONS
from mesh.core.effects import SendDeadLetter, effects
from mesh.core.events import Event
from mesh.core.inputs import EventMatched, EventOffered, Input
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendCommandReceipt
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.ports import Broker, Committed, OutRecord, TopicPartition, TopicSpec

TOPICS = Topics()
GENEROUS_S = 60
_Found = TypeVar("_Found")


class ToldPartition(Partition):
    """Begins a minute ago, and keeps the events that it was given."""

    def __init__(self, *routes: Route) -> None:
        self.cloud_events: list[dict[str, Any]] = []
        super().__init__(*routes)
        self.now_ms = int(time.time() * 1000) - 60_000

    def give(self, given: Input) -> tuple[Event, ...]:
        if isinstance(given, EventMatched | EventOffered):
            self.cloud_events.append(given.cloud_event)
        return super().give(given)


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[_Found]]) -> _Found:
    async def open_and_work() -> _Found:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


def write(folder: Path, made: Partition) -> None:
    """The log, the events that it came from, and the dead letters that came of it."""
    with_broker(folder, lambda broker: _write(broker, made))


async def _write(broker: Broker, made: Partition) -> None:
    names = (TOPICS.log, TOPICS.inbox, TOPICS.results, TOPICS.events, TOPICS.commands, TOPICS.definitions, TOPICS.dlq)
    others = (TOPICS.agents, TOPICS.responses, TOPICS.command_receipts)
    specs = [TopicSpec(name, 1) for name in (*names, *others)]
    await broker.create_topics([*specs, TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS)])
    letters = [
        EffectEncoder(TOPICS, 0, partitions=1).encode(effect)
        for decision in made.decisions
        for effect in effects(decision)
        if isinstance(effect, SendDeadLetter | ShowApproval)
    ]
    events: list[OutRecord] = []
    if isinstance(made, ToldPartition):
        events = [to_record(one, topic=TOPICS.events) for one in made.cloud_events]
    definitions = [encode_definition(one, TOPICS) for one in made.routes.values()]
    assert not await broker.send([*events, *letters, *definitions])
    await broker.append(TopicPartition(TOPICS.log, 0), None, made.log, [])


async def answer_command(broker: Broker, made: Partition) -> None:
    """A router's part: decide the next command that comes, and write the decision down."""
    reader = await broker.reader()
    reader.assign({TopicPartition(TOPICS.commands, 0): 0})
    async with asyncio.timeout(GENEROUS_S):
        while not (records := await reader.poll(max_records=1, timeout_s=1)):
            pass
    await reader.close()
    before = len(made.log)
    made.give(decode_command(records[0]))
    encoder = EffectEncoder(TOPICS, 0, partitions=1)
    receipts = [encoder.encode(effect) for effect in made.effects() if isinstance(effect, SendCommandReceipt)]
    await broker.append(TopicPartition(TOPICS.log, 0), None, made.log[before:], [])
    assert not await broker.send(receipts)


async def commit_ingress(broker: Broker, offset: int) -> None:
    """As a router that has read `offset` events."""

    class Listener:
        async def on_assigned(self, partitions: Any) -> None: ...
        async def on_revoked(self, partitions: Any) -> None: ...

    subscription = await broker.subscribe(TOPICS.ingress_group, [TOPICS.events], Listener(), member="m")
    where = TopicPartition(TOPICS.events, 0)
    async with asyncio.timeout(60):
        while where not in subscription.assignment():
            await subscription.poll(max_records=1, timeout_s=0.05)
    await subscription.commit({where: Committed(offset)})
    await subscription.close()

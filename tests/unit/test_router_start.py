"""A router whose broker does not answer while it begins: it waits, and begins none the less."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from one_partition import agent, route

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, TopicMissing
from mesh.ports import OutRecord, SendFailure, TopicPartition
from mesh.services.definitions import DefinitionsReader, activate
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs

GENEROUS_S = 60.0
TOPICS = Topics()


class Slow(MemoryBroker):
    """Does not answer the first questions for ends, of which a beginning asks several."""

    def __init__(self, cluster: MemoryCluster, silent: int) -> None:
        super().__init__(cluster, "r")
        self.silent, self.asked = silent, asyncio.Event()

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.asked.set()
        if self.silent:
            self.silent -= 1
            raise BrokerUnavailable("no answer")
        return await super().end_offsets(partitions)


def _router(broker: MemoryBroker, ready: asyncio.Event) -> Router:
    return Router(
        broker,
        topics=TOPICS,
        routes=[route({"a": agent("worker", 1)})],
        roles={},
        config=RouterConfig(instance="r", partitions=2, retry_pause_s=0.001),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        ready=ready,
    )


@pytest.mark.parametrize("silent", [1, 2, 5])
async def test_a_router_begins_however_often_the_broker_did_not_answer(silent: int) -> None:
    cluster = MemoryCluster(SystemClock())
    cluster.create_topics(topic_specs(TOPICS, partitions=2, agents=["worker"]))
    broker, ready = Slow(cluster, silent), asyncio.Event()
    router = _router(broker, ready)
    async with asyncio.timeout(GENEROUS_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(router.run())
        await ready.wait()
        router.stop()
        await running
    known = DefinitionsReader(MemoryBroker(cluster, "reader"), TOPICS)
    await known.start()
    assert [now.digest for now in known.timeline.latest().values()] == [route({"a": agent("worker", 1)}).digest]


class Forgetful(MemoryBroker):
    """Takes the definition of a route, and does not answer when its activation comes."""

    failures = 1

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        if self.failures and any(b"activation" in (record.key or b"") for record in records):
            self.failures -= 1
            raise BrokerUnavailable("no answer")
        return await super().send(records)


async def test_a_changed_file_is_applied_though_its_first_activation_was_lost() -> None:
    cluster = MemoryCluster(SystemClock())
    cluster.create_topics(topic_specs(TOPICS, partitions=2, agents=["worker"]))
    older = DefinitionsReader(MemoryBroker(cluster, "older"), TOPICS)
    await older.start()
    before = route({"a": agent("worker", 0)})
    await activate(older, MemoryBroker(cluster, "older"), TOPICS, routes=[before], activation_id="1", by="x", at_ms=0)
    broker, ready = Forgetful(cluster, "r"), asyncio.Event()
    router = _router(broker, ready)
    async with asyncio.timeout(GENEROUS_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(router.run())
        await ready.wait()
        router.stop()
        await running
    assert broker.failures == 0
    await older.refresh()
    assert older.timeline.latest()["r"].digest == route({"a": agent("worker", 1)}).digest


async def test_a_router_can_be_stopped_while_it_waits() -> None:
    cluster = MemoryCluster(SystemClock())
    cluster.create_topics(topic_specs(TOPICS, partitions=2, agents=[]))
    broker = Slow(cluster, 1_000_000)
    router = _router(broker, asyncio.Event())
    async with asyncio.timeout(GENEROUS_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(router.run())
        await broker.asked.wait()
        router.stop()
        await running


async def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    with pytest.raises(TopicMissing, match="mesh topics apply"):
        await _router(MemoryBroker(MemoryCluster(SystemClock()), "r"), asyncio.Event()).run()

"""What becomes of the mesh's connection to a real broker when parts of aiokafka break.

Whatever dies is replaced, and closing is never an error.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.kafka.kafka import KafkaProcess
from mesh.adapters.kafka import KafkaBroker
from mesh.ports import Committed, OutRecord, Record, TopicPartition, TopicSpec

GENEROUS_S = 90.0
Kill = Callable[[Any], Awaitable[None]]


class Listener:
    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None: ...

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None: ...


@asynccontextmanager
async def connected(kafka: KafkaProcess, prefix: str) -> AsyncIterator[tuple[KafkaBroker, TopicPartition]]:
    """A connection, and a partition to write to."""
    async with asyncio.timeout(GENEROUS_S):
        broker = await KafkaBroker.open(kafka.bootstrap, client_id="clients", open_timeout_s=60.0)
        await broker.create_topics([TopicSpec(f"{prefix}t", 1)])
        try:
            yield broker, TopicPartition(f"{prefix}t", 0)
        finally:
            await broker.close()


async def send(broker: KafkaBroker, at: TopicPartition, *values: bytes) -> None:
    assert not await broker.send([OutRecord(at.topic, None, value, partition=at.partition) for value in values])


async def read(poll: Callable[[], Awaitable[Sequence[Record]]], count: int) -> list[bytes]:
    got: list[Record] = []
    while len(got) < count:
        got += await poll()
    return [record.value or b"" for record in got]


def broken(*_: object) -> Any:
    message = "nobody expects this"
    raise RuntimeError(message)


async def kill_synchronizer(consumer: Any) -> None:
    client = getattr(consumer, "client", None) or consumer._client
    client._metadata_update = broken
    client.force_metadata_update()
    await asyncio.wait({client._sync_task})


async def kill_fetcher(consumer: Any) -> None:
    consumer._fetcher._get_actions_per_node = broken
    await asyncio.wait({consumer._fetcher._fetch_task})


async def kill_heartbeats(consumer: Any) -> None:
    consumer._coordinator._do_heartbeat = broken
    await asyncio.wait({consumer._coordinator._heartbeat_task})


async def kill_coordination(consumer: Any) -> None:
    consumer._coordinator._maybe_do_autocommit = broken
    consumer._coordinator.request_rejoin()
    await asyncio.wait({consumer._coordinator._coordination_task})


@pytest.mark.parametrize("kill", [kill_synchronizer, kill_fetcher])
async def test_a_reader_reads_on_where_it_was(kafka: KafkaProcess, kafka_prefix: str, kill: Kill) -> None:
    async with connected(kafka, kafka_prefix) as (broker, at):
        reader = await broker.reader()
        await send(broker, at, b"0", b"1", b"2", b"3")
        reader.assign({at: 1})
        assert await read(lambda: reader.poll(max_records=1, timeout_s=0.2), 2) == [b"1", b"2"]
        await kill(reader._consumer._consumer)  # type: ignore[attr-defined]
        await send(broker, at, b"4")
        assert await read(lambda: reader.poll(max_records=1, timeout_s=0.2), 2) == [b"3", b"4"]


@pytest.mark.parametrize("kill", [kill_synchronizer, kill_fetcher, kill_heartbeats, kill_coordination])
async def test_a_member_joins_again_and_goes_on_from_what_it_committed(
    kafka: KafkaProcess, kafka_prefix: str, kill: Kill
) -> None:
    async with connected(kafka, kafka_prefix) as (broker, at):
        subscription = await broker.subscribe(
            f"{kafka_prefix}g", [at.topic], Listener(), member="m", session_timeout_s=60.0
        )
        await send(broker, at, b"0", b"1")
        assert await read(lambda: subscription.poll(max_records=9, timeout_s=0.2), 2) == [b"0", b"1"]
        await subscription.commit({at: Committed(2)})
        dead = subscription._consumer._consumer  # type: ignore[attr-defined]
        await kill(dead)
        await send(broker, at, b"2")
        async with asyncio.timeout(30.0):  # the session is longer: the dead one has left
            assert await read(lambda: subscription.poll(max_records=9, timeout_s=0.2), 1) == [b"2"]
        assert subscription._consumer._consumer is not dead  # type: ignore[attr-defined]
        await subscription.commit({at: Committed(3)})
        assert await broker.committed(f"{kafka_prefix}g", [at]) == {at: Committed(3)}


async def test_questions_and_sends_are_answered_by_new_clients(kafka: KafkaProcess, kafka_prefix: str) -> None:
    async with connected(kafka, kafka_prefix) as (broker, at):
        await send(broker, at, b"0")
        assert await broker.end_offsets([at]) == {at: 1}
        before = list(clients(broker))
        for client in before:
            await kill_synchronizer(client)
        await send(broker, at, b"1")
        assert await broker.end_offsets([at]) == {at: 2}
        assert at.topic in await broker.topics()
        assert not {id(client) for client in before} & {id(client) for client in clients(broker)}


@pytest.mark.parametrize("kill", [kill_synchronizer, kill_fetcher, kill_heartbeats, kill_coordination])
async def test_closing_what_is_dead_is_no_error_and_leaves_nothing_running(
    kafka: KafkaProcess, kafka_prefix: str, kill: Kill
) -> None:
    before = asyncio.all_tasks()
    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    async with connected(kafka, kafka_prefix) as (broker, at):
        subscription = await broker.subscribe(f"{kafka_prefix}g", [at.topic], Listener(), member="m")
        await send(broker, at, b"0")
        await read(lambda: subscription.poll(max_records=9, timeout_s=0.2), 1)
        await broker.end_offsets([at])
        await kill(subscription._consumer._consumer)  # type: ignore[attr-defined]
        for client in clients(broker):
            await kill_synchronizer(client)
    assert await ended(asyncio.all_tasks() - before)
    gc.collect()
    await asyncio.sleep(0)
    assert [context["message"] for context in unseen] == []


async def ended(tasks: set[asyncio.Task[Any]]) -> bool:
    return not tasks or not (await asyncio.wait(tasks, timeout=GENEROUS_S))[1]


def clients(broker: KafkaBroker) -> Iterator[Any]:
    """Those that the connection keeps for itself."""
    cluster = broker._cluster
    producers = [channel._current._producer for channel in (broker._log, broker._sends) if channel._current]
    yield from (client for client in (cluster._admin, cluster._offsets, *producers) if client is not None)

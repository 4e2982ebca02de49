"""Agents on a real Apache Kafka.

They share tasks and hand them over at a stop, and what is done is not done again.
"""

import asyncio

from infra.kafka.kafka import KafkaProcess
from mesh import Context, agent
from mesh.adapters.kafka import KafkaBroker
from mesh.adapters.system import SystemClock
from mesh.codec.tasks import decode_result, encode_task
from mesh.core.effects import SendTask
from mesh.core.topics import Topics
from mesh.ports import TopicPartition, TopicSpec
from mesh.services.agent_runtime.runtime import AgentRuntime
from mesh.services.agent_runtime.settings import AgentSettings

GENEROUS_S = 120.0
SETTINGS = AgentSettings(session_timeout_s=6.0)


def tasks(count: int) -> list[SendTask]:
    return [
        SendTask(
            workflow_id=f"test:{number}",
            run_id="00000001",
            route="test",
            step="step",
            task_id=f"test:{number}/00000001/step",
            attempt=1,
            agent="shared",
            input=number,
            at_ms=0,
            due_at_ms=4_000_000_000_000,
            traceparent="",
        )
        for number in range(count)
    ]


async def answered(broker: KafkaBroker, topics: Topics, wanted: int) -> list[str]:
    """The workflow ids of all results, as soon as `wanted` different ones are there."""
    reader = await broker.reader()
    reader.assign({TopicPartition(topics.results, 0): 0})
    ids: list[str] = []
    async with asyncio.timeout(GENEROUS_S):
        while len(set(ids)) < wanted:
            ids += [decode_result(record).workflow_id for record in await reader.poll(max_records=500, timeout_s=1.0)]
    await reader.close()
    return ids


async def test_tasks_are_shared_by_replicas_and_handed_over_at_a_stop(kafka: KafkaProcess, kafka_prefix: str) -> None:
    topics = Topics(kafka_prefix)
    begun: list[int] = []
    release = asyncio.Event()

    @agent("shared", concurrency=4)
    async def shared(value: int, ctx: Context) -> int:
        begun.append(value)
        if value == 0:
            await release.wait()
        return value

    brokers = [await KafkaBroker.open(kafka.bootstrap, client_id=f"agent-{n}", open_timeout_s=60.0) for n in range(3)]
    names = (topics.results, topics.agents, topics.dlq)
    await brokers[0].create_topics([TopicSpec(name, 1) for name in names] + [TopicSpec(topics.tasks("shared"), 4)])
    one, two = (
        AgentRuntime(broker, shared, topics=topics, clock=SystemClock(), instance=f"agent-{n}", settings=SETTINGS)
        for n, broker in enumerate(brokers[:2])
    )
    running = [asyncio.create_task(one.run())]
    records = [encode_task(task, topics=topics, reply_partition=0) for task in tasks(200)]
    assert not await brokers[2].send(records[:100])
    await answered(brokers[2], topics, 99)  # all but the one that waits
    running.append(asyncio.create_task(two.run()))
    assert not await brokers[2].send(records[100:])
    await answered(brokers[2], topics, 199)
    release.set()
    await answered(brokers[2], topics, 200)
    one.stop()
    two.stop()
    async with asyncio.timeout(GENEROUS_S):
        await asyncio.gather(*running)
    assert sorted(set(begun)) == list(range(200))
    again = [value for value in set(begun) if begun.count(value) > 1]
    assert again in ([], [0]), "only what ran while its partition went elsewhere may be begun twice"
    group = topics.agent_group("shared")
    at = [TopicPartition(topics.tasks("shared"), number) for number in range(4)]
    committed = await brokers[2].committed(group, at)
    assert sum(position.offset for position in committed.values() if position is not None) == 200
    for broker in brokers:
        await broker.close()

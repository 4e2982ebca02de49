"""A partition that another router had in between, and died with: its first owner takes it again."""

import asyncio
from dataclasses import dataclass, field

from one_partition import agent, route

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.log import decode_log_record
from mesh.core.events import OwnerChanged
from mesh.core.topics import Topics
from mesh.ports import TopicPartition
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs

GENEROUS_S = 60.0
TOPICS = Topics()
PARTITIONS = 2


@dataclass(kw_only=True)
class Life:
    """One router, in a process of its own."""

    cluster: MemoryCluster
    name: str
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.broker = MemoryBroker(self.cluster, self.name)
        self.router = Router(
            self.broker,
            topics=TOPICS,
            routes=[route({"a": agent("worker", 1)})],
            roles={},
            config=RouterConfig(
                instance=self.name, partitions=PARTITIONS, retry_pause_s=0.001, idle_poll_s=0.01, session_timeout_s=0.2
            ),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            ready=self.ready,
        )


def owners(cluster: MemoryCluster) -> list[str]:
    """The owner of each partition, as the log has it."""
    found = []
    for number in range(PARTITIONS):
        records = map(decode_log_record, cluster.records(TopicPartition(TOPICS.log, number)))
        found.append(["nobody", *(one.owner for one in records if isinstance(one, OwnerChanged))][-1])
    return found


async def until(wanted: set[str], cluster: MemoryCluster) -> None:
    while set(owners(cluster)) != wanted:  # noqa: ASYNC110 - the cluster says nothing when a record lands
        await asyncio.sleep(0.01)


async def test_a_partition_that_a_dead_router_had_in_between_is_taken_again_without_an_input() -> None:
    cluster = MemoryCluster(SystemClock())
    cluster.create_topics(topic_specs(TOPICS, partitions=PARTITIONS, agents=["worker"]))
    first = Life(cluster=cluster, name="first")
    async with asyncio.timeout(GENEROUS_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(first.router.run())
        await first.ready.wait()
        await until({"first"}, cluster)
        second = Life(cluster=cluster, name="second")
        dying = asyncio.create_task(second.router.run())
        await until({"first", "second"}, cluster)
        second.broker.kill()
        dying.cancel()
        await until({"first"}, cluster)
        first.router.stop()
        await running
    await asyncio.wait([dying])

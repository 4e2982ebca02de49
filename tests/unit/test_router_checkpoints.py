"""A router's checkpoints: written in portions, and whole all the same.

What the disk failed to write is made up for.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import pytest
from one_partition import agent, route

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.cloudevents import to_record
from mesh.core.topics import Topics
from mesh.errors import OperatorError
from mesh.ports import OutRecord, TopicPartition
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs
from mesh.testing.simulation.stores import MemoryCheckpointStore

GENEROUS_S = 60.0
TOPICS = Topics()
WORKFLOWS = 20


class Disk(MemoryCheckpointStore):
    """A store that notes how many workflows each portion has.

    It fails at the portions and the ends that a test names.
    """

    def __init__(self, *, failing_puts: Collection[int] = (), failing_saves: Collection[int] = ()) -> None:
        super().__init__()
        self.portions: list[int] = []
        self.saves = 0
        self.saved = asyncio.Event()
        self._failing_puts = failing_puts
        self._failing_saves = failing_saves

    def put(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        self.portions.append(len(changed) + len(removed))
        if len(self.portions) in self._failing_puts:
            self.load()  # drops what was put
            raise OperatorError("the disk is full")
        super().put(changed, removed)

    def save(self, *, offset: int, epoch_tokens: bytes, meta: bytes) -> None:
        self.saves += 1
        if self.saves in self._failing_saves:
            self.load()
            raise OperatorError("the disk is full")
        super().save(offset=offset, epoch_tokens=epoch_tokens, meta=meta)
        self.saved.set()

    def workflows(self) -> int:
        last = self.last()
        return len(last.workflows) if last is not None else 0


def _cluster() -> MemoryCluster:
    cluster = MemoryCluster(SystemClock())
    cluster.create_topics(topic_specs(TOPICS, partitions=1, agents=["worker"]))
    return cluster


@asynccontextmanager
async def _running_router(
    disk: Disk, cluster: MemoryCluster | None = None, workflows: int = WORKFLOWS
) -> AsyncIterator[Router]:
    """A router of one partition with many live workflows, all decided in few turns."""
    broker, ready = MemoryBroker(cluster or _cluster(), "r"), asyncio.Event()
    router = Router(
        broker,
        topics=TOPICS,
        routes=[route({"a": agent("worker", 1)})],
        roles={},
        config=RouterConfig(
            instance="r",
            partitions=1,
            max_poll_records=1,
            idle_poll_s=0.01,
            checkpoint_interval_s=0.01,
            checkpoint_portion=3,
        ),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        open_checkpoint=lambda _: disk,
        ready=ready,
    )
    async with asyncio.timeout(GENEROUS_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(router.run())
        await ready.wait()
        for n in range(workflows):
            event = {"specversion": "1.0", "id": f"e{n}", "source": "/t", "type": "t", "subject": str(n)}
            assert not await broker.send([to_record(event, topic=TOPICS.events, key=b"k")])
        try:
            yield router
        finally:
            router.stop()
            await running


async def _until_all_are_decided(router: Router) -> None:
    while len(list(router.workflows())) < WORKFLOWS:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.001)


async def _until_all_are_saved(disk: Disk) -> None:
    while disk.workflows() < WORKFLOWS:
        disk.saved.clear()
        await disk.saved.wait()


async def test_a_checkpoint_is_written_in_portions_and_is_whole() -> None:
    # No checkpoint ends before all workflows wait for one: a busy machine decides few in a turn.
    disk = Disk(failing_saves=range(1, 1_000))
    async with _running_router(disk) as router:
        await _until_all_are_decided(router)
        disk._failing_saves = ()
        await _until_all_are_saved(disk)
    assert max(disk.portions) == 3


@pytest.mark.parametrize("failing", [{"failing_puts": {1, 2, 4}}, {"failing_saves": {1, 2, 3}}])
async def test_what_the_disk_did_not_take_is_in_the_next_checkpoint(failing: dict[str, Collection[int]]) -> None:
    disk = Disk(**failing)
    async with _running_router(disk) as router:
        await _until_all_are_saved(disk)
        assert {workflow.status for workflow in router.workflows()} == {"running"}


async def test_a_graceful_stop_saves_the_rest_at_once() -> None:
    disk = Disk(failing_saves=range(1, 1_000))
    async with _running_router(disk) as router:
        await _until_all_are_decided(router)
        while not disk.saves:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
        disk._failing_saves = ()
    assert disk.workflows() == WORKFLOWS


def _log_that_lost_its_end(cluster: MemoryCluster, keeps: int) -> MemoryCluster:
    """A broker whose log is the other's as an older backup has it, and that has nothing else."""
    at, restored = TopicPartition(TOPICS.log, 0), _cluster()
    records = cluster.records(at)[:keeps]
    restored.land(at, [OutRecord(one.topic, one.key, one.value, one.headers) for one in records])
    return restored


async def test_a_checkpoint_that_is_ahead_of_its_log_is_not_used() -> None:
    """The log is the only truth: it is read from its begin."""
    disk, cluster, keeps = Disk(), _cluster(), 8
    async with _running_router(disk, cluster) as router:
        await _until_all_are_decided(router)
    assert disk.workflows() == WORKFLOWS
    restored = _log_that_lost_its_end(cluster, keeps)
    async with _running_router(disk, restored, workflows=0) as router:
        while not router.is_owning:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
        # the first record is the owner's claim, and each other one starts a workflow
        assert len(list(router.workflows())) == keeps - 1

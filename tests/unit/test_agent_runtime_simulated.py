"""The agent runtime in simulation.

Kills, rebalances, lost memberships, and a broker that answers late or not at all.
"""

import asyncio
import random

import pytest

from mesh import Context, agent
from mesh.adapters.memory import MemoryCluster, WeakBehaviour
from mesh.codec.tasks import decode_result, decode_task, encode_task
from mesh.core.effects import SendTask
from mesh.core.topics import Topics
from mesh.ports import Clock, TopicPartition, TopicSpec
from mesh.services.agent_runtime.offsets import TaskOffsets
from mesh.services.agent_runtime.runtime import AgentRuntime
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.testing.virtual_time.loop import VirtualClock, VirtualTimeLoop, run

TOPICS = Topics()
PARTITIONS = 3
TASKS = 120
REPLICAS = 3
SETTINGS = AgentSettings(buffer_records=12, poll_records=6, session_timeout_s=3.0, revoke_drain_s=0.5, drain_s=5.0)
WEAK = WeakBehaviour(
    latency_s=(0.0, 0.05),
    lost_request=0.03,
    lost_acknowledgement=0.03,
    late_landing=0.02,
    late_by_s=3.0,
    give_up_s=2.0,
    lands_twice=0.03,
    failed_call=0.05,
    rebalance=0.02,
    undead=0.01,
)


class World:
    def __init__(self, loop: VirtualTimeLoop, seed: int, weak: WeakBehaviour | None) -> None:
        self.loop = loop
        self.rng = random.Random(seed)
        self.clock: Clock = VirtualClock(loop)
        self.cluster = MemoryCluster(self.clock, weak=weak, rng=random.Random(seed + 1))
        names = ((TOPICS.results, 1), (TOPICS.agents, 1), (TOPICS.dlq, 1), (TOPICS.tasks("simulated"), PARTITIONS))
        self.cluster.create_topics([TopicSpec(name, count) for name, count in names])
        self.lives = 0
        self.begun: dict[str, int] = {}

    def answered(self) -> set[str]:
        return {decode_result(r).task_id for r in self.cluster.records(TopicPartition(TOPICS.results, 0))}

    def send_tasks(self) -> None:
        for number in range(TASKS):
            out = encode_task(task(number, self.clock.now_ms()), topics=TOPICS, reply_partition=0)
            self.cluster.land(TopicPartition(out.topic, number % PARTITIONS), [out])

    def check_commits(self) -> None:
        """Nothing is committed as done whose result is not at the broker."""
        answered = self.answered()
        group = self.cluster.groups.get(TOPICS.agent_group("simulated"))
        for partition, committed in (group.committed if group is not None else {}).items():
            offsets = TaskOffsets(committed)
            for record in self.cluster.records(partition):
                done = record.offset < committed.offset or not offsets.begin(record.offset)
                assert not done or decode_task(record).task_id in answered, (partition, committed, record.offset)

    def all_committed(self) -> bool:
        group = self.cluster.groups[TOPICS.agent_group("simulated")]
        at = [TopicPartition(TOPICS.tasks("simulated"), number) for number in range(PARTITIONS)]
        return all((c := group.committed.get(p)) is not None and c.offset == TASKS // PARTITIONS for p in at)

    async def live(self, *, may_die: bool) -> None:
        """One life of one replica: until it is killed, or stops gracefully."""
        self.lives += 1
        name = f"life-{self.lives}"
        incarnation = self.loop.incarnation(name)
        connection = self.cluster.connect(name)
        incarnation.on_kill(connection.kill)

        @agent("simulated", concurrency=3)
        async def simulated(value: float, ctx: Context) -> str:
            self.begun[ctx.task_id] = self.begun.get(ctx.task_id, 0) + 1
            await asyncio.sleep(value)
            return ctx.task_id

        runtime = AgentRuntime(connection, simulated, topics=TOPICS, clock=self.clock, instance=name, settings=SETTINGS)
        incarnation.start(self._run(runtime))
        if not may_die:
            return
        await asyncio.sleep(self.rng.uniform(0.5, 15.0))
        if self.rng.random() < 0.5:
            runtime.stop()
            await asyncio.sleep(20.0)
        incarnation.kill()

    async def _run(self, runtime: AgentRuntime) -> None:
        while True:
            try:
                await runtime.run()
            except Exception:  # noqa: BLE001 - a broker that is away at the start ends the process; its supervisor starts another
                await asyncio.sleep(1.0)
                runtime = AgentRuntime(
                    runtime._broker, runtime.agent, topics=TOPICS, clock=self.clock, instance="again", settings=SETTINGS
                )
            else:
                return


def task(number: int, now_ms: int) -> SendTask:
    return SendTask(
        workflow_id=f"test:{number}",
        run_id="00000001",
        route="test",
        step="step",
        task_id=f"test:{number}/00000001/step",
        attempt=1,
        agent="simulated",
        input=[0.0, 0.01, 0.3, 4.0][number % 4],
        at_ms=now_ms,
        due_at_ms=now_ms + 86_400_000,
        traceparent="",
    )


async def one_run(loop: VirtualTimeLoop, seed: int, weak: WeakBehaviour | None, lives: int) -> World:
    world = World(loop, seed, weak)
    world.send_tasks()

    async def replica() -> None:
        for _ in range(lives):
            await world.live(may_die=True)
        await world.live(may_die=False)

    replicas = [asyncio.create_task(replica()) for _ in range(REPLICAS)]
    while not (len(world.answered()) == TASKS and world.all_committed()):
        world.check_commits()
        await asyncio.sleep(0.25)
    world.check_commits()
    for one in replicas:
        one.cancel()
    return world


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(3, 12))])
def test_whatever_happens_every_task_is_answered_and_no_commit_passes_a_result(seed: int) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        await one_run(loop, seed, WEAK, lives=4)

    run(main, seed=seed, limit_s=3600.0)


@pytest.mark.parametrize("seed", range(4))
def test_with_a_broker_that_behaves_and_no_deaths_every_task_is_begun_once(seed: int) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        weak = WeakBehaviour(latency_s=(0.0, 0.01), rebalance=0.02)
        world = await one_run(loop, seed, weak, lives=0)
        doubled = [task_id for task_id, count in world.begun.items() if count > 1]
        slow = {f"test:{number}/00000001/step" for number in range(3, TASKS, 4)}
        assert set(doubled) <= slow, "only what outlasts the drain of a revoke may be begun by two"

    run(main, seed=seed, limit_s=3600.0)

"""A memory broker with one agent on it, for the tests of the agent runtime."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mesh import Agent
from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.codec.tasks import decode_result, encode_task
from mesh.core.effects import SendTask
from mesh.core.inputs import ResultReceived
from mesh.core.route import Periods
from mesh.core.tool_approvals import ToolVerdict
from mesh.core.topics import Topics
from mesh.ports import Committed, OutRecord, Record, TopicPartition, TopicSpec
from mesh.services.agent_runtime.runtime import AgentRuntime
from mesh.services.agent_runtime.settings import AgentSettings

TOPICS = Topics()
GENEROUS_S = 30.0
SETTINGS = AgentSettings(
    task_partitions=1, poll_s=0.05, commit_every_s=0.01, watch_every_s=0.01, drain_s=GENEROUS_S, revoke_drain_s=0.2
)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not condition():  # noqa: ASYNC110 - the broker under test tells nobody
            await asyncio.sleep(0.005)


def _old(task: bytes | None) -> bytes:
    """The task as a router of an earlier version sends it."""
    value = json.loads(task or b"")
    del value["accepts"]
    return json.dumps(value).encode()


class AgentMesh:
    """`partitions`: of the agent's topic, created by the runtime."""

    def __init__(self, *, partitions: int = 1, max_record_bytes: int = 1_000_000) -> None:
        self.clock = SystemClock()
        self.cluster = MemoryCluster(self.clock, max_record_bytes=max_record_bytes)
        self.cluster.create_topics([TopicSpec(name, 1) for name in (TOPICS.results, TOPICS.agents, TOPICS.dlq)])
        self.partitions = partitions
        self._sender = self.cluster.connect("sender")

    def create_tasks_topic(self, agent: str) -> None:
        self.cluster.create_topics([TopicSpec(TOPICS.tasks(agent), self.partitions)])

    async def send(
        self,
        agent: str,
        *inputs: Any,
        first: int = 0,
        timeout_s: float = 60.0,
        partition: int | None = None,
        periods: Periods | None = None,
        budget: dict[str, float] | None = None,
        approvals: tuple[ToolVerdict, ...] = (),
        is_old: bool = False,
    ) -> None:
        """One task an input; the n-th is of workflow `test:<first + n>`.

        `is_old`: as a router sends it that knows only the first statuses of results.
        """
        now = self.clock.now_ms()
        records = []
        for number, value in enumerate(inputs, first):
            effect = SendTask(
                workflow_id=f"test:{number}",
                run_id="00000001",
                route="test",
                step="step",
                task_id=f"test:{number}/00000001/step",
                attempt=1,
                agent=agent,
                input=value,
                at_ms=now,
                due_at_ms=now + int(timeout_s * 1000),
                traceparent="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
                periods=periods,
                budget=budget,
                approvals=approvals,
            )
            out = encode_task(effect, topics=TOPICS, reply_partition=0)
            records.append(
                OutRecord(out.topic, out.key, _old(out.value) if is_old else out.value, out.headers, partition)
            )
        assert not await self._sender.send(records)

    async def send_raw(self, agent: str, value: bytes | None) -> None:
        assert not await self._sender.send([OutRecord(TOPICS.tasks(agent), b"key", value, (("h", b"1"),))])

    def records(self, topic: str) -> list[Record]:
        return list(self.cluster.records(TopicPartition(topic, 0)))

    def results(self) -> list[ResultReceived]:
        return [decode_result(record) for record in self.records(TOPICS.results)]

    async def wait_results(self, count: int) -> list[ResultReceived]:
        await wait_until(lambda: len(self.records(TOPICS.results)) >= count)
        return self.results()

    async def wait_result(self) -> ResultReceived:
        (result,) = await self.wait_results(1)
        return result

    def outputs(self) -> list[str]:
        return sorted(json.dumps(result.output) for result in self.results())

    def committed(self, agent: str, partition: int = 0) -> Committed | None:
        group = self.cluster.groups.get(TOPICS.agent_group(agent))
        return group.committed.get(TopicPartition(TOPICS.tasks(agent), partition)) if group else None

    async def wait_committed(self, agent: str, offset: int) -> Committed:
        def reached() -> bool:
            committed = self.committed(agent)
            return committed is not None and committed.offset >= offset

        await wait_until(reached)
        committed = self.committed(agent)
        assert committed is not None
        return committed

    def runtime(
        self,
        agent: Agent[Any, Any],
        *,
        settings: AgentSettings = SETTINGS,
        broker: MemoryBroker | None = None,
        instance: str = "one",
        **more: Any,
    ) -> AgentRuntime:
        connection = broker or self.cluster.connect(instance)
        return AgentRuntime(
            connection, agent, topics=TOPICS, clock=self.clock, instance=instance, settings=settings, **more
        )

    @asynccontextmanager
    async def running(self, agent: Agent[Any, Any], **options: Any) -> AsyncIterator[AgentRuntime]:
        """The agent at work; stopped gracefully at the end."""
        self.create_tasks_topic(agent.name)
        runtime = self.runtime(agent, **options)
        task = asyncio.create_task(runtime.run())
        try:
            yield runtime
        except BaseException:
            task.cancel()
            raise
        runtime.stop()
        async with asyncio.timeout(GENEROUS_S):
            await task

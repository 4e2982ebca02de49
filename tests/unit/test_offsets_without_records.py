"""Offsets that hold no record, as the last thing of every partition.

A reader that reads to an end comes to it, at once.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sample_mesh import PARTITIONS, TOPICS, event, run, workflow, write_sample

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.cloudevents import to_record
from mesh.codec.outcomes import encode_outcome
from mesh.core.effects import PublishOutcome
from mesh.errors import BrokerUnavailable
from mesh.inspection.event_status import read_record
from mesh.inspection.mesh_status import PATIENCE_MS, assess
from mesh.inspection.read_model import ReadModel, model_path, queries
from mesh.inspection.replay import read_runs
from mesh.ports import Record, TopicPartition
from mesh.services.client import Client
from mesh.services.definitions import DefinitionsReader
from mesh.services.reading import read_up_to
from mesh.services.router.directory import DirectoryFollower
from mesh.testing import MeshKit, silent

AT_ONCE_S = 10.0  # far below the half minute after which a read gives up
TIMED = """
route: timed
on: {type: t}
key: ${{ event.subject }}
steps:
  ask: {approval: {ask: Well?, payload: 1, role: lead, deadline: 1h, on_expiry: approve}}
  work: {needs: ask, agent: silent, input: 1, timeout: 30s, retry: {attempts: 1}, on_exhausted: fail}
"""


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(clock=SystemClock())


@pytest.fixture
async def broker(cluster: MemoryCluster) -> AsyncIterator[MemoryBroker]:
    connection = cluster.connect("test")
    await write_sample(connection)
    await connection.send([to_record(event(1), topic=TOPICS.events, key=None)])
    mark_all(cluster, await connection.topics())
    async with asyncio.timeout(AT_ONCE_S):
        yield connection
    await connection.close()


def mark_all(cluster: MemoryCluster, topics: object) -> None:
    assert isinstance(topics, dict)
    for name, info in topics.items():
        for number in range(info.partitions):
            cluster.mark(TopicPartition(name, number))


async def test_the_read_model_catches_up_again_and_again(
    cluster: MemoryCluster, broker: MemoryBroker, tmp_path: Path
) -> None:
    for _ in range(3):
        async with ReadModel(broker, TOPICS, model_path(tmp_path, "memory://", "mesh.")) as model:
            await model.catch_up()
            await model.catch_up()
            assert queries.count_workflows(model.db) == {"running": 2, "completed": 1}
            assert await model.wait_until(lambda: True, timeout_s=1) is True
        mark_all(cluster, await broker.topics())


async def test_nobody_is_behind_for_an_offset_that_holds_no_record(broker: MemoryBroker, tmp_path: Path) -> None:
    later_ms = SystemClock().now_ms() + 10 * PATIENCE_MS
    async with ReadModel(broker, TOPICS, model_path(tmp_path, "memory://", "mesh.")) as model:
        await model.catch_up()
        status = await assess(broker, TOPICS, model, broker_url="memory://", now_ms=later_ms)
    by_topic = {one.topic: (one.lag, one.overdue) for one in status.backlogs}
    assert by_topic[TOPICS.responses] == by_topic[TOPICS.commands] == (0, 0)
    assert sum(one.inbox_lag + one.results_lag for one in status.partitions) == 0


async def test_definitions_cards_and_the_log_are_read_to_their_ends(
    cluster: MemoryCluster, broker: MemoryBroker
) -> None:
    definitions = DefinitionsReader(broker, TOPICS)
    await definitions.start()
    cluster.mark(TopicPartition(TOPICS.definitions, 0))
    await definitions.refresh()
    await definitions.refresh()
    await DirectoryFollower(broker, TOPICS, {}, SystemClock()).start()
    assert len(await read_runs(broker, TOPICS, routes=["issue-triage"], since_ms=0)) == 3


async def test_a_record_is_found_by_its_place_and_a_marker_is_none(broker: MemoryBroker) -> None:
    where = TopicPartition(TOPICS.events, 0)
    end = (await broker.end_offsets([where]))[where]
    assert (await read_record(broker, where, end - 2)) is not None
    assert await read_record(broker, where, end - 1) is None
    assert await read_record(broker, where, end) is None


async def test_a_client_finds_the_last_outcome_before_a_marker(cluster: MemoryCluster, broker: MemoryBroker) -> None:
    effect = PublishOutcome(
        workflow_id=workflow(1),
        run_id=run(1),
        route="r",
        status="completed",
        reason="",
        output=None,
        at_ms=1,
        traceparent="",
    )
    await broker.send([encode_outcome(effect, topics=TOPICS)])
    cluster.mark(TopicPartition(TOPICS.outcomes, 0))
    client = Client(cluster.connect("client"), TOPICS, clock=SystemClock(), entropy=SystemEntropy())
    assert (await client.wait_outcome(workflow(1), timeout_s=5)).status == "completed"
    await client.close()


def test_timers_fire_although_their_inputs_end_with_markers(mesh_kit: MeshKit) -> None:
    mesh = mesh_kit
    mesh.agent("silent", silent)
    mesh.route(TIMED)
    run_ = mesh.publish(type="t", subject="a")
    cluster = mesh._engine._cluster  # type: ignore[attr-defined] # the kit has no foreign producers
    topics = mesh.act(cluster.connect("look").topics())
    mark_all(cluster, dict(topics))
    mesh.advance("1h 1s")
    mark_all(cluster, dict(topics))
    mesh.advance("31s")
    assert run_.outcome.status == "failed"


async def test_what_can_not_be_read_to_its_end_is_named(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = await broker.reader()
    ends = {TopicPartition(TOPICS.log, number): 3 for number in range(PARTITIONS)}
    reader.assign(dict.fromkeys(ends, 0))

    async def nothing(**_: object) -> list[Record]:
        return []

    monkeypatch.setattr(reader, "poll", nothing)
    with pytest.raises(BrokerUnavailable, match=r"mesh.log/0 \(3 left\), mesh.log/1 .* can't be read to its end"):
        await anext(read_up_to(reader, ends))

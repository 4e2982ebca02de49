"""How far a read model is behind, as a metric: of the log, and of what is open for people."""

import asyncio
from pathlib import Path

import pytest
from sample_mesh import PARTITIONS, write_sample

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable
from mesh.inspection import read_model_lag
from mesh.inspection.inbox import Inbox
from mesh.inspection.read_model import ReadModel
from mesh.inspection.read_model_lag import follow_lag, measure_lag
from mesh.metrics import names
from mesh.metrics.meters import Meters
from mesh.ports import Broker, OutRecord, TopicPartition

TOPICS = Topics()


def lags(meters: Meters) -> dict[str, float]:
    [family] = [one for one in meters.snapshot() if one.metric is names.READ_MODEL_LAG]
    return {labels[0]: value for labels, value in family.values.items()}


async def sample() -> MemoryBroker:
    broker = MemoryCluster(SystemClock()).connect("test")
    await write_sample(broker)
    return broker


async def test_a_read_model_is_behind_by_what_it_has_not_read(tmp_path: Path) -> None:
    broker, meters = await sample(), Meters()
    inbox = Inbox(broker, TOPICS, tmp_path / "open.sqlite", now_ms=SystemClock().now_ms)
    async with ReadModel(broker, TOPICS, tmp_path / "model.sqlite") as model:
        await measure_lag(broker, meters, [model, inbox])
        ends = await broker.end_offsets([TopicPartition(TOPICS.log, p) for p in range(PARTITIONS)])
        assert lags(meters)[TOPICS.log] == sum(ends.values()) > 0
        assert TOPICS.open_approvals in lags(meters)
        await model.catch_up()
        await inbox.catch_up()
        await measure_lag(broker, meters, [model, inbox])
        assert set(lags(meters).values()) == {0}
        await broker.send([OutRecord(TOPICS.events, b"k", b"{}"), OutRecord(TOPICS.open_approvals, b"a", None)])
        await measure_lag(broker, meters, [model, inbox])
        assert {topic: lag for topic, lag in lags(meters).items() if lag} == {
            TOPICS.events: 1,
            TOPICS.open_approvals: 1,
        }
    inbox.db.close()


class Away:
    """A model whose broker answers only the second time."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._times = 0

    async def reached(self) -> dict[TopicPartition, int]:
        self._times += 1
        if self._times == 1:
            raise BrokerUnavailable("away")
        self.asked.set()
        return {}


async def test_a_broker_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_model_lag, "_LOOK_EVERY_S", 0.0)
    broker: Broker = await sample()
    away = Away()
    following = asyncio.create_task(follow_lag(broker, Meters(), [away]))
    async with asyncio.timeout(60):
        await away.asked.wait()
    following.cancel()
    await asyncio.wait([following])

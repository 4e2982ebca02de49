"""What `mesh topics apply` makes is what its plan asks for, on the brokers that keep it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.kafka.kafka import KafkaProcess
from mesh.adapters.kafka import KafkaBroker
from mesh.adapters.sqlite import SqliteBroker
from mesh.core.topics import Topics
from mesh.errors import PartitionsDiffer
from mesh.ports import Broker
from mesh.services.topic_plan import apply, plan, topic_specs


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test")
    yield broker
    await broker.close()


@pytest.fixture
async def on_kafka(kafka: KafkaProcess) -> AsyncIterator[Broker]:
    broker = await KafkaBroker.open(kafka.bootstrap, client_id="test")
    yield broker
    await broker.close()


async def check(broker: Broker, topics: Topics) -> None:
    specs = topic_specs(topics, 3, ["classifier"])
    before = await plan(broker, specs, topics=topics)
    assert [difference.kind for difference in before] == ["missing"] * len(specs)
    await apply(broker, specs, topics=topics)
    assert await plan(broker, specs, topics=topics) == []
    assert (await broker.topics())[topics.tasks("classifier")].partitions == 4
    with pytest.raises(PartitionsDiffer, match=f"{topics.inbox}: 3 partitions, wanted 5; set MESH_PARTITIONS=3"):
        await apply(broker, topic_specs(topics, 5, []), topics=topics)


async def test_the_plan_is_empty_after_apply_on_sqlite(sqlite: Broker) -> None:
    await check(sqlite, Topics())


async def test_the_plan_is_empty_after_apply_on_kafka(on_kafka: Broker, kafka_prefix: str) -> None:
    await check(on_kafka, Topics(kafka_prefix))

"""The broker contract on a real Apache Kafka."""

from collections.abc import AsyncIterator

import pytest
from kafka_foreign import ForeignProducers

from infra.kafka.kafka import KafkaProcess
from mesh.adapters.kafka import KafkaBroker
from mesh.ports import Broker, TopicPartition
from mesh.testing.broker_contract import BrokerContract, BrokerHarness, ForeignCases


class KafkaHarness:
    session_timeout_s = 3.0  # our broker takes 0.5 s, but two busy cores may not

    def __init__(self, kafka: KafkaProcess) -> None:
        self._kafka = kafka
        self._open: list[KafkaBroker] = []
        self._foreign = ForeignProducers(kafka.bootstrap)
        self.write = self._foreign.write

    async def connect(self) -> Broker:
        broker = await KafkaBroker.open(
            self._kafka.bootstrap, client_id="contract", open_timeout_s=60.0, max_record_bytes=1_000_000
        )
        self._open.append(broker)
        return broker

    async def crash(self, broker: Broker) -> None:
        assert isinstance(broker, KafkaBroker)
        self._open.remove(broker)
        await broker.abort()

    async def trim(self, partition: TopicPartition, before_offset: int) -> None:
        await self._open[0].delete_records(partition, before_offset)

    async def close(self) -> None:
        await self._foreign.close()
        for broker in self._open:
            await broker.close()


class TestKafkaBroker(BrokerContract, ForeignCases):
    @pytest.fixture
    async def harness(self, kafka: KafkaProcess) -> AsyncIterator[BrokerHarness]:
        harness = KafkaHarness(kafka)
        yield harness
        await harness.close()

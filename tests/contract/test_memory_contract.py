"""The memory broker passes the broker contract, without faults.

Both when it is strict and when it behaves as weakly as Kafka.
"""

import random
from collections.abc import AsyncIterator

import pytest

from mesh.adapters.memory import MemoryBroker, MemoryCluster, WeakBehaviour
from mesh.adapters.system import SystemClock
from mesh.ports import Broker, TopicPartition
from mesh.testing.broker_contract import BrokerContract, BrokerHarness


class MemoryHarness:
    """A cluster of its own for each test."""

    session_timeout_s = 0.5

    def __init__(self, weak: WeakBehaviour | None) -> None:
        self._cluster = MemoryCluster(SystemClock(), weak=weak, rng=random.Random(0))
        self._connections: list[MemoryBroker] = []

    async def connect(self) -> Broker:
        connection = self._cluster.connect(f"client-{len(self._connections)}")
        self._connections.append(connection)
        return connection

    async def crash(self, broker: Broker) -> None:
        assert isinstance(broker, MemoryBroker)
        broker.kill()

    async def close(self) -> None:
        for connection in self._connections:
            if not connection.is_killed:
                await connection.close()

    async def trim(self, partition: TopicPartition, before_offset: int) -> None:
        self._cluster.trim(partition, before_offset)


class TestStrictMemoryBroker(BrokerContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[BrokerHarness]:
        harness = MemoryHarness(None)
        yield harness
        await harness.close()


class TestWeakMemoryBrokerWithoutFaults(BrokerContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[BrokerHarness]:
        harness = MemoryHarness(WeakBehaviour())
        yield harness
        await harness.close()


class TestWeakMemoryBrokerThatDelaysAndSplits(BrokerContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[BrokerHarness]:
        harness = MemoryHarness(WeakBehaviour(latency_s=(0.0, 0.003), split_append=0.5))
        yield harness
        await harness.close()

"""The SQLite broker passes the broker contract.

Every connection has its own handle on one file, as processes have.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.adapters.sqlite import SqliteBroker
from mesh.ports import Broker, TopicPartition
from mesh.testing.broker_contract import BrokerContract, BrokerHarness


class SqliteHarness:
    """One file for each test."""

    session_timeout_s = 1.0

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connections: list[SqliteBroker] = []

    async def connect(self) -> Broker:
        connection = await SqliteBroker.open(
            self._file, client_id=f"client-{len(self._connections)}", durability="normal"
        )
        self._connections.append(connection)
        return connection

    async def crash(self, broker: Broker) -> None:
        assert isinstance(broker, SqliteBroker)
        await broker.abort()

    async def trim(self, partition: TopicPartition, before_offset: int) -> None:
        await self._connections[0].delete_records(partition, before_offset)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


class TestSqliteBroker(BrokerContract):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[BrokerHarness]:
        harness = SqliteHarness(tmp_path / "mesh.db")
        yield harness
        await harness.close()

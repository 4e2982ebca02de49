"""Connections that break under a request fail as aiokafka expects it.

So none of its background tasks dies. The broker is scripted, on uvloop.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.admin import ApiVersionRequest, ApiVersionResponse_v0
from aiokafka.protocol.api import RequestHeader_v1, ResponseHeader_v0
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest, MetadataResponse_v1

from mesh.adapters.kafka.connections import repair_connections

GENEROUS_S = 10.0
NODE = 0
# of the event loop: in one of the first of them the transport is closed, and the connection does
# not know
TURNS = 12


@pytest.fixture(autouse=True)
def fixed() -> None:
    repair_connections()


def on_uvloop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """As services run. The name is the test's."""

    def run() -> None:
        uvloop.run(asyncio.wait_for(test(), GENEROUS_S))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Node:
    """A broker that knows its versions and that it is alone.

    It keeps the answer to everything else.
    """

    def __init__(self) -> None:
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                question = RequestHeader_v1.SCHEMA.decode(BytesIO(await reader.readexactly(size)))
                self._answer(writer, key=question[0], correlation_id=question[2])
        except (OSError, EOFError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, *, key: int, correlation_id: int) -> None:
        if key == ApiVersionRequest.API_KEY:
            keys = (ApiVersionRequest.API_KEY, MetadataRequest.API_KEY, FindCoordinatorRequest.API_KEY)
            answer = ApiVersionResponse_v0(0, [(key, 0, 1) for key in keys])
        elif key == MetadataRequest.API_KEY:
            answer = MetadataResponse_v1([(NODE, "127.0.0.1", self.port, None)], NODE, [])
        else:
            return
        frame = ResponseHeader_v0(correlation_id).encode() + answer.encode()
        writer.write(struct.pack(">i", len(frame)) + frame)

    def reset(self) -> None:
        """What the kernel does for a process that was killed with something unread."""
        for writer in self._open:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    node = Node()
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        node.reset()
        server.close()


@asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[Any]:
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{node.port}", request_timeout_ms=60_000)
    await client.bootstrap()
    try:
        yield client
    finally:
        await client.close()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_uvloop
async def test_a_request_on_a_closed_transport_fails_as_on_a_broken_connection_and_closes_it() -> None:
    async with node() as broker:
        connection = await create_conn("127.0.0.1", broker.port)
        transport = connection._writer.transport
        transport.abort()
        while "closed=True" not in repr(transport):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
        with pytest.raises(KafkaConnectionError, match="the handler is closed"):
            await connection.send(MetadataRequest([]))
        assert not connection.connected()


@on_uvloop
async def test_metadata_are_refreshed_in_whatever_moment_the_broker_resets_its_connections() -> None:
    async with node() as broker, client_of(broker) as client:
        for count in range(TURNS):
            assert await client.force_metadata_update()
            broker.reset()
            await turns(count)
            synchronizer = client._sync_task
            await asyncio.wait({client.force_metadata_update(), synchronizer}, return_when=asyncio.FIRST_COMPLETED)
            assert not synchronizer.done()


@on_uvloop
async def test_a_request_that_times_out_closes_its_own_connection() -> None:
    async with node() as broker:
        connection = await create_conn("127.0.0.1", broker.port, request_timeout_ms=100)
        with pytest.raises(RequestTimedOutError):
            await connection.send(FindCoordinatorRequest("group", 0))
        assert not connection.connected()

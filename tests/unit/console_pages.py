"""A console over a small mesh in memory, asked as a browser would.

Owns its start and end, its people, and a played owner that decides on answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from sample_mesh import TOPICS, Writer, run, workflow, write_sample, write_topics

from mesh.adapters.memory import MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.cloudevents import header
from mesh.console.config import ConsoleConfig, DevLogin
from mesh.console.serving import Console
from mesh.console.sessions import COOKIE
from mesh.console.staff import OPERATOR, VIEWER
from mesh.core import events as ev
from mesh.core.ids import task_id
from mesh.ports import Broker, TopicPartition, TopicSpec
from mesh.services.client import Client
from mesh.web_server import LOOPBACK

URL = "http://127.0.0.1:8300"
CODE = "the-code"
OPERATOR_NAME = "olga@example.org"
PEOPLE = "maintainer: [ana@example.org, ben@example.org]\nreader: [kim@example.org]\n"
OWN = {"sec-fetch-site": "same-origin"}
Decide = Callable[[str], tuple[ev.Event, ...]]


class Browser:
    """A browser that is signed in as one person; None: as nobody."""

    def __init__(self, console: Console, name: str | None) -> None:
        self.console = console
        cookies = {} if name is None else {COOKIE: console.desk.sessions.begin(name)}
        transport = httpx.ASGITransport(console.app)
        self.client = httpx.AsyncClient(transport=transport, base_url=URL, cookies=cookies)

    async def send(self, path: str, fields: dict[str, str]) -> httpx.Response:
        """Send a form of a page."""
        return await self.client.post(path, data=fields, headers=OWN)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def post(self, path: str, *, own: bool = True, **fields: str) -> httpx.Response:
        return await self.client.post(path, data=fields, headers=OWN if own else {})

    async def shows(self, path: str, *, status: int = 200) -> str:
        """The text of a page."""
        found = await self.get(path)
        assert found.status_code == status, found.text
        return found.text


class Mesh:
    """The small mesh, and the console over it."""

    def __init__(self, broker: Broker, writer: Writer, console: Console) -> None:
        self.broker = broker
        self.writer = writer
        self.console = console
        self._answers = 0

    def browser(self, name: str | None) -> Browser:
        return Browser(self.console, name)

    async def settle(self) -> None:
        """Wait until the console has read what the broker has."""
        projector = self.console.desk.projector
        before = projector.fresh_at_ms
        await until(lambda: projector.fresh_at_ms > before)

    async def play_owner(self, decide: Decide, number: int = 1) -> None:
        """Decide on the next answer to the approval of a workflow."""
        reader = await self.broker.reader()
        try:
            reader.assign({TopicPartition(TOPICS.responses, 0): self._answers})
            while not (records := await reader.poll(max_records=1, timeout_s=0.05)):
                pass
        finally:
            await reader.close()
        self._answers = records[0].offset + 1
        answer_id = header(records[0], "ce_id") or ""
        cause = ev.Cause(
            kind="response",
            id=answer_id,
            source_topic=TOPICS.responses,
            source_partition=0,
            source_offset=records[0].offset,
        )
        await self.writer.decide(workflow(number), cause, *decide(answer_id))


@asynccontextmanager
async def small_mesh(
    folder: Path,
    *,
    login: str = OPERATOR_NAME,
    broker: Broker | None = None,
    broker_url: str = "memory://",
    hosts: frozenset[str] = LOOPBACK,
    is_empty: bool = False,
    **config: Any,
) -> AsyncIterator[Mesh]:
    """The sample of all that can happen, and a console that has read it.

    `is_empty`: its topics alone.
    """
    clock = SystemClock()
    broker = broker or MemoryCluster(clock=clock).connect("test")
    writer = await write_topics(broker) if is_empty else await write_sample(broker)
    await broker.create_topics([TopicSpec(TOPICS.operations, 1)])
    (folder / "approvers.yaml").write_text(PEOPLE)
    told = ConsoleConfig(
        broker_url=broker_url,
        instance="console",
        model=folder / "model.sqlite",
        inbox=folder / "inbox.sqlite",
        folder=folder,
        approvers=folder / "approvers.yaml",
        hosts=hosts,
        login=DevLogin(name=login, code=CODE, roles=frozenset({VIEWER, OPERATOR})),
        **config,
    )
    client = Client(broker, TOPICS, clock=clock, entropy=SystemEntropy())
    console = Console(broker, TOPICS, told, clock=clock, client=client)
    following = asyncio.create_task(console.follow())
    try:
        await until(lambda: console.desk.projector.fresh_at_ms > 0)
        yield Mesh(broker, writer, console)
    finally:
        console.stop()
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await broker.close()


async def until(holds: Callable[[], bool]) -> None:
    """Give others their turn until this holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - many things are waited for, few have an event
            await asyncio.sleep(0.01)


def approval_id(number: int = 1) -> str:
    return task_id(workflow(number), run(number), "review")

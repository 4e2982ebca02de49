"""Running a console: the web server, the projector beside it, and how both stop.

Owns their order. `mesh.wiring` opens the broker and calls `serve`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from socket import socket

import structlog
import uvicorn

from mesh.console.app import make_app
from mesh.console.config import ConsoleConfig
from mesh.console.desk import Desk
from mesh.console.hub import Hub
from mesh.console.projector import Projector
from mesh.console.sessions import Sessions
from mesh.console.staff import Staff
from mesh.console.tokens import Tokens
from mesh.core.topics import Topics
from mesh.metrics.meters import Meters
from mesh.ports import Broker, Clock
from mesh.services.client import Client
from mesh.web_server import Server

_log = structlog.get_logger()

STOP_S = 3  # for requests under way; open streams are ended first


class Console:
    """A console that is not running yet. Takes nothing over: its caller closes the broker."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        config: ConsoleConfig,
        *,
        clock: Clock,
        client: Client,
        meters: Meters | None = None,
    ) -> None:
        self.config = config
        self._hub = Hub()
        self._staff = Staff(broker, topics, clock, login=config.login, approvers=config.approvers)
        self.key = self._staff.load_key(config.folder / "console.pem", "account")
        if config.links is not None:
            self._staff.load_key(config.folder / "links.pem", "link")
        self._sessions = Sessions(config.folder, clock)
        self._tokens = Tokens(config.tokens or config.folder / "tokens.sqlite", clock)
        self._projector = Projector(
            broker, topics, config, clock=clock, hub=self._hub, staff=self._staff, meters=meters
        )
        self.desk = Desk(
            broker,
            topics,
            config,
            clock=clock,
            client=client,
            hub=self._hub,
            staff=self._staff,
            projector=self._projector,
            sessions=self._sessions,
            tokens=self._tokens,
        )
        self.app = make_app(self.desk)
        self._server: Server | None = None

    def stop(self) -> None:
        """End open streams, finish what is under way, and return from `serve`."""
        self._hub.close()
        if self._server is not None:
            self._server.should_exit = True

    async def follow(self) -> None:
        """Follow the broker until cancelled."""
        try:
            await self._projector.run()
        finally:
            await self._staff.close()
            self._sessions.close()
            self._tokens.close()

    async def serve(self, listening: socket, on_ready: Callable[[], None]) -> None:
        """Serve on a socket that listens, until `stop`."""
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = Server(config)
        following = asyncio.create_task(self.follow())
        serving = asyncio.create_task(self._server.serve([listening]))
        on_ready()
        try:
            await asyncio.wait([following, serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            await serving
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

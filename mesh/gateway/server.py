"""The gateway as a server: one event loop with the requests, and the intake beside them."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from mesh.errors import SettingsInvalid
from mesh.gateway.app import Gateway, app
from mesh.gateway.intake import Intake

_BACKLOG: Final = 2_048  # connections that wait to be accepted
_log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Leaves signals to the code that runs the event loop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatewayServer:
    """Serves until `stop`. `drain_s`: how long a stop waits for requests that are under way."""

    def __init__(self, gateway: Gateway, intake: Intake, *, host: str, port: int, drain_s: float) -> None:
        """Raises `SettingsInvalid` if the address can't be had. Port 0 takes a free one."""
        self._intake = intake
        self._socket = _bound(host, port)
        self._server = _Server(
            uvicorn.Config(
                app(gateway),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(drain_s)),
                backlog=_BACKLOG,
            )
        )

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def stop(self) -> None:
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve. Every request that was begun ends before it returns, within `drain_s`."""
        sending = asyncio.create_task(self._intake.run())
        self._socket.listen(_BACKLOG)  # uvicorn does so too, and says not when
        _log.info("gateway_listens", address=self.address)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            sending.cancel()
            await asyncio.wait([sending])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsInvalid(
            f"the gateway can't listen at {host}:{port}: {error.strerror}; choose another MESH_GATEWAY_ADDRESS"
        ) from error
    return listener

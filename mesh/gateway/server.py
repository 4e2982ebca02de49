"""The gateway as a server: one event loop with the requests, and the intake beside them."""

import asyncio

import structlog
import uvicorn

from mesh.errors import SettingsInvalid
from mesh.gateway.app import Gateway, app
from mesh.gateway.intake import Intake
from mesh.web_server import Server, listen, url_of

_log = structlog.get_logger()


class GatewayServer:
    """Serves until `stop`. `drain_s`: how long a stop waits for requests that are under way."""

    def __init__(self, gateway: Gateway, intake: Intake, *, host: str, port: int, drain_s: float) -> None:
        """Raises `SettingsInvalid` if the address can't be had. Port 0 takes a free one."""
        self._intake = intake
        try:
            self._socket = listen(host, port)
        except (OSError, OverflowError) as error:
            raise SettingsInvalid(
                f"the gateway can't listen at {host}:{port}: {getattr(error, 'strerror', None) or error}; "
                "choose another MESH_GATEWAY_ADDRESS"
            ) from error
        self._server = Server(
            uvicorn.Config(
                app(gateway),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http="httptools",
                ws="none",
                # who sends is known by a token or a signature, never by an address
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )

    def stop(self) -> None:
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve. Every request that was begun ends before it returns, within `drain_s`."""
        sending = asyncio.create_task(self._intake.run())
        _log.info("gateway_listens", address=url_of(self._socket))
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            sending.cancel()
            await asyncio.wait([sending])

"""The running part of metrics: samples what is read now and then, and serves or sends all numbers.

Owns a task in the event loop. Trouble with an endpoint or a collector is logged and tried again: it
must not end a service, nor hold it up.
"""

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Literal

import structlog

from mesh.metrics.meters import Meters
from mesh.metrics.names import LOOP_DELAY, SAMPLED_AT

if TYPE_CHECKING:
    from mesh.metrics.otlp import Pusher
    from mesh.metrics.prometheus import Endpoint

Exporter = Literal["off", "otlp", "prometheus"]

_SAMPLE_S: Final = 1.0
_PUSH_S: Final = 15.0
_LAST_PUSH_S: Final = 2.0  # at a stop
_AGAIN_S: Final = 10.0  # before an address that is taken is tried again

_log = structlog.get_logger()


class Metering:
    """The metrics of one process, from `start` to `close`.

    `address`: HOST:PORT of the Prometheus endpoint; port 0 takes a free one, which the log names.
    `endpoint`: of the OTLP collector; else OpenTelemetry's own variables hold.
    """

    def __init__(
        self,
        exporter: Literal["otlp", "prometheus"],
        *,
        service: str,
        instance: str,
        address: str,
        endpoint: str | None,
        sample_s: float = _SAMPLE_S,
    ) -> None:
        self.meters = Meters()
        self._resource = {
            "service.name": service,
            "service.instance.id": instance,
            "service.version": version("agent-mesh"),
        }
        self._exporter: Final = exporter
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._otlp_endpoint = endpoint
        self._sample_s = sample_s
        self._samplers: list[Callable[[], None]] = []
        self._endpoint: Endpoint | None = None
        self._pusher: Pusher | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int | None:
        """The port that is served; None: none is, or not yet."""
        return None if self._endpoint is None else self._endpoint.port

    def sample(self, sampler: Callable[[], None]) -> None:
        """Call this once a second, in the event loop. It must be quick."""
        self._samplers.append(sampler)

    def start(self) -> None:
        """Begin to sample, and to serve or send. Called in the event loop."""
        letting_out = self._keep_pushing() if self._exporter == "otlp" else self._keep_serving()
        self._tasks = [asyncio.create_task(work, name="metrics") for work in (self._keep_sampling(), letting_out)]

    async def close(self) -> None:
        """Send what was counted last, and stop. Takes `_LAST_PUSH_S` at the most."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sample()
        if self._pusher is not None:
            last = asyncio.create_task(asyncio.to_thread(self._push, self._pusher))
            await asyncio.wait([last], timeout=_LAST_PUSH_S)
            # ends the one that is still being tried
            self._pusher.close()
            await last
        if self._endpoint is not None:
            await asyncio.to_thread(self._endpoint.close)

    # Samples --------------------------------------------------------------------------------------

    async def _keep_sampling(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._sample()
            due_s = loop.time() + self._sample_s
            await asyncio.sleep(self._sample_s)
            self.meters.observe(LOOP_DELAY, (), max(0.0, loop.time() - due_s))

    def _sample(self) -> None:
        self.meters.put(SAMPLED_AT, {(): time.time()})
        for sampler in self._samplers:
            try:
                sampler()
            except Exception:  # noqa: BLE001 - what only watches must not end, or it would seem that the loop hangs
                _log.exception("metrics_sampler_failed")

    # The ways out ---------------------------------------------------------------------------------

    async def _keep_pushing(self) -> None:
        # in a thread: OpenTelemetry's SDK takes half a second to load
        self._pusher = await asyncio.to_thread(self._make_pusher)
        while True:
            await asyncio.to_thread(self._push, self._pusher)
            await asyncio.sleep(_PUSH_S)

    def _make_pusher(self) -> "Pusher":
        from mesh.metrics.otlp import Pusher  # noqa: PLC0415 - only the chosen exporter is loaded

        return Pusher(self.meters, self._otlp_endpoint, self._resource)

    def _push(self, pusher: "Pusher") -> None:
        if not pusher.push():
            _log.warning(
                "metrics_not_sent",
                endpoint=self._otlp_endpoint,
                next="is the collector there? MESH_OTLP_ENDPOINT names it; what is counted is sent later",
            )

    async def _keep_serving(self) -> None:
        while self._endpoint is None:
            self._serve()
            await asyncio.sleep(_AGAIN_S)

    def _serve(self) -> None:
        from mesh.metrics.prometheus import Endpoint  # noqa: PLC0415 - only the chosen exporter is loaded

        try:
            self._endpoint = Endpoint(self.meters, self._host, self._port, self._resource)
        except OSError as error:
            _log.warning(
                "metrics_not_served",
                address=f"{self._host}:{self._port}",
                error=str(error),
                next="give each process on a machine its own MESH_METRICS_ADDRESS; it is tried again",
            )
        else:
            _log.info("metrics_served", address=f"{self._host}:{self._endpoint.port}")

"""What a service tells of itself, from its start to its end: logs, traces and metrics.

Owns how their settings are read. `mesh.wiring` calls it for each service.
"""

from typing import TYPE_CHECKING, NamedTuple

from mesh.metrics.meters import Meters
from mesh.observability import Tracer, configure_logging, setup_tracing
from mesh.settings import Settings

if TYPE_CHECKING:
    from mesh.metrics.metering import Metering


class Observed(NamedTuple):
    """None: that one is off."""

    tracer: Tracer | None
    metering: "Metering | None"

    @property
    def meters(self) -> Meters | None:
        """Where the service counts; None: it does not."""
        return None if self.metering is None else self.metering.meters

    async def close(self) -> None:
        """Send what is left."""
        if self.metering is not None:
            await self.metering.close()
        if self.tracer is not None:
            self.tracer.shutdown()


def observe(settings: Settings, service: str) -> Observed:
    """Begin. Called in the event loop of the service, which is named `mesh-<service>`."""
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    name = f"mesh-{service}"
    tracer = setup_tracing(name, exporter=settings.trace_exporter, endpoint=settings.otlp_endpoint)
    metering = None
    if settings.metrics != "off":
        from mesh.metrics.metering import Metering  # noqa: PLC0415 - metrics that are off must cost nothing

        metering = Metering(
            settings.metrics,
            service=name,
            instance=settings.instance,
            address=settings.metrics_address,
            endpoint=settings.otlp_endpoint,
        )
        metering.start()
    return Observed(tracer, metering)

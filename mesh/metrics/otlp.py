"""The numbers of a process as OTLP over HTTP, by OpenTelemetry's own exporter."""

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from mesh.metrics.meters import Family, Labels, Meters
from mesh.metrics.names import Metric as Named

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_TIMEOUT_S: Final = 5.0


class Pusher:
    """Sends all numbers, each time it is asked. `endpoint`: base address of a collector."""

    def __init__(self, meters: Meters, endpoint: str | None, resource: Mapping[str, str]) -> None:
        self._meters = meters
        self._resource = Resource.create(dict(resource))
        self._scope = InstrumentationScope("mesh", version("agent-mesh"))
        self._started_ns = time.time_ns()
        address = None if endpoint is None else endpoint.rstrip("/") + "/v1/metrics"
        self._exporter = OTLPMetricExporter(endpoint=address, timeout=_TIMEOUT_S)

    def push(self) -> bool:
        """Send them, and wait until it is done, as in a thread. False: it failed."""
        done = self._exporter.export(self.data())
        return done is MetricExportResult.SUCCESS

    def data(self) -> MetricsData:
        now_ns = time.time_ns()
        metrics = [self._metric(family, now_ns) for family in self._meters.snapshot()]
        scope = ScopeMetrics(self._scope, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])

    def _metric(self, family: Family, now_ns: int) -> Metric:
        metric = family.metric
        data: Sum | Gauge | Histogram
        if metric.kind == "histogram":
            data = Histogram(self._distributions(family, now_ns), _CUMULATIVE)
        else:
            points = [
                NumberDataPoint(_attributes(metric, labels), self._started_ns, now_ns, float(value))
                for labels, value in family.values.items()
            ]
            data = Sum(points, _CUMULATIVE, is_monotonic=True) if metric.kind == "counter" else Gauge(points)
        return Metric(metric.name, metric.meaning, metric.unit, data)

    def _distributions(self, family: Family, now_ns: int) -> list[HistogramDataPoint]:
        return [
            HistogramDataPoint(
                _attributes(family.metric, labels),
                self._started_ns,
                now_ns,
                count=sum(one.counts),
                sum=one.total,
                bucket_counts=one.counts,
                explicit_bounds=family.metric.bounds,
                min=one.least,
                max=one.most,
            )
            for labels, one in family.distributions.items()
        ]

    def close(self) -> None:
        self._exporter.shutdown()


def _attributes(metric: Named, labels: Labels) -> dict[str, str]:
    return dict(zip(metric.attributes, labels, strict=True))

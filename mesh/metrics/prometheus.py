"""The numbers of a process as a Prometheus endpoint, by prometheus-client.

Served by a thread of its own, so a scrape is answered also while the event loop is busy.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as PrometheusFamily
from prometheus_client.registry import Collector

from mesh.metrics.meters import Family, Meters
from mesh.metrics.names import Metric, prometheus_label

_INFINITE: Final = "+Inf"


class MetersCollector(Collector):
    """What a registry of prometheus-client asks at each scrape. `resource`: of `target_info`."""

    def __init__(self, meters: Meters, resource: Mapping[str, str]) -> None:
        self._meters = meters
        self._resource = resource

    def collect(self) -> Iterable[PrometheusFamily]:
        target = GaugeMetricFamily(
            "target_info", "The process that these metrics are of.", labels=_labels(list(self._resource))
        )
        target.add_metric(list(self._resource.values()), 1)
        yield target
        for family in self._meters.snapshot():
            yield _family(family)


def _family(family: Family) -> PrometheusFamily:
    metric = family.metric
    name, labels = metric.prometheus_name, _labels(metric.attributes)
    if metric.kind == "histogram":
        measured = HistogramMetricFamily(name, metric.meaning, labels=labels)
        for values, one in family.distributions.items():
            measured.add_metric(values, buckets=_buckets(metric, one.counts), sum_value=one.total)
        return measured
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    counted = made(name, metric.meaning, labels=labels)
    for values, value in family.values.items():
        counted.add_metric(values, value)
    return counted


def _buckets(metric: Metric, counts: Sequence[int]) -> list[tuple[str, float]]:
    ends = [*(f"{bound:g}" for bound in metric.bounds), _INFINITE]
    return list(zip(ends, accumulate(counts), strict=True))


def _labels(attributes: Iterable[str]) -> list[str]:
    return [prometheus_label(attribute) for attribute in attributes]


class Endpoint:
    """An endpoint that is served. Raises `OSError` if the address can't be had."""

    def __init__(self, meters: Meters, host: str, port: int, resource: Mapping[str, str]) -> None:
        registry = CollectorRegistry()
        registry.register(MetersCollector(meters, resource))
        started = start_http_server(port, host, registry)
        self._server: WSGIServer = started[0]
        self._thread = started[1]

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

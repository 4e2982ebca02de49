"""The numbers of one process: what was counted, and what was read last.

Owns the values and a bound on how many series each metric has. It must not know where they go.
Written by the event loop alone; `snapshot` may be called by any thread.

Plain dictionaries, and not the instruments of OpenTelemetry's SDK: those take a lock and build an
attribute set for each count, which is ten times the work (docs/adr/0024-metrics.md).
"""

from bisect import bisect_left
from collections.abc import Mapping
from math import inf
from typing import Final, NamedTuple

from mesh.metrics.names import OTHER, Metric

MOST_SERIES: Final = 2_000
"""Of one metric. All more are counted under `_OTHER`, so that no input can fill the memory."""

Labels = tuple[str, ...]


class Distribution:
    """A histogram of one series. `counts`: by bucket; one more than there are bounds."""

    __slots__ = ("counts", "least", "most", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
        self.least = inf
        self.most = -inf


class Measured(NamedTuple):
    """A histogram of one series, as it was at one moment."""

    counts: tuple[int, ...]
    total: float
    least: float
    most: float


class Family(NamedTuple):
    """A metric with its series, as they were at one moment."""

    metric: Metric
    values: Mapping[Labels, float]
    distributions: Mapping[Labels, Measured]


class Meters:
    """Labels are given in the order of the metric's attributes."""

    def __init__(self) -> None:
        self._values: dict[Metric, dict[Labels, float]] = {}
        self._distributions: dict[Metric, dict[Labels, Distribution]] = {}

    def count(self, metric: Metric, labels: Labels = (), by: float = 1) -> None:
        """Add to a counter."""
        series = self._values.get(metric) or self._values.setdefault(metric, {})
        if labels not in series and len(series) >= MOST_SERIES:
            labels = (OTHER,) * len(labels)
        series[labels] = series.get(labels, 0) + by

    def put(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """Set all series of a gauge, or of a counter that something else counts."""
        self._values[metric] = dict(values)

    def observe(self, metric: Metric, labels: Labels, value: float) -> None:
        """Take a value into a histogram."""
        series = self._distributions.get(metric) or self._distributions.setdefault(metric, {})
        found = series.get(labels)
        if found is None:
            if len(series) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            found = series.setdefault(labels, Distribution(len(metric.bounds) + 1))
        found.counts[bisect_left(metric.bounds, value)] += 1
        found.total += value
        found.least = min(found.least, value)
        found.most = max(found.most, value)

    def snapshot(self) -> list[Family]:
        """All numbers as they are now."""
        # `copy` and `tuple` hold the interpreter's lock, so the loop can't write in between
        counted = [Family(metric, series.copy(), {}) for metric, series in self._values.copy().items()]
        measured = [
            Family(metric, {}, {labels: _measured(one) for labels, one in series.copy().items()})
            for metric, series in self._distributions.copy().items()
        ]
        return counted + measured


def _measured(one: Distribution) -> Measured:
    return Measured(tuple(one.counts), one.total, one.least, one.most)

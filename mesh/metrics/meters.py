"""The numbers of one process: what was counted, and what was read last.

Owns the values and a bound on how many series each metric has. It must not know where they go.
Written by the event loop alone; `snapshot` may be called by any thread.

Plain dictionaries, and not the instruments of OpenTelemetry's SDK: those take a lock and build an
attribute set for each count, which is ten times the work (docs/adr/0027-metrics.md).
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

    __slots__ = ("bounds", "counts", "least", "most", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.least = inf
        self.most = -inf

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        # seldom, once there are some
        if not self.least <= value <= self.most:
            self.least, self.most = min(self.least, value), max(self.most, value)


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
        known = series.get(labels)
        if known is None and len(series) >= MOST_SERIES:
            labels = (OTHER,) * len(labels)
            known = series.get(labels)
        series[labels] = by if known is None else known + by

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
            found = series.get(labels)
            if found is None:
                found = series[labels] = Distribution(metric.bounds)
        found.add(value)

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

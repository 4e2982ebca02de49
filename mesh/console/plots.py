"""Plots for the overview, drawn on the server as SVG, and the same in words for screen readers.

Owns what is plotted and how. Geometry is in attributes, colours are classes of the style sheet.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from mesh.core.amounts import as_amounts
from mesh.inspection.read_model.queries import RateRow
from mesh.inspection.read_model.rates import INCIDENTS, SPENT, TOOK, duration_of
from mesh.inspection.wording.plain import counted, duration

SPANS: Final = {"1h": (3_600_000, 300_000), "24h": (86_400_000, 1_800_000), "7d": (604_800_000, 10_800_000)}
"""By name, how far back a plot goes, and how long a stretch is."""
_WORDS: Final = {"1h": "the last hour", "24h": "the last 24 hours", "7d": "the last 7 days"}
_ENDS: Final = {"completed": "good", "rejected": "no", "cancelled": "off", "failed": "bad"}
_WIDTH: Final = 240
_HEIGHT: Final = 72
_GAP: Final = 1


class Plot(NamedTuple):
    """A plot with its title. `said`: the same in a sentence."""

    title: str
    said: str
    svg: Markup


class Times(NamedTuple):
    """The stretches of a plot: where the first begins, how long each is, how many there are.

    `words`: the time that they cover.
    """

    first_ms: int
    every_ms: int
    many: int
    now_ms: int
    words: str


def times_of(span: str, now_ms: int) -> Times:
    long_ms, every_ms = SPANS[span]
    last_ms = now_ms - now_ms % every_ms
    count = long_ms // every_ms
    return Times(last_ms - (count - 1) * every_ms, every_ms, count, now_ms, _WORDS[span])


def plots(rows: Sequence[RateRow], span: str, now_ms: int) -> list[Plot]:
    """What ended, how long it took, incidents and spend."""
    times = times_of(span, now_ms)
    series: dict[str, list[float]] = {}
    for row in rows:
        at = (row.at_ms - times.first_ms) // times.every_ms
        if 0 <= at < times.many:
            series.setdefault(row.what, [0.0] * times.many)[at] = row.n
    found = [_ended(series, times), _took(series, times)]
    found.append(_incidents(series, times))
    return [*found, *_spent(series, times)]


def _ended(series: Mapping[str, list[float]], times: Times) -> Plot:
    layers = [(hue, series.get(name, [0.0] * times.many)) for name, hue in _ENDS.items()]
    totals = [f"{sum(series[name]):,.0f} {name}" for name in _ENDS if name in series]
    most = max(map(sum, zip(*(values for _, values in layers), strict=True)))
    said = f"{', '.join(totals) or 'Nothing ended'} in {times.words}"
    said += f"; at most {most:,.0f} in {duration(times.every_ms)}." if most else "."
    return Plot("Ended", said, _bars(layers, most, f"{most:,.0f}", times, said))


def _took(series: Mapping[str, list[float]], times: Times) -> Plot:
    classes = {int(what.removeprefix(TOOK)): values for what, values in series.items() if what.startswith(TOOK)}
    each = [Counter({number: values[at] for number, values in classes.items()}) for at in range(times.many)]
    whole = sum(each, Counter[int]())
    half, most = ([_percentile(one, part) for one in each] for part in (0.5, 0.95))
    p50, p95 = _percentile(whole, 0.5), _percentile(whole, 0.95)
    if p50 is None or p95 is None:
        said = f"Nothing ended in {times.words}."
    else:
        said = f"Half of what ended in {times.words} took up to {duration(p50)} from its event to its end, 95 % up to {duration(p95)}."
    top = max((one for one in most if one is not None), default=0)
    lines = [("bad", most), ("run", half)]
    return Plot("Time to the end, p50 and p95", said, _lines(lines, top, duration(top) if top else "", times, said))


def _percentile(classes: Mapping[int, float], part: float) -> int | None:
    """A duration that this part of all is not above. None: there is nothing."""
    left = sum(classes.values()) * part
    for number in sorted(classes):
        left -= classes[number]
        if classes[number] and left <= 0:
            return duration_of(number)
    return None


def _incidents(series: Mapping[str, list[float]], times: Times) -> Plot:
    values = series.get(INCIDENTS, [0.0] * times.many)
    most = max(values)
    said = f"{counted(round(sum(values)), 'incident')} {'was' if sum(values) == 1 else 'were'} raised in {times.words}"
    said += f"; at most {most:,.0f} in {duration(times.every_ms)}." if most else "."
    return Plot("Incidents raised", said, _bars([("bad", values)], most, f"{most:,.0f}", times, said))


def _spent(series: Mapping[str, list[float]], times: Times) -> Iterator[Plot]:
    """A plot for each amount: tokens and money have no common scale."""
    for what in sorted(series):
        if what.startswith(SPENT):
            name, values = what.removeprefix(SPENT), series[what]
            most = max(values)
            said = f"Runs that ended in {times.words} have spent {as_amounts({name: round(sum(values), 2)})}."
            label = as_amounts({name: round(most, 2)})
            yield Plot(f"Spent: {name}", said, _bars([("run", values)], most, label, times, said))


# Drawing ------------------------------------------------------------------------------------------


def _bars(layers: Sequence[tuple[str, Sequence[float]]], most: float, label: str, times: Times, said: str) -> Markup:
    """Bars, the first layer at the bottom."""
    wide, parts = _WIDTH / times.many, list[Markup]()
    for at in range(times.many):
        base = float(_HEIGHT)
        for hue, values in layers:
            high = values[at] / most * (_HEIGHT - 14) if most else 0.0
            # what is there can be seen, however small it is
            high = max(high, 1.5) if values[at] else 0.0
            base -= high
            if high:
                parts.append(_rect(hue, at * wide + _GAP / 2, base, wide - _GAP, high))
    return _drawn(parts, label if most else "", times, said)


def _rect(hue: str, x: float, y: float, wide: float, high: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        hue, x, y, wide, high
    )


def _lines(lines: Sequence[tuple[str, Sequence[int | None]]], top: int, label: str, times: Times, said: str) -> Markup:
    """Lines, with a gap where there is nothing, and a dot where a value is alone."""
    wide, parts = _WIDTH / times.many, list[Markup]()
    for hue, values in lines:
        points = [
            None if one is None else ((at + 0.5) * wide, _HEIGHT - one / max(1, top) * (_HEIGHT - 16))
            for at, one in enumerate(values)
        ]
        parts += [_run(hue, run) for run in _runs(points)]
    return _drawn(parts, label, times, said)


Point = tuple[float, float]


def _runs(points: Sequence[Point | None]) -> Iterator[list[Point]]:
    """The points that follow each other without a gap."""
    run = list[Point]()
    for point in (*points, None):
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _run(hue: str, points: Sequence[Point]) -> Markup:
    if len(points) == 1:
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(hue, *points[0])
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(hue, path)


def _drawn(parts: Sequence[Markup], label: str, times: Times, said: str) -> Markup:
    top = Markup('<text x="0" y="10">{}</text>').format(label) if label else Markup()
    axis = Markup('<text x="0" y="{y}">{first} ago</text><text class="end" x="{x}" y="{y}">now</text>').format(
        y=_HEIGHT + 14, x=_WIDTH, first=duration(times.every_ms * times.many)
    )
    line = Markup('<path class="base" d="M0 {y}H{x}"/>').format(y=_HEIGHT + 0.5, x=_WIDTH)
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}{}</svg>').format(
        _WIDTH, _HEIGHT + 18, escape(said), line, top, Markup().join(parts), axis
    )

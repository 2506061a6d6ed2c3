"""Draw the curves and the phases as SVG files."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.kit.svg import chart, style
from benchmarks.tuning.curves import Band, band
from benchmarks.tuning.log import PHASES
from benchmarks.tuning.measure import points_of
from edgepack.reporting.charts import ticks, words
from edgepack.reporting.format import significant
from edgepack.reporting.markup import Markup, el

_HEIGHT = 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 560, 52, 320
_LINE = 16  # height of a line of text
_STYLE = style(
    {"c0": ("#0e6f5f", "#46c3a6"), "c1": ("#c2562d", "#f0906a"), "c2": ("#6353a8", "#a99cf0")},
    """\
.name { font-weight: 600; } .soft { fill: var(--soft); }
.guide { stroke: var(--rule); } .axis { stroke: var(--soft); }
.line { fill: none; stroke-width: 2; } .band { opacity: 0.18; }
.l0 { stroke: var(--c0); } .l1 { stroke: var(--c1); stroke-dasharray: 7 3; } .l2 { stroke: var(--c2); stroke-dasharray: 2 3; }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.end { fill: var(--paper); stroke-width: 2; stroke-dasharray: none; }
""",
)


def charts(document: dict[str, Any]) -> dict[str, str]:
    """Return the SVG files by name."""
    series: dict[str, list[Series]] = {"minutes": [], "trials": []}
    rows = []
    for color, (side, label) in enumerate(document["sides"].items()):
        runs = document["runs"][side]
        lines = [points_of(run) for run in runs]
        measured = [run["built_ms"] for run in runs if run["built_ms"] is not None]
        end_ms = statistics.median(measured) if measured else None
        by_time = band(lines, "seconds", min(run["seconds"] for run in runs))
        in_minutes = [Band(b.x / 60, b.low, b.median, b.high) for b in by_time]
        series["minutes"].append(Series(label, color, in_minutes, end_ms))
        by_trials = band(lines, "trials", min(points[-1].trials for points in lines))
        series["trials"].append(Series(label, color, by_trials, end_ms))
        seconds = {p: statistics.median(run["busy_s"][p] for run in runs) for p in PHASES}
        rows.append((label, color, seconds, statistics.median(run["seconds"] for run in runs)))
    net = document["net"]
    drawn = {
        f"tuning-{axis}.svg": curves(f"Tuning {net}: latency over {axis}", axis, curves_of_axis)
        for axis, curves_of_axis in series.items()
    }
    return drawn | {"tuning-phases.svg": phases(f"Tuning {net}: time by phase", rows)}


@dataclass(frozen=True)
class Series:
    """One tuner's curves: their band, and the time of the libraries built from its final records."""

    label: str
    color: int  # 0..2
    band: Sequence[Band]
    measured_ms: float | None  # whole net, median; None if nothing was built


def curves(title: str, unit: str, series: Sequence[Series]) -> Markup:
    """Draw the predicted total of each tuner along an axis of ``unit``, with the measured results as circles."""
    values = [value for one in series for b in one.band for value in (b.low, b.high)]
    values += [one.measured_ms for one in series if one.measured_ms is not None]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.06, high * 0.01)
    low, high = max(0.0, low - margin), high + margin
    end = max(b.x for one in series for b in one.band) or 1.0

    def x(value: float) -> float:
        return _LEFT + value / end * (_RIGHT - _LEFT)

    def y(value: float) -> float:
        return _BOTTOM - (value - low) / (high - low) * (_BOTTOM - _TOP)

    parts: list[Markup] = []
    for tick in ticks(low, high):
        parts += [
            el("line", x1=_LEFT, x2=_RIGHT, y1=y(tick), y2=y(tick), cls="guide"),
            words(_LEFT - 8, y(tick) + 4, f"{tick:,.10g}", "soft", "end"),
        ]
    parts.append(el("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, cls="axis"))
    for tick in ticks(0.0, end):
        parts += [
            el("line", x1=x(tick), x2=x(tick), y1=_BOTTOM, y2=_BOTTOM + 4, cls="axis"),
            words(x(tick), _BOTTOM + 18, f"{tick:,.10g}", "soft", "middle"),
        ]
    parts.append(words((_LEFT + _RIGHT) / 2, _BOTTOM + 38, unit, "soft", "middle"))
    parts.append(words(8, 40, "predicted milliseconds per inference, sum of the kernels", "soft"))
    for one in series:
        parts += _series(one, x, y)
    wanted = [y(one.band[-1].median) for one in series]
    for one, middle in zip(series, spread(wanted, 2.4 * _LINE, _TOP, _BOTTOM), strict=True):
        measured = "" if one.measured_ms is None else f", built {significant(one.measured_ms)} ms"
        caption = f"{significant(one.band[-1].median)} ms{measured}"
        parts.append(words(_RIGHT + 14, middle, one.label, f"name f{one.color}"))
        parts.append(words(_RIGHT + 14, middle + _LINE, caption, "soft"))
    below = "Band: minimum to maximum of the runs. Circle: the built library, measured."
    return chart(title, _STYLE, _HEIGHT, *parts, words(8, _HEIGHT - 6, below, "soft"))


def spread(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Spread positions so that neighbours have a minimum distance, from ``top`` to ``bottom`` if they fit."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places = [0.0] * len(wanted)
    last = top - gap
    for index in order:
        places[index] = last = max(wanted[index], last + gap)
    below = bottom + gap
    for index in reversed(order):  # push back from the bottom
        places[index] = below = min(places[index], below - gap)
    return places


def phases(title: str, rows: Sequence[tuple[str, int, dict[str, float], float]]) -> Markup:
    """Draw busy seconds of each phase, one group of bars per tuner: (label, color, seconds by phase, run seconds)."""
    longest = max(seconds for *_, seconds in rows)
    parts, y = [], float(_TOP)
    for label, color, busy, seconds in rows:
        parts.append(words(8, y, f"{label}: {seconds:.0f} s", "name"))
        y += 8
        for phase in PHASES:
            length = busy[phase] / longest * (_RIGHT - 110)
            parts += [
                words(102, y + 12, phase, anchor="end"),
                el("rect", x=110, y=y + 2, width=max(length, 1.0), height=12, rx=1.5, cls=f"f{color}"),
                words(118 + length, y + 12, f"{busy[phase]:.1f} s, {busy[phase] / seconds:.0%}"),
            ]
            y += 18
        y += 26
    below = "Seconds in which at least one process was busy; phases may overlap."
    return chart(title, _STYLE, y + 4, *parts, words(8, y - 6, below, "soft"))


def _series(one: Series, x: Callable[[float], float], y: Callable[[float], float]) -> list[Markup]:
    there = [f"{x(b.x):.1f} {y(b.high):.1f}" for b in one.band]
    back = [f"{x(b.x):.1f} {y(b.low):.1f}" for b in reversed(one.band)]
    line = "L".join(f"{x(b.x):.1f} {y(b.median):.1f}" for b in one.band)
    parts = [
        el("path", d=f"M{'L'.join(there + back)}Z", cls=f"band f{one.color}"),
        el("path", d=f"M{line}", cls=f"line l{one.color}"),
    ]
    if one.measured_ms is not None:
        end = x(one.band[-1].x)
        parts.append(el("circle", cx=end, cy=y(one.measured_ms), r=4.5, cls=f"end l{one.color}"))
    return parts

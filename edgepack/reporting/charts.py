"""The report's charts as inline SVG. Colours and fonts come from report.css, which also supports dark mode and printing.

Every chart is 560 units wide and scales down; text has rows of its own, so it never overlaps marks.
"""

import math
from collections.abc import Sequence

from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import NS_PER_MS, percentile
from edgepack.reporting import format as fmt
from edgepack.reporting.markup import Markup, el, join
from edgepack.spec import Score
from edgepack.spec.candidate import BASELINE, RELEASE
from edgepack.tuning.result import CurvePoint

WIDTH = 560
_PAD = 8
_MAX_BINS = 48
_TICK_WIDTH = 8  # width of a character in the widest font of the stack
_LONG = 10_000  # from this value on, tick labels are abbreviated


def svg(height: float, label: str, *children: object) -> Markup:
    """A chart of the common width; ``label`` is read by screen readers."""
    return el(
        "svg",
        el("title", label),
        *children,
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        cls="chart",
    )


def words(x: float, y: float, value: object, cls: str = "", anchor: str | None = None) -> Markup:
    """Text with its baseline at ``y``."""
    return el("text", value, x=x, y=y, cls=cls or None, text_anchor=anchor)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` of them (1, 2, 5 times a power of ten)."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _axis(
    span: tuple[float, float], values: tuple[float, float], y: float, unit: str
) -> tuple[Markup, "_Scale"]:
    """An axis over ``span`` at ``y`` with round ticks, and its scale."""
    (left, right), (low, high) = span, values
    scale = _Scale(left, right, low, high)
    marks = []
    for value in ticks(low, high):
        x, shown = scale(value), f"{value:,.10g}"
        half = len(shown) * _TICK_WIDTH / 2
        anchor = "start" if x < half else "end" if x > WIDTH - half else "middle"
        marks += [
            el("line", x1=x, x2=x, y1=y, y2=y + 4, cls="rule"),
            words(x, y + 17, shown, "tick", anchor),
        ]
    return join(
        el("line", x1=left, x2=right, y1=y, y2=y, cls="rule"),
        *marks,
        words(right, y + 32, unit, "tick", "end"),
    ), scale


class _Scale:
    """A linear scale from values to x."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._left, self._low = left, low
        self._factor = (right - left) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._left + (value - self._low) * self._factor


def _colour(candidate: str) -> str:
    """The class that colours a candidate: the release stands out from all others."""
    return RELEASE if candidate == RELEASE else BASELINE


def bars(label: str, items: Sequence[tuple[str, float | None, str]]) -> Markup:
    """Horizontal bars from zero, one per stage: (name, value, text of the value). The last is the release."""
    row, top = 30, 6
    height = top + row * len(items)
    largest = max((value for _, value, _ in items if value is not None), default=0) or 1
    parts = []
    for index, (name, value, shown) in enumerate(items):
        y = top + index * row
        cls = "release" if index == len(items) - 1 else "baseline"
        length = (value or 0) / largest * (WIDTH - 260)
        parts += [
            words(0, y + 17, _short(name, 20), "name"),
            el("rect", x=160, y=y + 5, width=max(length, 1.0), height=16, rx=2, cls=cls)
            if value is not None
            else None,
            words(160 + length + 8, y + 17, shown, "value"),
        ]
    return svg(height, label, *parts)


def times(label: str, items: Sequence[tuple[str, float, str, str]], longest: float) -> Markup:
    """Horizontal bars from zero, the name above its bar: (name, value, text of the value, class); ``longest`` fills the width."""
    row, top, right = 34, 2, WIDTH - 150  # room for the text
    parts = []
    for index, (name, value, shown, cls) in enumerate(items):
        y = top + index * row
        length = max(value / (longest or 1.0) * right, 1.0)
        parts.append(
            el(
                "g",
                el("title", f"{name}: {shown}"),
                words(0, y + 12, _short(name, 70), "tick"),
                el("rect", x=0, y=y + 16, width=length, height=12, rx=2, cls=cls),
                words(length + 8, y + 26, shown, "value"),
            )
        )
    return svg(top + row * len(items), label, *parts)


def comparison(label: str, measured: Sequence[tuple[str, Measurement]]) -> Markup:
    """Each candidate on one axis from zero: a bar to p50, whiskers to p90 and p99.

    If p99 is far above p90, its whisker is cut and ends in an arrow at the edge.
    """
    row, top, left, right = 40, 4, 76, WIDTH - 124
    bottom = top + row * len(measured)
    high = max(min(m.latency.p99, m.latency.p90 * 2.5) for _, m in measured) or 1.0
    axis, scale = _axis((left, right), (0.0, high), bottom, "ms")
    parts = [axis]
    for index, (candidate, m) in enumerate(measured):
        y = top + index * row
        middle = y + 17.0
        p50, p90, p99 = (scale(min(value, high)) for value in (m.latency.p50, m.latency.p90, m.latency.p99))
        off = m.latency.p99 > high
        end = (
            el(
                "path",
                d=f"M{p99 - 6:.1f} {middle - 5}L{p99:.1f} {middle}L{p99 - 6:.1f} {middle + 5}",
                cls="arrow",
            )
            if off
            else el("line", x1=p99, x2=p99, y1=middle - 8, y2=middle + 8, cls="whisker")
        )
        parts += [
            words(0, y + 21, candidate, "name"),
            el("rect", x=left, y=y + 8, width=max(p50 - left, 1.0), height=18, rx=2, cls=_colour(candidate)),
            el("line", x1=p50, x2=p99, y1=middle, y2=middle, cls="whisker"),
            el("line", x1=p90, x2=p90, y1=middle - 5, y2=middle + 5, cls="whisker"),
            end,
            words(p99 + 8, y + 15, f"p50 {fmt.milliseconds(m.latency.p50)}", "value"),
            words(p99 + 8, y + 30, f"p99 {fmt.milliseconds(m.latency.p99)}", "tick"),
        ]
    return svg(bottom + 36, label, *parts)


def histogram(label: str, candidate: str, measured: Measurement) -> Markup:
    """The samples of one candidate on an axis of their own, with p50, p90 and p99.

    The axis covers the bulk of the samples; the number of samples beyond it and the maximum are given below.
    """
    samples = [sample / NS_PER_MS for sample in measured.samples_ns]
    low, high = _bulk(measured)
    shown = [sample for sample in samples if sample <= high]
    edges = _bins(shown, low, high)
    counts = [0] * edges
    for sample in shown:
        counts[min(int((sample - low) / (high - low) * edges), edges - 1)] += 1
    top, bottom, left, right = 52, 160, _PAD, WIDTH - _PAD
    axis, scale = _axis((left, right), (low, high), bottom, "ms")
    width, tallest = (right - left) / edges, max(counts)
    columns = [
        el(
            "rect",
            x=left + index * width + 0.5,
            y=bottom - count / tallest * (bottom - top),
            width=max(width - 1.0, 0.5),
            height=count / tallest * (bottom - top),
            cls=_colour(candidate),
        )
        for index, count in enumerate(counts)
        if count
    ]
    marks = []
    for index, name in enumerate(("p50", "p90", "p99")):
        value = getattr(measured.latency, name)
        if value <= high:
            marks.append(_mark(name, scale(value), 12.0 + index * 15, value))
    notes = [f"{len(samples)} samples"]
    if len(shown) < len(samples):
        notes.append(f"{len(samples) - len(shown)} more to the right")
        notes += [f"p99 {fmt.milliseconds(measured.latency.p99)}"] if measured.latency.p99 > high else []
        notes.append(f"max {fmt.milliseconds(measured.latency.max)}")
    return svg(bottom + 38, label, axis, *columns, *marks, words(left, bottom + 32, ", ".join(notes), "tick"))


def _bulk(measured: Measurement) -> tuple[float, float]:
    """The range of a histogram's axis: up to slightly above p99, unless that is far from p90."""
    latency = measured.latency
    spread = max(latency.p90 - latency.p50, latency.p50 * 0.02)
    high = min(latency.p99 + (latency.p99 - latency.p50) * 0.5, latency.p90 + 6 * spread, latency.max)
    if high > latency.min:
        return latency.min, high
    return latency.min * 0.95, latency.min * 1.05 or 1.0


def _mark(name: str, x: float, y: float, value: float) -> Markup:
    """A percentile: a line down to the axis and its label, on the side with enough space."""
    late = x > WIDTH * 0.7
    return join(
        el("line", x1=x, x2=x, y1=y - 8, y2=160, cls=f"mark {name}"),
        words(
            x + (-5 if late else 5),
            y,
            f"{name} {fmt.milliseconds(value)}",
            "value halo",
            "end" if late else None,
        ),
    )


def _bins(samples: Sequence[float], low: float, high: float) -> int:
    """The number of bins (Freedman and Diaconis, 1981)."""
    spread = percentile(samples, 75) - percentile(samples, 25)
    if spread <= 0:
        return 24
    width = 2 * spread / math.cbrt(len(samples))
    return max(8, min(_MAX_BINS, math.ceil((high - low) / width)))


def dots(label: str, items: Sequence[tuple[str, str, Score]]) -> Markup:
    """Scores with their intervals as dots on a zoomed axis: (name, class, score)."""
    row, top, left, right = 26, 6, 220, WIDTH - 96
    share = items[0][2].is_share
    factor = 100 if share else 1
    ends = [end for _, _, score in items for end in (score.value, score.low, score.high) if end is not None]
    low, high = min(ends) * factor, max(ends) * factor
    margin = max((high - low) * 0.15, 0.25 if share else abs(high) * 0.01 or 1.0)
    low, high = low - margin, high + margin
    if share:
        low, high = max(0.0, low), min(100.0, high)
    bottom = top + row * len(items)
    axis, scale = _axis(
        (left, right), (low, high), bottom, "% of test samples" if share else items[0][2].metric
    )
    parts = [axis]
    for index, (name, cls, score) in enumerate(items):
        y = top + index * row + 13.0
        parts += [
            words(0, y + 4, _short(name, 28), "name"),
            el("line", x1=left, x2=right, y1=y, y2=y, cls="guide"),
        ]
        if score.low is not None and score.high is not None:
            span = (scale(score.low * factor), scale(score.high * factor))
            parts.append(el("line", x1=span[0], x2=span[1], y1=y, y2=y, cls="whisker"))
        parts += [
            el("circle", cx=scale(score.value * factor), cy=y, r=6, cls=_colour(cls)),
            words(right + 12, y + 4, fmt.score_value(score, score.value), "value"),
        ]
    return svg(bottom + 36, label, *parts)


def positions(label: str, rows: Sequence[tuple[str, Sequence[tuple[float, str]]]], unit: str) -> Markup:
    """One line per row, on a common axis from zero: a dot for each value, with its text on hover; the first stands out."""
    row, top, left, right = 22, 6, 200, WIDTH - _PAD
    high = max((value for _, values in rows for value, _ in values), default=1.0)
    bottom = top + row * len(rows)
    axis, scale = _axis((left, right), (0.0, max(high, 1.0)), bottom, unit)
    parts = [axis]
    for index, (name, values) in enumerate(rows):
        y = top + index * row + 11.0
        parts += [
            words(0, y + 4, _short(name, 26), "name"),
            el("line", x1=left, x2=right, y1=y, y2=y, cls="guide"),
        ]
        for number, (value, shown) in enumerate(values):
            tip = el("title", f"{name}, {shown}: {value:.1f} {unit}")
            dot = el("circle", cx=scale(max(value, 0.0)), cy=y, r=5, cls=RELEASE if number == 0 else BASELINE)
            parts.append(el("g", tip, dot))
    return svg(bottom + 36, label, *parts)


def curve(label: str, points: Sequence[CurvePoint]) -> Markup:
    """The predicted latency over trials, from zero, a step down at each improvement."""
    left, right, top, bottom = 60, WIDTH - 104, 10, 170
    high = max(point.predicted_ms for point in points) or 1.0
    last = points[-1]
    axis, scale = _axis((left, right), (0.0, float(max(last.trials, 1))), bottom, "trials")

    def y(value: float) -> float:
        return bottom - value / high * (bottom - top)

    grid = [
        join(
            el("line", x1=left, x2=right, y1=y(value), y2=y(value), cls="guide"),
            words(
                left - 8, y(value) + 4, fmt.count(value) if high >= _LONG else f"{value:,.10g}", "tick", "end"
            ),
        )
        for value in ticks(0.0, high, 4)
    ]
    path = f"M{scale(points[0].trials):.1f} {y(points[0].predicted_ms):.1f}"
    for point in points[1:]:
        path += f"H{scale(point.trials):.1f}V{y(point.predicted_ms):.1f}"
    return svg(
        bottom + 36,
        label,
        *grid,
        axis,
        words(left, bottom + 32, "predicted ms, sum of the kernels", "tick"),
        el("path", d=path, cls="line"),
        el("circle", cx=scale(last.trials), cy=y(last.predicted_ms), r=4, cls="release"),
        words(scale(last.trials) + 9, y(last.predicted_ms) + 4, fmt.milliseconds(last.predicted_ms), "value"),
    )


def shares(label: str, parts: Sequence[tuple[str, float, bool]]) -> Markup:
    """One bar for the whole runtime: (kernel, share 0..1, tuned). Small kernels have no label."""
    x = 0.0
    total = sum(share for _, share, _ in parts) or 1.0
    drawn = []
    for name, share, tuned in parts:
        width = share / total * WIDTH
        tip = el("title", f"{name}: {fmt.percent(share)}, {'tuned' if tuned else 'untuned'}")
        drawn.append(
            el(
                "g",
                tip,
                el(
                    "rect",
                    x=x,
                    y=2,
                    width=max(width - 1.0, 0.4),
                    height=22,
                    cls="tuned" if tuned else "untuned",
                ),
            )
        )
        x += width
    return svg(26, label, *drawn)


def span(label: str, start: float, length: float, total: float, cls: str) -> Markup:
    """One line of the timeline: a bar from ``start``, in seconds of ``total``."""
    whole = total or 1.0
    left = min(start / whole, 1.0) * 100
    wide = min(length / whole * 100, 100 - left)
    return el(
        "svg",
        el("title", label),
        el("rect", x="0", y="5", width="100%", height="2", cls="guide-fill"),
        el(
            "rect",
            x=f"{min(left, 99.4):.2f}%",
            y="1",
            width=f"{max(wide, 0.6):.2f}%",
            height="10",
            rx=1.5,
            cls=cls,
        ),
        role="img",
        cls="span",
    )


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"

"""Ratios to edgepack as SVG files: bars with intervals, one row per contestant, one part per net."""

import math
from collections.abc import Sequence

from benchmarks.kit.svg import chart, style
from benchmarks.peers.ranking import OURS, Ranked, Standing
from edgepack.reporting import format as fmt
from edgepack.reporting.charts import words
from edgepack.reporting.markup import Markup, el

_LEFT, _RIGHT = 190, 610  # of the axis
_ROW, _GAP, _TOP = 17, 30, 52
_LEAST, _MOST = 0.1, 30.0  # maximum extent of the axis; longer bars end in an arrow
_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
_STYLE = style(
    {"slower": ("#3f7f9f", "#6fb3d2"), "faster": ("#c2562d", "#f0906a")},
    """\
.net { font-weight: 600; font-size: 13px; paint-order: stroke; stroke: var(--paper); stroke-width: 5px; }
.soft { fill: var(--soft); }
.guide { stroke: var(--rule); } .one { stroke: var(--ink); stroke-width: 1.5; }
.slower { fill: var(--slower); } .faster { fill: var(--faster); } .even { fill: var(--soft); }
.whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
""",
)


def ratios(title: str, ranked: Sequence[Ranked]) -> Markup | None:
    """Draw the chart of all groups of one kind; None if there is no ratio."""
    parts = [(one, [peer for peer in one.order if peer.name != OURS and peer.to_ours]) for one in ranked]
    to_edgepack = [peer.to_ours for _, compared in parts for peer in compared]
    if not to_edgepack:
        return None
    values = [bound for ratio in to_edgepack for bound in (ratio.low, ratio.value, ratio.high) if bound]
    scale = _Scale(min(0.5, *values), max(2.0, *values))
    bottom = _TOP + sum(_GAP + _ROW * len(compared) for _, compared in parts) + 8
    drawn: list[Markup] = []
    y = _TOP
    for one, compared in parts:
        y += _GAP
        drawn.append(words(8, y - 8, f"{one.group.title}: {_ms(one)}", "net"))
        for standing in compared:
            drawn += _bar(standing, y, scale)
            y += _ROW
    grid: list[Markup] = []
    labels: list[Markup] = []
    for tick in (tick for tick in _TICKS if scale.low <= tick <= scale.high):
        x, cls = scale(tick), "one" if tick == 1 else "guide"
        grid.append(el("line", x1=x, x2=x, y1=_TOP, y2=bottom, cls=cls))
        labels.append(words(x, bottom + 16, f"{tick:g}", "soft", "middle"))
    return chart(
        f"Median latency as a multiple of edgepack's: {title}",
        _STYLE,
        bottom + 30,
        words(scale(1) - 8, 42, "peer is faster", "soft", "end"),
        words(scale(1) + 8, 42, "edgepack is faster", "soft"),
        *grid,
        *drawn,
        *labels,
        label=f"Ratio of medians to edgepack, {title}",
    )


class _Scale:
    """A logarithmic scale from ratios to x."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = max(low / 1.15, _LEAST), min(high * 1.15, _MOST)

    def __call__(self, value: float) -> float:
        share = math.log(min(max(value, self.low), self.high) / self.low) / math.log(self.high / self.low)
        return _LEFT + share * (_RIGHT - _LEFT)


def _ms(ranked: Ranked) -> str:
    if ranked.ours is None:
        return "edgepack has no time"
    return f"edgepack {fmt.milliseconds(ranked.ours.times.median / 1e6)}"


def _bar(one: Standing, y: float, scale: _Scale) -> list[Markup]:
    ratio = one.to_ours
    start, end = sorted((scale(1.0), scale(ratio.value)))
    cls = "even" if not ratio.decided else "faster" if ratio.value < 1 else "slower"
    parts = [
        words(_LEFT - 8, y + 12, one.title, anchor="end"),
        el("rect", x=start, y=y + 2, width=max(end - start, 1.0), height=_ROW - 5, rx=1.5, cls=cls),
    ]
    middle = y + _ROW / 2
    if not scale.low <= ratio.value <= scale.high:
        tip = scale(ratio.value)
        back = tip + (6 if ratio.value < scale.low else -6)
        shape = f"M{back:.1f} {middle - 5:.1f}L{tip:.1f} {middle:.1f}L{back:.1f} {middle + 5:.1f}"
        parts.append(el("path", d=shape, cls="whisker"))
    elif ratio.low is not None and ratio.high is not None:
        low, high = scale(ratio.low), scale(ratio.high)
        shape = f"M{low:.1f} {middle:.1f}L{high:.1f} {middle:.1f}"
        for end in (low, high):
            shape += f"M{end:.1f} {middle - 4:.1f}L{end:.1f} {middle + 4:.1f}"
        parts.append(el("path", d=shape, cls="whisker"))
    caption = f"{fmt.significant(ratio.value)}{fmt.TIMES}, {fmt.milliseconds(one.times.median / 1e6)}"
    return [*parts, words(_RIGHT + 12, y + 12, caption)]

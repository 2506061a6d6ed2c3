"""Draw size against accuracy as SVG files."""

import math
from collections.abc import Mapping, Sequence

from benchmarks.kit.svg import chart, style
from edgepack.reporting.charts import ticks, words
from edgepack.reporting.markup import Markup, el

Curve = Sequence[tuple[float, float]]
"""Times smaller and accuracy in percent, by size."""

_HEIGHT = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 560, 52, 350
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_STYLE = style(
    {
        "c0": ("#0e6f5f", "#46c3a6"),
        "c1": ("#c2562d", "#f0906a"),
        "c2": ("#6353a8", "#a99cf0"),
        "c3": ("#8a6d00", "#d9b93c"),
        "c4": ("#a3316f", "#ef86bd"),
        "c5": ("#2f6db3", "#7fb5ef"),
        "c6": ("#1b1f23", "#e9e6df"),
    },
    "\n".join(
        [
            ".name { font-weight: 600; } .soft { fill: var(--soft); }",
            ".guide { stroke: var(--rule); } .axis { stroke: var(--soft); }",
            ".line { fill: none; stroke-width: 2; }",
            *(f".l{n} {{ stroke: var(--c{n}); }} .f{n} {{ fill: var(--c{n}); }}" for n in range(7)),
        ]
    )
    + "\n",
)


def size_chart(title: str, curves: Mapping[str, Curve], before: float, lowest: float) -> Markup:
    """Draw one curve per method; ``before`` is the accuracy of the source, and points below ``lowest`` are cut off."""
    most = max(size for curve in curves.values() for size, _ in curve)
    end = next((size for size in _SIZES if size >= most), _SIZES[-1])
    high = math.ceil(max([before, *(y for curve in curves.values() for _, y in curve)]))

    def x(size: float) -> float:
        return _LEFT + math.log2(size) / math.log2(end) * (_RIGHT - _LEFT)

    def y(percent: float) -> float:
        return _BOTTOM - (max(percent, lowest) - lowest) / (high - lowest) * (_BOTTOM - _TOP)

    parts: list[Markup] = [words(8, 40, f"accuracy, %; values below {lowest:g} % are drawn there", "soft")]
    for tick in ticks(lowest, high):
        parts += [
            el("line", x1=_LEFT, x2=_RIGHT, y1=y(tick), y2=y(tick), cls="guide"),
            words(_LEFT - 8, y(tick) + 4, f"{tick:g}", "soft", "end"),
        ]
    for size in (size for size in _SIZES if size <= end):
        parts += [
            el("line", x1=x(size), x2=x(size), y1=_BOTTOM, y2=_BOTTOM + 4, cls="axis"),
            words(x(size), _BOTTOM + 18, f"{size}x", "soft", "middle"),
        ]
    parts += [
        el("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, cls="axis"),
        words(
            (_LEFT + _RIGHT) / 2,
            _BOTTOM + 38,
            "weights in the bundle: times smaller than in float32",
            "soft",
            "middle",
        ),
        el("line", x1=_LEFT, x2=_RIGHT, y1=y(before), y2=y(before), cls="axis", stroke_dasharray="4 4"),
    ]
    for color, (name, curve) in enumerate(curves.items()):
        shown = sorted(curve)
        line = "L".join(f"{x(size):.1f} {y(percent):.1f}" for size, percent in shown)
        parts += [
            el("path", d=f"M{line}", cls=f"line l{color}"),
            *(el("circle", cx=round(x(s), 1), cy=round(y(p), 1), r=3.5, cls=f"f{color}") for s, p in shown),
            words(_RIGHT + 14, _TOP + 12 + 22 * color, name, f"name f{color}"),
        ]
    parts.append(
        words(_RIGHT + 14, y(before) - 6 if y(before) > _TOP + 180 else _BOTTOM - 8, "dashed: before", "soft")
    )
    return chart(title, _STYLE, _HEIGHT, *parts)

"""A scan of sensitivity for the terminal, as Markdown, and as a self-contained HTML page."""

from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import get_args

from edgepack.base.files import require_writable, write_atomic
from edgepack.config.plan import Plan
from edgepack.engine.events import Listener, ignore
from edgepack.errors import UsageError
from edgepack.pipeline.stages.sensitivity import SensitivityFigures
from edgepack.reporting import format as fmt
from edgepack.reporting.charts import positions
from edgepack.reporting.elements import section, table
from edgepack.reporting.markdown import escape
from edgepack.reporting.markup import Markup, el
from edgepack.spec.sensitivity import LayerSensitivity, ProbeKind, SensitivityPoint

_TITLES = {
    "weights": "Bits of the weights",
    "activations": "Bits of the input",
    "prune": "Share of the weights set to zero",
    "rank": "Share of the full rank",
}
_NOTE = "Signal-to-noise ratio of the outputs in dB if this layer alone is changed: lower is more sensitive."


def scan_recipe(
    plan: Callable[[], Plan],
    samples: int,
    probes: Sequence[ProbeKind],
    out: Path | None,
    *,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
) -> SensitivityFigures:
    """As :func:`edgepack.api.sensitivity`; ``plan`` reads the recipe.

    Raises:
        UsageError: ``samples`` is less than 1; ``out`` is no .html or .md file, or cannot be written.
        EdgepackError: the recipe has problems, or a stage failed.
    """
    from edgepack.pipeline.scanning import scan_plan

    if samples < 1:
        raise UsageError(f"samples must be at least 1 (got {samples})")
    pages = {".html": to_html, ".md": to_markdown}
    if out is not None:
        if out.suffix not in pages:
            raise UsageError(f"cannot write the tables to {out}", next="name an .html or .md file")
        require_writable(out.parent)
    made = plan()
    kinds = tuple(kind for kind in get_args(ProbeKind) if not probes or kind in probes)
    found = scan_plan(made, samples, kinds, fresh=fresh, listener=listener)
    if out is not None:
        write_atomic(out, pages[out.suffix](made.recipe.name, found).encode())
    return found


def setting_of(point: SensitivityPoint) -> str:
    """A probe's setting as text: ``4 bit``, ``75 %``."""
    if point.probe in {"weights", "activations"}:
        return f"{point.setting:.0f}{fmt.THIN}bit"
    return f"{point.setting * 100:.3g}{fmt.THIN}%"


def table_of(figures: SensitivityFigures, probe: str, *, metric: bool = False) -> list[list[str]]:
    """The table of a kind of probe: a head, and a row for each layer; of ratios, or of the metric."""
    rows = []
    for layer in figures.layers:
        points = [point for point in layer.points if point.probe == probe]
        values = [_metric(point.metric) if metric else f"{point.sqnr:.1f}" for point in points]
        rows.append([layer.name, layer.operator, f"{layer.parameters:,}", *values])
    head = ["layer", "operator", "weights"]
    return [[*head, *(setting_of(p) for p in _points(figures.layers[:1], probe))], *rows]


def _points(layers: Sequence[LayerSensitivity], probe: str) -> list[SensitivityPoint]:
    return [point for layer in layers for point in layer.points if point.probe == probe]


def _metric(value: float | None) -> str:
    return fmt.DASH if value is None else fmt.significant(value, 4)


def probes_of(figures: SensitivityFigures) -> list[str]:
    """The kinds of probes in a scan, in order."""
    return list(dict.fromkeys(point.probe for layer in figures.layers for point in layer.points))


def summary(figures: SensitivityFigures) -> str:
    """What was compared, in a sentence."""
    kind = "made-up samples" if figures.made_up else "samples"
    scored = (
        ""
        if figures.metric is None
        else f"; {figures.metric} {_metric(figures.reference)} without any change"
    )
    return f"{len(figures.layers)} layers, outputs for {figures.samples} {kind}{scored}"


def _tables(figures: SensitivityFigures) -> Iterator[tuple[str, list[list[str]]]]:
    for probe in probes_of(figures):
        yield f"{_TITLES[probe]}: dB", table_of(figures, probe)
        if figures.metric is not None:
            yield f"{_TITLES[probe]}: {figures.metric}", table_of(figures, probe, metric=True)


def to_lines(figures: SensitivityFigures) -> Iterator[str]:
    """The tables as plain text, with numbers aligned to the right."""
    yield summary(figures)
    yield _NOTE
    for title, rows in _tables(figures):
        yield ""
        yield title
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = (
                text.ljust(width) if column < 2 else text.rjust(width)  # noqa: PLR2004 - name and operator are text
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            )
            yield "  ".join(cells).rstrip()


def to_markdown(name: str, figures: SensitivityFigures) -> str:
    """The tables as GitHub-flavoured Markdown."""
    lines = [f"# Sensitivity of {escape(name)}", "", f"{escape(summary(figures))}.", "", _NOTE]
    for title, (head, *rows) in _tables(figures):
        lines += [
            "",
            f"## {escape(title)}",
            "",
            f"| {' | '.join(head)} |",
            "|---|---|" + "--:|" * (len(head) - 2),
        ]
        lines += [f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def to_html(name: str, figures: SensitivityFigures) -> str:
    """The plots and tables as one page without scripts or external resources."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", f"{name}: sensitivity"),
        el("style", Markup(files("edgepack.reporting").joinpath("report.css").read_text("utf-8"))),
    )
    parts = []
    for probe in probes_of(figures):
        rows = [
            (layer.name, [(point.sqnr, setting_of(point)) for point in layer.points if point.probe == probe])
            for layer in figures.layers
        ]
        both = [table_of(figures, probe)]
        if figures.metric is not None:
            both.append(table_of(figures, probe, metric=True))
        tables = [
            el("details", el("summary", title), table(rows[0], rows[1:], numbers=range(2, len(rows[0]))))
            for title, rows in zip(("dB", figures.metric), both, strict=False)
        ]
        parts.append(section(_TITLES[probe], _NOTE, positions(f"{_TITLES[probe]}, dB", rows, "dB"), *tables))
    header = el(
        "header",
        el("div", "edgepack sensitivity", cls="kicker"),
        el("h1", name),
        el("p", summary(figures), cls="lead"),
    )
    page = el("html", head, el("body", el("main", header, *parts)), lang="en")
    return f"<!doctype html>\n{page}\n"

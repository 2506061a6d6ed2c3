"""The report as one self-contained HTML file: no script, no request, nothing but this page."""

from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from edgepack.outcome import Outcome
from edgepack.report import charts
from edgepack.report import format as fmt
from edgepack.report.document import Report, Row
from edgepack.report.figures import (
    FIGURES,
    Cell,
    Figure,
    cell,
    change,
    emulated_targets,
    footnotes,
    headline,
)
from edgepack.report.markup import Markup, el, join
from edgepack.store import write_atomic

# Nothing may be fetched: what a browser enforces is also what we promise.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_EMULATED = el("span", "emulated", cls="pill emulated")


def save_html(report: Report, path: Path) -> Path:
    """Write the page atomically and return ``path``."""
    write_atomic(path, to_html(report).encode())
    return path


def to_html(report: Report) -> str:
    """The whole page. The same report gives the same bytes."""
    title = f"{report.recipe.name} {report.recipe.version}: edgepack report"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("title", title),
        el("style", Markup(files("edgepack.report").joinpath("report.css").read_text("utf-8"))),
    )
    parts = (
        _header(report),
        _problems(report),
        _before_after(report),
        _compression(report),
        _latency(report),
        _accuracy(report),
        _tuning(report),
        _board(report),
        _gates(report),
        _stages(report),
        _provenance(report),
        el(
            "footer",
            "Made by edgepack. Every figure is in report.json beside this page, raw samples included.",
        ),
    )
    page = el("html", head, el("body", el("main", *parts)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _section(title: str, note: str | None, *children: object) -> Markup:
    return el("section", el("h2", title), el("p", note, cls="note") if note else None, *children)


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), cls: str = ""
) -> Markup:
    """A table; ``numbers`` are the columns aligned to the right. Cells may be ``td`` elements already."""
    columns = [
        el("th", name, cls="num" if index in numbers else None, scope="col")
        for index, name in enumerate(head)
    ]
    lines = []
    for row in rows:
        cells = [
            value
            if isinstance(value, Markup) and value.startswith("<td")
            else el("td", value, cls="num" if index in numbers else None)
            for index, value in enumerate(row)
        ]
        lines.append(el("tr", *cells))
    table = el("table", el("thead", el("tr", *columns)), el("tbody", *lines), cls=cls or None)
    return el("div", table, cls="scroll")


def _exact(found: Cell) -> Markup:
    """A figure, with its exact value for machines and its label where it is emulated."""
    if found.value is None:
        return el("span", found.text, title=found.why)
    shown = el("data", found.text, value=repr(found.value))
    return join(shown, el("span", "emulated", cls="tag")) if found.emulated else shown


def _figure(value: float | None, show: Callable[[float], str]) -> Markup:
    return _exact(Cell(fmt.DASH, None, why="not measured") if value is None else Cell(show(value), value))


def _header(report: Report) -> Markup:
    good = report.exit_code == 0
    gates = {
        status: sum(gate.status == status for gate in report.gates)
        for status in ("passed", "failed", "skipped")
    }
    summary = f"{headline(report)}".capitalize()
    counted = ", ".join(f"{number} {status}" for status, number in gates.items() if number)
    emulated = emulated_targets(report)
    return el(
        "header",
        el("div", "edgepack report", cls="kicker"),
        el("h1", report.recipe.name, " ", el("span", report.recipe.version, cls="version")),
        el(
            "p",
            f"{summary}. ",
            f"Gates: {counted}. " if counted else None,
            f"Measured under emulation: {', '.join(emulated)}. " if emulated else None,
            el("span", f"exit code {report.exit_code}", cls=f"pill {'good' if good else 'bad'}"),
            cls="lead",
        ),
        el(
            "p",
            *(
                el("span", f"{name} ", el("b", value))
                for name, value in (
                    ("run", report.run_id),
                    ("started", report.started),
                    ("took", fmt.duration(report.seconds)),
                )
            ),
            cls="meta",
        ),
        el(
            "div",
            *(_tile_card(report, target) for target in _measured(report)),
            cls="grid",
            style="margin-top:28px",
        )
        if report.rows
        else None,
    )


def _measured(report: Report) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.target for row in report.rows))


def _target_title(report: Report, target: str) -> Markup:
    row = report.row(target, "release") or report.row(target, "baseline")
    device = el("span", f" on {row.device}", cls="soft") if row and row.device else None
    return el("h3", target, device, " ", _EMULATED if row and row.emulated else None)


_TILES = ("Bundle", "Accuracy, on the board", "Latency p50")


def _tile_card(report: Report, target: str) -> Markup:
    tiles = []
    for figure in (figure for figure in FIGURES if figure.label in _TILES):
        before = cell(report, figure, target, "baseline")
        after = cell(report, figure, target, "release")
        compared = change(figure, before, after)
        was = (
            "emulated, not comparable"
            if after.emulated
            else f"was {before.text}{f', {compared}' if compared else ''}"
        )
        tiles.append(
            el(
                "div",
                el("span", figure.label, cls="name"),
                el("span", after.text, cls="now"),
                el("span", was, cls="was"),
                cls="tile",
            )
        )
    return el("div", _target_title(report, target), el("div", *tiles, cls="tiles"), cls="card")


def _problems(report: Report) -> Markup | None:
    if not report.errors:
        return None
    blocks = []
    for error in report.errors:
        place = [part for part in (error.target, error.stage, error.where) if part]
        lines = [(name, getattr(error, name)) for name in ("why", "state", "next")]
        lines += [("problem", ": ".join(str(v) for v in problem.values())) for problem in error.problems]
        blocks.append(
            el(
                "div",
                el("h3", error.message, " ", el("span", f"exit code {error.exit_code}", cls="pill bad")),
                el("p", ", ".join(place), cls="note") if place else None,
                el("dl", *(join(el("dt", name), el("dd", value)) for name, value in lines if value)),
                cls="problem",
            )
        )
    return _section("Problems", None, *blocks)


def _before_after(report: Report) -> Markup | None:
    if not report.rows:
        return None
    note = "The model as trained (baseline) and after compression (release), each through its own bundle."
    cards = (_before_after_card(report, target) for target in _measured(report))
    return _section("Before and after", note, el("div", *cards, cls="grid"))


def _before_after_card(report: Report, target: str) -> Markup:
    def line(figure: Figure) -> tuple[object, ...]:
        before = cell(report, figure, target, "baseline")
        after = cell(report, figure, target, "release")
        return (
            figure.label,
            el("td", _exact(before), cls="num baseline"),
            el("td", _exact(after), cls="num release"),
            change(figure, before, after),
        )

    table = _table(("", "Baseline", "Release", "Change"), map(line, FIGURES), numbers=(1, 2, 3))
    notes = [el("li", f"{fmt.DASH} {note}") for note in footnotes(report, target)]
    for row in report.rows:
        if row.target == target and row.measurement and not row.measurement.verdict.valid:
            reasons = "; ".join(row.measurement.verdict.reasons)
            notes.append(el("li", el("b", f"{row.variant}, latency not valid: "), reasons, cls="warn"))
    return el(
        "div",
        _target_title(report, target),
        table,
        el("ul", *notes, cls="notes") if notes else None,
        cls="card",
    )


def _compression(report: Report) -> Markup | None:
    if not report.compression:
        return None
    kinds: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("Parameters", "parameters", fmt.count),
        ("Multiply-accumulates", "macs", fmt.count),
        ("Size", "size", fmt.size),
        ("Accuracy", "accuracy", fmt.percent),
    )
    panels = []
    for title, name, show in kinds:
        values = [(stage.stage, getattr(stage, name)) for stage in report.compression]
        items = [(stage, value, fmt.DASH if value is None else show(value)) for stage, value in values]
        exact = el("span", *(el("data", value=repr(value)) for _, value in values if value is not None))
        panels.append(el("div", el("h3", title), charts.bars(f"{title} by stage", items), exact))
    return _section(
        "The model, stage by stage",
        "Each compression step, from the source model on.",
        el("div", *panels, cls="grid"),
    )


def _legend(*names: str) -> Markup:
    return el("p", *(el("span", name, cls=name) for name in names), cls="legend")


def _latency(report: Report) -> Markup | None:
    measured = [
        target
        for target in _measured(report)
        if any(r.target == target and r.measurement for r in report.rows)
    ]
    if not measured:
        return None
    note = "Every sample counts. Each histogram has an axis of its own; percentiles interpolate (Hyndman and Fan, type 7)."
    cards = (_latency_card(report, target) for target in measured)
    return _section("Latency", note, _legend("baseline", "release"), el("div", *cards, cls="grid"))


def _latency_card(report: Report, target: str) -> Markup:
    rows = [row for row in report.rows if row.target == target and row.measurement]
    comparable = [(row.variant, row.measurement) for row in rows if row.measurement and not row.emulated]
    parts: list[Markup] = []
    if comparable:
        parts += [
            el("h4", "p50, with p90 and p99"),
            charts.comparison(f"Latency on {target}, p50 to p99", comparable),
        ]
    for row in rows:
        if row.measurement:
            emulated = " (emulated)" if row.emulated else ""
            parts.append(
                el(
                    "h4",
                    f"{row.variant}, {row.measurement.threads} thread(s)",
                    el("span", emulated, cls="warn"),
                )
            )
            label = f"Latency of the {row.variant} on {target}{emulated}"
            parts.append(charts.histogram(label, row.variant, row.measurement))
    return el("div", _target_title(report, target), *parts, cls="card")


def _accuracy(report: Report) -> Markup | None:
    cards = []
    for target in _measured(report):
        items = []
        for row in (row for row in report.rows if row.target == target):
            for name, place in (
                ("torch", "torch fp32"),
                ("onnxruntime", "onnxruntime"),
                ("board", "on the board"),
            ):
                value = getattr(row, f"accuracy_{name}")
                if value is not None:
                    items.append((f"{row.variant}, {place}", row.variant, value))
        if items:
            chart = charts.dots(f"Accuracy on {target}", items)
            cards.append(
                el("div", _target_title(report, target), chart, _samples(report, target), cls="card")
            )
    if not cards:
        return None
    note = "On the test split; the board's own through the bundle it would ship."
    return _section("Accuracy", note, _legend("baseline", "release"), el("div", *cards, cls="grid"))


def _samples(report: Report, target: str) -> Markup | None:
    notes = []
    for row in report.rows:
        if row.target == target and row.accuracy_samples is not None:
            parity = f", parity with onnxruntime {fmt.plain(row.parity)}" if row.parity is not None else ""
            samples = el("data", f"{row.accuracy_samples:,}", value=row.accuracy_samples)
            notes.append(el("li", f"{row.variant}: ", samples, f" samples on the board{parity}"))
    return el("ul", *notes, cls="notes") if notes else None


def _tuning(report: Report) -> Markup | None:
    if not report.tuning:
        return None
    cards = []
    for tuning in report.tuning:
        known = [kernel for kernel in tuning.kernels if kernel.share is not None]
        ordered = sorted(known, key=lambda kernel: (not kernel.tuned, -(kernel.share or 0.0), kernel.name))
        untuned = [kernel.name for kernel in tuning.kernels if not kernel.tuned]
        facts = join(
            el("data", f"{tuning.trials:,}", value=tuning.trials),
            " trials in ",
            el("data", fmt.duration(tuning.seconds), value=tuning.seconds),
            "; ",
            _figure(tuning.tuned_share, fmt.percent),
            " of the predicted runtime is tuned.",
        )
        parts = [
            el("h3", f"{tuning.target}, {tuning.variant} ", _EMULATED if tuning.emulated else None),
            el("p", facts),
            charts.curve(f"Tuning of the {tuning.variant} for {tuning.target}", tuning.curve)
            if tuning.curve
            else None,
            el("h4", "Share of the predicted runtime, by kernel") if ordered else None,
            charts.shares(
                f"Tuned and untuned kernels of the {tuning.variant} for {tuning.target}",
                [(kernel.name, kernel.share or 0.0, kernel.tuned) for kernel in ordered],
            )
            if ordered
            else None,
            el("ul", el("li", f"untuned: {', '.join(untuned)}"), cls="notes") if untuned else None,
        ]
        cards.append(el("div", *parts, cls="card"))
    note = "Candidates are measured on the board; the curve is the best known sum of all kernels."
    return _section("Tuning", note, _legend("tuned", "untuned"), el("div", *cards, cls="grid"))


def _board(report: Report) -> Markup | None:
    measured = [row for row in report.rows if row.measurement]
    if not measured:
        return None
    rows = [line for row in measured for line in _board_lines(row)]
    head = ("Target", "Variant", "", "Governor", "MHz", "°C", "Throttled", "Verdict")
    note = "Before the first sample and after the last. A dash is what the board does not say."
    return _section("Board state", note, _table(head, rows, numbers=(4, 5)))


def _board_lines(row: Row) -> list[tuple[object, ...]]:
    if row.measurement is None:
        return []
    verdict = row.measurement.verdict
    shown = (
        el("span", "valid", cls="good")
        if verdict.valid
        else el("span", "; ".join(verdict.reasons), cls="warn")
    )
    lines: list[tuple[object, ...]] = []
    for moment in ("before", "after"):
        state = getattr(row.measurement, moment)
        first = moment == "before"
        lines.append(
            (
                row.target if first else "",
                row.variant if first else "",
                moment,
                state.governor or fmt.DASH,
                ", ".join(f"{khz / 1000:.0f}" for khz in state.frequency_khz) or fmt.DASH,
                _figure(state.temperature_c, "{:.1f}".format),
                {None: fmt.DASH, True: el("b", "yes", cls="bad"), False: "no"}[state.throttled],
                shown if first else "",
            )
        )
    return lines


def _gates(report: Report) -> Markup | None:
    if not report.gates:
        return None
    colours = {"passed": "good", "failed": "bad", "skipped": "warn"}
    rows = [
        (
            gate.name,
            gate.target,
            el("span", gate.status, cls=f"pill {colours[gate.status]}"),
            _figure(gate.value, lambda value: fmt.significant(value, 4)),
            _figure(gate.limit, lambda value: fmt.significant(value, 4)),
            el("td", gate.why or "", cls="wrap"),
        )
        for gate in report.gates
    ]
    note = "What the recipe demands of a release. A failed gate ends the run with exit code 3."
    return _section(
        "Gates", note, _table(("Gate", "Target", "", "Value", "Limit", "Why"), rows, numbers=(3, 4))
    )


def _stages(report: Report) -> Markup | None:
    if not report.stages:
        return None
    clock, starts = 0.0, []
    for outcome in report.stages:
        starts.append(clock if outcome.started is None else outcome.started)
        clock = max(clock, starts[-1] + outcome.seconds)
    rows = [
        _stage_line(outcome, start, max(clock, report.seconds))
        for outcome, start in zip(report.stages, starts, strict=True)
    ]
    table = _table(("Stage", "When", "Time", "Status", "Why"), rows, numbers=(2,), cls="timeline")
    return _section("Stages", None, _legend("done", "cached", "failed", "skipped"), table)


def _stage_line(outcome: Outcome, start: float, total: float) -> tuple[object, ...]:
    whom = " ".join(part for part in (outcome.target, outcome.variant) if part)
    colour = {"done": "good", "cached": "soft", "failed": "bad", "skipped": "warn"}[outcome.status]
    return (
        join(outcome.stage, el("span", f" {whom}", cls="soft") if whom else None),
        charts.span(
            f"{outcome.stage} {whom} at {fmt.duration(start)}", start, outcome.seconds, total, outcome.status
        ),
        el("data", fmt.duration(outcome.seconds), value=outcome.seconds),
        el("span", outcome.status, cls=colour),
        el("td", outcome.why or "", cls="wrap"),
    )


def _provenance(report: Report) -> Markup:
    host, recipe = report.host, report.recipe
    lines: list[tuple[str, object]] = [
        ("Recipe", join(recipe.path or recipe.name, " ", el("code", recipe.digest))),
        *(
            (f"Release, {row.target} {row.variant}", el("code", row.bundle_digest))
            for row in report.rows
            if row.bundle_digest
        ),
        (
            "Build host",
            f"{host.system} {host.machine}{f', {host.cpu}' if host.cpu else ''}, {host.cores} cores, Python {host.python}",
        ),
        ("Tools", ", ".join(f"{name} {version}" for name, version in sorted(report.tools.items()))),
    ]
    return _section(
        "Provenance", None, el("dl", *(join(el("dt", name), el("dd", value)) for name, value in lines))
    )

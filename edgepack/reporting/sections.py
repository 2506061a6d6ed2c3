"""The sections of the HTML report, each a function of the report; None if it would be empty."""

from collections.abc import Callable

from edgepack.measuring.stats import BoardState
from edgepack.pipeline.trace import Placement
from edgepack.reporting import charts
from edgepack.reporting import format as fmt
from edgepack.reporting.document import Outcome, Report, Row, TuningRow
from edgepack.reporting.elements import (
    EMULATED_PILL,
    card_title,
    exact,
    figure,
    grid,
    legend,
    notes,
    section,
    table,
)
from edgepack.reporting.figures import (
    BEFORE_AND_AFTER,
    NOT_VALID,
    Line,
    columns,
    doubts,
    footnotes,
    gate_place,
    measured_placements,
    metric_of,
    rows_at,
    table_lines,
)
from edgepack.reporting.markup import Markup, el, join
from edgepack.reporting.profile import kernels
from edgepack.reporting.steps import compression
from edgepack.reporting.tuning import kernel_outcome, tuning_outcome
from edgepack.spec.candidate import BASELINE


def problems(report: Report) -> Markup | None:
    """Errors as shown to the user."""
    if not report.errors:
        return None
    blocks = []
    for error in report.errors:
        device = report.shown_device(error.target, error.device)
        place = [part for part in (error.target, device, error.stage, error.where) if part]
        lines = [(name, getattr(error, name)) for name in ("why", "state", "next")]
        lines += error.details
        blocks.append(
            el(
                "div",
                el("h3", error.message, " ", el("span", f"exit code {error.exit_code}", cls="pill bad")),
                el("p", ", ".join(place), cls="note") if place else None,
                el("dl", *(join(el("dt", name), el("dd", value)) for name, value in lines if value)),
                cls="problem",
            )
        )
    return section("Problems", None, *blocks)


def before_after(report: Report) -> Markup | None:
    """All figures of all candidates, one card per target and device; one that failed early gives the reason."""
    if not report.placements:
        return None
    note = "The model as trained (baseline) and after compression (release), each through its own bundle."
    if BASELINE not in columns(report):
        note = "The release. Nothing is compressed, so there is nothing to compare it with."
    return section("Before and after", note, grid(*(_figures(report, at) for at in report.placements)))


def _figures(report: Report, at: Placement) -> Markup:
    names = columns(report)

    lines = table_lines(report, at)
    compared = any(line.change for line in lines)

    def line(of: Line) -> tuple[object, ...]:
        emulated = any(cell.emulated for cell in of.cells)
        cells = [el("td", exact(c), cls=f"num {name}") for name, c in zip(names, of.cells, strict=True)]
        if compared:
            cells.append(el("td", of.change, cls="num emulated" if emulated else "num"))
        return (of.figure.label, *cells)

    small = [f"{fmt.DASH} {note}" for note in footnotes(report, at)]
    small += [el("span", doubt, cls="warn") for doubt in doubts(report, at)]
    head = ["", *(name.capitalize() if name in BEFORE_AND_AFTER else name for name in names)]
    head += ["Change"] if compared else []
    return el(
        "div",
        card_title(at),
        table(head, map(line, lines), numbers=range(1, len(head)))
        if at in measured_placements(report)
        else None,
        notes(*small),
        cls="card",
    )


def latency(report: Report) -> Markup | None:
    """Latency distributions, one card per target and device."""
    cards = []
    for at in measured_placements(report):
        rows = [row for row in rows_at(report, at) if row.measurement]
        if rows:
            cards.append(_distribution(at, rows))
    if not cards:
        return None
    note = "Each histogram has an axis of its own. Percentiles interpolate (Hyndman and Fan, type 7)."
    return section("Latency", note, legend(*columns(report)), grid(*cards))


def _distribution(at: Placement, rows: list[Row]) -> Markup:
    comparable = [(row.candidate, row.measurement) for row in rows if row.measurement and not row.emulated]
    parts: list[Markup] = []
    if comparable:
        parts += [
            el("h4", "p50, with whiskers to p90 and p99"),
            charts.comparison(f"Latency on {at.target}, p50 to p99", comparable),
        ]
    for row in rows:
        if row.measurement:
            threads = row.measurement.threads
            label = "" if row.measurement.verdict.valid else f" ({NOT_VALID})"
            label = " (emulated)" if row.emulated else label
            plural = "s" if threads != 1 else ""
            parts += [
                el("h4", f"{row.candidate}, {threads} thread{plural}", el("span", label, cls="warn")),
                charts.histogram(
                    f"Latency of the {row.candidate} on {at.target}{label}", row.candidate, row.measurement
                ),
            ]
    return el("div", card_title(at), *parts, cls="card")


def scores(report: Report) -> Markup | None:
    """The metric in torch, in onnxruntime and on the board, one card per target and device."""
    cards = []
    runs = (("torch", "torch fp32"), ("onnxruntime", "onnxruntime"), ("board", "on the board"))
    title = fmt.metric_title(metric_of(report))
    for at in measured_placements(report):
        items = [
            (f"{row.candidate}, {run}", row.candidate, getattr(row, f"score_{name}"))
            for row in rows_at(report, at)
            for name, run in runs
            if getattr(row, f"score_{name}") is not None
        ]
        if items:
            chart = charts.dots(f"{title} on {at.target}", items)
            cards.append(el("div", card_title(at), chart, _samples(report, at), cls="card"))
    if not cards:
        return None
    note = "On the test split, with 95 % intervals; on the board through the bundle. The axis does not start at 0."
    return section(title, note, legend(*columns(report)), grid(*cards))


def _samples(report: Report, at: Placement) -> Markup | None:
    lines = []
    for row in rows_at(report, at):
        if row.board_samples is not None:
            parity = f", parity with onnxruntime {fmt.plain(row.parity)}" if row.parity is not None else ""
            samples = figure(row.board_samples, "{:,}".format)
            lines.append(join(f"{row.candidate}: ", samples, f" samples on the board{parity}"))
    return notes(*lines)


def tuning(report: Report) -> Markup | None:
    """The tuning curve and the share of the runtime that is tuned, one card per target and candidate."""
    if not report.tuning:
        return None
    note = (
        "Candidates are measured on the board, each batch with a timing of the fallback schedule; the spread of those "
        "is the noise, and a candidate must be faster by more than that. The curve is the best known sum of all kernels."
    )
    return section("Tuning", note, legend("tuned", "untuned"), grid(*map(_tuned, report.tuning)))


def _tuned(of: TuningRow) -> Markup:
    known = [kernel for kernel in of.kernels if kernel.share is not None]
    ordered = sorted(known, key=lambda kernel: (not kernel.tuned, -(kernel.share or 0.0), kernel.name))
    rest = [kernel for kernel in of.kernels if kernel.share is None]
    facts = (
        figure(of.trials, "{:,}".format),
        " trials, ",
        figure(of.seconds, fmt.duration),
        "; fallback ",
        figure(of.untuned_ms, fmt.milliseconds),
        ", as compiled ",
        figure(of.predicted_ms, fmt.milliseconds),
        ", noise ",
        figure(of.noise_ms, fmt.milliseconds),
        "; ",
        figure(of.tuned_share, fmt.percent),
        " of the predicted runtime is in tuned kernels.",
    )
    rows = (
        (
            el("td", kernel.name, cls="wrap"),
            el("td", kernel_outcome(kernel), cls="wrap" if kernel.tuned else "wrap warn"),
            figure(kernel.trials, "{:,}".format),
            figure(kernel.untuned_ms, fmt.milliseconds),
            figure(kernel.noise, fmt.percent),
            figure(kernel.best_ms, fmt.milliseconds),
            figure(kernel.share, fmt.percent),
        )
        for kernel in (*ordered, *rest)
    )
    name = f"the {of.candidate} for {of.target}"
    bar = [(kernel.name, kernel.share or 0.0, kernel.tuned) for kernel in ordered]
    kernels = table(
        ("Kernel", "", "Trials", "Fallback", "Noise", "Best candidate", "Share"),
        rows,
        numbers=(2, 3, 4, 5, 6),
    )
    return el(
        "div",
        el("h3", f"{of.target}, {of.candidate} ", EMULATED_PILL if of.emulated else None),
        el("p", tuning_outcome(of)),
        el("p", *facts, cls="soft"),
        charts.curve(f"Tuning of {name}", of.curve) if of.curve else None,
        el("h4", "Share of the predicted runtime, by kernel") if bar else None,
        charts.shares(f"Tuned and untuned kernels of {name}", bar) if bar else None,
        el("details", el("summary", f"{len(of.kernels)} kernels"), kernels) if of.kernels else None,
        cls="card",
    )


def board(report: Report) -> Markup | None:
    """The board's state before and after the measurement, and its verdict."""
    rows = [row for row in report.rows if row.measurement]
    if not rows:
        return None
    head = ("Target", "Candidate", "Governor", "MHz", "°C", "Throttled", "Verdict")
    note = "Before the first sample, and after the last where that differs. A dash is a value that the board does not report."
    against = [
        f"{report.place_name(rows_at(report, at)[0])}: {doubt}"
        for at in measured_placements(report)
        for doubt in doubts(report, at)
    ]
    small = notes(*(el("span", line, cls="warn") for line in against))
    return section(
        "Board state", note, table(head, (_board_line(report, row) for row in rows), cls="board"), small
    )


def _board_line(report: Report, row: Row) -> tuple[object, ...]:
    if row.measurement is None:
        return (row.target, row.candidate)
    verdict = row.measurement.verdict
    before, after = row.measurement.before, row.measurement.after
    return (
        el("td", report.place_name(row), cls="keep"),
        row.candidate,
        _both(before.governor or fmt.DASH, after.governor or fmt.DASH),
        _both(_clock(before), _clock(after)),
        _both(figure(before.temperature_c, "{:.1f}".format), figure(after.temperature_c, "{:.1f}".format)),
        _both(_throttled(before), _throttled(after)),
        el("span", "valid", cls="good") if verdict.valid else el("span", "not valid", cls="warn"),
    )


def _both(before: str, after: str) -> Markup:
    return join(before) if before == after else join(before, " \N{RIGHTWARDS ARROW} ", after)


def _clock(state: BoardState) -> str:
    cores = sorted(set(state.frequency_khz))
    ends = dict.fromkeys((cores[0], cores[-1])) if cores else ()
    return " to ".join(f"{khz / 1000:,.0f}" for khz in ends) or fmt.DASH


def _throttled(state: BoardState) -> Markup:
    if state.throttled is None:
        return join(fmt.DASH)
    return el("b", "yes", cls="bad") if state.throttled else join("no")


def gates(report: Report) -> Markup | None:
    """The recipe's gates and their results."""
    if not report.gates:
        return None
    colours = {"passed": "good", "failed": "bad", "skipped": "warn"}

    rows = [
        (
            gate.name,
            el("td", gate_place(gate), cls="keep"),
            el("span", gate.status, cls=f"pill {colours[gate.status]}"),
            figure(gate.value, fmt.six),
            figure(gate.limit, fmt.six),
            el("td", gate.why or "", cls="wrap"),
        )
        for gate in report.gates
    ]
    note = "The recipe's requirements for a release. A failed gate ends the run with exit code 3."
    return section(
        "Gates", note, table(("Gate", "Target", "", "Value", "Limit", "Why"), rows, numbers=(3, 4))
    )


def stages(report: Report) -> Markup | None:
    """All stages on one time axis."""
    if not report.stages:
        return None
    clock = 0.0
    starts = []
    for outcome in report.stages:
        starts.append(clock if outcome.started is None else outcome.started)
        clock = max(clock, starts[-1] + outcome.seconds)
    total = max(clock, report.seconds)
    rows = [
        _stage(report, outcome, start, total) for outcome, start in zip(report.stages, starts, strict=True)
    ]
    head = ("Stage", "When", "Time", "Status", "Why")
    return section(
        "Stages",
        None,
        legend("done", "cached", "failed", "skipped"),
        table(head, rows, numbers=(2,), cls="timeline"),
    )


def _stage(report: Report, outcome: Outcome, start: float, total: float) -> tuple[object, ...]:
    whom = " ".join(part for part in (report.place_name(outcome), outcome.candidate) if part)
    colour = {"done": "good", "cached": "soft", "failed": "bad", "skipped": "warn"}[outcome.status]
    made = notes(*(f"{artifact.name}, {fmt.size(artifact.size)}" for artifact in outcome.artifacts))
    label = f"{outcome.stage} {whom} at {fmt.duration(start)}"
    return (
        el("td", outcome.stage, el("span", f" {whom}", cls="soft") if whom else None, cls="wrap"),
        charts.span(label, start, outcome.seconds, total, outcome.status),
        figure(outcome.seconds, fmt.duration),
        el("span", outcome.status, cls=colour),
        el("td", outcome.why or "", made, cls="wrap"),
    )


SECTIONS: tuple[Callable[[Report], Markup | None], ...] = (
    problems,
    before_after,
    compression,
    latency,
    kernels,
    scores,
    tuning,
    board,
    gates,
    stages,
)

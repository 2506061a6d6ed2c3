"""The sections of the HTML report, each from the report alone and absent where it has nothing to say."""

from collections.abc import Callable

from edgepack.bench.stats import BoardState
from edgepack.engine.outcome import Outcome
from edgepack.report import charts
from edgepack.report import format as fmt
from edgepack.report.document import Report, Row, TuningRow
from edgepack.report.elements import (
    EMULATED_PILL,
    exact,
    figure,
    grid,
    legend,
    notes,
    section,
    table,
    target_title,
)
from edgepack.report.figures import Figure, cell, change, doubts, figures_of, footnotes, measured_targets
from edgepack.report.markup import Markup, el, join


def problems(report: Report) -> Markup | None:
    """Errors as the user saw them."""
    if not report.errors:
        return None
    blocks = []
    for error in report.errors:
        place = [part for part in (error.target, error.stage, error.where) if part]
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
    """Every figure of baseline and release, a card a target; a target that failed early says why."""
    if not report.targets:
        return None
    note = "The model as trained (baseline) and after compression (release), each through its own bundle."
    return section("Before and after", note, grid(*(_figures(report, target) for target in report.targets)))


def _figures(report: Report, target: str) -> Markup:
    def line(of: Figure) -> tuple[object, ...]:
        before = cell(report, of, target, "baseline")
        after = cell(report, of, target, "release")
        emulated = before.emulated or after.emulated
        return (
            of.label,
            el("td", exact(before), cls="num baseline"),
            el("td", exact(after), cls="num release"),
            el("td", change(of, before, after), cls="num emulated" if emulated else "num"),
        )

    small = [f"{fmt.DASH} {note}" for note in footnotes(report, target)]
    small += [el("span", doubt, cls="warn") for doubt in doubts(report, target)]
    measured = target in measured_targets(report)
    return el(
        "div",
        target_title(report, target),
        table(("", "Baseline", "Release", "Change"), map(line, figures_of(report)), numbers=(1, 2, 3))
        if measured
        else None,
        notes(*small),
        cls="card",
    )


def compression(report: Report) -> Markup | None:
    """The model after each compression step."""
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
        machine = (el("data", value=repr(value)) for _, value in values if value is not None)
        panels.append(el("div", el("h3", title), charts.bars(f"{title} by stage", items), *machine))
    return section(
        "The model, stage by stage", "Each compression step, from the source model on.", grid(*panels)
    )


def latency(report: Report) -> Markup | None:
    """How the samples are distributed, a card a target."""
    cards = []
    for target in measured_targets(report):
        rows = [row for row in report.rows if row.target == target and row.measurement]
        if rows:
            cards.append(_distribution(report, target, rows))
    if not cards:
        return None
    note = "Each histogram has an axis of its own. Percentiles interpolate (Hyndman and Fan, type 7)."
    return section("Latency", note, legend("baseline", "release"), grid(*cards))


def _distribution(report: Report, target: str, rows: list[Row]) -> Markup:
    comparable = [(row.variant, row.measurement) for row in rows if row.measurement and not row.emulated]
    parts: list[Markup] = []
    if comparable:
        parts += [
            el("h4", "p50, with whiskers to p90 and p99"),
            charts.comparison(f"Latency on {target}, p50 to p99", comparable),
        ]
    for row in rows:
        if row.measurement:
            threads = row.measurement.threads
            emulated = " (emulated)" if row.emulated else ""
            plural = "s" if threads != 1 else ""
            parts += [
                el("h4", f"{row.variant}, {threads} thread{plural}", el("span", emulated, cls="warn")),
                charts.histogram(
                    f"Latency of the {row.variant} on {target}{emulated}", row.variant, row.measurement
                ),
            ]
    return el("div", target_title(report, target), *parts, cls="card")


def accuracy(report: Report) -> Markup | None:
    """Accuracy in torch, in onnxruntime and on the board, a card a target."""
    cards = []
    places = (("torch", "torch fp32"), ("onnxruntime", "onnxruntime"), ("board", "on the board"))
    for target in measured_targets(report):
        items = [
            (f"{row.variant}, {place}", row.variant, getattr(row, f"accuracy_{name}"))
            for row in report.rows
            if row.target == target
            for name, place in places
            if getattr(row, f"accuracy_{name}") is not None
        ]
        if items:
            chart = charts.dots(f"Accuracy on {target}", items)
            cards.append(el("div", target_title(report, target), chart, _samples(report, target), cls="card"))
    if not cards:
        return None
    note = (
        "On the test split; the board's own through the bundle it would ship. The axis does not start at 0."
    )
    return section("Accuracy", note, legend("baseline", "release"), grid(*cards))


def _samples(report: Report, target: str) -> Markup | None:
    lines = []
    for row in report.rows:
        if row.target == target and row.accuracy_samples is not None:
            parity = f", parity with onnxruntime {fmt.plain(row.parity)}" if row.parity is not None else ""
            samples = figure(row.accuracy_samples, "{:,}".format)
            lines.append(join(f"{row.variant}: ", samples, f" samples on the board{parity}"))
    return notes(*lines)


def tuning(report: Report) -> Markup | None:
    """The tuning curve and how much of the runtime is tuned, a card a target and variant."""
    if not report.tuning:
        return None
    note = "Candidates are measured on the board; the curve is the best known sum of all kernels."
    return section("Tuning", note, legend("tuned", "untuned"), grid(*map(_tuned, report.tuning)))


def _tuned(of: TuningRow) -> Markup:
    known = [kernel for kernel in of.kernels if kernel.share is not None]
    ordered = sorted(known, key=lambda kernel: (not kernel.tuned, -(kernel.share or 0.0), kernel.name))
    rest = [kernel for kernel in of.kernels if kernel.share is None]
    facts = (
        figure(of.trials, "{:,}".format),
        " trials in ",
        figure(of.seconds, fmt.duration),
        "; ",
        figure(of.tuned_share, fmt.percent),
        " of the predicted runtime is tuned.",
    )
    rows = (
        (
            el("td", kernel.name, cls="wrap"),
            "tuned" if kernel.tuned else el("span", "untuned", cls="warn"),
            figure(kernel.best_ms, fmt.milliseconds),
            figure(kernel.share, fmt.percent),
        )
        for kernel in (*ordered, *rest)
    )
    name = f"the {of.variant} for {of.target}"
    bar = [(kernel.name, kernel.share or 0.0, kernel.tuned) for kernel in ordered]
    kernels = table(("Kernel", "", "Best", "Share"), rows, numbers=(2, 3))
    return el(
        "div",
        el("h3", f"{of.target}, {of.variant} ", EMULATED_PILL if of.emulated else None),
        el("p", *facts),
        charts.curve(f"Tuning of {name}", of.curve) if of.curve else None,
        el("h4", "Share of the predicted runtime, by kernel") if bar else None,
        charts.shares(f"Tuned and untuned kernels of {name}", bar) if bar else None,
        el("details", el("summary", f"{len(of.kernels)} kernels"), kernels) if of.kernels else None,
        cls="card",
    )


def board(report: Report) -> Markup | None:
    """What the board said before and after the measurement, and whether that can be believed."""
    measured = [row for row in report.rows if row.measurement]
    if not measured:
        return None
    head = ("Target", "Variant", "Governor", "MHz", "°C", "Throttled", "Verdict")
    note = "Before the first sample, and after the last where that differs. A dash is what the board does not say."
    against = [
        f"{target}: {doubt}" for target in measured_targets(report) for doubt in doubts(report, target)
    ]
    small = notes(*(el("span", line, cls="warn") for line in against))
    return section("Board state", note, table(head, map(_board_line, measured), cls="board"), small)


def _board_line(row: Row) -> tuple[object, ...]:
    if row.measurement is None:
        return (row.target, row.variant)
    verdict = row.measurement.verdict
    before, after = row.measurement.before, row.measurement.after
    return (
        el("td", row.target, cls="keep"),
        row.variant,
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
    """The recipe's gates and how they went."""
    if not report.gates:
        return None
    colours = {"passed": "good", "failed": "bad", "skipped": "warn"}

    rows = [
        (
            gate.name,
            el("td", gate.target, cls="keep"),
            el("span", gate.status, cls=f"pill {colours[gate.status]}"),
            figure(gate.value, fmt.six),
            figure(gate.limit, fmt.six),
            el("td", gate.why or "", cls="wrap"),
        )
        for gate in report.gates
    ]
    note = "What the recipe demands of a release. A failed gate ends the run with exit code 3."
    return section(
        "Gates", note, table(("Gate", "Target", "", "Value", "Limit", "Why"), rows, numbers=(3, 4))
    )


def stages(report: Report) -> Markup | None:
    """Every stage's outcome on one clock."""
    if not report.stages:
        return None
    clock = 0.0
    starts = []
    for outcome in report.stages:
        starts.append(clock if outcome.started is None else outcome.started)
        clock = max(clock, starts[-1] + outcome.seconds)
    total = max(clock, report.seconds)
    rows = [_stage(outcome, start, total) for outcome, start in zip(report.stages, starts, strict=True)]
    head = ("Stage", "When", "Time", "Status", "Why")
    return section(
        "Stages",
        None,
        legend("done", "cached", "failed", "skipped"),
        table(head, rows, numbers=(2,), cls="timeline"),
    )


def _stage(outcome: Outcome, start: float, total: float) -> tuple[object, ...]:
    whom = " ".join(part for part in (outcome.target, outcome.variant) if part)
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
    accuracy,
    tuning,
    board,
    gates,
    stages,
)

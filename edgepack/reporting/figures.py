"""The figures of the before/after table, shared by terminal, Markdown and HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgepack.errors import Interrupted
from edgepack.measuring.measurement import Measurement
from edgepack.pipeline.figures import RobustnessFigures
from edgepack.pipeline.trace import Placement
from edgepack.reporting import format as fmt
from edgepack.reporting.document import Gate, ModelRow, Report, Row
from edgepack.spec import Score
from edgepack.spec.candidate import BASELINE, RELEASE

EMULATED = "emulated"
NOT_VALID = "not valid"
_ON_BOARD = frozenset({"measurement", "score_board", "parity"})  # fields of Row
_OF_BUILD = frozenset({"compiled_size", "weights_size", "weights_memory", "bundle_size"})
BUILT = _OF_BUILD | _ON_BOARD  # figures that exist only if the candidate was built for the target
BEFORE_AND_AFTER = (BASELINE, RELEASE)


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        label: The line's name.
        source: The field of ``Row`` that it comes from, and its key in ``Row.missing``.
        value: The figure of a row, or None.
        show: The figure as text.
        change: How before and after are compared; None if they are not.
        of_board: Whether it is meaningless on an emulated device: it is labelled there and not compared.
    """

    label: str
    source: str
    value: Callable[[Row], float | None]
    show: Callable[[float], str]
    change: Literal["size", "speed", "score"] | None = None
    of_board: bool = False

    def text(self, row: Row, value: float) -> str:
        """The figure of a row as text."""
        found = self.score(row)
        return self.show(value) if found is None else fmt.score_value(found, value)

    def score(self, row: Row | None) -> Score | None:
        """The row's score, if the figure is one."""
        found = getattr(row, self.source) if self.change == "score" and row is not None else None
        return found if isinstance(found, Score) else None


@dataclass(frozen=True)
class ShownFigure:
    """One figure of one row: its text, its exact value, and a note."""

    text: str
    value: float | None
    emulated: bool = False
    believed: bool = True  # False if the measurement's verdict is not valid
    why: str | None = None


def _field(label: str, name: str, show: Callable[[float], str], change: Literal["size"] | None) -> Figure:
    return Figure(label, name, lambda row: getattr(row, name), show, change)


def _score(where: str, name: str) -> Figure:
    """A score; ``figures_of`` puts the metric's name into its label."""

    def of(row: Row) -> float | None:
        found: Score | None = getattr(row, name)
        return None if found is None else found.value

    return Figure(f"Accuracy ({where})", name, of, fmt.plain, "score")


def _measured(
    label: str,
    value: Callable[[Measurement], float],
    show: Callable[[float], str],
    change: Literal["size", "speed"],
) -> Figure:
    def of(row: Row) -> float | None:
        return value(row.measurement) if row.measurement else None

    return Figure(label, "measurement", of, show, change, of_board=True)


FIGURES: tuple[Figure, ...] = (
    _field("ONNX model", "onnx_size", fmt.size, "size"),
    _field("Compiled model", "compiled_size", fmt.size, "size"),
    _field("Weights in the bundle", "weights_size", fmt.size, "size"),
    _field("Weights in memory", "weights_memory", fmt.size, "size"),
    _field("Bundle", "bundle_size", fmt.size, "size"),
    _field("Parameters", "parameters", fmt.count, "size"),
    _field("Parameters other than zero", "nonzeros", fmt.count, "size"),
    _field("MACs", "macs", fmt.count, "size"),
    _score("torch fp32", "score_torch"),
    _score("onnxruntime", "score_onnxruntime"),
    _score("board", "score_board"),
    _score("under corruption", "robust"),
    _field("Parity with onnxruntime", "parity", fmt.plain, None),
    _measured("Latency p50", lambda m: m.latency.p50, fmt.milliseconds, "speed"),
    _measured("Latency p90", lambda m: m.latency.p90, fmt.milliseconds, "speed"),
    _measured("Latency p99", lambda m: m.latency.p99, fmt.milliseconds, "speed"),
    _measured("First inference", lambda m: m.first_ms, fmt.milliseconds, "speed"),
    _measured("Load time", lambda m: m.load_ms, fmt.milliseconds, "speed"),
    _measured("Peak resident set", lambda m: m.peak_rss_kib, fmt.kib, "size"),
)


_OPTIONAL: dict[str, Callable[[Row], bool]] = {
    "robust": lambda row: row.robust is not None,
    "nonzeros": lambda row: row.nonzeros is not None and row.nonzeros != row.parameters,
}
"""Figures that are shown only if a row has one that says something."""


def figures_of(report: Report) -> tuple[Figure, ...]:
    """The figures that a run can have, without those of stages after its last one."""
    left_out = {name for name, told in _OPTIONAL.items() if not any(map(told, report.rows))}
    figures = tuple(_titled(figure, report) for figure in FIGURES if figure.source not in left_out)
    if report.until == "bench":
        return figures
    later = _ON_BOARD if report.until == "package" else BUILT
    return tuple(figure for figure in figures if figure.source not in later)


def _titled(figure: Figure, report: Report) -> Figure:
    """A score with the name of the recipe's metric."""
    if figure.change != "score":
        return figure
    return replace(figure, label=figure.label.replace("Accuracy", fmt.metric_title(metric_of(report)), 1))


def metric_of(report: Report) -> str:
    """The name of the recipe's metric; accuracy if nothing was scored."""
    rows = (
        score for row in report.rows for score in (row.score_board, row.score_onnxruntime, row.score_torch)
    )
    scores = [score for score in (*rows, *(stage.score for stage in report.compression)) if score is not None]
    return scores[0].metric if scores else "accuracy"


def columns(report: Report) -> tuple[str, ...]:
    """The candidates in the columns: baseline and release, the release alone if nothing is compressed, or those of a search."""
    return report.candidates or (RELEASE,)


def cell(report: Report, figure: Figure, at: Placement, candidate: str) -> ShownFigure:
    """A figure of one candidate at one placement, or a dash and the reason."""
    row = report.row(at, candidate)
    value = figure.value(row) if row else None
    if row is None or value is None:
        said = row.missing.get(figure.source) if row else None
        return ShownFigure(fmt.DASH, None, why=said or _why_missing(report, figure, at, candidate))
    emulated = figure.of_board and row.emulated
    believed = not figure.of_board or row.measurement is None or row.measurement.verdict.valid
    text = figure.text(row, value)
    if not believed and not emulated:
        text = f"{text} ({NOT_VALID})"
    return ShownFigure(text, value, emulated=emulated, believed=believed)


def _why_missing(report: Report, figure: Figure, at: Placement, candidate: str) -> str:
    """Why a figure is missing: what failed for the target or the whole run, or was skipped."""
    here = [o for o in report.stages if o.device in {at.device, None}]
    ended = [o for o in here if o.target in {at.target, None} and o.candidate in {candidate, None}]
    ended += [o for o in here if o.target == at.target and o.candidate not in {candidate, None}]
    for outcome in ended:
        if outcome.status == "failed":
            return f"{outcome.stage} failed: {outcome.why}" if outcome.why else f"{outcome.stage} failed"
    for error in report.errors:
        if error.target in {at.target, None} and error.device in {at.device, None}:
            return error.message
    if figure.source in _ON_BOARD:
        for outcome in ended:
            if outcome.status == "skipped" and outcome.stage == "bench" and outcome.why:
                return outcome.why
    if candidate == BASELINE:
        uncompressed = [o.why for o in report.stages if o.stage == "compress" and o.status == "skipped"]
        return next((why for why in uncompressed if why), "not measured")
    return "not measured"


@dataclass(frozen=True)
class Line:
    """One line of the before/after table: a figure of every candidate, and the change."""

    figure: Figure
    cells: tuple[ShownFigure, ...]  # as ``columns``
    change: str


def table_lines(report: Report, at: Placement) -> list[Line]:
    """The before/after table of one placement."""
    names = columns(report)
    lines = []
    for figure in figures_of(report):
        cells = {name: cell(report, figure, at, name) for name in names}
        rows = (report.row(at, BASELINE), report.row(at, RELEASE))
        compared = _compared(figure, cells)
        before, after = (figure.score(row) for row in rows)
        if compared and before is not None and after is not None:
            compared = fmt.difference(before, after)
        lines.append(Line(figure, tuple(cells.values()), compared))
    return lines


def _compared(figure: Figure, cells: Mapping[str, ShownFigure]) -> str:
    before, after = cells.get(BASELINE), cells.get(RELEASE)
    if before and after:
        return change(figure, before, after)
    return EMULATED if any(shown.emulated for shown in cells.values()) else ""


def change(figure: Figure, before: ShownFigure, after: ShownFigure) -> str:
    """How the release compares with the baseline, or ``emulated``; empty if there is no comparison."""
    if before.emulated or after.emulated:
        return EMULATED
    if figure.change is None or before.value is None or after.value is None:
        return ""
    if figure.of_board and not (before.believed and after.believed):
        return NOT_VALID
    if figure.change == "score":
        return fmt.points(before.value, after.value)
    words = ("faster", "slower") if figure.change == "speed" else ("smaller", "larger")
    return fmt.ratio(before.value, after.value, smaller=words[0], larger=words[1])


def footnotes(report: Report, at: Placement) -> list[str]:
    """Why figures of a placement are missing: each reason once, with its figures and candidates."""
    explained: dict[tuple[str, str], list[str]] = {}
    names = columns(report)
    for candidate in names:
        labels: dict[str, list[str]] = {}
        for figure in figures_of(report):
            found = cell(report, figure, at, candidate)
            if found.why:
                labels.setdefault(found.why, []).append(figure.label)
        for why, named in labels.items():
            what = "all figures" if len(named) == len(figures_of(report)) else ", ".join(named)
            explained.setdefault((why, what), []).append(candidate)
    return [
        f"{what}: {why}" if len(candidates) == len(names) else f"{', '.join(candidates)}: {what}: {why}"
        for (why, what), candidates in explained.items()
    ]


def doubts(report: Report, at: Placement) -> list[str]:
    """Why latencies of a placement are not valid, and its warnings; those of several candidates are listed once."""
    reasons: dict[tuple[str, ...], list[str]] = {}
    warnings: dict[str, list[str]] = {}
    for row in rows_at(report, at):
        if row.measurement and row.measurement.verdict.reasons:
            reasons.setdefault(row.measurement.verdict.reasons, []).append(row.candidate)
        for warning in row.warnings:
            warnings.setdefault(warning, []).append(row.candidate)
    lines = [f"latency of {' and '.join(who)} not valid: {'; '.join(why)}" for why, who in reasons.items()]
    return lines + [f"{' and '.join(who)}: {warning}" for warning, who in warnings.items()]


def rows_at(report: Report, at: Placement) -> list[Row]:
    """The rows of one placement."""
    return [row for row in report.rows if (row.target, row.device) == (at.target, at.device)]


def title(at: Placement) -> str:
    """A placement as text: the target, the device, and whether it is emulated."""
    return f"{at.target}{f' on {at.device}' if at.device else ''}{' (emulated)' if at.emulated else ''}"


def headline(report: Report) -> str:
    """A summary of the run in a few words."""
    total = len(report.targets)
    failed = len({error.target for error in report.errors if error.target})
    gates = sum(gate.status == "failed" for gate in report.gates)
    if report.exit_code == Interrupted.exit_code:
        return "interrupted"
    if any(error.target is None for error in report.errors):
        return "the run failed"
    if failed:
        return f"{failed} of {total} target{'s' if total != 1 else ''} failed"
    if gates:
        return f"{gates} gate{'s' if gates != 1 else ''} failed: do not ship"
    return f"{total} target{'s' if total != 1 else ''} done"


def emulated_targets(report: Report) -> tuple[str, ...]:
    """Targets measured on emulated devices."""
    return tuple(dict.fromkeys(row.target for row in report.rows if row.emulated))


def describe_gate(gate: Gate) -> str:
    """A gate on one line: its name, target, value and limit, and why it did not pass."""
    value = fmt.DASH if gate.value is None else fmt.six(gate.value)
    line = f"{gate.name} {gate_at(gate)}: {value}, limit {fmt.six(gate.limit)}"
    return f"{line} ({gate.why})" if gate.why else line


def gate_place(gate: Gate) -> str:
    """The target of a gate, with the device if the target has several; the step of a gate without a target."""
    if gate.target is None:
        return f"after {gate.step}"
    return f"{gate.target} ({gate.device})" if gate.device else gate.target


def gate_at(gate: Gate) -> str:
    """A gate's place in a sentence."""
    return gate_place(gate) if gate.target is None else f"on {gate_place(gate)}"


def measured_placements(report: Report) -> tuple[Placement, ...]:
    """The placements that have a row, in order."""
    known = {(row.target, row.device) for row in report.rows}
    return tuple(at for at in report.placements if (at.target, at.device) in known)


def origin_lines(row: ModelRow) -> list[str]:
    """The seeds of a stage, and its trainings."""
    lines = (
        [f"seeds: {', '.join(f'{option} {seed}' for option, seed in row.seeds.items())}"] if row.seeds else []
    )
    for each in row.trainings:
        epochs = f"{each.epochs} epoch{'s' if each.epochs > 1 else ''}"
        warning = "" if each.warning is None else f"; {each.warning}"
        lines.append(f"trained: {epochs}, seed {each.seed}, mean loss {fmt.six(each.loss)}{warning}")
    return lines


def corruption_lines(found: RobustnessFigures) -> list[str]:
    """The metric under each corruption by severity, its mean, and under attack, as lines of text."""
    if found.score is None:
        return ["no corruption applies to these samples"]
    score = found.score
    lines = [f"mean: {fmt.score_value(score, score.value)}"]
    for name, values in found.corruptions.items():
        shown = (
            f"{fmt.score_value(score, value)} at {severity}"
            for severity, value in zip(found.severities, values, strict=True)
        )
        lines.append(f"{name}: {', '.join(shown)}")
    return lines + ([f"FGSM: {fmt.score(found.fgsm)}"] if found.fgsm is not None else [])

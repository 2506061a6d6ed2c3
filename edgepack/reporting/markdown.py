"""The report as GitHub-flavoured Markdown: for a pull request or a release page."""

import re
from collections.abc import Callable, Iterable, Iterator

from edgepack.base.text import visible
from edgepack.reporting import format as fmt
from edgepack.reporting import profile as profiling
from edgepack.reporting.document import Report
from edgepack.reporting.figures import (
    columns,
    corruption_lines,
    doubts,
    footnotes,
    gate_place,
    headline,
    measured_placements,
    metric_of,
    origin_lines,
    table_lines,
)
from edgepack.reporting.tuning import tuning_outcome

# What Markdown or GitHub's extensions obey: a web address and "www." become links by themselves, $ begins a formula.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!&$]|:(?=//)|(?<=www)\.)")


def to_markdown(report: Report) -> str:
    """The whole report; all external text is escaped."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def escape(text: object) -> str:
    """Text escaped for Markdown, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def _code(text: object) -> str:
    """Text as a code span, in which nothing can be escaped: a backquote would end it."""
    return f"`{' '.join(visible(text).replace('`', chr(39)).split())}`"


def _lines(report: Report) -> Iterator[str]:
    recipe = report.recipe
    yield f"# {escape(recipe.name)} {escape(recipe.version)}: {escape(headline(report))}"
    yield ""
    yield (
        f"Run {escape(report.run_id)}, {escape(report.started)}, took {fmt.duration(report.seconds)}, "
        f"exit code {report.exit_code}."
    )
    yield from _problems(report)
    yield from _before_after(report)
    yield from _compression(report)
    yield from _gates(report)
    yield from _kernels(report)
    yield from _tuning(report)
    yield from _board(report)
    yield from _stages(report)
    yield from _provenance(report)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], *, numbers_from: int = 1) -> Iterator[str]:
    titles = list(head)
    yield ""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'|'.join(' ---: ' if i >= numbers_from else ' --- ' for i in range(len(titles)))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _problems(report: Report) -> Iterator[str]:
    if not report.errors:
        return
    yield from ("", "## Problems", "")
    for error in report.errors:
        parts = (error.target, report.shown_device(error.target, error.device), error.stage, error.where)
        place = ", ".join(escape(part) for part in parts if part)
        yield f"- **{escape(error.message)}**{f' ({place})' if place else ''}, exit code {error.exit_code}"
        for label in ("why", "state", "next"):
            text = getattr(error, label)
            if text:
                yield f"  - {label}: {escape(text)}"
        yield from (f"  - {escape(label)}: {escape(text)}" for label, text in error.details)


def _before_after(report: Report) -> Iterator[str]:
    if report.placements:
        yield from ("", "## Before and after")
    for at in report.placements:
        device = f" on {escape(at.device)}" if at.device else ""
        yield from ("", f"### {escape(at.target)}{device}{' (emulated)' if at.emulated else ''}")
        if at in measured_placements(report):
            lines = table_lines(report, at)
            compared = any(line.change for line in lines)
            yield from _table(
                ("", *map(escape, columns(report)), *(["change"] if compared else [])),
                (
                    (
                        escape(line.figure.label),
                        *(cell.text for cell in line.cells),
                        *([line.change] if compared else []),
                    )
                    for line in lines
                ),
            )
        yield ""
        yield from (f"- {fmt.DASH} {escape(note)}" for note in footnotes(report, at))
        yield from (f"- {escape(doubt)}" for doubt in doubts(report, at))


def _compression(report: Report) -> Iterator[str]:
    if not report.compression:
        return
    yield from ("", "## The model, stage by stage")
    yield from _table(
        (
            "stage",
            "parameters",
            "not zero",
            "MACs",
            "size",
            "weights in a bundle",
            "in memory",
            "by encoding",
            escape(fmt.metric_title(metric_of(report)).lower()),
        ),
        (
            (
                escape(stage.stage),
                _or_dash(stage.parameters, fmt.count),
                _or_dash(stage.nonzeros, fmt.count),
                _or_dash(stage.macs, fmt.count),
                _or_dash(stage.size, fmt.size),
                _or_dash(stage.weights_size, fmt.size),
                _or_dash(stage.weights_memory, fmt.size),
                escape(fmt.encodings(stage.encodings)),
                fmt.DASH if stage.score is None else escape(fmt.score(stage.score)),
            )
            for stage in report.compression
        ),
    )
    for stage in report.compression:
        if stage.robustness is not None:
            yield from (f"### {escape(stage.stage)} under corruption", "")
            yield from (f"- {escape(line)}" for line in corruption_lines(stage.robustness))
            yield ""
    for stage in report.compression:
        if stage.metrics or origin_lines(stage):
            yield from (f"### {escape(stage.stage)}", "")
            yield from (f"- {escape(line)}" for line in origin_lines(stage))
            yield from (
                f"- {escape(name)}: {escape(fmt.metric(value))}" for name, value in stage.metrics.items()
            )
            yield ""


def _or_dash(value: float | None, show: Callable[[float], str]) -> str:
    return fmt.DASH if value is None else show(value)


def _gates(report: Report) -> Iterator[str]:
    if not report.gates:
        return
    yield from ("", "## Gates")
    yield from _table(
        ("gate", "target", "status", "why", "value", "limit"),
        (
            (
                escape(gate.name),
                escape(gate_place(gate)),
                f"**{gate.status}**" if gate.status == "failed" else gate.status,
                escape(gate.why or ""),
                fmt.DASH if gate.value is None else fmt.six(gate.value),
                fmt.six(gate.limit),
            )
            for gate in report.gates
        ),
        numbers_from=4,
    )


def _tuning(report: Report) -> Iterator[str]:
    if not report.tuning:
        return
    yield from ("", "## Tuning", "")
    for tuning in report.tuning:
        label = " *emulated*" if tuning.emulated else ""
        yield f"- **{escape(tuning.target)}, {escape(tuning.candidate)}**{label}: {escape(tuning_outcome(tuning))}"


def _kernels(report: Report) -> Iterator[str]:
    rows = [row for row in report.rows if row.profile or "profile" in row.missing]
    if not rows:
        return
    yield from ("", "## Kernels")
    for row in rows:
        yield from ("", f"**{escape(report.place_name(row))}, {escape(row.candidate)}**")
        if row.profile is None:
            yield from ("", escape(row.missing["profile"]))
            continue
        shown = (map(escape, line) for line in profiling.rows_of(row.profile, profiling.MOST))
        yield from _table(profiling.HEAD, shown)
        yield ""
        rest = profiling.rest(row.profile, profiling.MOST)
        yield from (
            f"- {escape(line)}" for line in (*([rest] if rest else []), *profiling.summary(row.profile))
        )


def _board(report: Report) -> Iterator[str]:
    measured = [row for row in report.rows if row.measurement]
    if not measured:
        return
    yield from ("", "## Board state")
    rows = []
    for row in measured:
        for moment in ("before", "after"):
            state = getattr(row.measurement, moment)
            rows.append(
                (
                    escape(report.place_name(row)),
                    escape(row.candidate),
                    moment,
                    escape(state.governor or fmt.DASH),
                    ", ".join(f"{khz / 1000:.0f}" for khz in state.frequency_khz) or fmt.DASH,
                    _or_dash(state.temperature_c, "{:.1f}".format),
                    {None: fmt.DASH, True: "yes", False: "no"}[state.throttled],
                )
            )
    yield from _table(("target", "candidate", "", "governor", "MHz", "°C", "throttled"), rows, numbers_from=4)


def _stages(report: Report) -> Iterator[str]:
    if not report.stages:
        return
    yield from ("", "## Stages")
    yield from _table(
        ("stage", "target", "candidate", "status", "why", "time"),
        (
            (
                escape(outcome.stage),
                escape(report.place_name(outcome)),
                escape(outcome.candidate or ""),
                outcome.status,
                escape(outcome.why or ""),
                fmt.duration(outcome.seconds),
            )
            for outcome in report.stages
        ),
        numbers_from=5,
    )


def _provenance(report: Report) -> Iterator[str]:
    host = report.host
    yield from ("", "## Provenance", "")
    yield f"- recipe {escape(report.recipe.path or report.recipe.name)}, sha256 {_code(report.recipe.digest)}"
    for target, candidate, digest in report.releases:
        yield f"- {escape(target)} {escape(candidate)}: release {_code(digest)}"
    cpu = f", {escape(host.cpu)}" if host.cpu else ""
    yield f"- host {escape(host.system)} {escape(host.machine)}{cpu}, {host.cores} cores, Python {escape(host.python)}"
    yield f"- {', '.join(f'{escape(name)} {escape(ver)}' for name, ver in sorted(report.tools.items()))}"

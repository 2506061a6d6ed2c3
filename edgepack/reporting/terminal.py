"""The before/after table on stdout: rich on a terminal, aligned plain text anywhere else."""

from collections.abc import Container, Iterator
from typing import IO, Any

from edgepack.base.text import one_line
from edgepack.measuring.profile import ModelProfile
from edgepack.pipeline.trace import Placement
from edgepack.reporting import format as fmt
from edgepack.reporting import profile as profiling
from edgepack.reporting.document import Report
from edgepack.reporting.figures import (
    columns,
    describe_gate,
    doubts,
    footnotes,
    headline,
    table_lines,
    title,
)
from edgepack.reporting.tuning import tuning_outcome
from edgepack.spec.candidate import BASELINE

CHANGE = "change"  # the title of the last column
_MARKS = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}
_COLOURS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def print_report(report: Report, file: IO[str]) -> None:
    """Print the table, the gates and what is missing to ``file``.

    Colours and lines are used only if ``file`` is a terminal; NO_COLOR is respected.
    """
    if file.isatty():
        _print_rich(report, file)
    else:
        file.writelines(f"{_clean(line)}\n" for line in plain_lines(report))


def plain_lines(report: Report) -> Iterator[str]:
    """The report as lines of plain text, of any width."""
    yield f"{report.recipe.name} {report.recipe.version}: {headline(report)}"
    for at in report.placements:
        yield ""
        yield title(at)
        rows = _rows(report, at)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for label, *cells in rows:
            right = "  ".join(text.rjust(width) for text, width in zip(cells, widths[1:], strict=True))
            yield f"  {label.ljust(widths[0])}  {right}".rstrip()
        yield from (f"  {note}" for note in _tuning(report, at))
        yield from (f"  {note}" for note in _notes(report, at))
    if steps := list(_steps(report)):
        yield from ("", "compression", *(f"  {name}: {figures}" for name, figures in steps))
    if report.gates:
        yield ""
        yield "gates"
        yield from (f"  {_MARKS[gate.status]}  {describe_gate(gate)}" for gate in report.gates)


def print_profile(profile: ModelProfile, file: IO[str]) -> None:
    """Print the kernels of a profile, the slowest first, and what was measured around them."""
    rows = [profiling.HEAD, *profiling.rows_of(profile)]
    if file.isatty():
        from rich.console import Console

        Console(file=file, highlight=False).print(_rich_table(*rows, numbers=profiling.NUMBERS))
    else:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                text.rjust(width) if index in profiling.NUMBERS else text.ljust(width)
                for index, (text, width) in enumerate(zip(row, widths, strict=True))
            )
            file.write(f"{_clean('  '.join(cells)).rstrip()}\n")
    file.writelines(f"{_clean(line)}\n" for line in profiling.summary(profile))


def _print_rich(report: Report, file: IO[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False)
    console.print(
        Text(_clean(f"{report.recipe.name} {report.recipe.version}: {headline(report)}"), style="bold")
    )
    for at in report.placements:
        console.print()
        console.print(Text(_clean(title(at)), style="bold"))
        if rows := _rows(report, at):
            console.print(_rich_table(*rows))
        for note in _tuning(report, at):
            console.print(Text(_clean(f"  {note}")))
        for note in _notes(report, at):
            console.print(Text(_clean(f"  {note}"), style="yellow"))
    if steps := list(_steps(report)):
        console.print()
        for name, figures in steps:
            console.print(Text(_clean(f"{name}: "), style="bold") + Text(_clean(figures)))
    if report.gates:
        console.print()
    for gate in report.gates:
        console.print(
            Text(f"  {_MARKS[gate.status]}  ", style=_COLOURS[gate.status])
            + Text(_clean(describe_gate(gate)))
        )


def _rich_table(head: tuple[str, ...], *rows: tuple[str, ...], numbers: Container[int] | None = None) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    styles = {BASELINE: "dim", CHANGE: "cyan"}
    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        title, style = Text(_clean(name)), styles.get(name)
        table.add_column(
            title,
            justify="right" if (index if numbers is None else index in numbers) else "left",
            style=style,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _steps(report: Report) -> Iterator[tuple[str, str]]:
    """The size and the metrics of each compression step on one line; mappings (e.g. one value per layer) are in the pages only."""
    for stage in report.compression:
        short = [f"{name} {fmt.metric(v)}" for name, v in stage.metrics.items() if not isinstance(v, dict)]
        if stage.weights_size is not None:
            short = [f"weights in a bundle about {fmt.size(stage.weights_size)}", *short]
        if short:
            yield stage.stage, "; ".join(short)


def _rows(report: Report, at: Placement) -> list[tuple[str, ...]]:
    """The head and the lines that have a figure; the others are explained below. The last column only if it says something."""
    lines = [line for line in table_lines(report, at) if any(cell.value is not None for cell in line.cells)]
    if not lines:
        return []
    rows = [("", *columns(report)), *((line.figure.label, *(c.text for c in line.cells)) for line in lines)]
    changes = [line.change for line in lines]
    return (
        [(*row, change) for row, change in zip(rows, (CHANGE, *changes), strict=True)]
        if any(changes)
        else rows
    )


def _notes(report: Report, at: Placement) -> list[str]:
    missing = [f"{fmt.DASH} {note}" for note in footnotes(report, at)]
    return missing + [f"! {doubt}" for doubt in doubts(report, at)]


def _tuning(report: Report, at: Placement) -> list[str]:
    return [
        f"tuning, {row.candidate}: {tuning_outcome(row)}" for row in report.tuning if row.target == at.target
    ]


def _clean(line: str) -> str:
    """One line, without anything that a terminal would obey."""
    return one_line(" ".join(line.splitlines()))

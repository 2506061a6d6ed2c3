"""The before/after table on stdout: rich on a terminal, aligned plain text anywhere else."""

from collections.abc import Iterator
from typing import IO

from edgepack.report import format as fmt
from edgepack.report.document import Report
from edgepack.report.figures import (
    cell,
    change,
    describe_gate,
    device_of,
    doubts,
    figures_of,
    footnotes,
    headline,
    measured_targets,
)

_HEAD = ("", "baseline", "release", "change")
_MARKS = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}
_COLOURS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def print_report(report: Report, file: IO[str]) -> None:
    """Print the table, the gates and what is missing to ``file``.

    Colours and rules only where ``file`` is a terminal; NO_COLOR is honoured.
    """
    if file.isatty():
        _print_rich(report, file)
    else:
        file.writelines(f"{_clean(line)}\n" for line in plain_lines(report))


def plain_lines(report: Report) -> Iterator[str]:
    """The report as plain text, one line each, as wide as it needs to be."""
    yield f"{report.recipe.name} {report.recipe.version}: {headline(report)}"
    for target in report.targets:
        yield ""
        yield _title(report, target)
        rows = [_HEAD, *_rows(report, target)] if target in measured_targets(report) else []
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(len(_HEAD))]
        for label, *cells in rows:
            right = "  ".join(text.rjust(width) for text, width in zip(cells, widths[1:], strict=True))
            yield f"  {label.ljust(widths[0])}  {right}".rstrip()
        yield from (f"  {note}" for note in _notes(report, target))
    if report.gates:
        yield ""
        yield "gates"
        yield from (f"  {_MARKS[gate.status]}  {describe_gate(gate)}" for gate in report.gates)


def _print_rich(report: Report, file: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, highlight=False)
    console.print(
        Text(_clean(f"{report.recipe.name} {report.recipe.version}: {headline(report)}"), style="bold")
    )
    for target in report.targets:
        console.print()
        console.print(Text(_clean(_title(report, target)), style="bold"))
        if target in measured_targets(report):
            table = Table(box=box.SIMPLE_HEAD)
            for index, name in enumerate(_HEAD):
                table.add_column(name, justify="right" if index else "left")
            for label, before, after, compared in _rows(report, target):
                table.add_row(
                    Text(label), Text(before, style="dim"), Text(after), Text(compared, style="cyan")
                )
            console.print(table)
        for note in _notes(report, target):
            console.print(Text(_clean(f"  {note}"), style="yellow"))
    if report.gates:
        console.print()
    for gate in report.gates:
        console.print(
            Text(f"  {_MARKS[gate.status]}  ", style=_COLOURS[gate.status])
            + Text(_clean(describe_gate(gate)))
        )


def _title(report: Report, target: str) -> str:
    device, emulated = device_of(report, target)
    return f"{target}{f' on {device}' if device else ''}{' (emulated)' if emulated else ''}"


def _rows(report: Report, target: str) -> Iterator[tuple[str, str, str, str]]:
    for figure in figures_of(report):
        before = cell(report, figure, target, "baseline")
        after = cell(report, figure, target, "release")
        yield figure.label, before.text, after.text, change(figure, before, after)


def _notes(report: Report, target: str) -> list[str]:
    missing = [f"{fmt.DASH} {note}" for note in footnotes(report, target)]
    return missing + [f"! {doubt}" for doubt in doubts(report, target)]


def _clean(line: str) -> str:
    """One line without control characters: text from a board cannot move the cursor."""
    return fmt.printable(" ".join(line.splitlines()))

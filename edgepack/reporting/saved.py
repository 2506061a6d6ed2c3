"""Reports on disk: a folder for each run, with its report as JSON, Markdown and HTML."""

from pathlib import Path

from edgepack.base.files import write_atomic
from edgepack.base.paths import data_dir
from edgepack.base.text import suggestion
from edgepack.errors import InputError
from edgepack.reporting.document import Report

_REPORT = "report.json"


def runs_dir() -> Path:
    """The folder of all runs."""
    return data_dir() / "runs"


def folder_of(report: Report) -> Path:
    """The folder of a run."""
    return runs_dir() / report.run_id


def save(report: Report) -> Path:
    """Write a report in all formats; returns the run's folder."""
    from edgepack.reporting.html import to_html
    from edgepack.reporting.markdown import to_markdown

    folder = folder_of(report)
    write_atomic(folder / "report.md", to_markdown(report).encode())
    write_atomic(folder / "report.html", to_html(report).encode())
    report.save(folder / _REPORT)
    return folder


def run_ids() -> list[str]:
    """The IDs of all runs that have a report, the latest first."""
    return sorted((path.parent.name for path in runs_dir().glob(f"*/{_REPORT}")), reverse=True)


def find(run: str) -> Report:
    """Load the report of a run by its ID, a folder, a report.json, or ``latest``.

    Raises:
        InputError: there is no such run, or its report cannot be read.
    """
    path = Path(run)
    if path.is_file():
        return Report.load(path)
    if (path / _REPORT).is_file():
        return Report.load(path / _REPORT)
    known = run_ids()
    if run == "latest" and known:
        return Report.load(runs_dir() / known[0] / _REPORT)
    if run in known:
        return Report.load(runs_dir() / run / _REPORT)
    if not known:
        raise InputError("there are no runs yet", next="edgepack run RECIPE")
    hint = suggestion(run, known, otherwise=f"the latest is {known[0]}")
    raise InputError(f"there is no run {run}", where=str(runs_dir()), next=hint)

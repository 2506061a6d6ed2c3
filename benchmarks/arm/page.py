"""Write the results as a page."""

from pathlib import Path
from typing import Any

from benchmarks.arm.measure import summary
from benchmarks.kit.documents import fill_template, markdown, write_text

_WORDS = Path(__file__).with_name("page.md")


def page(document: dict[str, Any], top: int) -> str:
    """Return both tables; of the loops, those with the largest share of each cell's instructions."""
    cells = document["cells"]
    return fill_template(
        _WORDS,
        **document["tools"],
        counts=_counts(cells),
        failures=_failures(cells),
        summaries=_summaries(cells),
        loops="\n\n".join(_loops(cell, top) for cell in cells if cell["loops"]),
    )


def write(document: dict[str, Any], out: Path, top: int) -> None:
    write_text(out / "arm.md", page(document, top))


def _counts(cells: list[dict[str, Any]]) -> str:
    head = ["net", "target"]
    for name in ("edgepack", "onnxruntime"):
        head += [f"{name}, M", "multiply-adds", "per MAC", "model + runtime, MB"]
    rows = []
    for cell in cells:
        row = [cell["title"], cell["target"]]
        ours, theirs = (cell["contenders"].get(name) for name in ("edgepack", "onnxruntime"))
        for figures in (ours, theirs):
            row += _figures(figures, cell["macs"]) if figures else ["failed", "", "", ""]
        row.append(f"{ours['instructions'] / theirs['instructions']:.2f}" if ours and theirs else "")
        row.append(ours["notes"] if ours else "")
        rows.append(row)
    return markdown([*head, "ours / theirs", "edgepack's schedules"], rows, right=2)


def _figures(figures: dict[str, Any], macs: int) -> list[str]:
    kinds = figures["by_kind"]
    multiplying = sum(count for kind, count in kinds.items() if "multiply-add" in kind or "dot" in kind)
    megabytes = (figures["model_bytes"] + figures["runtime_bytes"]) / 1e6
    total = figures["instructions"]
    return [f"{total / 1e6:.2f}", f"{multiplying / total:.0%}", f"{total / macs:.2f}", f"{megabytes:.1f}"]


def _failures(cells: list[dict[str, Any]]) -> str:
    lines = [
        f"- {cell['title']} for {cell['target']}, {name}: {' '.join(why.split())}"
        for cell in cells
        for name, why in cell["failures"].items()
    ]
    return "\n".join(["Failed:\n", *lines]) if lines else ""


def _cores(cell: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["core"] for row in cell["loops"]))


def _model(cell: dict[str, Any], core: str) -> str:
    models = (row["model"] for row in cell["loops"] if row["core"] == core and "model" in row)
    return f"{core} ({next(models, '?')} model)"


def _summaries(cells: list[dict[str, Any]]) -> str:
    rows = []
    for cell in cells:
        for core in _cores(cell):
            if totals := summary(cell, core):
                figures = [f"{totals[key]:.0%}" for key in ("executed_share", "macs_share")]
                figures += [f"{totals['cycles'] / 1e6:.2f}", f"{totals['share_of_peak']:.0%}"]
                rows.append([cell["title"], _model(cell, core), *figures])
    head = ["net", "core", "share of instructions", "share of MACs", "predicted M cycles", "share of peak"]
    return markdown(head, rows, right=2) if rows else ""


def _loops(cell: dict[str, Any], top: int) -> str:
    head = ["kernel", "core", "share of instructions", "instructions", "MACs", "cycles", "share of peak"]
    rows = []
    for core in _cores(cell):
        own = [row for row in cell["loops"] if row["core"] == core]
        for row in sorted(own, key=lambda row: -row["executed_share"])[:top]:
            figures = [f"{row['executed_share']:.1%}", str(row["instructions"])]
            if "cycles" in row:
                figures += [str(row["macs"]), f"{row['cycles']:.1f}", f"{row['share_of_peak']:.0%}"]
            else:
                figures += ["", row["skipped"], ""]
            rows.append([f"`{row['kernel']}`", _model(cell, core), *figures])
    table = markdown(head, rows, right=2)
    return f"{cell['title']} for {cell['target']}, per iteration of each loop:\n\n{table}"

"""The outcome of each case as JSON, one line per case, for readable diffs."""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.kit.documents import write_text

NETWORKS = "(network)"  # used instead of an operator, for cases that are whole networks
TOOLS = ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxscript")
Row = dict[str, Any]


def environment() -> dict[str, str]:
    """Return what the results depend on in addition to edgepack's code."""
    return {"machine": platform.machine(), **{tool: version(tool) for tool in TOOLS}}


@dataclass(frozen=True)
class Results:
    """Rows by case name, and the environment they were measured in."""

    rows: dict[str, Row]
    environment: dict[str, str]
    target: str


def read(path: Path, target: str) -> Results:
    """Read an earlier run's results; if there are none, return empty ones for this environment and `target`."""
    if not path.is_file():
        return Results({}, environment(), target)
    document = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in document["cases"]}
    return Results(rows, document["environment"], document["target"])


def write(path: Path, results: Results) -> None:
    about = {"edgepack": 1, "target": results.target, "environment": results.environment}
    head = json.dumps(about, indent=1)
    lines = ",\n".join(json.dumps(results.rows[name], sort_keys=True) for name in sorted(results.rows))
    write_text(path, f'{head.removesuffix("}").rstrip()},\n "cases": [\n{lines}\n]}}\n')

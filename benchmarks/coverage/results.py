"""What became of each case, as JSON: one line a case, so that a change shows as a line of the diff."""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.kit.documents import write_text

NETWORKS = "(network)"  # in the place of an operator, for cases that are whole networks
TOOLS = ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxscript")
Row = dict[str, Any]


def environment() -> dict[str, str]:
    """What the results depend on besides edgepack's own code."""
    return {"machine": platform.machine(), **{tool: version(tool) for tool in TOOLS}}


@dataclass(frozen=True)
class Results:
    """The rows by the case's name, and what they were made with."""

    rows: dict[str, Row]
    environment: dict[str, str]
    target: str


def read(path: Path, target: str) -> Results:
    """An earlier run's results; if there are none, empty ones of this environment and `target`."""
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

"""The outcome of each case and each network as JSON, one line per outcome, for readable diffs."""

import json
import platform
from dataclasses import dataclass, field
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
    """Rows by case name, the environment they were measured in, and rows by network on the emulated GPU."""

    rows: dict[str, Row]
    environment: dict[str, str]
    target: str
    networks: dict[str, Row] = field(default_factory=dict)


def read(path: Path, target: str) -> Results:
    """Read an earlier run's results; if there are none, return empty ones for this environment and `target`."""
    if not path.is_file():
        return Results({}, environment(), target)
    document = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in document["cases"]}
    networks = {row["name"]: row for row in document.get("networks", ())}
    return Results(rows, document["environment"], document["target"], networks)


def write(path: Path, results: Results) -> None:
    about = {"edgepack": 1, "target": results.target, "environment": results.environment}
    head = json.dumps(about, indent=1).removesuffix("}").rstrip()
    lists = {"cases": [results.rows[name] for name in sorted(results.rows)]}
    if results.networks:
        lists["networks"] = list(results.networks.values())
    parts = [f' "{name}": [\n{_lines(rows)}\n]' for name, rows in lists.items()]
    write_text(path, ",\n".join([head, *parts]) + "}\n")


def _lines(rows: list[Row]) -> str:
    return ",\n".join(json.dumps(row, sort_keys=True) for row in rows)

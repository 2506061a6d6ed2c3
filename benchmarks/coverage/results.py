"""What became of each case, as JSON: one line a case, so that a change shows as a line of the diff."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepack.store import write_atomic

NETWORKS = "(network)"  # in the place of an operator, for cases that are whole networks
TOOLS = ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxscript")
Row = dict[str, Any]


def environment() -> dict[str, str]:
    """What the results depend on besides edgepack's own code."""
    return {"machine": platform.machine(), **{tool: version(tool) for tool in TOOLS}}


def read(path: Path) -> dict[str, Row]:
    """The rows of an earlier run by the case's name; empty if there is none."""
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return {row["name"]: row for row in document["cases"]}


def write(path: Path, rows: dict[str, Row], target: str) -> None:
    """Write all rows, atomically."""
    head = json.dumps({"edgepack": 1, "target": target, "environment": environment()}, indent=1)
    lines = ",\n".join(json.dumps(rows[name], sort_keys=True) for name in sorted(rows))
    write_atomic(path, f'{head.removesuffix("}").rstrip()},\n "cases": [\n{lines}\n]}}\n'.encode())

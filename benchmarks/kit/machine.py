"""What results say about the machine and the checkout they come from."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.kit.places import ROOT
from benchmarks.kit.processes import ProcessFailed, run
from edgepack.config import host

_TOOLS = ("apache-tvm", "apache-tvm-ffi", "paramiko", "xgboost-cpu")
_WRITTEN = (":!benchmarks/results", ":!benchmarks/charts", ":!benchmarks/RESULTS.md")  # by benchmarks


def summary(*programs: Sequence[str]) -> dict[str, Any]:
    """This machine, as far as it matters to a figure; ``programs`` are commands that print their version."""
    described = host.describe()
    cpu = described["cpu"]
    return {
        "cpu": cpu["name"],
        "cores": cpu["cores"],
        "features": cpu["features"],
        "tvm_target": described["tvm"],
        "caches_kib": {level: cpu[f"{level}_kib"] for level in ("l1d", "l2", "l3") if f"{level}_kib" in cpu},
        "cache_bytes": 1024 * max(cpu.get("l3_kib", 0), cpu["l2_kib"]),
        "memory_gib": round(described["memory_mib"] / 1024, 1),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "versions": {name: version(name) for name in _TOOLS},
        "programs": {argv[0]: _first_line(argv) for argv in programs},
    }


def commit() -> str | None:
    """The checkout's commit, with a plus sign where sources differ from it."""
    try:
        head = run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT).strip()
        changed = run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN], cwd=ROOT
        )
    except (OSError, ProcessFailed):
        return None
    return head + ("+" if changed else "")


def _first_line(argv: Sequence[str]) -> str | None:
    """Of what a program says of itself: ssh does so on stderr."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return None  # not installed; whoever needs it says so
    return next(iter((done.stdout + done.stderr).strip().splitlines()), None)

"""What results say about the machine and the checkout they come from."""

import functools
import platform
import re
import subprocess
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.kit import places
from benchmarks.kit.processes import ProcessFailed, run
from edgepack.config import host
from edgepack.toolchain.zig import zig

_TOOLS = ("apache-tvm", "apache-tvm-ffi", "paramiko", "xgboost-cpu")
_WRITTEN = (":!benchmarks/results", ":!benchmarks/RESULTS.md", ":!docs/performance.md")  # by benchmarks
_NOISE = re.compile(r"\((r|tm)\)|\b(cpu|processor|\d+-core)\b|@.*", re.IGNORECASE)  # of a CPU's name
_VECTORS = {  # LLVM's name of a feature: the ISA that decides how int8 is computed, best first
    "avx512vnni": "avx512-vnni",
    "avx512f": "avx512",
    "avxvnni": "avx2-vnni",
    "avx2": "avx2",
    "avx": "avx",
    "dotprod": "dotprod",
}


def summary(*programs: Sequence[str]) -> dict[str, Any]:
    """This machine, as far as it matters to a figure; ``programs`` are commands that print their version."""
    described = host.describe()
    cpu = described["cpu"]
    core = _core()
    return {
        "kind": kind(cpu["name"], core, cpu["features"], described["tvm"]["mcpu"]),
        "cpu": cpu["name"],
        "core": core,
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


def kind(name: str, core: str, features: Collection[str], level: str) -> str:
    """The kind of a CPU, by which results are kept: its model name, its core and its vector ISA, as words for a path.

    The core is LLVM's name: in a virtual machine, model names often leave the generation out ("AMD EPYC"). The ISA is
    what the system offers, which may be less than the core has. ``level`` stands in where no vector extension is known.
    """
    vectors = next((word for feature, word in _VECTORS.items() if feature in features), level)
    parts = [_NOISE.sub(" ", name), core, vectors]
    words = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts]
    return "-".join(word for word in dict.fromkeys(words) if word)


def results(name: str, out: Path | None, *, written: bool) -> list[Path]:
    """Folders of a benchmark's results: ``out`` where it is given, otherwise those below ``benchmarks/results/NAME``.

    These are one for each kind of CPU: all that are ``written``, or that of this machine.
    """
    if out is not None:
        return [out]
    folder = places.RESULTS / "results" / name
    if written:
        return sorted(path.parent for path in folder.glob(f"*/{name}.json"))
    return [folder / summary()["kind"]]


@functools.cache
def _core() -> str:
    """LLVM's name for this CPU's core, ``znver3``, as the compiler that zig brings sees it."""
    told = run([zig(), "build-exe", "--show-builtin"])
    found = re.search(r"\.model = &std\.Target\.\w+\.cpu\.(\w+)", told)
    return found[1] if found else "unknown"


def commit() -> str | None:
    """The checkout's commit, with a plus sign where sources differ from it."""
    try:
        head = run(["git", "rev-parse", "--short=12", "HEAD"], cwd=places.ROOT).strip()
        changed = run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN], cwd=places.ROOT
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

"""Describe the machine and the checkout that results come from."""

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
_NOISE = re.compile(r"\((r|tm)\)|\b(cpu|processor|\d+-core)\b|@.*", re.IGNORECASE)  # in a CPU's name
_VECTORS = {  # LLVM feature name: the ISA that determines how int8 is computed, best first
    "avx512vnni": "avx512-vnni",
    "avx512f": "avx512",
    "avxvnni": "avx2-vnni",
    "avx2": "avx2",
    "avx": "avx",
    "dotprod": "dotprod",
}


def summary(*programs: Sequence[str]) -> dict[str, Any]:
    """Describe this machine, as far as it affects results; ``programs`` are commands that print their version."""
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
    """Return the kind of a CPU, by which results are grouped: model name, core and vector ISA, as a path component.

    The core is LLVM's name: in a virtual machine, model names often omit the generation ("AMD EPYC"). The ISA is
    what the system offers, which may be less than the core has. ``level`` is used if no vector extension is known.
    """
    vectors = next((word for feature, word in _VECTORS.items() if feature in features), level)
    parts = [_NOISE.sub(" ", name), core, vectors]
    words = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts]
    return "-".join(word for word in dict.fromkeys(words) if word)


def results(name: str, out: Path | None, *, written: bool) -> list[Path]:
    """Return folders of a benchmark's results: ``out`` if given, otherwise those in ``benchmarks/results/NAME``.

    There is one per kind of CPU: all ``written`` ones, or that of this machine.
    """
    if out is not None:
        return [out]
    folder = places.RESULTS / "results" / name
    if written:
        return sorted(path.parent for path in folder.glob(f"*/{name}.json"))
    return [folder / summary()["kind"]]


@functools.cache
def _core() -> str:
    """Return LLVM's name of this CPU's core, e.g. ``znver3``, as detected by zig's compiler."""
    output = run([zig(), "build-exe", "--show-builtin"])
    match = re.search(r"\.model = &std\.Target\.\w+\.cpu\.(\w+)", output)
    return match[1] if match else "unknown"


def commit() -> str | None:
    """Return the checkout's commit, with a plus sign if sources have been modified."""
    try:
        head = run(["git", "rev-parse", "--short=12", "HEAD"], cwd=places.ROOT).strip()
        changed = run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN], cwd=places.ROOT
        )
    except (OSError, ProcessFailed):
        return None
    return head + ("+" if changed else "")


def _first_line(argv: Sequence[str]) -> str | None:
    """Return the first line of a program's output; ssh prints its version on stderr."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return None  # not installed; reported where it is needed
    return next(iter((done.stdout + done.stderr).strip().splitlines()), None)

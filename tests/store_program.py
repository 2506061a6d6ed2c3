"""The agent's ``store`` as a program of its own, with sanitizers, that can be told to fail (agent/store_faults.c)."""

import subprocess
from pathlib import Path

from programs import need

from edgepack.agent.build import SOURCES

_SOURCES = (
    "beneath",
    "entropy",
    "fail",
    "frames",
    "json",
    "listing",
    "lock",
    "publish",
    "receive",
    "remove",
    "sha256",
    "stage",
    "store",
    "survey",
    "zstd",
)
_WRAPPED = ("fsync", "syncfs", "syscall", "renameat", "symlinkat", "linkat", "unlinkat", "mkdirat", "write")


def build_store(folder: Path) -> Path:
    """Build it in a folder."""
    program = folder / "edgepack-store"
    options = ("-std=c11", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}")
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    sources = [*(SOURCES / f"{name}.c" for name in _SOURCES), Path(__file__).parent / "agent/store_faults.c"]
    wraps = [f"-Wl,--wrap={name}" for name in _WRAPPED]
    subprocess.run([need("cc", "gcc"), *options, *sanitizers, *wraps, *sources, "-o", program], check=True)
    return program

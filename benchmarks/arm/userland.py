"""An aarch64 Debian with Python, NumPy and onnxruntime for qemu-user, built once and cached."""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.arm import tools
from benchmarks.kit import places
from edgepack.errors import UsageError
from edgepack.remote.virtual.kinds import KINDS

SUITE = "bookworm"
PYTHON = "3.11"  # the Debian release's, for which the wheels are chosen
PACKAGES = ("base-files", "libc-bin", "libc6", "libgomp1", "libstdc++6", f"python{PYTHON}")
_LAYOUT = 2  # increment when this file builds something else from the same packages
WHEELS = ("onnxruntime", "numpy")  # same versions as in this environment
SITE = "opt/site"
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_SEEN = ("etc", "lib", "usr")  # replace this machine's; symlinks in folders where programs keep no own files
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")


def requirements() -> tuple[str, ...]:
    return tuple(f"{name}=={importlib.metadata.version(name)}" for name in WHEELS)


def ensure() -> Path:
    """Return the userland's folder: about 200 MB, built in half a minute if missing.

    Raises:
        UsageError: mmdebstrap is missing, or the user is not root.
        EdgepackError: mmdebstrap or pip failed; the end of their output is in ``why``.
    """
    content = "\n".join((str(_LAYOUT), SUITE, *PACKAGES, *requirements()))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return places.make_once(places.CACHE / "arm" / f"userland-{SUITE}-{digest}", _build)


def _build(tree: Path) -> None:
    if os.geteuid() != 0:
        raise UsageError(
            "building the aarch64 userland requires root",
            why="mmdebstrap unpacks Debian packages with their owners",
            next="run the benchmark as root once; afterwards any user can run it",
        )
    debian = ["--mode=root", "--variant=extract", "--arch=arm64", "--skip=check/qemu"]
    hooks = [f"--hook-dir={_HOOKS}"] if _HOOKS.is_dir() else []
    program = tools.find("mmdebstrap", "mmdebstrap")
    tools.output([program, *debian, f"--include={','.join(PACKAGES)}", *hooks, SUITE, str(tree)])
    wanted = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    pip = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(tree / SITE)]
    tools.output([*pip, *wanted, *platforms, *requirements()])
    # Otherwise Python compiles its library in the emulator at each start; a host with another Python version does so.
    compiling = [sys.executable, "-m", "compileall", "-q", "-x", "/tests?/"]
    tools.output([*compiling, str(tree / SITE), str(tree / "usr" / "lib" / f"python{PYTHON}")])
    for name in _UNUSED:
        shutil.rmtree(tree / name, ignore_errors=True)
    tree.chmod(0o755)


@contextlib.contextmanager
def board(target: str) -> Iterator[Path]:
    """Provide the userland as programs see it on a target's board: with its /proc/cpuinfo, of one core.

    onnxruntime chooses its kernels by that file, and crashes if it describes another CPU.
    """
    root = ensure()
    with tempfile.TemporaryDirectory(prefix="edgepack-board-") as folder:
        view = Path(folder)
        for name in _SEEN:
            (view / name).symlink_to(root / name)
        (view / "proc").mkdir()
        (view / "proc" / "cpuinfo").write_text(KINDS[target].cpuinfo(1))
        yield view


def python() -> tuple[str, dict[str, str]]:
    """Return the userland's Python and its environment, identical for all runs."""
    root = ensure()
    environment = {
        "PYTHONPATH": str(root / SITE),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # Otherwise a thread of onnxruntime compresses and sends usage data during the inference, and is counted.
        "ORT_DISABLE_TELEMETRY": "1",
    }
    return str(root / "usr" / "bin" / f"python{PYTHON}"), environment

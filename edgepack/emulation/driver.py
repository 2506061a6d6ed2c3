"""The emulated ``libcuda.so.1`` and ``libcudart.so.13``, built by zig and cached, and what they emulate.

The unchanged agent and TVM's unchanged CUDA runtime load them in place of NVIDIA's. They read ``gpu.conf`` and the
folder ``modules`` in the folder that the environment variable ``EDGEPACK_GPU`` names.
"""

import hashlib
import importlib.metadata
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.base.temporary import temporary_folder
from edgepack.toolchain.zig import compile_c

SOURCES = Path(__file__).parent / "src"
ENVIRONMENT = "EDGEPACK_GPU"
CONFIGURATION = "gpu.conf"
DRIVER = "libcuda.so.1"
RUNTIME = "libcudart.so.13"

_RUNTIME_SOURCE = "runtime.c"
_FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-sanitize=all",
    "-shared",
    "-fPIC",
    # Fibers of one thread share its variables, and every access of a kernel reads one.
    "-ftls-model=initial-exec",
    "-Wl,--build-id=none",
)


@dataclass(frozen=True)
class EmulatedGpu:
    """An emulated GPU.

    Attributes:
        name: as ``cuDeviceGetName`` returns it.
        compute: compute capability, such as ``8.7``.
        memory_mib: device memory; more cannot be allocated.
        multiprocessors: their number.
        order: in which order threads and blocks run: ``forward``, ``reverse`` or ``random:SEED``. Any but ``forward``
            runs each kernel in both orders and fails if their results differ, which is a race.
        fault: what the driver plays: ``hang`` (kernels never end), ``reset:N`` (the device is lost at the N-th
            launch), ``no-gpu`` (the driver finds no device), or empty.
    """

    name: str
    compute: str
    memory_mib: int
    multiprocessors: int
    order: str = "forward"
    fault: str = ""

    def write(self, folder: Path) -> None:
        """Write ``gpu.conf`` into the folder, atomically."""
        lines = [
            f"name {self.name}",
            f"compute {self.compute}",
            f"memory_mib {self.memory_mib}",
            f"multiprocessors {self.multiprocessors}",
            f"order {self.order}",
            *([f"fault {self.fault}"] if self.fault else []),
        ]
        partial = folder / f"{CONFIGURATION}.partial"
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.replace(folder / CONFIGURATION)


def install_driver(folder: Path, arch: str, libc: str) -> None:
    """Put ``libcuda.so.1`` and ``libcudart.so.13`` into a folder.

    Args:
        folder: Where to; created if missing.
        arch: ``aarch64`` or ``x86_64``.
        libc: The oldest glibc they run with, such as ``2.36``.

    Raises:
        EdgepackError: zig is missing or failed.
    """
    built = build_driver(arch, libc)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (DRIVER, RUNTIME):
        partial = folder / f".{name}.partial"
        shutil.copyfile(built / name, partial)
        partial.chmod(0o755)
        partial.replace(folder / name)


def build_driver(arch: str, libc: str) -> Path:
    """Return the folder of the two libraries, built if they are not in the cache.

    Raises:
        EdgepackError: zig is missing or failed.
    """
    home = cache_dir() / "gpu"
    built = home / f"driver-{arch}-{libc}-{driver_key()[:16]}"
    if built.is_dir():
        return built
    home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(home, "building-") as scratch:
        fresh = Path(scratch, "driver")
        fresh.mkdir()
        sources = [path for path in sorted(SOURCES.glob("*.c")) if path.name != _RUNTIME_SOURCE]
        flags = (*_FLAGS, f"-Wl,-soname,{DRIVER}", "-ldl", "-lpthread")
        driver = compile_c(sources, fresh / DRIVER, arch, libc, flags)
        symbols = f"-Wl,--version-script={SOURCES / 'runtime.map'}"
        compile_c(
            [SOURCES / _RUNTIME_SOURCE, driver],
            fresh / RUNTIME,
            arch,
            libc,
            (*_FLAGS, f"-Wl,-soname,{RUNTIME}", symbols),
        )
        try:
            os.rename(fresh, built)  # noqa: PTH104 - atomic
        except OSError:
            if not built.is_dir():  # another process was first
                raise
    return built


def driver_key() -> str:
    """The sha256 of the driver's inputs: sources, flags, compiler."""
    digest = hashlib.sha256()
    for word in (importlib.metadata.version("ziglang"), *_FLAGS):
        digest.update(word.encode() + b"\0")
    for path in sorted(path for path in SOURCES.iterdir() if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()

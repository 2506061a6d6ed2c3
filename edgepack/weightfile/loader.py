"""The part of every compiled model that starts it and reads its weights file: C11 on TVM's C ABI, built once per ABI."""

import hashlib
import importlib.metadata
from contextlib import suppress
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.base.temporary import temporary_folder
from edgepack.toolchain.headers import tvm_headers
from edgepack.toolchain.zig import compile_c

SOURCES = Path(__file__).parent / "src"
READER = tuple(SOURCES / f"{name}.c" for name in ("weightfile", "crc32", "frequencies", "rans"))
"""What reads a weights file, without TVM."""
IDENTITY = "edgepack_weights"
"""The symbol with the identity of the library's weights file."""

_FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O2",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
)


def build_loader(arch: str, libc: str) -> list[Path]:
    """Build the object files for an architecture and its oldest supported glibc, e.g. ``("aarch64", "2.31")``.

    Raises:
        EdgepackError: zig or the headers of apache-tvm-ffi are missing, or the compiler failed.
    """
    home = cache_dir() / "loader"
    built = home / f"{arch}-{libc}-{_key(arch, libc)[:16]}"
    sources = sorted(SOURCES.glob("*.c"))
    if not built.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with temporary_folder(home, "building-") as folder:
            fresh = Path(folder) / "objects"
            fresh.mkdir()
            for source in sources:
                flags = (*_FLAGS, f"-I{tvm_headers()}", "-c")
                compile_c([source], fresh / f"{source.stem}.o", arch, libc, flags)
            with suppress(OSError):  # another process was faster
                fresh.rename(built)
    return [built / f"{source.stem}.o" for source in sources]


def _key(arch: str, libc: str) -> str:
    digest = hashlib.sha256()
    headers = tvm_headers()
    for word in (arch, libc, importlib.metadata.version("ziglang"), *_FLAGS):
        digest.update(word.encode() + b"\0")
    for path in sorted([*SOURCES.glob("*.[ch]"), headers / "tvm/ffi/c_api.h", headers / "dlpack/dlpack.h"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()

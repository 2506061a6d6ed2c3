"""Builds the runtime's object files, once per architecture and C library."""

import hashlib
import importlib.metadata
from contextlib import suppress
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.base.temporary import temporary_folder
from edgepack.toolchain.zig import compile_c
from edgepack.weightfile.loader import READER

HEADERS = Path(__file__).parent / "include"
SOURCES = Path(__file__).parent / "src"
EXPORTS = SOURCES / "exports.map"
"""The symbols that a model's library exports, for the linker."""

FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O2",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    f"-I{HEADERS}",
    f"-I{SOURCES}",
)
"""For the runtime's C files, and for the source of a model."""


def build_runtime(arch: str, libc: str) -> list[Path]:
    """Build the object files for an architecture and its oldest supported glibc, e.g. ``("aarch64", "2.31")``.

    Raises:
        EdgepackError: zig is missing, or the compiler failed.
    """
    home = cache_dir() / "executor"
    built = home / f"{arch}-{libc}-{_key(arch, libc)[:16]}"
    sources = [*sorted(SOURCES.glob("*.c")), *READER]
    if not built.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with temporary_folder(home, "building-") as folder:
            fresh = Path(folder) / "objects"
            fresh.mkdir()
            for source in sources:
                flags = (*FLAGS, f"-I{READER[0].parent}", "-c")
                compile_c([source], fresh / f"{source.stem}.o", arch, libc, flags)
            with suppress(OSError):  # another process was faster
                fresh.rename(built)
    return [built / f"{source.stem}.o" for source in sources]


def _key(arch: str, libc: str) -> str:
    digest = hashlib.sha256()
    for word in (arch, libc, importlib.metadata.version("ziglang"), *FLAGS):
        digest.update(word.encode() + b"\0")
    folder = READER[0].parent
    for path in sorted([*SOURCES.glob("*.[ch]"), *HEADERS.glob("*.h"), *READER, *folder.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()

"""Builds the agent: C11 on TVM's C ABI, cross-compiled by zig, cached by all of its inputs.

Linked against glibc, the agent loads ``libtvm_runtime.so`` and ``libtvm_ffi.so`` at run time from ``../lib``, their place
in a bundle, so building needs no wheel and ``info`` no runtime. Linked against musl, it is one static file for every Linux
of its architecture, and loads no libraries.
"""

import hashlib
import importlib.metadata
import os
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.base.temporary import temporary_folder
from edgepack.executor.build import HEADERS
from edgepack.toolchain.headers import tvm_headers
from edgepack.toolchain.zig import MUSL, compile_c

SOURCES = Path(__file__).parent / "src"

_WARNINGS = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
_OPTIMISE = ("-O2", "-g0", "-s", "-Wl,--gc-sections", "-ffunction-sections", "-Wl,--build-id=none")
_DYNAMIC = ("-Wl,-rpath,$ORIGIN/../lib", "-ldl")
_STATIC = ("-static",)


def build_agent(arch: str, libc: str) -> Path:
    """Build the agent for an architecture and its oldest supported glibc, e.g. ``("aarch64", "2.31")``, or static: ``MUSL``.

    Raises:
        EdgepackError: zig or the headers of apache-tvm-ffi are missing, or the compiler failed.
    """
    built = cache_dir() / "agent" / f"{arch}-{libc}-{agent_key(arch, libc)[:16]}" / "edgepack-agent"
    if built.is_file():
        return built
    (cache_dir() / "agent").mkdir(parents=True, exist_ok=True)
    with temporary_folder(cache_dir() / "agent", "building-") as folder:
        fresh = Path(folder) / "edgepack-agent"
        flags = (*_WARNINGS, *_OPTIMISE, *_defines(), f"-I{tvm_headers()}", f"-I{HEADERS}", *_link(libc))
        compile_c(sorted(SOURCES.glob("*.c")), fresh, arch, libc, flags)
        fresh.chmod(0o755)
        built.parent.mkdir(exist_ok=True)
        os.replace(fresh, built)  # noqa: PTH105 - atomic, and the same inode for whoever runs the old one
    return built


def agent_key(arch: str, libc: str) -> str:
    """The sha256 of the binary's inputs: sources, headers, flags, compiler, target."""
    digest = hashlib.sha256()
    words = (
        arch,
        libc,
        importlib.metadata.version("ziglang"),
        *_WARNINGS,
        *_OPTIMISE,
        *_link(libc),
        *_defines(),
    )
    headers = tvm_headers()
    files = [
        *SOURCES.glob("*.[ch]"),
        *HEADERS.glob("*.h"),
        headers / "tvm/ffi/c_api.h",
        headers / "dlpack/dlpack.h",
    ]
    for word in words:
        digest.update(word.encode() + b"\0")
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _link(libc: str) -> tuple[str, ...]:
    return _STATIC if libc == MUSL else _DYNAMIC


def _defines() -> tuple[str, ...]:
    version = importlib.metadata.version
    return (
        f'-DEDGEPACK_VERSION="{version("edgepack")}"',
        f'-DEDGEPACK_TVM_VERSION="{version("apache-tvm")}"',
    )

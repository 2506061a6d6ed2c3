"""Builds the agent: C11, cross-compiled by zig, cached by all of its inputs.

Linked against glibc, the agent loads models, and for TVM's virtual machine ``libtvm_runtime.so`` and ``libtvm_ffi.so`` from
``../lib``, their place in a bundle, so building needs no wheel and ``info`` no runtime. Linked against musl, it is one
static file for every Linux of its architecture. It loads nothing, and runs the model that is linked with it, if any.
"""

import hashlib
import importlib.metadata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.base.temporary import temporary_folder
from edgepack.executor.build import HEADERS, build_runtime
from edgepack.executor.build import SOURCES as RUNTIME_SOURCES
from edgepack.toolchain.headers import tvm_headers
from edgepack.toolchain.zig import MUSL, compile_c, link_static

SOURCES = Path(__file__).parent / "src"

_WARNINGS = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
_OPTIMISE = ("-Os", "-g0", "-ffunction-sections", "-fdata-sections")
_LINK = ("-s", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-rpath,$ORIGIN/../lib", "-ldl")


def build_agent(arch: str, libc: str) -> Path:
    """Build the agent for an architecture and its oldest supported glibc, e.g. ``("aarch64", "2.31")``, or static: ``MUSL``.

    Raises:
        EdgepackError: zig or the headers of apache-tvm-ffi are missing, or the compiler failed.
    """

    def build(folder: Path) -> None:
        out = folder / "edgepack-agent"
        if libc == MUSL:
            compile_c(agent_sources(MUSL), folder / "agent.o", arch, MUSL, (*compiler_flags(), "-r"))
            link_static([folder / "agent.o"], out, arch)
        else:
            compile_c(agent_sources(libc), out, arch, libc, (*compiler_flags(), *_LINK))

    return _cached(arch, libc, "", build) / "edgepack-agent"


def link_agent(arch: str, model: Path, out: Path) -> Path:
    """Link the static agent with a model: the archive of its object files, without the runtime, which is added.

    Raises:
        EdgepackError: zig or the headers of apache-tvm-ffi are missing, or the compiler or the linker failed.
    """

    def build(folder: Path) -> None:
        sources = [*agent_sources(MUSL), SOURCES / "linked" / "linked.c"]
        flags = (*compiler_flags(), "-DEDGEPACK_LINKED", "-r")
        compile_c(sources, folder / "agent.o", arch, MUSL, flags)

    agent = _cached(arch, MUSL, "-parts", build) / "agent.o"
    return link_static([agent, *build_runtime(arch, MUSL), model], out, arch)


def build_measuring(arch: str) -> Path:
    """Build the object file that a candidate for a CPU is linked with: what measures it, without the runtime.

    Raises:
        EdgepackError: zig or the headers of apache-tvm-ffi are missing, or the compiler failed.
    """

    def build(folder: Path) -> None:
        sources = [SOURCES / f"{name}.c" for name in ("dtype", "fail", "job", "verdict")]
        sources.append(SOURCES / "candidate" / "main.c")
        compile_c(
            sources, folder / "measuring.o", arch, MUSL, (*compiler_flags(), f"-I{RUNTIME_SOURCES}", "-r")
        )

    return _cached(arch, MUSL, "-measuring", build) / "measuring.o"


def agent_sources(libc: str) -> list[Path]:
    """Return the C files of the agent without a model."""
    folder = SOURCES / ("static" if libc == MUSL else "dynamic")
    return sorted([*SOURCES.glob("*.c"), *folder.glob("*.c")])


def compiler_flags() -> tuple[str, ...]:
    """Return the flags for the agent's C files.

    Raises:
        EdgepackError: The headers of apache-tvm-ffi are missing.
    """
    folders = (SOURCES, SOURCES / "static", tvm_headers(), HEADERS)
    return (*_WARNINGS, *_OPTIMISE, *_defines(), *(f"-I{folder}" for folder in folders))


def agent_key(arch: str, libc: str) -> str:
    """The sha256 of the binary's inputs: sources, headers, flags, compiler, target."""
    digest = hashlib.sha256()
    words = (
        arch,
        libc,
        importlib.metadata.version("ziglang"),
        *_WARNINGS,
        *_OPTIMISE,
        *_LINK,
        *_defines(),
    )
    headers = tvm_headers()
    files = [
        *SOURCES.rglob("*.[ch]"),
        *HEADERS.glob("*.h"),
        headers / "tvm/ffi/c_api.h",
        headers / "dlpack/dlpack.h",
    ]
    for word in words:
        digest.update(word.encode() + b"\0")
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _cached(arch: str, libc: str, suffix: str, build: Callable[[Path], None]) -> Path:
    """Return the folder in the cache with what ``build`` writes into one."""
    home = cache_dir() / "agent"
    built = home / f"{arch}-{libc}-{agent_key(arch, libc)[:16]}{suffix}"
    if not built.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with temporary_folder(home, "building-") as folder:
            fresh = Path(folder) / "built"
            fresh.mkdir()
            build(fresh)
            with suppress(OSError):  # another process was faster
                fresh.rename(built)
    return built


def _defines() -> tuple[str, ...]:
    version = importlib.metadata.version
    return (
        f'-DEDGEPACK_VERSION="{version("edgepack")}"',
        f'-DEDGEPACK_TVM_VERSION="{version("apache-tvm")}"',
    )

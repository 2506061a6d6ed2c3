"""Zig as cross compiler and linker, from any host to aarch64 and x86_64 Linux with a minimum glibc version."""

import functools
import importlib.util
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgepack.base.temporary import temporary_folder
from edgepack.errors import EdgepackError

MUSL = "musl"
"""In place of a glibc version: link executables fully static, against musl, for any Linux of the architecture."""

_SCRIPT = Path(__file__).with_name("static.ld")
_STACK = 8 << 20  # bytes: of a thread that sets nothing else


def zig() -> Path:
    """Return the zig binary of the ``ziglang`` wheel.

    Raises:
        EdgepackError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("ziglang")
    binary = Path(spec.origin).parent / "zig" if spec and spec.origin else None
    if binary is None or not binary.is_file():
        raise EdgepackError(
            "zig is not installed", why="no ziglang package in this Python", next="pip install ziglang"
        )
    return binary


def triple(arch: str, libc: str) -> str:
    """Return zig's target triple, e.g. ``aarch64-linux-gnu.2.31`` or ``aarch64-linux-musl``."""
    return f"{arch}-linux-musl" if libc == MUSL else f"{arch}-linux-gnu.{libc}"


def compile_c(sources: Sequence[Path], out: Path, arch: str, libc: str, flags: Sequence[str] = ()) -> Path:
    """Compile and link C sources into ``out`` for the architecture and minimum glibc version.

    Raises:
        EdgepackError: zig failed; its output is in ``why``.
    """
    _run([str(zig()), "cc", "-target", triple(arch, libc), *flags, "-o", str(out), *map(str, sources)], out)
    return out


def link_shared(
    objects: Sequence[Path],
    out: Path,
    arch: str,
    libc: str,
    *,
    exports: Path | None = None,
    build_id: bytes | None = None,
) -> Path:
    """Link objects into a shared library for the architecture and minimum glibc version, reproducibly.

    ``exports`` is the linker's version script with the symbols that the library exports, which it then uses itself even
    if another library has symbols of the same names; symbols that are in no library are an error then. Without it, the
    library exports all. ``build_id`` is written to a note of the library.

    Raises:
        EdgepackError: zig failed; its output is in ``why``.
    """
    flags = ["-shared", "-fPIC", "-s", f"-Wl,--build-id={f'0x{build_id.hex()}' if build_id else 'none'}"]
    if exports is not None:
        flags += [f"-Wl,--version-script={exports}", "-Wl,-Bsymbolic", "-Wl,--no-undefined"]
    return compile_c(objects, out, arch, libc, flags)


def link_static(objects: Sequence[Path], out: Path, arch: str, options: Sequence[str] = ()) -> Path:
    """Link objects, which musl's headers were used for, into a static executable, reproducibly.

    The linker is called without zig's driver, which takes ten times as long. The executable has no tables for unwinding the
    stack: nothing in C does that, and those of the C library alone take 17 kB.

    Raises:
        EdgepackError: zig failed; its output is in ``why``.
    """
    start, libraries = static_parts(arch)
    fixed = (
        "-static",
        "-s",
        "--gc-sections",
        "--build-id=none",
        "-z",
        f"stack-size={_STACK}",
        "-T",
        str(_SCRIPT),
    )
    parts = map(str, (*start, *objects, *libraries))
    _run([str(zig()), "ld.lld", *fixed, *options, "-o", str(out), *parts], out)
    return out


@functools.cache
def static_parts(arch: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return what zig links static executables with: object files that come first, archives that come last.

    For the first time, zig builds them, which takes seconds.

    Raises:
        EdgepackError: zig failed, or does not say what it links.
    """
    with temporary_folder() as folder:
        source, out = folder / "empty.c", folder / "empty"
        source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
        words = ["-O2", "-static", "--verbose", "-o", str(out), str(source)]
        said = _run([str(zig()), "cc", "-target", triple(arch, MUSL), *words], out)
    # If zig builds its own parts first, it says how it links those, too.
    lines = [words for words in map(shlex.split, said.splitlines()) if str(out) in words]
    found = [Path(word) for word in (lines[-1] if lines else ()) if word.endswith((".o", ".a"))]
    start = tuple(path for path in found if path.name == "crt1.o")
    libraries = tuple(path for path in found if path.suffix == ".a")
    if not start or "libc.a" not in {path.name for path in libraries}:
        raise EdgepackError(
            "zig does not say what it links", why=said[:400] or "no output", next="report this"
        )
    return start, libraries


def archive(objects: Sequence[Path], out: Path) -> Path:
    """Put objects into a static library, reproducibly.

    Raises:
        EdgepackError: zig failed; its output is in ``why``.
    """
    _run([str(zig()), "ar", "rcsD", str(out), *map(str, objects)], out)
    return out


def warm_up(arch: str, libc: str) -> None:
    """Let zig build its own libraries for an architecture and glibc version, which takes seconds once.

    Raises:
        EdgepackError: zig failed.
    """
    with temporary_folder() as folder:
        source = Path(folder, "empty.c")
        source.write_text("", encoding="utf-8")
        link_shared([source], Path(folder, "empty.so"), arch, libc)


def _run(argv: list[str], out: Path) -> str:
    """Run zig; return what it says."""
    # close_fds=False lets CPython use vfork: TVM makes forking the caller's address space expensive.
    done = subprocess.run(argv, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        raise EdgepackError(
            f"zig could not build {out.name}",
            why=done.stderr.strip() or f"exit status {done.returncode}",
            next=f"to reproduce, run: {shlex.join(map(str, argv))}",
        )
    return done.stderr

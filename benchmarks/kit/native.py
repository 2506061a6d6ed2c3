"""Compile C code with zig to a shared library for this machine, once, and cache it."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.kit import places
from benchmarks.kit.processes import SAID, ProcessFailed, run
from edgepack.errors import EdgepackError
from edgepack.toolchain.zig import zig


def shared_library(name: str, code: str, flags: Sequence[str], *, made_for: str = "") -> Path:
    """Return the library of ``code``; ``made_for`` is what else its instructions depend on, such as the CPU.

    Raises:
        EdgepackError: zig is missing or rejected the code; its output is in ``why``.
    """

    def compile_to(out: Path) -> None:
        source = out.with_name(f"{name}.c")
        source.write_text(code)
        try:
            run([zig(), "cc", *flags, "-o", out, source])
        except ProcessFailed as error:
            raise EdgepackError(
                f"zig could not compile {name}.c for this machine",
                why=error.said[-SAID:] or error.how,
                next="the first error names the instruction or flag that this CPU or zig does not support",
            ) from error

    parts = "\0".join((code, *flags, made_for, version("ziglang")))
    digest = hashlib.sha256(parts.encode()).hexdigest()[:16]
    return places.make_once(places.CACHE / name / f"{digest}.so", compile_to)

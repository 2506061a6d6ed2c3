"""C code as a shared library of this machine, compiled with zig once and kept."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.kit import places
from benchmarks.kit.processes import SAID, ProcessFailed, run
from edgepack.errors import EdgepackError
from edgepack.toolchain.zig import zig


def shared_library(name: str, code: str, flags: Sequence[str], *, made_for: str = "") -> Path:
    """The library of ``code``; ``made_for`` is what else its instructions depend on, such as this very CPU.

    Raises:
        EdgepackError: zig is missing or refused the code; its words are in ``why``.
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
                next="the first error names the instruction or the flag that this CPU or zig lacks",
            ) from error

    parts = "\0".join((code, *flags, made_for, version("ziglang")))
    digest = hashlib.sha256(parts.encode()).hexdigest()[:16]
    return places.made_once(places.CACHE / name / f"{digest}.so", compile_to)

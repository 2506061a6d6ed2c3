"""C code as a shared library of this machine, compiled with zig once and kept."""

import hashlib
import tempfile
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
    parts = "\0".join((code, *flags, made_for, version("ziglang")))
    out = places.CACHE / name / f"{hashlib.sha256(parts.encode()).hexdigest()[:16]}.so"
    if out.is_file():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        source, made = Path(folder, f"{name}.c"), Path(folder, out.name)
        source.write_text(code)
        try:
            run([zig(), "cc", *flags, "-o", made, source])
        except ProcessFailed as error:
            raise EdgepackError(
                f"zig could not compile {name}.c for this machine",
                why=error.said[-SAID:] or error.how,
                next="the first error names the instruction or the flag that this CPU or zig lacks",
            ) from error
        made.replace(out)  # atomic: another benchmark may do the same
    return out

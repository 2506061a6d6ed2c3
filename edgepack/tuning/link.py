"""Link candidates with zig's bundled lld, in 10 ms per library.

A candidate is loaded into the agent, which already has libc, libm and TVM's runtime, so it needs none
of what a compiler driver adds; the architecture is that of the object files.
"""

import subprocess
from collections.abc import Sequence
from typing import Any

from edgepack.toolchain.zig import zig


def fcompile(output: str, objects: Sequence[str], **options: Any) -> None:
    """Link object files into a shared library; an ``fcompile`` for ``export_library``.

    Raises:
        RuntimeError: lld failed; the message is its output.
    """
    del options
    argv = [str(zig()), "ld.lld", "-shared", "-s", "-o", output, *map(str, objects)]
    # close_fds=False lets CPython use vfork: TVM makes forking the caller's address space expensive.
    done = subprocess.run(argv, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"ld.lld exited with status {done.returncode}")


fcompile.output_format = "so"  # type: ignore[attr-defined]  # read by export_library

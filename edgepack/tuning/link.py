"""Linking candidates: zig's bundled lld alone, 10 ms a library.

A candidate is loaded into the agent, which has libc, libm and TVM's runtime loaded already, so it needs none
of what a compiler driver adds; the kernel's architecture is that of its object files.
"""

import subprocess
from collections.abc import Sequence
from typing import Any

from edgepack.toolchain.zig import zig


def fcompile(output: str, objects: Sequence[str], **options: Any) -> None:
    """Link object files into a shared library, as ``export_library(fcompile=…)`` wants it.

    Raises:
        RuntimeError: lld failed; its words are the message.
    """
    del options
    argv = [str(zig()), "ld.lld", "-shared", "-s", "-o", output, *map(str, objects)]
    # close_fds=False lets CPython use vfork: TVM makes the caller's address space expensive to fork.
    done = subprocess.run(argv, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"ld.lld ended with {done.returncode}")


fcompile.output_format = "so"  # type: ignore[attr-defined]  # read by export_library

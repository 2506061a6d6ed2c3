"""Link candidates with zig's bundled lld, in some 10 ms each.

A candidate for a CPU becomes a static executable with the agent's measuring code and the thread pool of compiled models,
so that a board needs nothing for it. What such executables have in common is made once.
"""

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgepack.agent.build import build_measuring
from edgepack.errors import EdgepackError
from edgepack.executor.build import build_runtime
from edgepack.toolchain.zig import MUSL, static_parts, zig

PREFIX = "edgepack_candidate_"
"""Before the names of kernels."""

_STACK = 8 << 20  # bytes: of a thread


@dataclass(frozen=True)
class CandidateLinker:
    """Links candidates for an architecture.

    Attributes:
        before: object files that come before the candidate's.
        after: object files and archives that come after it.
    """

    before: tuple[Path, ...]
    after: tuple[Path, ...]

    def link(self, candidate: Path, out: Path, workspace: int) -> None:
        """Link a candidate's object file to an executable.

        Args:
            candidate: The object file.
            out: The executable.
            workspace: Bytes that the arrays of the kernel take at the most.

        Raises:
            EdgepackError: lld failed.
        """
        options = ["-static", "-s", "--gc-sections", "-z", f"stack-size={_STACK}"]
        options.append(f"--defsym={PREFIX}workspace={workspace}")
        argv = [zig(), "ld.lld", *options, "-o", out, *self.before, candidate, *self.after]
        # close_fds=False lets CPython use vfork: TVM makes forking the caller's address space expensive.
        done = subprocess.run(
            [str(word) for word in argv], capture_output=True, text=True, check=False, close_fds=False
        )
        if done.returncode:
            raise EdgepackError(
                "the candidate cannot be linked",
                why=done.stderr.strip() or f"ld.lld exited with status {done.returncode}",
            )


@functools.cache
def candidate_linker(arch: str) -> CandidateLinker:
    """Build, once, what candidates for an architecture are linked with.

    Raises:
        EdgepackError: zig is missing, or the compiler failed.
    """
    measuring, runtime = build_measuring(arch), build_runtime(arch, MUSL)
    start, libraries = static_parts(arch)
    return CandidateLinker((*start, measuring), (*runtime, *libraries))

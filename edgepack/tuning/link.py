"""Link candidates for CPUs with zig's bundled lld, in some 10 ms each.

A candidate becomes a static executable with the agent's measuring code and the thread pool of compiled models, so that a
board needs nothing for it.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from edgepack.agent.build import build_measuring
from edgepack.executor.build import build_runtime
from edgepack.toolchain.zig import MUSL, link_static, static_parts

PREFIX = "edgepack_candidate_"
"""Before the names of kernels."""


@dataclass(frozen=True)
class CandidateLinker:
    """Links candidates for an architecture with the object files that they have in common."""

    arch: str
    common: tuple[Path, ...]

    def link(self, candidate: Path, out: Path, workspace: int) -> None:
        """Link a candidate's object file to an executable.

        Args:
            candidate: The object file.
            out: The executable.
            workspace: Bytes that the arrays of the kernel take at the most.

        Raises:
            EdgepackError: The linker failed.
        """
        options = (f"--defsym={PREFIX}workspace={workspace}",)
        link_static([candidate, *self.common], out, self.arch, options)


@functools.cache
def candidate_linker(arch: str) -> CandidateLinker:
    """Build, once, what candidates for an architecture are linked with.

    Raises:
        EdgepackError: zig is missing, or the compiler failed.
    """
    static_parts(arch)
    return CandidateLinker(arch, (build_measuring(arch), *build_runtime(arch, MUSL)))

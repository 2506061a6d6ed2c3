"""Schedule families: boards that share a search space and a fallback schedule. A family is data."""

from dataclasses import dataclass
from typing import Any, Protocol

from edgepack.config.target import Target
from edgepack.schedules.fallback import cpu_pass
from edgepack.schedules.gpu import cuda_pass
from edgepack.schedules.rules import RULES, KernelRule
from edgepack.schedules.spaces import cpu_space, cuda_space


class Family(Protocol):
    """How a target's kernels are scheduled."""

    def space(self, target: Target) -> Any:
        """Return MetaSchedule's search space."""

    def fallback(self, target: Target) -> Any:
        """Return a pass that schedules all untuned kernels."""


@dataclass(frozen=True)
class CpuFamily:
    """Kernels on CPU cores.

    Attributes:
        unroll_steps: choices for the maximum size of unrolled bodies, in elements; 0 disables unrolling.
        rules: the fallback's kernel rules, in order.
    """

    unroll_steps: tuple[int, ...]
    rules: tuple[KernelRule, ...] = RULES

    def space(self, target: Target) -> Any:
        """Tiling for registers and caches, vectors, threads; dot products if the target has them."""
        return cpu_space(target, unroll_steps=self.unroll_steps)

    def fallback(self, target: Target) -> Any:
        """The cheapest matching rule for each block."""
        return cpu_pass(target, self.rules)


@dataclass(frozen=True)
class CudaFamily:
    """Kernels on an NVIDIA GPU.

    Attributes:
        rules: names of rules in order of precedence: TVM's dlight rules for GPUs, and our own.
    """

    rules: tuple[str, ...]

    def space(self, target: Target) -> Any:
        """Shared-memory tiling with thread binding."""
        del target
        return cuda_space()

    def fallback(self, target: Target) -> Any:
        """The first of the rules that takes the kernel."""
        return cuda_pass(target, self.rules)


FAMILIES: dict[str, Family] = {
    # Generic 64-bit Arm boards: most of these cores have at least 48 KiB of instruction cache.
    "arm_cpu": CpuFamily(unroll_steps=(0, 16, 64, 512)),
    # NVIDIA Jetson, on its GPU; ``jetson-cpu`` is its CPU, of the family ``arm_cpu``. dlight treats convolutions as
    # implicit matrix products.
    "jetson": CudaFamily(
        rules=("ThreadPerOutput", "Matmul", "GEMV", "Reduction", "GeneralReduction", "Fallback")
    ),
    # Raspberry Pi 3, 4 and 5: the A53 decodes two instructions per cycle in order and has 32 KiB of instruction cache.
    "raspberry_pi": CpuFamily(unroll_steps=(0, 16, 64)),
    # x86-64 servers and PCs.
    "x86": CpuFamily(unroll_steps=(0, 16, 64, 512)),
}
"""Families by name, as in targets."""

"""Schedule families: boards whose kernels are searched and scheduled in the same way. A family is data."""

from dataclasses import dataclass
from typing import Any, Protocol

from edgepack.config.target import Target
from edgepack.schedules.fallback import cpu_pass
from edgepack.schedules.rules import RULES, KernelRule
from edgepack.schedules.spaces import cpu_space, cuda_space


class Family(Protocol):
    """What a target's kernels may become."""

    def space(self, target: Target) -> Any:
        """MetaSchedule's search space."""

    def fallback(self, target: Target) -> Any:
        """A pass that schedules every kernel nobody tuned."""


@dataclass(frozen=True)
class CpuFamily:
    """Kernels on CPU cores.

    Attributes:
        unroll_steps: choices of the search for the size of unrolled bodies, in elements; 0 leaves loops alone.
        rules: the kernel rules of the fallback, in order.
    """

    unroll_steps: tuple[int, ...]
    rules: tuple[KernelRule, ...] = RULES

    def space(self, target: Target) -> Any:
        """Tiling in registers and caches, vectors, threads; dot products where the target has them."""
        return cpu_space(target, unroll_steps=self.unroll_steps)

    def fallback(self, target: Target) -> Any:
        """The cheapest rule that fits each block."""
        return cpu_pass(target, self.rules)


@dataclass(frozen=True)
class CudaFamily:
    """Kernels on an NVIDIA GPU.

    Attributes:
        rules: names of TVM's dlight rules for GPUs, first match first.
    """

    rules: tuple[str, ...]

    def space(self, target: Target) -> Any:
        """Shared-memory tiling with thread binding."""
        del target
        return cuda_space()

    def fallback(self, target: Target) -> Any:
        """TVM's dlight rules."""
        from tvm.s_tir import dlight

        del target
        return dlight.ApplyDefaultSchedule(*(getattr(dlight.gpu, rule)() for rule in self.rules))


FAMILIES: dict[str, Family] = {
    # Generic 64-bit Arm boards: most of these cores have 48 KiB or more of instruction cache.
    "arm_cpu": CpuFamily(unroll_steps=(0, 16, 64, 512)),
    # NVIDIA Jetson, on its GPU; its CPU alone is ``jetson-cpu``, of the family ``arm_cpu``. Convolutions are implicit
    # matrix products to dlight.
    "jetson": CudaFamily(rules=("Matmul", "GEMV", "Reduction", "GeneralReduction", "Fallback")),
    # Raspberry Pi 3, 4 and 5: the A53 decodes two instructions a cycle in order and has 32 KiB for them.
    "raspberry_pi": CpuFamily(unroll_steps=(0, 16, 64)),
    # x86-64 servers and PCs.
    "x86": CpuFamily(unroll_steps=(0, 16, 64, 512)),
}
"""By name, as targets have it."""

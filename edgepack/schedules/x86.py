"""x86-64 servers and PCs: AVX2 or AVX-512, VNNI where the target has it."""

from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.common import cpu_space
from edgepack.schedules.fallback import cpu_pass

UNROLL_STEPS = (0, 16, 64, 512)  # choices for the size of unrolled bodies


def space(target: Target) -> Any:
    """The MetaSchedule search space."""
    return cpu_space(target, unroll_steps=UNROLL_STEPS)


def fallback(target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned."""
    return cpu_pass(target)

"""Generic 64-bit Arm boards: NEON, SDOT and UDOT where the target has dotprod."""

from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.common import cpu_space
from edgepack.schedules.fallback import cpu_pass

UNROLL_STEPS = (0, 16, 64, 512)  # elements; most of these cores have 48 KiB or more of instruction cache


def space(target: Target) -> Any:
    """The MetaSchedule search space."""
    return cpu_space(target, unroll_steps=UNROLL_STEPS)


def fallback(target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned."""
    return cpu_pass(target)

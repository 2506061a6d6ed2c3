"""Raspberry Pi 3, 4 and 5: Cortex-A53 and A72 without dot products, A76 with."""

from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.common import cpu_space
from edgepack.schedules.fallback import cpu_pass

UNROLL_STEPS = (0, 16, 64)  # the A53 decodes two instructions a cycle in order and has 32 KiB for them


def space(target: Target) -> Any:
    """The MetaSchedule search space."""
    return cpu_space(target, unroll_steps=UNROLL_STEPS)


def fallback(target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned."""
    return cpu_pass(target)

"""Schedules of this family."""

from typing import Any

from edgepack.schedules.common import cpu_space
from edgepack.schedules.fallback import cpu_pass
from edgepack.target import Target


def space(target: Target) -> Any:
    """The MetaSchedule search space."""
    del target
    return cpu_space()


def fallback(target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned."""
    return cpu_pass(target)

"""Schedules of this family."""

from typing import Any

from edgepack.schedules.common import cpu_space
from edgepack.target import Target


def space(target: Target) -> Any:
    """The MetaSchedule search space."""
    del target
    return cpu_space()


def fallback(target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned."""
    import tvm

    del target
    return tvm.transform.Sequential([])

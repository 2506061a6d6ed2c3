"""Schedules: MetaSchedule's search spaces and the fallback schedules of untuned kernels; families and rules as data.

Imports: config, spec.
"""

from edgepack.schedules.families import FAMILIES
from edgepack.schedules.spaces import tvm_target

__all__ = ["FAMILIES", "tvm_target"]

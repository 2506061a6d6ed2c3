"""Schedules: what MetaSchedule may try, and what a kernel gets that nobody tuned; families and kernel rules as data.

Imports: config.
"""

from edgepack.schedules.families import FAMILIES
from edgepack.schedules.spaces import tvm_target

__all__ = ["FAMILIES", "tvm_target"]

"""Schedules, one module a family: what MetaSchedule may try, and what a kernel gets that nobody tuned."""

from edgepack.schedules import arm_cpu, jetson, raspberry_pi, x86
from edgepack.schedules.common import tvm_target

FAMILIES = {
    "arm_cpu": arm_cpu,
    "jetson": jetson,
    "raspberry_pi": raspberry_pi,
    "x86": x86,
}

__all__ = ["FAMILIES", "tvm_target"]

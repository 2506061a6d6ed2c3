"""NVIDIA Jetson: CUDA kernels on the GPU, or the CPU alone where the target has no gpu section."""

from typing import Any

from edgepack.schedules.common import cpu_space
from edgepack.schedules.fallback import cpu_pass
from edgepack.target import Target

UNROLL_STEPS = (0, 16, 64, 512)  # elements, for the CPU


def space(target: Target) -> Any:
    """The MetaSchedule search space: shared-memory tiling with thread binding, or the CPU's."""
    if target.gpu is None:
        return cpu_space(target, unroll_steps=UNROLL_STEPS)
    from tvm.s_tir.meta_schedule import mutator, postproc, schedule_rule
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    return PostOrderApply(
        sch_rules=schedule_rule.ScheduleRule.create("cuda"),
        postprocs=postproc.Postproc.create("cuda"),
        mutator_probs=mutator.Mutator.create("cuda"),
    )


def fallback(target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned; on the GPU with TVM's dlight rules, first match first."""
    if target.gpu is None:
        return cpu_pass(target)
    from tvm.s_tir import dlight

    return dlight.ApplyDefaultSchedule(
        dlight.gpu.Matmul(),  # convolutions as well, as implicit matrix products
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )

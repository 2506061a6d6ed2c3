"""NVIDIA Jetson: CUDA kernels on the GPU. Its CPU alone is ``jetson-cpu``, of the family ``arm_cpu``."""

from typing import Any

from edgepack.config.target import Target


def space(_target: Target) -> Any:
    """The MetaSchedule search space: shared-memory tiling with thread binding."""
    from tvm.s_tir.meta_schedule import mutator, postproc, schedule_rule
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    return PostOrderApply(
        sch_rules=schedule_rule.ScheduleRule.create("cuda"),
        postprocs=postproc.Postproc.create("cuda"),
        mutator_probs=mutator.Mutator.create("cuda"),
    )


def fallback(_target: Target) -> Any:
    """A pass that schedules every kernel nobody tuned, with TVM's dlight rules, first match first."""
    from tvm.s_tir import dlight

    return dlight.ApplyDefaultSchedule(
        dlight.gpu.Matmul(),  # convolutions as well, as implicit matrix products
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )

"""What the families share."""

from typing import Any

from edgepack.target import Target


def tvm_target(target: Target) -> Any:
    """TVM's target object of this target."""
    import tvm

    return tvm.target.Target(target.tvm)


def cpu_space() -> Any:
    """MetaSchedule's search space for a CPU: multi-level tiling, weight layout rewriting."""
    from tvm.s_tir.meta_schedule import mutator, postproc, schedule_rule
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    return PostOrderApply(
        sch_rules=schedule_rule.ScheduleRule.create("llvm"),
        postprocs=postproc.Postproc.create("llvm"),
        mutator_probs=mutator.Mutator.create("llvm"),
    )

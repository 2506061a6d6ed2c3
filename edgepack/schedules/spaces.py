"""MetaSchedule's search spaces, and TVM's target object."""

from typing import Any

from edgepack.config.target import Target
from edgepack.schedules import intrinsics

INNERMOST = 64  # the longest innermost tile of multi-level tiling
JOBS_PER_CORE = 16  # parallel chunks per core, to balance uneven ones


def tvm_target(target: Target) -> Any:
    """Return the TVM target object of this target."""
    import tvm

    return tvm.target.Target(target.tvm)


def cpu_space(target: Target, *, unroll_steps: tuple[int, ...]) -> Any:
    """Return MetaSchedule's search space for a CPU.

    Two-level tiling for registers and caches with an optional write cache, vectors of up to four registers,
    parallel outer loops for the target's cores, layout rewriting of constant weights; if the CPU has int8
    dot products, tiling for them as well.

    Args:
        target: Its vector width and features are used; MetaSchedule reads the cores from the TVM target.
        unroll_steps: Choices for the maximum size of unrolled bodies; 0 disables unrolling.
    """
    from tvm.s_tir.meta_schedule import mutator, postproc, schedule_rule
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    dots = intrinsics.register(target)
    tiling: dict[str, Any] = {
        "structure": "SSRSRS",
        "max_innermost_factor": INNERMOST,
        "reuse_write": schedule_rule.ReuseType("may", [1, 2], "global"),
    }
    vector = 4 * target.cpu.vector_bits // 32  # four registers of fp32
    return PostOrderApply(
        sch_rules=[
            schedule_rule.InlineConstantScalars(),
            schedule_rule.AutoInline(
                into_producer=False,
                into_consumer=True,
                inline_const_tensor=True,
                disallow_if_then_else=True,
                require_injective=True,
                require_ordered=True,
                disallow_op=["tirx.exp"],
            ),
            schedule_rule.AddRFactor(max_jobs_per_core=JOBS_PER_CORE, max_innermost_factor=INNERMOST),
            *(intrinsics.tiling_rule(dot, tiling) for dot in dots),
            schedule_rule.MultiLevelTiling(**tiling),
            schedule_rule.ParallelizeVectorizeUnroll(
                max_jobs_per_core=JOBS_PER_CORE,
                max_vectorize_extent=vector,
                unroll_max_steps=list(unroll_steps),
                unroll_explicit=True,
            ),
            schedule_rule.RandomComputeLocation(),
        ],
        postprocs=[
            postproc.DisallowDynamicLoop(),
            postproc.RewriteParallelVectorizeUnroll(),
            postproc.RewriteReductionBlock(),
            *([postproc.RewriteTensorize(vectorize_init_loop=True)] if dots else []),
            postproc.RewriteLayout(),
        ],
        mutator_probs={
            mutator.MutateTileSize(): 0.9,
            mutator.MutateComputeLocation(): 0.05,
            mutator.MutateUnroll(): 0.03,
            mutator.MutateParallel(JOBS_PER_CORE): 0.02,
        },
    )


def cuda_space() -> Any:
    """Return MetaSchedule's search space for an NVIDIA GPU: shared-memory tiling with thread binding."""
    from tvm.s_tir.meta_schedule import mutator, postproc, schedule_rule
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    return PostOrderApply(
        sch_rules=schedule_rule.ScheduleRule.create("cuda"),
        postprocs=postproc.Postproc.create("cuda"),
        mutator_probs=mutator.Mutator.create("cuda"),
    )

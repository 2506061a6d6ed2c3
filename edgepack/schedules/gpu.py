"""The fallback schedule of GPU targets: one rule of our own among TVM's dlight rules, for short reductions."""

import math
from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.fallback import epilogue
from edgepack.schedules.intrinsics import skip_tvms_package
from edgepack.schedules.kernel import expensive, read_block

_MOST_THREADS = 256  # per block: six blocks fill one of Orin's multiprocessors, which hold 1,536 threads
_FEWEST_THREADS = 32  # a warp
_SHORT = 64  # reduced elements
_MANY = 16384  # outputs: more than a Jetson's GPU runs threads at once


def cuda_pass(target: Target, rules: tuple[str, ...]) -> Any:
    """Return a module pass that schedules all unscheduled functions.

    Args:
        target: A GPU target.
        rules: Names of dlight's rules in order of precedence; ``ThreadPerOutput`` is ours.
    """
    from tvm.s_tir import dlight

    del target
    skip_tvms_package()
    ours = {"ThreadPerOutput": ThreadPerOutput}
    return dlight.ApplyDefaultSchedule(*((ours.get(rule) or getattr(dlight.gpu, rule))() for rule in rules))


class ThreadPerOutput:
    """A short reduction, such as a depthwise convolution or a pooling: each thread computes one output.

    dlight's own rule gives each output a block of threads, nearly all of which have nothing to reduce.
    """

    def apply(self, function: Any, target: Any, _tunable: bool) -> Any:
        """Return the schedule; None if the kernel has another form. The interface is that of dlight's rules."""
        from tvm import s_tir

        if target.kind.name != "cuda" or not isinstance(function.body, s_tir.SBlockRealize):
            return None
        sch = s_tir.Schedule(function)
        try:
            return sch if _schedule(sch) else None
        except s_tir.ScheduleError:
            return None


def _schedule(sch: Any) -> bool:
    outputs = [sch.get(rv).name_hint for rv in sch.get_output_blocks(sch.get_sblock("root"))]
    for rv in sch.get_child_blocks(sch.get_sblock("root")):
        block = read_block(sch, rv)
        if block is None or (not block.reduced and expensive(block) and block.name not in outputs):
            return False
        if not block.reduced and block.name not in outputs:
            sch.compute_inline(rv)
    blocks = [read_block(sch, rv) for rv in sch.get_child_blocks(sch.get_sblock("root"))]
    reduced = [block for block in blocks if block is not None and block.reduced]
    if len(reduced) != 1 or len(blocks) > 2:  # noqa: PLR2004 - a reduction and its epilogue
        return False
    (block,) = reduced
    count = math.prod(axis.extent for axis in block.spatial)
    length = math.prod(axis.extent for axis in block.axes if not axis.spatial)
    if length > _SHORT and count < _MANY:
        return False
    after = epilogue(sch, block)
    if len(blocks) > 1 and after is None:
        return False
    reduction = sch.get_sblock(block.name)
    whole = sch.get_sblock(after[0]) if after else reduction
    loops = sch.get_loops(whole)[: len(block.spatial)] if after is None else sch.get_loops(whole)
    if after is None and not all(axis.spatial for axis in block.axes[: len(loops)]):
        return False
    divided = _divide(sch, loops)
    if divided is None:
        return False
    outer, inner = divided
    sch.bind(outer, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")
    if after is not None:
        sch.compute_at(reduction, inner)
        sch.set_scope(reduction, 0, "local")
    else:
        sch.cache_write(reduction, 0, "local")
        sch.reverse_compute_at(sch.get_consumers(reduction)[0], inner)
    inside = sch.get_loops(reduction)
    first = next(i for i, loop in enumerate(inside) if int(sch.get(loop).extent) > 1 and i > 1)
    sch.decompose_reduction(reduction, inside[first])
    if length <= _SHORT:
        for loop in inside[first:]:
            sch.unroll(loop)
    return True


def _divide(sch: Any, loops: list[Any]) -> tuple[Any, Any] | None:
    """Divide spatial loops into blocks and threads: whole inner loops, and a factor of the next one.

    Then no index needs a condition, and all stay affine. Neighbouring threads write to neighbouring addresses. None if
    the factors are so unfavourable that few threads come together.
    """
    extents = [int(sch.get(loop).extent) for loop in loops]
    threads, at, factor = 1, len(loops), 1
    while at > 0 and factor == (extents[at] if at < len(loops) else 1):
        at -= 1
        most = _MOST_THREADS // threads
        factor = max(number for number in range(1, min(most, extents[at]) + 1) if extents[at] % number == 0)
        threads *= factor
    if threads < min(_FEWEST_THREADS, math.prod(extents)):
        return None
    rest, inner = sch.split(loops[at], [None, factor])
    return sch.fuse(*loops[:at], rest), sch.fuse(inner, *loops[at + 1 :])

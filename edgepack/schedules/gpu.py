"""The fallback schedule of GPU targets: one rule of our own before TVM's dlight rules."""

import math
from dataclasses import replace
from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.intrinsics import skip_tvms_package
from edgepack.schedules.kernel import Block, Load, expensive, follows, read_block
from edgepack.schedules.recurrent.kernel import layer_of, schedule_recurrent
from edgepack.schedules.recurrent.loops import Threads

_MOST_THREADS = 256  # per block: six blocks fill one of Orin's multiprocessors, which hold 1,536 threads
_FEWEST_THREADS = 32  # a warp
_SHORT = 64  # reduced elements
_MANY = 16384  # outputs: more than a Jetson's GPU runs threads at once

# A model of Orin's GPU (CUDA C++ Programming Guide, Arithmetic Instructions: 128 fp32 multiply-adds a cycle on a
# multiprocessor). It was never compared with a real board; it separates cases that are several times apart.
_MULTIPROCESSORS = 8
_TILE = 64  # rows and columns of the tile in dlight's Matmul
_TILED_RATE = 64  # multiply-adds a cycle on a multiprocessor, with operands in shared memory
_PLAIN_RATE = 16  # the same with two loads for each
_LATENCY = 20  # cycles of a multiply-add with its loads in one thread


def cuda_pass(target: Target, rules: tuple[str, ...]) -> Any:
    """Return a module pass that schedules all unscheduled functions.

    Args:
        target: A GPU target.
        rules: Names of dlight's rules in order of precedence; ``ThreadPerOutput`` is ours.
    """
    import tvm
    from tvm.s_tir import dlight

    del target
    skip_tvms_package()
    ours = {"ThreadPerOutput": ThreadPerOutput}
    rest = dlight.ApplyDefaultSchedule(
        *(ours[rule]() if rule in ours else _IfItApplies(getattr(dlight.gpu, rule)()) for rule in rules)
    )
    return tvm.transform.Sequential([_recurrent_pass(), rest])


def _recurrent_pass() -> Any:
    import tvm
    from tvm import tirx

    @tvm.transform.module_pass(opt_level=0, name="ScheduleRecurrent")  # type: ignore[untyped-decorator]  # TVM is untyped
    def run(mod: Any, _context: Any) -> Any:
        for name, function in list(mod.functions.items()):
            if isinstance(function, tirx.PrimFunc) and layer_of(function) is not None:
                mod.update_func(name, schedule_recurrent(function, Threads()))
        return mod

    return run


class _IfItApplies:
    """A rule of dlight: one that asserts the form of a kernel, instead of checking it, leaves it to the next rule."""

    def __init__(self, rule: Any) -> None:
        self._rule = rule

    def apply(self, function: Any, target: Any, tunable: bool) -> Any:
        try:
            return self._rule.apply(function, target, tunable)
        except AssertionError:
            return None


class ThreadPerOutput:
    """A reduction with little to share, such as a depthwise or a small convolution: each thread computes one output.

    dlight's Reduction gives each output a block of threads, nearly all of which have nothing to reduce in a depthwise
    convolution; its Matmul computes whole tiles, of which a small convolution fills a part of one. A sum of one element is
    taken in any case: dlight inlines what follows it, and then adds a bias twice.
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
    block = _only_reduction(sch)
    if block is None or not _pays(block):
        return False
    after = _epilogue(sch, block)
    reduction = sch.get_sblock(block.name)
    if after is None:
        if len(sch.get_child_blocks(sch.get_sblock("root"))) > 1:
            return False
        sch.cache_write(reduction, 0, "local")
    whole = sch.get_sblock(after) if after else sch.get_consumers(reduction)[0]
    divided = _divide(sch, sch.get_loops(whole), anyhow=block.length == 1)
    if divided is None:
        return False
    outer, inner = divided
    sch.bind(outer, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")
    sch.compute_at(reduction, inner)
    if after is not None:
        sch.set_scope(reduction, 0, "local")
    inside = sch.get_loops(reduction)[2:]  # of the reduction: the first two are the block's and the thread's
    long = [loop for loop in inside if int(sch.get(loop).extent) > 1]
    if not long:
        return block.length == 1
    sch.decompose_reduction(reduction, long[0])
    if block.length <= _SHORT:
        for loop in long:
            sch.unroll(loop)
    return True


def _only_reduction(sch: Any) -> Block | None:
    """Inline what surrounds the reduction; None unless one reduction is left, with at most one block after it."""
    outputs = [sch.get(rv).name_hint for rv in sch.get_output_blocks(sch.get_sblock("root"))]
    for rv in sch.get_child_blocks(sch.get_sblock("root")):
        block = read_block(sch, rv)
        if block is None:
            return None
        if block.reduced or block.name in outputs:
            continue
        consumers = [read_block(sch, consumer) for consumer in sch.get_consumers(rv)]
        # Several blocks of an epilogue compute the same expression in one thread, which the compiler does once.
        again = any(consumer is None or consumer.reduced for consumer in consumers)
        if again and expensive(block):
            return None
        sch.compute_inline(rv)
    blocks = [read_block(sch, rv) for rv in sch.get_child_blocks(sch.get_sblock("root"))]
    reductions = [block for block in blocks if block is not None and block.reduced]
    return reductions[0] if len(reductions) == 1 and len(blocks) <= 2 else None  # noqa: PLR2004


def _epilogue(sch: Any, block: Block) -> str | None:
    """Return the block's only consumer if it is injective; it may use a sum several times, as hard swish does."""
    consumers = [read_block(sch, consumer) for consumer in sch.get_consumers(sch.get_sblock(block.name))]
    if len(consumers) != 1 or consumers[0] is None:
        return None
    loads: list[Load] = []
    for load in consumers[0].loads:
        if not any(_same(load, other) for other in loads):
            loads.append(load)
    return (
        consumers[0].name if follows(replace(consumers[0], loads=tuple(loads)), block) is not None else None
    )


def _same(load: Load, other: Load) -> bool:
    """Whether both read the same element."""
    return load.buffer.same_as(other.buffer) and all(
        a.same_as(b) for a, b in zip(load.indices, other.indices, strict=True)
    )


def _pays(block: Block) -> bool:
    """Whether one thread per output is expected to be faster than dlight's rules, by counts of clock cycles."""
    outputs, length = math.prod(axis.extent for axis in block.spatial), block.length
    if length == 1:
        return True
    rows, columns, shared = _product(block)
    if rows == 1 or columns == 1:
        # No operand is used twice within a tile. A product with a vector is left to GEMV, which shares its long sums.
        return shared > 1 and (length <= _SHORT or outputs >= _MANY)
    tiles = -(-rows // _TILE) * -(-columns // _TILE) * shared
    tiled = -(-tiles // _MULTIPROCESSORS) * _TILE * _TILE * length / _TILED_RATE
    return max(outputs * length / (_MULTIPROCESSORS * _PLAIN_RATE), length * _LATENCY) < tiled


def _product(block: Block) -> tuple[int, int, int]:
    """Return rows, columns and batch of a reduction seen as a product of matrices.

    Axes that index all operands are its batch, those of one operand its rows or its columns.
    """
    axes: dict[Any, set[int]] = {}
    for load in block.loads:
        if any(load.uses(axis) for axis in block.reduced):
            used = axes.setdefault(load.buffer, set())
            used.update(axis.position for axis in block.spatial if load.uses(axis))
    extent = {axis.position: axis.extent for axis in block.spatial}
    operands = list(axes.values())
    batch = set.intersection(*operands) if operands else set()
    rows = operands[0] - batch if operands else set()
    columns = set().union(*operands[1:]) - batch - rows
    return tuple(math.prod(extent[at] for at in part) for part in (rows, columns, batch))  # type: ignore[return-value]


def _divide(sch: Any, loops: list[Any], *, anyhow: bool) -> tuple[Any, Any] | None:
    """Divide spatial loops into blocks and threads: whole inner loops, and a factor of the next one.

    Then no index needs a condition, and all stay affine. Neighbouring threads write to neighbouring addresses. None if
    the factors are so unfavourable that few threads come together, unless they are to be divided ``anyhow``.
    """
    extents = [int(sch.get(loop).extent) for loop in loops]
    threads, at, factor = 1, len(loops), 1
    while at > 0 and factor == (extents[at] if at < len(loops) else 1):
        at -= 1
        most = _MOST_THREADS // threads
        factor = max(number for number in range(1, min(most, extents[at]) + 1) if extents[at] % number == 0)
        threads *= factor
    if threads < min(_FEWEST_THREADS, math.prod(extents)) and not anyhow:
        return None
    rest, inner = sch.split(loops[at], [None, factor])
    return sch.fuse(*loops[:at], rest), sch.fuse(inner, *loops[at + 1 :])

"""Schedules for element-wise kernels and for reductions without a register tile."""

from typing import Any

from edgepack.schedules.kernel import Axis, Block, element_bytes, output_axes
from edgepack.schedules.tiles import MAX_VECTOR, Machine, divisors

PARALLEL_ELEMENTS = 16_384  # below, waking threads costs more time than it saves
LONGEST = 256  # elements of an odd vector in straight-line code
GATHERED = 32  # elements gathered for one vector of outputs: the time LLVM needs grows with the square
INDEPENDENT = 8  # reductions interleaved so that their additions overlap


def elementwise(sch: Any, block: Block, cpu: Machine) -> None:
    """Vectorise the innermost dimension of the output, parallelise the others."""
    loops = sch.get_loops(sch.get_sblock(block.name))
    order = [axis for axis in output_axes(block) or block.axes if axis.extent > 1]
    if not order:
        return
    rest = [axis.position for axis in block.axes if axis.position not in {a.position for a in order}]
    sch.reorder(*(loops[p] for p in rest), *(loops[axis.position] for axis in order))
    inner = order[-1]
    outer = [loops[p] for p in rest] + [loops[a.position] for a in order[:-1]]
    outer += _vectorize(sch, loops[inner.position], _vector(block, inner, inner.extent, cpu))
    if block.work >= PARALLEL_ELEMENTS and outer:
        sch.parallel(sch.fuse(*outer))


def pad(sch: Any, block: Block, cpu: Machine, loop: Any | None) -> None:
    """Schedule a padding stage: fill, then copy the interior without conditions.

    Args:
        sch: The schedule.
        block: The padding.
        cpu: The machine.
        loop: A loop of the consumer to compute the padding in; the whole padding is computed at once if None.
    """
    rv = sch.get_sblock(block.name)
    depth = 0
    if loop is not None:
        sch.compute_at(rv, loop, preserve_unit_loops=True)
        depth = len(sch.get_loops(rv)) - len(block.axes)
    stages = [rv]
    if sch.can_decompose_padding(rv, sch.get_loops(rv)[depth]):
        stages.append(sch.decompose_padding(rv, sch.get_loops(rv)[depth]))
    for stage in stages:
        loops = sch.get_loops(stage)[depth:]
        width = _vector(block, block.axes[-1], int(sch.get(loops[-1]).extent), cpu)
        outer = loops[:-1] + _vectorize(sch, loops[-1], width)
        if loop is None and block.work >= PARALLEL_ELEMENTS and outer:
            sch.parallel(sch.fuse(*outer))


def interleaved(block: Block) -> int:
    """Number of outputs of a reduction that are summed at once, so that their additions overlap."""
    outputs = block.work
    for axis in block.reduced:
        outputs //= axis.extent
    return divisors(outputs, INDEPENDENT)[-1]


def reduction(sch: Any, block: Block) -> None:
    """Interleave a few outputs so that their reductions overlap, parallelise the others."""
    rv = sch.get_sblock(block.name)
    loops = sch.get_loops(rv)
    spatial = [loops[axis.position] for axis in block.spatial]
    reduced = [loops[axis.position] for axis in block.reduced]
    if not spatial:
        return
    outer, inner = sch.split(sch.fuse(*spatial), [None, interleaved(block)])
    sch.reorder(outer, *reduced, inner)
    if block.work >= PARALLEL_ELEMENTS:
        sch.parallel(outer)
    init = sch.decompose_reduction(rv, reduced[0])
    for statement in (rv, init):
        sch.unroll(sch.get_loops(statement)[-1])


def _vectorize(sch: Any, loop: Any, width: int) -> list[Any]:
    """Vectorise a loop; returns the loop over its vectors. A loop with vectors of one element stays serial."""
    if width == 1:
        return []
    outer, lanes = sch.split(loop, [None, width])
    sch.vectorize(lanes)
    return [outer]


def _vector(block: Block, axis: Axis, extent: int, cpu: Machine) -> int:
    """Elements per vector along an axis, of which the loop covers ``extent``; 1 if vectors do not pay off."""
    lanes = cpu.lanes(element_bytes(block.output))
    width = _width(extent, lanes)
    gathers = sum(load.stride(axis) not in (0, 1) for load in block.loads)
    if width * gathers <= GATHERED:
        return width
    short = divisors(extent, max(1, GATHERED // gathers))[-1]
    return short if short >= lanes else 1


def _width(extent: int, lanes: int) -> int:
    """A vector length dividing the extent: several full registers if possible, else one that LLVM splits well."""
    whole = [n for n in divisors(extent, 4 * lanes) if n % lanes == 0]
    if whole:
        return whole[-1]
    return extent if extent <= LONGEST else divisors(extent, MAX_VECTOR)[-1]

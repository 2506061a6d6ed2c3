"""Convolutions, matrix products and windows: reductions whose outputs share inputs.

The register tile is vectorised along an axis of the weights (their layout packed so that a step of the
reduction reads one contiguous run) or along an axis of the data, whichever ``tiles.best_tile`` finds cheaper.
The accumulators of a tile live in registers over the whole reduction, and the epilogue (bias, activation,
residual, requantization) runs on the tile before it goes to memory.
"""

from dataclasses import dataclass
from typing import Any

from edgepack.schedules import simple
from edgepack.schedules.kernel import (
    Axis,
    Block,
    Load,
    depends,
    dimension_of,
    element_bytes,
    output_axes,
    written_by,
)
from edgepack.schedules.tiles import Machine, Operand, Tile, best_tile

WIDENING = 1  # instructions per byte-to-float vector conversion that compete with multiply-adds
PARALLEL_WORK = 50_000  # multiply-adds below which waking threads costs more time than it saves


@dataclass(frozen=True)
class TilePlan:
    """A register tile on two axes of a block."""

    vector: Axis
    unroll: Axis | None
    tile: Tile
    packed: Load | None  # the operand to pack along the vector (or unrolled) axis
    pack: Axis | None
    pack_extent: int


def plan(block: Block, cpu: Machine, free: list[Any]) -> TilePlan | None:
    """Choose axes and tile for a reduction; None if vectorising no axis pays off.

    Args:
        block: The reduction.
        cpu: The machine.
        free: Buffers whose layout may be chosen at compile time.
    """
    if not block.reduced or not output_axes(block) or not _reads_apart(block):
        return None
    axes = [axis for axis in block.spatial if axis.extent > 1]
    plans = [
        _plan(block, cpu, vector, unroll, free)
        for vector in axes
        for unroll in (None, *axes)
        if unroll is not vector and _vectorisable(block, vector, free)
    ]
    return min(plans, key=lambda p: p.tile.cycles, default=None)


def _vectorisable(block: Block, vector: Axis, free: list[Any]) -> bool:
    """Whether every operand has a constant stride along the axis, or can be packed along it."""
    return all(load.stride(vector) is not None or _packable(load, vector, free) for load in block.loads)


def _plan(block: Block, cpu: Machine, vector: Axis, unroll: Axis | None, free: list[Any]) -> TilePlan:
    packed = next((load for load in block.loads if _packable(load, vector, free)), None)
    reads = tuple(
        Operand(
            along_vector=load.uses(vector),
            along_unroll=unroll is not None and load.uses(unroll),
            contiguous=load is packed or load.stride(vector) in (0, 1),
            widening=WIDENING if load.buffer.dtype != block.output.dtype else 0,
        )
        for load in block.loads
    )
    steps = 1
    for axis in block.reduced:
        steps *= axis.extent
    tile = best_tile(
        cpu,
        element_bytes(block.output),
        vector=vector.extent,
        unroll=unroll.extent if unroll else 1,
        reduction=steps,
        operands=reads,
        contiguous_store=written_by(block).stride(vector) == 1,
    )
    if packed is not None:
        return TilePlan(vector, unroll, tile, packed, vector, tile.vector)
    if unroll is not None:
        broadcast = next((load for load in block.loads if _packable(load, unroll, free)), None)
        if broadcast is not None:
            return TilePlan(vector, unroll, tile, broadcast, unroll, tile.unroll)
    return TilePlan(vector, unroll, tile, None, None, 1)


def schedule(
    sch: Any,
    block: Block,
    chosen: TilePlan,
    *,
    cpu: Machine,
    epilogue: tuple[str, dict[int, int]] | None,
    padding: Block | None,
) -> bool:
    """Apply a plan to a block of the schedule.

    Args:
        sch: The schedule.
        block: The reduction.
        chosen: Its plan.
        cpu: The machine.
        epilogue: The only consumer, injective, and which of its axes follows which axis of ``block``.
        padding: The producer that pads the data.

    Returns:
        Whether the padding was moved into the block's loops; otherwise it remains to be scheduled.
    """
    rv = sch.get_sblock(block.name)
    if chosen.packed is not None and chosen.pack is not None:
        _pack(sch, rv, chosen.packed, chosen.pack, chosen.pack_extent)
    if epilogue is None:
        tail = sch.cache_write(rv, 0, "global")
        follows = {axis.position: number for number, axis in enumerate(output_axes(block))}
    else:
        tail, follows = sch.get_sblock(epilogue[0]), epilogue[1]
    _accumulate_along(sch, rv, block, chosen.vector)
    spatial, reduced, unrolled, lanes = _tile(sch, rv, block, chosen)
    sch.reverse_compute_at(tail, spatial[-1], preserve_unit_loops=True)
    _schedule_tail(sch, tail, len(spatial), follows[chosen.vector.position], chosen)
    _unroll_taps(sch, block, reduced, chosen.tile.unrolled_steps)
    inner = len(unrolled) + len(lanes)
    _vectorize(sch, [*unrolled, *lanes])
    shared = _padding_depth(block, chosen, padding.output) if padding else 0
    if block.work >= PARALLEL_WORK and len(spatial) > 1:
        outer = sch.fuse(*spatial[: shared or -1])
        sch.parallel(outer)
    else:
        outer = spatial[shared - 1]
    if padding is not None and shared:
        simple.pad(sch, padding, cpu, outer)
    init = sch.decompose_reduction(rv, reduced[0])
    _vectorize(sch, sch.get_loops(init)[-inner:])
    return shared > 0


def _padding_depth(block: Block, chosen: TilePlan, padded: Any) -> int:
    """Return how many outer loops a block shares with its padding: the planes of a pooling or depthwise window.

    0 if other outputs need the same planes, as in a dense convolution: the padding is then computed once, outside.
    """
    planes = [axis for axis in block.spatial if axis not in (chosen.vector, chosen.unroll)]
    data = next((load for load in block.loads if load.buffer.same_as(padded)), None)
    if data is None or not all(data.uses(axis) for axis in block.spatial if axis.extent > 1):
        return 0
    slides = [axis for axis in block.reduced if axis.extent > 1]
    for index in data.indices:
        if any(depends(index, axis.var) for axis in planes) and any(
            depends(index, axis.var) for axis in slides
        ):
            return 0
    return len(planes)


def _accumulate_along(sch: Any, rv: Any, block: Block, vector: Axis) -> None:
    """Make the vectorised axis the innermost dimension of the accumulators."""
    dimension = [axis.position for axis in output_axes(block)].index(vector.position)
    last = len(block.store.indices) - 1
    if dimension != last:

        def rotated(*index: Any) -> list[Any]:
            return [*(i for number, i in enumerate(index) if number != dimension), index[dimension]]

        sch.transform_layout(rv, ("write", 0), rotated)


def _tile(
    sch: Any, rv: Any, block: Block, chosen: TilePlan
) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Split and reorder: outer spatial loops, reduction, unrolled loops, vector loops."""
    loops = sch.get_loops(rv)
    vector_outer, vector_inner = sch.split(loops[chosen.vector.position], [None, chosen.tile.vector])
    lanes = [vector_inner]
    if chosen.tile.pieces.count > 1:
        lanes = list(sch.split(vector_inner, [None, chosen.tile.pieces.lanes]))
    unroll_outer, unrolled = [], []
    if chosen.unroll is not None:
        outer, inner = sch.split(loops[chosen.unroll.position], [None, chosen.tile.unroll])
        unroll_outer, unrolled = [outer], [inner]
    tiled = {chosen.vector.position} | ({chosen.unroll.position} if chosen.unroll else set())
    rest = [loops[axis.position] for axis in block.spatial if axis.position not in tiled]
    # The packed operand's tile stays in cache while the other axes iterate.
    if chosen.pack is chosen.vector:
        spatial = [vector_outer, *rest, *unroll_outer]
    else:
        spatial = (
            [*unroll_outer, *rest, vector_outer] if chosen.pack else [*rest, *unroll_outer, vector_outer]
        )
    reduced = [loops[axis.position] for axis in block.reduced]
    sch.reorder(*spatial, *reduced, *unrolled, *lanes)
    return spatial, reduced, unrolled, lanes


def _vectorize(sch: Any, loops: list[Any]) -> None:
    """Vectorise the innermost loop and unroll the others."""
    *outer, lanes = loops
    sch.vectorize(lanes)
    for loop in outer:
        sch.unroll(loop)


def _unroll_taps(sch: Any, block: Block, reduced: list[Any], limit: int) -> None:
    steps = 1
    for axis, loop in zip(reversed(block.reduced), reversed(reduced), strict=True):
        steps *= axis.extent
        if steps > limit:
            return
        sch.unroll(loop)


def _schedule_tail(sch: Any, tail: Any, depth: int, vector: int, chosen: TilePlan) -> None:
    """Unroll the loops of the epilogue inside the tile, its loop number ``vector`` innermost and vectorised."""
    loops = sch.get_loops(tail)[depth:]
    others = [loop for number, loop in enumerate(loops) if number != vector]
    lanes = loops[vector]
    sch.reorder(*others, lanes)
    inner = [lanes]
    if chosen.tile.pieces.count > 1:
        inner = list(sch.split(lanes, [None, chosen.tile.pieces.lanes]))
    _vectorize(sch, [*others, *inner])


def _pack(sch: Any, rv: Any, load: Load, axis: Axis, extent: int) -> None:
    """Pack a constant operand as ``[axis / extent, other dimensions, axis % extent]``, before run time."""
    dimension = next(number for number, index in enumerate(load.indices) if index.same_as(axis.var))
    copy = sch.cache_read(rv, load.position, "global")

    def packed(*index: Any) -> list[Any]:
        rest = [i for number, i in enumerate(index) if number != dimension]
        return [index[dimension] // extent, *rest, index[dimension] % extent]

    sch.transform_layout(rv, ("read", load.position), packed)
    sch.annotate(copy, "meta_schedule.layout_rewrite_preproc", True)


def _reads_apart(block: Block) -> bool:
    """Whether the block reads each of its operands only once."""
    return len({load.position for load in block.loads}) == len(block.loads)


def _packable(load: Load, axis: Axis, free: list[Any]) -> bool:
    """Whether the operand's layout may be chosen and exactly one of its dimensions is the axis."""
    return dimension_of(load, axis) is not None and any(load.buffer.same_as(buffer) for buffer in free)

"""Analysis of a kernel for the fallback schedule: its blocks, axes and loads.

TVM represents a kernel as a ``PrimFunc`` whose root contains blocks, each a loop nest with iteration
variables that are spatial (they index the output) or reduced. Kernels that TVM writes as loops, such as a scan, have
other forms. Nothing here modifies the kernel.
"""

import math
from dataclasses import dataclass
from typing import Any

SPATIAL, REDUCTION = 0, 2  # tvm.tirx.IterVar kinds
IF = "prim.if_then_else"


@dataclass(frozen=True)
class Axis:
    """An iteration variable of a block: position among the block's loops, extent, spatial or reduced."""

    position: int
    extent: int
    spatial: bool
    var: Any


@dataclass(frozen=True)
class Load:
    """A read of a buffer in a block: its position among the block's reads, and the index expressions."""

    position: int
    buffer: Any
    indices: tuple[Any, ...]

    def uses(self, axis: Axis) -> bool:
        """Whether any index depends on the axis."""
        return any(depends(index, axis.var) for index in self.indices)

    def stride(self, axis: Axis) -> int | None:
        """Elements between neighbours along the axis; 0 if it is unused, None if it is not affine."""
        total, pitch = 0, 1
        for index, extent in zip(reversed(self.indices), reversed(self.buffer.shape), strict=True):
            step = coefficient(index, axis.var)
            if step is None:
                return None
            total += step * pitch
            pitch *= int(extent)
        return total


@dataclass(frozen=True)
class Block:
    """A block with static extents."""

    name: str
    axes: tuple[Axis, ...]
    loads: tuple[Load, ...]  # of buffers other than the output, each access once
    output: Any
    store: Any  # the BufferStore

    @property
    def spatial(self) -> tuple[Axis, ...]:
        """Axes that index the output."""
        return tuple(axis for axis in self.axes if axis.spatial)

    @property
    def reduced(self) -> tuple[Axis, ...]:
        """Axes of the reduction (sum, maximum, …)."""
        return tuple(axis for axis in self.axes if not axis.spatial)

    @property
    def length(self) -> int:
        """Number of elements that are reduced to one."""
        return math.prod(axis.extent for axis in self.reduced)

    @property
    def work(self) -> int:
        """Number of iterations of the innermost statement."""
        total = 1
        for axis in self.axes:
            total *= axis.extent
        return total


def is_plain(function: Any) -> bool:
    """Whether a kernel is a root block around its stages, as te.compute produces: the form that schedules transform.

    Others keep the loops that they were written with: a scan or a sort, which are one opaque block, and recurrent layers.
    """
    from tvm import s_tir

    body = function.body
    return isinstance(body, s_tir.SBlockRealize) and body.block.name_hint == "root"


def find(expr: Any, kind: Any) -> list[Any]:
    """Return all subexpressions of a node class (or of several, given as a tuple), in post order."""
    import tvm_ffi

    matches: list[Any] = []
    tvm_ffi.structural_walk(expr, (kind, matches.append))
    return matches


def depends(expr: Any, var: Any) -> bool:
    """Whether the expression depends on the variable."""
    return any(var.same_as(other) for other in find(expr, type(var)))


def coefficient(expr: Any, var: Any) -> int | None:
    """Return the constant factor of the variable in an affine expression; None if it is not affine in it."""
    from tvm import sym, tirx

    if not depends(expr, var):
        return 0
    linear = sym.detect_linear_equation(expr, [var])
    if len(linear) != 2 or not isinstance(linear[0], tirx.IntImm):  # noqa: PLR2004 - factor and rest
        return None
    return int(linear[0])


def read_block(sch: Any, block: Any) -> Block | None:
    """Describe a block of a schedule; None unless it is one plain loop nest with static extents and one store."""
    from tvm import ir, tirx

    node = sch.get(block)
    if len(node.writes) != 1 or node.match_buffers or node.alloc_buffers:
        return None
    if not isinstance(node.body, tirx.BufferStore):
        return None
    axes = []
    for position, iter_var in enumerate(node.iter_vars):
        if not isinstance(iter_var.dom.extent, tirx.IntImm) or int(iter_var.iter_type) not in (
            SPATIAL,
            REDUCTION,
        ):
            return None
        axes.append(
            Axis(position, int(iter_var.dom.extent), int(iter_var.iter_type) == SPATIAL, iter_var.var)
        )
    if len(sch.get_loops(block)) != len(axes):
        return None
    store = node.body
    if any(not isinstance(extent, tirx.IntImm) for extent in store.buffer.shape):
        return None
    loads = []
    for load in find(store.value, ir.TensorLoad):
        for position, region in enumerate(node.reads):
            if region.source.same_as(load.source) and not load.source.same_as(store.buffer):
                loads.append(Load(position, load.source, tuple(load.indices)))
    return Block(node.name_hint, tuple(axes), tuple(loads), store.buffer, store)


def written_by(block: Block) -> Load:
    """The block's store, as an access to its output."""
    return Load(0, block.output, tuple(block.store.indices))


def dimension_of(load: Load, axis: Axis) -> int | None:
    """Return the dimension indexed by the axis alone, if the axis occurs nowhere else and covers all of it."""
    users = [number for number, index in enumerate(load.indices) if depends(index, axis.var)]
    if len(users) != 1 or not load.indices[users[0]].same_as(axis.var):
        return None
    return users[0] if int(load.buffer.shape[users[0]]) == axis.extent else None


def output_axes(block: Block) -> tuple[Axis, ...]:
    """Return the axes in the order of the output's dimensions; empty if the output is not indexed by axes alone."""
    axes = []
    for index in block.store.indices:
        axes += [axis for axis in block.spatial if index.same_as(axis.var)]
    return tuple(axes) if len(axes) == len(block.store.indices) else ()


def follows(consumer: Block, producer: Block) -> dict[int, int] | None:
    """Map each axis of the producer to the axis of an injective consumer that iterates over it.

    None unless the consumer is one element-wise loop over the producer's whole output.
    """
    reads = [load for load in consumer.loads if load.buffer.same_as(producer.output)]
    axes = output_axes(producer)
    if len(reads) != 1 or consumer.reduced or not axes or len(output_axes(consumer)) != len(consumer.axes):
        return None
    mapping = {}
    for axis, index in zip(axes, reads[0].indices, strict=True):
        matches = [
            other for other in consumer.axes if index.same_as(other.var) and other.extent == axis.extent
        ]
        if matches:
            mapping[axis.position] = matches[0].position
        elif axis.extent != 1:
            return None
    seen = set(mapping.values())
    rest = [axis for axis in consumer.axes if axis.position not in seen]
    return None if len(seen) != len(mapping) or any(axis.extent != 1 for axis in rest) else mapping


def element_bytes(buffer: Any) -> int:
    """Bytes per element of a buffer."""
    import tvm

    kind = tvm.DataType(str(buffer.dtype))
    return max(1, int(kind.bits * kind.lanes) // 8)


def conditional(block: Block) -> bool:
    """Whether the block's value depends on a condition, as in padding."""
    from tvm import ir, tirx

    calls = [call.op.name for call in find(block.store.value, ir.Call) if hasattr(call.op, "name")]
    return bool(find(block.store.value, tirx.Select)) or IF in calls


def expensive(block: Block) -> bool:
    """Whether the block's value calls a function (exp, tanh, …) and should be computed only once."""
    from tvm import ir

    calls = [getattr(call.op, "name", "") for call in find(block.store.value, ir.Call)]
    return any(name != IF for name in calls)


def divides(block: Block) -> bool:
    """Whether the block divides integers that it reads, or takes their remainder.

    TVM lowers that to an expression which has the dividend several times, so that nested ones grow exponentially.
    """
    from tvm import ir, tirx

    found = find(block.store.value, (tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod))
    loads = (load for division in found for load in find(division.a, ir.TensorLoad))
    return any("int" in str(load.source.dtype) for load in loads)

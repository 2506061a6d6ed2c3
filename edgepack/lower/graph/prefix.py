"""Prefix sums and products on a GPU, as reductions.

TVM's own kernel lets threads of a warp read what others have written without a barrier between, which is a race wherever
threads do not run in lockstep.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from edgepack.lower.phase import Lowering, Module

_SCANS = {"relax.cumsum": 0, "relax.cumprod": 1}
"""The identity of each, by operator."""

_ONE_BLOCK = 64  # elements

_WIDENED = {"float16": "float32", "bfloat16": "float32"}


def reduce_scans(mod: Module, lowering: Lowering) -> Module:
    """Replace prefix sums and products by kernels of reductions, for targets with a GPU."""
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    if lowering.target.gpu is None:
        return mod

    @mutator
    class Scans(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            name = str(getattr(call.op, "name", ""))
            return _scan(self.builder_, call, _SCANS[name]) if name in _SCANS else call

    scans = Scans(mod)
    for var, function in mod.functions.items():
        if isinstance(function, relax.Function):
            scans.builder_.update_func(var, scans.visit_expr(function))
    return scans.builder_.get()


def _scan(builder: Any, call: Any, identity: int) -> Any:
    """Return what computes a call: the prefixes within blocks, and before each block the total of those before it.

    With blocks of about the square root of the length n, that takes about 3 n^1.5 operations, all of them in parallel.
    """
    from tvm import relax

    x, attrs = call.args[0], call.attrs
    if attrs.axis is None:
        x = builder.emit(relax.op.reshape(x, [math.prod(int(extent) for extent in x.ty.shape)]))
    shape = [int(extent) for extent in x.ty.shape]
    axis = 0 if attrs.axis is None else int(attrs.axis) % len(shape)
    dtype = str(call.ty.dtype)
    scan = _Scan(shape, axis, dtype, identity, exclusive=bool(attrs.exclusive))
    totals = builder.emit(builder.call_te(scan.totals, x, primfunc_name_hint="totals"))
    starts = builder.emit(builder.call_te(scan.starts, totals, primfunc_name_hint="starts"))
    inside = builder.emit(builder.call_te(scan.inside, x, primfunc_name_hint="inside"))
    return builder.call_te(scan.joined, inside, starts, primfunc_name_hint="joined")


class _Scan:
    """The kernels of a scan along an axis, on tensor expressions."""

    def __init__(
        self, shape: Sequence[int], axis: int, dtype: str, identity: int, *, exclusive: bool
    ) -> None:
        from tvm import te, tirx

        self._shape, self._axis, self._dtype, self._exclusive = shape, axis, dtype, exclusive
        self._wide = _WIDENED.get(dtype, dtype)
        self._length = shape[axis]
        self._size = self._length if self._length <= _ONE_BLOCK else math.isqrt(self._length)
        self._others = [extent for number, extent in enumerate(shape) if number != axis]
        self._neutral = tirx.const(identity, self._wide)
        self._join: Callable[[Any, Any], Any] = operator.mul if identity else operator.add
        self._combine = te.comm_reducer(
            lambda a, b: self._join(a, b),  # noqa: PLW0108 - the reducer counts a function's parameters
            lambda kind: tirx.const(identity, kind),
            name="combine",
        )

    @property
    def _blocks(self) -> int:
        return -(-self._length // self._size)

    def totals(self, x: Any) -> Any:
        """Of each block: ``[blocks, *other axes]``."""
        from tvm import te

        within = te.reduce_axis((0, self._size), name="within")

        def total(block: Any, *rest: Any) -> Any:
            return self._combine(self._element(x, block * self._size + within, rest), axis=within)

        return te.compute([self._blocks, *self._others], total, name="totals")

    def starts(self, totals: Any) -> Any:
        """Of all blocks before each."""
        from tvm import te, tirx

        before = te.reduce_axis((0, self._blocks), name="before")

        def start(block: Any, *rest: Any) -> Any:
            kept = tirx.Select(before < block, totals(before, *rest), self._neutral)
            return self._combine(kept, axis=before)

        return te.compute(totals.shape, start, name="starts")

    def inside(self, x: Any) -> Any:
        """Of what is before each element in its block: ``[blocks, size of a block, *other axes]``."""
        from tvm import te, tirx

        inside = te.reduce_axis((0, self._size), name="inside")

        def prefix(block: Any, own: Any, *rest: Any) -> Any:
            counted = inside < own if self._exclusive else inside <= own
            value = self._element(x, block * self._size + inside, rest)
            return self._combine(tirx.Select(counted, value, self._neutral), axis=inside)

        return te.compute([self._blocks, self._size, *self._others], prefix, name="inside")

    def joined(self, inside: Any, starts: Any) -> Any:
        """With what is before the block."""
        from tvm import te, tirx

        axis, size = self._axis, self._size

        def prefix(*place: Any) -> Any:
            block, own = tirx.floordiv(place[axis], size), tirx.floormod(place[axis], size)
            rest = (*place[:axis], *place[axis + 1 :])
            return self._join(inside(block, own, *rest), starts(block, *rest)).astype(self._dtype)

        return te.compute(self._shape, prefix, name="joined")

    def _element(self, x: Any, at: Any, rest: Sequence[Any]) -> Any:
        """An element along the axis, or the identity behind the end."""
        from tvm import tirx

        axis = self._axis
        safe = tirx.min(at, self._length - 1)
        value = x(*rest[:axis], safe, *rest[axis:]).astype(self._wide)
        return tirx.if_then_else(at < self._length, value, self._neutral)

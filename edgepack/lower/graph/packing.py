"""Pack constant weights during the build with NumPy, instead of a kernel that is compiled to run once."""

from typing import Any

from edgepack.lower.graph.folding import remember
from edgepack.lower.phase import Facts, Module
from edgepack.schedules.kernel import find


def pack_constants(mod: Module, facts: Facts) -> Module:
    """Replace calls of kernels that only rearrange a constant by the rearranged constant.

    Recognised are copies whose indices are the source's axes in another order, some of them split in two by
    ``i // extent`` and ``i % extent``: the layouts of the untuned schedules. Other kernels remain.
    """
    from tvm import ir, relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Packer(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            if getattr(call.op, "name", "") != "relax.call_tir" or len(call.args[1].fields) != 1:
                return call
            (source,) = call.args[1].fields
            if not isinstance(source, ir.GenericConst):
                return call
            order = _rearrangement(mod[call.args[0]], source.value.numpy())
            return call if order is None else _rearranged(source, *order, facts)

    packer = Packer(mod)
    for var, function in list(mod.functions.items()):
        if isinstance(function, relax.Function):
            packer.builder_.update_func(var, packer.visit_expr(function))
    return packer.builder_.get()


def _rearranged(source: Any, split: list[int], axes: list[int], facts: Facts) -> Any:
    """Return the constant with its axes split and permuted, and remember how."""
    import numpy as np
    from tvm import relax

    value = source.value.numpy()
    parts = relax.const(value.reshape(split), str(value.dtype))
    packed = relax.const(np.ascontiguousarray(parts.value.numpy().transpose(axes)), str(value.dtype))
    remember(facts, relax.op.reshape(source, split), parts.value.numpy())
    remember(facts, relax.op.permute_dims(parts, axes), packed.value.numpy())
    return packed


def _rearrangement(kernel: Any, source: Any) -> tuple[list[int], list[int]] | None:
    """Return how a kernel splits and then permutes the axes; None unless it is a recognised copy of all of ``source``."""
    import numpy as np
    from tvm import ir, tirx

    stores = find(kernel.body, tirx.BufferStore)
    if len(stores) != 1 or not isinstance(stores[0].value, ir.TensorLoad):
        return None
    indices = list(stores[0].value.indices)
    pieces = [piece for index in stores[0].indices if (piece := _piece(index)) is not None]
    if len(pieces) != len(stores[0].indices) or not all(isinstance(index, tirx.Var) for index in indices):
        return None
    split, order = [], []
    for axis, extent in zip(indices, source.shape, strict=True):
        of_axis = [(number, *piece[1:]) for number, piece in enumerate(pieces) if piece[0].same_as(axis)]
        kinds = {kind: (number, part) for number, kind, part in of_axis}
        if len(of_axis) == 1 and set(kinds) == {"whole"}:
            split.append(extent)
            order.append(kinds["whole"][0])
            continue
        if len(of_axis) != 2 or set(kinds) != {"div", "mod"}:  # noqa: PLR2004 - i // extent and i % extent
            return None
        part = kinds["mod"][1]
        if kinds["div"][1] != part or extent % part:
            return None
        split += [extent // part, part]
        order += [kinds["div"][0], kinds["mod"][0]]
    if sorted(order) != list(range(len(pieces))):
        return None
    axes = [int(axis) for axis in np.argsort(order)]
    written = stores[0].buffer
    shape = [int(extent) for extent in written.shape]
    if shape != [split[axis] for axis in axes] or str(source.dtype) != str(written.dtype):
        return None
    return split, axes


def _piece(index: Any) -> tuple[Any, str, int] | None:
    """Return a variable and which part of it an index is: whole, divided, or the rest of the division."""
    from tvm import tirx

    if isinstance(index, tirx.Var):
        return index, "whole", 1
    kinds = {tirx.FloorDiv: "div", tirx.FloorMod: "mod"}
    for kind, name in kinds.items():
        if isinstance(index, kind) and isinstance(index.a, tirx.Var) and isinstance(index.b, tirx.IntImm):
            return index.a, name, int(index.b)
    return None

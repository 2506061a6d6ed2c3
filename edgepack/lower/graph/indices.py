"""Indices that are computed from tensors stay inside what they index.

ONNX makes an index out of range an error. A kernel cannot raise one; it clamps the index to the axis, so that no kernel
reads or writes outside of a tensor, whatever its inputs are. A negative index counts from the end, and one below ``-n``
becomes 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

from edgepack.lower.conditions import kernels
from edgepack.lower.phase import Condition, Lowering, Module
from edgepack.schedules.kernel import find


def index_legalizations() -> dict[str, Callable[[Any, Any], Any]]:
    """Return the rules for operators whose kernels would clamp another number than the index, by operator."""
    return {
        "relax.take": _take,
        "relax.scatter_elements": _scatter_elements,
        "relax.scatter_nd": _scatter_nd,
    }


def _take(builder: Any, call: Any) -> Any:
    """TVM's default, for speed, is not to check the index."""
    from tvm import topi

    mode = "clip" if str(call.attrs.mode) == "fast" else call.attrs.mode
    return builder.call_te(topi.take, *call.args, call.attrs.axis, mode=mode)


def _scatter_elements(builder: Any, call: Any) -> Any:
    shape = call.args[0].ty.shape
    return _scatter(builder, call, [shape[int(call.attrs.axis)]], wrap=True)


def _scatter_nd(builder: Any, call: Any) -> Any:
    coordinates = int(call.args[1].ty.shape[-1])
    return _scatter(builder, call, list(call.args[0].ty.shape)[:coordinates], wrap=False)


def _scatter(builder: Any, call: Any, extents: Sequence[Any], *, wrap: bool) -> Any:
    """Clamp the indices first: the kernel computes one index into the flattened tensor from them.

    Args:
        builder: TVM's.
        call: Its second argument are the indices.
        extents: Lengths of the axes that the last axis of the indices counts, or of the only one.
        wrap: Whether negative indices count from the end; otherwise that has been resolved.
    """
    import tvm
    from tvm import te, tirx

    def clamped(indices: Any) -> Any:
        def element(*at: Any) -> Any:
            index, length = indices(*at), tirx.const(int(extents[0]), indices.dtype)
            for number, extent in enumerate(extents[1:], start=1):
                length = tirx.Select(at[-1] == number, tirx.const(int(extent), indices.dtype), length)
            index = tirx.Select(index < 0, index + length, index) if wrap else index
            return tirx.max(tirx.min(index, length - 1), tirx.const(0, indices.dtype))

        return te.compute(indices.shape, element, name="clamped")

    indices = builder.emit(builder.call_te(clamped, call.args[1], primfunc_name_hint="clamp_indices"))
    bounded = type(call)(call.op, [call.args[0], indices, *call.args[2:]], call.attrs, call.ty_args)
    return tvm.ir.Op.get(call.op.name).get_attr("FLegalize")(builder, builder.normalize(bounded))


def bound_indices(mod: Module, _lowering: Lowering) -> Module:
    """Clamp each index of a load or store that depends on a tensor's values and is not proved to be in range."""
    for var, function in list(kernels(mod)):
        bounded = _Bounding(function).run()
        if not bounded.same_as(function):
            mod.update_func(var, bounded)
    return mod


def unbounded(function: Any) -> Any | None:
    """Return an index of the function that depends on a tensor's values and is not proved to be in range, or None."""
    from tvm import ir, tirx

    bounding = _Bounding(function)
    for access in find(function.body, (ir.TensorLoad, tirx.BufferStore)):
        for index, extent in zip(access.indices, _shape(access), strict=True):
            if bounding.must_be_clamped(index, extent):
                return index
    return None


def _violation(mod: Module) -> str | None:
    for var, function in kernels(mod):
        index = unbounded(function)
        if index is not None:
            return f"{var.name_hint} uses the index {index}"
    return None


BOUNDED = Condition("every index stays inside what it indexes", _violation)


class _Bounding:
    def __init__(self, function: Any) -> None:
        from tvm.sym.analyzer import Analyzer

        self._function = function
        self._analyzer = Analyzer()
        self._from_tensors = _variables_from_tensors(function.body)

    def run(self) -> Any:
        import tvm_ffi
        from tvm import ir, tirx

        body = tvm_ffi.structural_map(
            self._function.body,
            [
                (ir.TensorLoad, self._load),
                (tirx.BufferStore, self._store),
                (ir.TensorRegion, self._region),
                (tirx.For, self._loop),
            ],
        )
        return self._function if body.same_as(self._function.body) else self._function.with_body(body)

    def must_be_clamped(self, index: Any, extent: Any) -> bool:
        """Whether the index depends on a tensor's values and is not proved to be in range."""
        if not self._depends_on_tensors(index):
            return False
        prove = self._analyzer.can_prove
        return not (prove(index >= 0) and prove(index <= self._last(index, extent)))

    def _last(self, index: Any, extent: Any) -> Any:
        """Return the axis's last index in the type of the given one."""
        return self._analyzer.simplify(extent.astype(index.ty) - 1)

    def _depends_on_tensors(self, expr: Any) -> bool:
        from tvm import ir

        return bool(find(expr, ir.TensorLoad)) or any(var in self._from_tensors for var in find(expr, ir.Var))

    def _load(self, load: Any) -> Any:
        from tvm import tirx

        indices = self._clamp(load)
        return load if indices is None else tirx.BufferLoad(load.source, indices)

    def _store(self, store: Any) -> Any:
        from tvm import tirx

        indices = self._clamp(store)
        return store if indices is None else tirx.BufferStore(store.buffer, store.value, indices)

    def _clamp(self, access: Any) -> list[Any] | None:
        """Return the indices of an access, clamped where necessary; None if nothing changes."""
        from tvm import tirx

        indices, changed = [], False
        for index, extent in zip(access.indices, _shape(access), strict=True):
            outside = self.must_be_clamped(index, extent)
            changed = changed or outside
            indices.append(
                tirx.max(tirx.min(index, self._last(index, extent)), tirx.const(0, index.ty))
                if outside
                else index
            )
        return indices if changed else None

    def _loop(self, loop: Any) -> Any:
        """A reduction over a number of values that depends on tensors (RoiAlign's samples) has at least one.

        Without any, its result would not be initialised.
        """
        from tvm import s_tir, tirx

        if not self._depends_on_tensors(loop.extent):
            return loop
        if all(block.init is None for block in find(loop.body, s_tir.SBlock)):
            return loop
        extent = tirx.max(loop.extent, tirx.const(1, loop.extent.ty))
        return tirx.For(
            loop.loop_var, loop.min, extent, loop.kind, loop.body, loop.thread_binding, loop.annotations
        )

    def _region(self, region: Any) -> Any:
        """A block's signature: an index from a tensor may be anywhere on its axis."""
        from tvm import ir

        ranges = [
            ir.Range(0, extent) if self._depends_on_tensors(each.min) else each
            for each, extent in zip(region.region, region.source.shape, strict=True)
        ]
        return ir.TensorRegion(region.source, ranges, region.ty)


def _shape(access: Any) -> Any:
    return (access.buffer if hasattr(access, "buffer") else access.source).shape


def _variables_from_tensors(body: Any) -> set[Any]:
    """Return the variables whose value, or whose range, is computed from tensors."""
    from tvm import ir, tirx

    definitions = [
        (node.loop_var, (node.min, node.extent)) if isinstance(node, tirx.For) else (node.var, (node.value,))
        for node in find(body, (tirx.Bind, tirx.Let, tirx.For))
    ]
    found: set[Any] = set()
    before = -1
    while len(found) > before:
        before = len(found)
        found.update(
            var
            for var, values in definitions
            if any(find(value, ir.TensorLoad) or found & set(find(value, ir.Var)) for value in values)
        )
    return found

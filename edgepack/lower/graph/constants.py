"""Encoded constants in the graph: which of them travel on to the kernel that reads them, and stay small.

A dense int8 weight comes from ONNX as ``dequantize(q, scale, zero point)`` of constants. Where the kernel that reads
it can decode it, the two become one function, so that the weight stays int8 in the compiled model and in memory, and
is widened in registers. Everything else is folded here, on the build host.

The values are the same either way: the kernel multiplies each element by its scale before anything else, as the fold
does, and nothing is reassociated.
"""

from collections.abc import Callable
from typing import Any

from edgepack.lower.phase import Lowering, Module

DECODES = "edgepack.decodes"
"""Attribute of a kernel: the positions of the arguments that it decodes."""


def decode_in_kernels(mod: Module, _lowering: Lowering) -> Module:
    """Hand int8 weights to the kernels that can take them: dense convolutions and matrix products with a constant.

    Depthwise and grouped convolutions use each weight a few times only, and decoding would cost more than it saves.
    """
    from tvm import relax

    mutator = _mutator(mod)
    for var, function in list(mod.functions.items()):
        if isinstance(function, relax.Function):
            mutator.builder_.update_func(var, mutator.visit_expr(function))
    return relax.transform.DeadCodeElimination()(mutator.builder_.get())


def _mutator(mod: Module) -> Any:
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Decoder(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            kernel = _KERNELS.get(str(getattr(call.op, "name", "")))
            if kernel is None:
                return call
            weight = _Weight.read(call.args[1], self.lookup_binding)
            if weight is None:
                return call
            made = kernel(self.builder_, call, weight)
            return call if made is None else made

    return Decoder(mod)


class _Weight:
    """A constant weight as a dequantized one: int8 elements, a scale for all or for each index of one axis."""

    def __init__(self, elements: Any, scale: Any, axis: int) -> None:
        self.elements = elements
        self.scale = scale
        self.axis = axis

    @classmethod
    def read(cls, value: Any, lookup: Callable[[Any], Any]) -> "_Weight | None":
        """The weight behind a value; None where it is not symmetric int8 made fp32, perhaps with axes permuted."""
        from tvm import ir, relax

        call = lookup(value) if isinstance(value, relax.Var) else value
        if getattr(getattr(call, "op", None), "name", "") == "relax.permute_dims":
            inner = cls.read(call.args[0], lookup)
            return None if inner is None else inner.permuted(_axes(call))
        if getattr(getattr(call, "op", None), "name", "") != "relax.dequantize":
            return None
        elements, scale, zero = call.args
        if not all(isinstance(each, ir.GenericConst) for each in call.args):
            return None
        if str(elements.ty.dtype) != "int8" or str(call.attrs.out_dtype) != "float32":
            return None
        if str(scale.ty.dtype) != "float32" or zero.value.numpy().any():
            return None
        return cls(elements, scale, int(call.attrs.axis) % len(elements.ty.shape))

    @property
    def per_axis(self) -> bool:
        """Whether there is a scale for each index of ``axis``."""
        return bool(self.scale.value.numpy().size > 1)

    def permuted(self, axes: list[int]) -> "_Weight":
        """The same weight with its axes in another order, done here."""
        import numpy as np
        from tvm import relax

        elements = relax.const(np.ascontiguousarray(self.elements.value.numpy().transpose(axes)))
        return _Weight(elements, self.scale, axes.index(self.axis))

    def decode(self, elements: Any, scale: Any) -> Any:
        """As te: each element widened, times its scale."""
        from tvm import te

        def element(*at: Any) -> Any:
            factor = scale(at[self.axis]) if self.per_axis else scale()
            return elements(*at).astype("float32") * factor

        return te.compute(elements.shape, element, name="decode")

    def arguments(self) -> tuple[Any, Any]:
        """Elements and scale, the latter ``[n]`` or a scalar."""
        import numpy as np
        from tvm import relax

        values = self.scale.value.numpy()
        return self.elements, relax.const(values.reshape(-1) if self.per_axis else np.float32(values.item()))


def _axes(call: Any) -> list[int]:
    rank = len(call.args[0].ty.shape)
    return [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes else list(range(rank))[::-1]


def _convolution(builder: Any, call: Any, weight: _Weight) -> Any:
    from tvm import topi

    attrs = call.attrs
    plain = str(attrs.data_layout) == str(attrs.out_layout) and int(attrs.groups) == 1
    if not plain or attrs.out_dtype not in (None, "", "float32"):
        return None

    def compute(data: Any, elements: Any, scale: Any) -> Any:
        return topi.nn.conv(
            inp=data,
            filt=weight.decode(elements, scale),
            stride=[int(step) for step in attrs.strides],
            padding=[int(width) for width in attrs.padding],
            dilation=[int(step) for step in attrs.dilation],
            groups=1,
            data_layout=str(attrs.data_layout),
            kernel_layout=str(attrs.kernel_layout),
            out_dtype=None,
        )

    name = call.op.name.rpartition(".")[2]
    return builder.call_te(
        compute,
        call.args[0],
        *weight.arguments(),
        primfunc_name_hint=name,
        primfunc_attrs={DECODES: [1]},
    )


def _matmul(builder: Any, call: Any, weight: _Weight) -> Any:
    from tvm import te

    data = call.args[0]
    if len(weight.elements.ty.shape) != 2 or len(data.ty.shape) < 2:  # noqa: PLR2004 - a matrix
        return None
    if call.attrs.out_dtype not in (None, "", "float32"):
        return None

    def compute(a: Any, elements: Any, scale: Any) -> Any:
        b = weight.decode(elements, scale)
        k = te.reduce_axis((0, elements.shape[0]), name="k")
        shape = [*a.shape[:-1], elements.shape[1]]
        return te.compute(shape, lambda *at: te.sum(a(*at[:-1], k) * b(k, at[-1]), axis=k), name="matmul")

    return builder.call_te(
        compute, data, *weight.arguments(), primfunc_name_hint="matmul", primfunc_attrs={DECODES: [1]}
    )


_KERNELS: dict[str, Callable[[Any, Any, _Weight], Any]] = {
    "relax.nn.conv1d": _convolution,
    "relax.nn.conv2d": _convolution,
    "relax.matmul": _matmul,
}
"""Which kernels can take an encoded weight: the operator's name, and the kernel that decodes it."""

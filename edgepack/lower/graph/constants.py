"""Encoded constants in the graph: pass those that a kernel can decode to that kernel, where they stay small.

A dense 8-bit weight is imported from ONNX as ``dequantize(q, scale, zero point)`` of constants. If the kernel that
reads it can decode it, the weight stays 8-bit in the compiled model and in memory, and is widened in registers; its
scale, per tensor or per output channel, is applied to the sum afterwards. All other encoded constants are decoded when
the model is loaded.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.lower.graph.gains import Use, pays
from edgepack.lower.phase import Lowering, Module, content_of
from edgepack.spec.encoding import EncodedConstant


def decode_in_kernels(mod: Module, lowering: Lowering, *, everywhere: bool = False) -> Module:
    """Pass 8-bit weights to the kernels that can decode them: embeddings, convolutions, matrix products.

    Kernels that would be slower (see ``GAINS``) are left out, unless ``everywhere`` is true, for measuring the
    difference.
    """
    from tvm import relax

    mutator = _mutator(mod, lowering, everywhere=everywhere)
    for var, function in list(mod.functions.items()):
        if isinstance(function, relax.Function):
            mutator.builder_.update_func(var, mutator.visit_expr(function))
    return relax.transform.DeadCodeElimination()(mutator.builder_.get())


def _mutator(mod: Module, lowering: Lowering, *, everywhere: bool) -> Any:
    from tvm.relax.expr_functor import PyExprMutator, mutator

    facts = lowering.facts

    @mutator
    class Decoder(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            kernel = _KERNELS.get(str(getattr(call.op, "name", "")))
            if kernel is None:
                return call
            weight = Weight.read(call.args[kernel.argument], self.lookup_binding, facts.encoded)
            if weight is None or not (everywhere or pays(kernel.use(call, weight), lowering.target)):
                return call
            decoding = kernel.make(self.builder_, call, weight)
            if decoding is None:
                return call
            facts.in_kernels[content_of(weight.elements.value.numpy())] = weight.as_passed()
            return decoding

    return Decoder(mod)


class Weight:
    """A constant weight ``(elements - zero) * scale``, with scale and zero per tensor or per index of ``axis``."""

    def __init__(self, constant: EncodedConstant, elements: Any, scale: Any, zero: Any, axis: int) -> None:
        self.constant = constant  # as in the file
        self.elements = elements  # relax constant, int8 or uint8
        self.scale = scale  # numpy, float32
        self.zero = zero  # numpy, of the elements' type, same shape as the scale
        self.axis = axis

    @classmethod
    def read(
        cls, value: Any, lookup: Callable[[Any], Any], encoded: Mapping[str, Sequence[EncodedConstant]]
    ) -> "Weight | None":
        """Read the weight behind a value, with its axes permuted if necessary; None if it is not dequantized 8-bit.

        ``encoded`` maps the content of their elements to the file's encoded constants.
        """
        from tvm import ir, relax

        call = lookup(value) if isinstance(value, relax.Var) else value
        operator = getattr(getattr(call, "op", None), "name", "")
        if operator == "relax.permute_dims":
            inner = cls.read(call.args[0], lookup, encoded)
            return None if inner is None else inner.permute(_axes(call))
        if operator != "relax.dequantize" or not all(isinstance(each, ir.GenericConst) for each in call.args):
            return None
        elements, scale, zero = call.args
        if str(elements.ty.dtype) not in {"int8", "uint8"} or str(call.attrs.out_dtype) != "float32":
            return None
        if str(scale.ty.dtype) != "float32":
            return None
        known = encoded.get(content_of(elements.value.numpy()))
        if not known:
            return None
        axis = int(call.attrs.axis) % len(elements.ty.shape)
        return cls(known[0], elements, scale.value.numpy(), zero.value.numpy(), axis)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return tuple(int(dim) for dim in self.elements.ty.shape)

    def permute(self, axes: list[int]) -> "Weight":
        """Return the same weight with its axes permuted, during the build."""
        import numpy as np
        from tvm import relax

        elements = relax.const(np.ascontiguousarray(self.elements.value.numpy().transpose(axes)))
        return Weight(self.constant, elements, self.scale, self.zero, axes.index(self.axis))

    def as_passed(self) -> EncodedConstant:
        """The constant as passed to the kernel: its scale is a separate dense constant, applied outside."""
        elements = self.elements.value.numpy()
        return self.constant.model_copy(update={"shape": self.shape, "stored_bytes": elements.nbytes})

    def sums_along(self, axis: int) -> bool:
        """Whether the weight needs only a scale, and it can be applied after the sum over all axes but ``axis``."""
        symmetric = str(self.elements.ty.dtype) == "int8" and not self.zero.any()
        return bool(symmetric and (self.scale.size == 1 or self.axis == axis))

    def scale_as(self, shape: list[int]) -> Any:
        """Return the scale as a constant that broadcasts over an output; -1 marks the channel axis in ``shape``."""
        from tvm import relax

        return relax.const(self.scale.reshape(shape if self.scale.size > 1 else [1] * len(shape)))


def widen(elements: Any) -> Any:
    """Convert the elements to floats, as a te expression."""
    from tvm import te

    return te.compute(elements.shape, lambda *at: elements(*at).astype("float32"), name="widen")


def _axes(call: Any) -> list[int]:
    rank = len(call.args[0].ty.shape)
    return [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes else list(range(rank))[::-1]


@dataclass(frozen=True)
class WeightReader:
    """A kernel that can decode an encoded weight.

    Attributes:
        argument: position of the weight among the call's arguments.
        use: describes how the call uses the weight.
        make: builds the call with the encoded weight; None if the kernel does not support the weight's form.
    """

    argument: int
    use: Callable[[Any, Weight], Use]
    make: Callable[[Any, Any, Weight], Any]


def _use_embedding(_call: Any, weight: Weight) -> Use:
    return Use("embedding", 1, (), 4 * math.prod(weight.shape))


def _use_convolution(call: Any, weight: Weight) -> Use:
    sizes = [int(dim) for dim in call.ty.shape]
    positions = tuple(
        size for size, axis in zip(sizes, str(call.attrs.out_layout), strict=True) if axis != "C"
    )
    outputs = weight.shape[str(call.attrs.kernel_layout).index("O")]
    elements = math.prod(weight.shape)
    return Use("convolution", elements // outputs, positions, 4 * elements)


def _use_product(call: Any, weight: Weight) -> Use:
    rows = tuple(int(dim) for dim in call.args[0].ty.shape)[:-1]
    return Use("product", weight.shape[0], rows or (1,), 4 * math.prod(weight.shape))


def _convolution(builder: Any, call: Any, weight: Weight) -> Any:
    """Compute ``conv(x, w)`` as ``conv(x, widen(q)) * scale``."""
    from tvm import relax, topi

    attrs = call.attrs
    kernel, data = str(attrs.kernel_layout), str(attrs.data_layout)
    if int(attrs.groups) != 1 or data != str(attrs.out_layout) or not weight.sums_along(kernel.index("O")):
        return None
    if attrs.out_dtype not in (None, "", "float32"):
        return None

    def compute(inputs: Any, elements: Any) -> Any:
        return topi.nn.conv(
            inp=inputs,
            filt=widen(elements),
            stride=[int(step) for step in attrs.strides],
            padding=[int(width) for width in attrs.padding],
            dilation=[int(step) for step in attrs.dilation],
            groups=1,
            data_layout=data,
            kernel_layout=kernel,
            out_dtype=None,
        )

    name = call.op.name.rpartition(".")[2]
    total = _call(builder, compute, [call.args[0], weight.elements], name)
    return relax.op.multiply(total, weight.scale_as([-1 if axis == "C" else 1 for axis in data]))


def _matmul(builder: Any, call: Any, weight: Weight) -> Any:
    """Compute ``x @ w`` as ``(x @ widen(q)) * scale``."""
    from tvm import relax, te

    data = call.args[0]
    if len(weight.shape) != 2 or len(data.ty.shape) < 2 or not weight.sums_along(1):  # noqa: PLR2004 - a matrix
        return None
    if call.attrs.out_dtype not in (None, "", "float32"):
        return None

    def compute(a: Any, elements: Any) -> Any:
        b = widen(elements)
        k = te.reduce_axis((0, elements.shape[0]), name="k")
        shape = [*a.shape[:-1], elements.shape[1]]
        return te.compute(shape, lambda *at: te.sum(a(*at[:-1], k) * b(k, at[-1]), axis=k), name="matmul")

    total = _call(builder, compute, [data, weight.elements], "matmul")
    return relax.op.multiply(total, weight.scale_as([1] * (len(data.ty.shape) - 1) + [-1]))


def _take(builder: Any, call: Any, weight: Weight) -> Any:
    """Compute ``take(w, indices)`` as ``(widen(take(q, indices)) - zero) * scale``."""
    from tvm import relax, topi

    if call.attrs.axis is None:  # takes from the flattened table
        return None
    axis, indices = int(call.attrs.axis), call.args[1]
    mode = "clip" if str(call.attrs.mode) == "fast" else str(call.attrs.mode)
    rank, inserted = len(weight.shape), len(indices.ty.shape)

    def settings(values: Any) -> Any:
        """Return scales or zeros as a tensor that broadcasts over the taken rows."""
        values = values.astype("float32")
        if values.size > 1 and weight.axis == axis:  # one per row
            taken = builder.emit(relax.op.take(relax.const(values.ravel()), indices, mode=mode))
            return relax.op.expand_dims(taken, list(range(inserted, inserted + rank - axis - 1)))
        along = weight.axis if weight.axis < axis else weight.axis - 1 + inserted
        shape = [values.size if place == along else 1 for place in range(rank - 1 + inserted)]
        return relax.const(values.reshape(shape))

    def compute(elements: Any, at: Any) -> Any:
        return widen(topi.take(elements, at, axis=axis, mode=mode))

    rows = _call(builder, compute, [weight.elements, indices], "take")
    if weight.zero.any():
        rows = builder.emit(relax.op.subtract(rows, settings(weight.zero)))
    return relax.op.multiply(rows, settings(weight.scale))


def _call(builder: Any, compute: Callable[[Any, Any], Any], args: list[Any], name: str) -> Any:
    return builder.emit(builder.call_te(compute, *args, primfunc_name_hint=name))


_KERNELS: dict[str, WeightReader] = {
    "relax.nn.conv1d": WeightReader(1, _use_convolution, _convolution),
    "relax.nn.conv2d": WeightReader(1, _use_convolution, _convolution),
    "relax.matmul": WeightReader(1, _use_product, _matmul),
    "relax.take": WeightReader(0, _use_embedding, _take),
}
"""The kernels that can decode an encoded weight, by operator name."""

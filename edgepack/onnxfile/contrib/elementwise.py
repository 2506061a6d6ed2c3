"""Activations, products and convolutions with an activation, and other single operations."""

from collections.abc import Sequence
from typing import Any

from edgepack.onnxfile.contrib.emitter import Emitter, Rule
from edgepack.onnxfile.opset.site import RefusedError

_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_ACTIVATIONS = {  # names of the parameters, in order
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Elu": ("alpha",),
    "Softplus": (),
    "Softsign": (),
    "ThresholdedRelu": ("alpha",),
    "Selu": ("alpha", "gamma"),
}


def gelu_of(e: Emitter, x: str) -> str:
    """``0.5 x (1 + erf(x / sqrt 2))``."""
    inner = e.op("Erf", e.op("Mul", x, e.scalar(0.5**0.5, x)))
    return e.op("Mul", e.op("Mul", x, e.scalar(0.5, x)), e.op("Add", inner, e.scalar(1, x)))


def gelu(e: Emitter) -> Sequence[str]:
    """Gelu, and BiasGelu with its second input."""
    x = e.input(0)
    return [gelu_of(e, e.op("Add", x, e.input(1)) if e.input(1) else x)]


def fast_gelu(e: Emitter) -> Sequence[str]:
    """FastGelu: the approximation with tanh, after an optional bias."""
    x = e.op("Add", e.input(0), e.input(1)) if e.input(1) else e.input(0)
    cube = e.op("Mul", e.op("Mul", x, x), x)
    inner = e.op(
        "Add",
        e.op("Mul", cube, e.scalar(0.035677408136300125, x)),
        e.op("Mul", x, e.scalar(0.7978845608028654, x)),
    )
    grown = e.op("Add", e.op("Tanh", inner), e.scalar(1, x))
    return [e.op("Mul", e.op("Mul", x, e.scalar(0.5, x)), grown)]


def quick_gelu(e: Emitter) -> Sequence[str]:
    """QuickGelu: ``x sigmoid(alpha x)``."""
    x = e.input(0)
    return [e.op("Mul", x, e.op("Sigmoid", e.op("Mul", x, e.scalar(e.attribute("alpha", 1.702), x))))]


def _activated(e: Emitter, x: str, parameters: Sequence[float]) -> str:
    name = e.attribute("activation", "")
    if not name:
        return x
    if name == "Clip" and len(parameters) == 2:  # noqa: PLR2004 - the bounds
        low, high = (e.scalar(bound, x) for bound in parameters)
        return e.op("Min", e.op("Max", x, low), high)
    if name not in _ACTIVATIONS:
        raise RefusedError(f"its activation is {name}", "save the model without fusing this activation")
    given: dict[str, Any] = dict(zip(_ACTIVATIONS[name], parameters, strict=False))
    return e.op(name, x, **given)


def fused_conv(e: Emitter) -> Sequence[str]:
    """FusedConv: a convolution, plus ``Z``, with an activation."""
    x = e.op("Conv", e.input(0), e.input(1), e.input(2), **e.attributes(*_CONV))
    if e.input(3):
        x = e.op("Add", x, e.input(3))
    return [_activated(e, x, e.attribute("activation_params", ()))]


def fused_gemm(e: Emitter) -> Sequence[str]:
    """FusedGemm: Gemm with an activation."""
    x = e.op("Gemm", e.input(0), e.input(1), e.input(2), **e.attributes("alpha", "beta", "transA", "transB"))
    parameters = [e.attribute(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    return [_activated(e, x, [value for value in parameters if value is not None])]


def fused_matmul(e: Emitter) -> Sequence[str]:
    """FusedMatMul: a product of transposed operands, times ``alpha``."""
    a = _operand(e, e.input(0), "transBatchA", "transA")
    b = _operand(e, e.input(1), "transBatchB", "transB")
    product, alpha = e.op("MatMul", a, b), e.attribute("alpha", 1.0)
    return [product if alpha == 1 else e.op("Mul", product, e.scalar(alpha, product))]


def _operand(e: Emitter, name: str, batch: str, last: str) -> str:
    """Transpose an operand: its last two axes, or its first axis to the place before the last one."""
    if not e.attribute(batch) and not e.attribute(last):
        return name
    rank = e.rank(name)
    if rank < 2:  # noqa: PLR2004 - a vector is not transposed
        return name
    order = list(range(rank))
    if e.attribute(batch):
        order = [*order[1:-1], order[0], order[-1]]
    if e.attribute(last):
        order[-2:] = reversed(order[-2:])
    return e.transpose(name, *order)


def as_standard(operator: str, since: int = 1, **renamed: dict[str, str]) -> Rule:
    """Return the rule for an operator that is the standard one of the same or another name.

    ``renamed`` maps values of an attribute to those of the standard operator.
    """

    def rule(e: Emitter) -> Sequence[str]:
        import onnx

        if e.opset < since:
            raise RefusedError(
                f"opset {e.opset} has no {operator}", f"save the model with opset {since} or later"
            )
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in e.node.attribute}
        for name, values in renamed.items():
            text = e.attribute(name)
            if text in values:
                attributes[name] = values[text]
        return [e.op(operator, *e.node.input, **attributes)]

    return rule


def expand_dims(e: Emitter) -> Sequence[str]:
    """ExpandDims: Unsqueeze at a constant axis."""
    axis = e.constant(e.input(1))
    if axis is None or axis.size != 1:
        raise RefusedError("its axis is computed", "export the model with a constant axis")
    return [e.unsqueeze(e.input(0), [int(axis.reshape(-1)[0])])]


def range_of(e: Emitter) -> Sequence[str]:
    """Range, whose delta is optional."""
    delta = e.input(2) or e.scalar(1, e.input(0))
    return [e.op("Range", e.input(0), e.input(1), delta)]


def nhwc_max_pool(e: Emitter) -> Sequence[str]:
    """NhwcMaxPool: MaxPool with the channels last."""
    rank = e.rank(e.input(0))
    names = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    pooled = e.op("MaxPool", channels_first(e, e.input(0), rank), **e.attributes(*names))
    return [channels_last(e, pooled, rank)]


def channels_first(e: Emitter, name: str, rank: int) -> str:
    """Move the last axis to the second place."""
    return e.transpose(name, 0, rank - 1, *range(1, rank - 1))


def channels_last(e: Emitter, name: str, rank: int) -> str:
    """Move the second axis to the last place."""
    return e.transpose(name, 0, *range(2, rank), 1)


def c_dist(e: Emitter) -> Sequence[str]:
    """CDist: distances between the rows of two matrices."""
    difference = e.op("Sub", e.unsqueeze(e.input(0), [1]), e.unsqueeze(e.input(1), [0]))
    squared = e.reduce("ReduceSum", e.op("Mul", difference, difference), [2], keepdims=False)
    metric = e.attribute("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        raise RefusedError(f"its metric is {metric}", "use the metric euclidean")
    return [squared if metric == "sqeuclidean" else e.op("Sqrt", squared)]

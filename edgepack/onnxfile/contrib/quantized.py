"""Quantized operators: dequantize, compute, quantize. Integer products stay integer products."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgepack.onnxfile.contrib.elementwise import channels_first, channels_last
from edgepack.onnxfile.contrib.emitter import Emitter, Rule
from edgepack.onnxfile.opset.site import RefusedError

if TYPE_CHECKING:
    import numpy as np

_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_PER_AXIS = 13  # opset in which QuantizeLinear and DequantizeLinear have an axis


def dequantized(e: Emitter, first: int) -> str:
    """Return the float value of the operand whose value, scale and zero point begin at this input."""
    return e.op("DequantizeLinear", e.input(first), e.input(first + 1), e.input(first + 2))


def quantized(e: Emitter, x: str, scale: str, zero_point: str, kind: int = 0) -> str:
    """Quantize; without a zero point, it is 0 of ``kind``, by default uint8."""
    import onnx

    if not zero_point and kind not in (0, onnx.TensorProto.UINT8):
        zero_point = e.tensor(0, onnx.helper.tensor_dtype_to_np_dtype(kind))
    return e.op("QuantizeLinear", x, scale, zero_point)


def binary(operator: str) -> Rule:
    """Return the rule for QLinearAdd and QLinearMul."""

    def rule(e: Emitter) -> Sequence[str]:
        result = e.op(operator, dequantized(e, 0), dequantized(e, 3))
        return [quantized(e, result, e.input(6), e.input(7), e.kind(e.input(0)))]

    return rule


def unary(compute: Callable[[Emitter, str], str]) -> Rule:
    """Return the rule for an operator of one operand: ``X``, its scale and zero point, and those of ``Y``."""

    def rule(e: Emitter) -> Sequence[str]:
        result = compute(e, dequantized(e, 0))
        return [quantized(e, result, e.input(3), e.input(4), e.kind(e.input(0)))]

    return rule


def sigmoid_of(e: Emitter, x: str) -> str:
    """QLinearSigmoid."""
    return e.op("Sigmoid", x)


def leaky_relu_of(e: Emitter, x: str) -> str:
    """QLinearLeakyRelu."""
    return e.op("LeakyRelu", x, alpha=e.attribute("alpha", 0.01))


def softmax_of(e: Emitter, x: str) -> str:
    """QLinearSoftmax: of opset 13, or of an older one, over all axes from ``axis``."""
    axis = e.attribute("axis", -1)
    if e.attribute("opset", _PER_AXIS) >= _PER_AXIS:
        last = axis in (-1, e.rank(x) - 1)
        if e.opset >= _PER_AXIS or last:
            return e.op("Softmax", x, axis=-1 if last else axis)
        raise RefusedError(
            f"it normalises over axis {axis} in a model of opset {e.opset}", "save the model with opset 13"
        )
    rank = e.rank(x)
    flat = e.op("Flatten", x, axis=axis % rank)
    return e.op("Reshape", e.op("Softmax", flat, axis=-1), e.op("Shape", x))


def average_pool_of(e: Emitter, x: str) -> str:
    """QLinearAveragePool."""
    return _pooled(e, x, lambda data: e.op("AveragePool", data, **e.attributes(*_POOL)))


def global_average_pool_of(e: Emitter, x: str) -> str:
    """QLinearGlobalAveragePool."""
    return _pooled(e, x, lambda data: e.op("GlobalAveragePool", data))


def _pooled(e: Emitter, x: str, pool: Callable[[str], str]) -> str:
    if not e.attribute("channels_last", 0):
        return pool(x)
    rank = e.rank(x)
    return channels_last(e, pool(channels_first(e, x, rank)), rank)


def reduce_mean_of(e: Emitter, x: str) -> str:
    """QLinearReduceMean."""
    axes = e.attribute("axes") or list(range(e.rank(x)))
    return e.reduce("ReduceMean", x, axes, keepdims=bool(e.attribute("keepdims", 1)))


def concat(e: Emitter) -> Sequence[str]:
    """QLinearConcat: scale and zero point of ``Y``, then value, scale and zero point of each operand."""
    parts = [dequantized(e, i) for i in range(2, len(e.node.input), 3)]
    return [quantized(e, e.op("Concat", *parts, axis=e.attribute("axis")), e.input(0), e.input(1))]


def where(e: Emitter) -> Sequence[str]:
    """QLinearWhere."""
    chosen = e.op("Where", e.input(0), dequantized(e, 1), dequantized(e, 4))
    return [quantized(e, chosen, e.input(7), e.input(8))]


def conv_of_last_channels(e: Emitter) -> Sequence[str]:
    """QLinearConv of com.microsoft: the standard one, or with the channels last."""
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    x, *others = e.node.input
    if not e.attribute("channels_last", 0):
        return [e.op("QLinearConv", x, *others, **e.attributes(*names))]
    rank = e.rank(x)
    made = e.op("QLinearConv", channels_first(e, x, rank), *others, **e.attributes(*names))
    return [channels_last(e, made, rank)]


def gemm(e: Emitter) -> Sequence[str]:
    """QGemm: ``C`` is int32, in units of ``alpha`` times both scales; without ``y_scale``, the result is float32."""
    import onnx

    a = dequantized(e, 0)
    b = e.op("Transpose", e.input(3), perm=[1, 0]) if e.attribute("transB", 0) else e.input(3)
    b = _by_columns(e, b, e.input(4), e.input(5))
    if e.attribute("transA", 0):
        a = e.transpose(a, 1, 0)
    result, alpha = e.op("MatMul", a, b), e.attribute("alpha", 1.0)
    if alpha != 1:
        result = e.op("Mul", result, e.scalar(alpha, result))
    if e.input(6):
        unit = e.op("Mul", e.input(1), e.input(4))
        if alpha != 1:
            unit = e.op("Mul", unit, e.scalar(alpha, unit))
        bias = e.op("Mul", e.cast(e.input(6), onnx.TensorProto.FLOAT), unit)
        result = e.op("Add", result, bias)
    return [quantized(e, result, e.input(7), e.input(8)) if e.input(7) else result]


def _by_columns(e: Emitter, b: str, scale: str, zero_point: str) -> str:
    """Dequantize a matrix whose scale is one number, or one for each column."""
    shape = e.shape(scale)
    columns = shape is None or bool(shape)
    return e.op(
        "DequantizeLinear", b, scale, zero_point, axis=1 if columns and e.opset >= _PER_AXIS else None
    )


def dynamic_matmul(e: Emitter) -> Sequence[str]:
    """DynamicQuantizeMatMul: ``A`` is quantized to uint8 by its own range."""
    a = e.op("DynamicQuantizeLinear", e.input(0), outputs=3)
    operands = (a, e.input(1), f"{a}:1", e.input(2), f"{a}:2", e.input(3))
    return [_product(e, operands, e.input(4))]


def matmul_to_float(e: Emitter) -> Sequence[str]:
    """MatMulIntegerToFloat: an integer product, scaled, plus a bias."""
    operands = (e.input(0), e.input(1), e.input(2), e.input(3), e.input(4), e.input(5))
    return [_product(e, operands, e.input(6))]


def _product(e: Emitter, operands: tuple[str, str, str, str, str, str], bias: str) -> str:
    a, b, a_scale, b_scale, a_zero, b_zero = operands
    product = e.float32(e.op("MatMulInteger", a, b, a_zero, b_zero))
    scaled = e.op("Mul", product, e.op("Mul", a_scale, b_scale))
    return e.op("Add", scaled, bias) if bias else scaled


def matmul_n_bits(e: Emitter) -> Sequence[str]:
    """MatMulNBits: ``B`` is [N, blocks, bytes] of codes with 2, 4 or 8 bits, the first in the lowest bits.

    Each block of a row has a scale and a zero point, by default ``2^(bits - 1)``. The codes are stored with 8 bits.
    """
    import numpy as np

    rows, columns, size, bits = (
        e.attribute(n, d) for n, d in (("N", 0), ("K", 0), ("block_size", 0), ("bits", 4))
    )
    packed, zeros = e.constant(e.input(1)), e.constant(e.input(3))
    if packed is None or e.input(4) or (e.input(3) and zeros is None) or bits not in (2, 4, 8):
        raise RefusedError(
            "its weights are computed, in groups of their own order, or not of 2, 4 or 8 bits",
            "quantize the weights to 4 or 8 bits in Q/DQ form, or with constant weights and without g_idx",
        )
    blocks = -(-columns // size)
    codes = _unpacked(packed.reshape(rows * blocks, -1), bits)[:, :size]
    if zeros is None:
        zero_points: np.ndarray = np.full(rows * blocks, 1 << (bits - 1), np.uint8)
    elif zeros.dtype == np.uint8:
        zero_points = _unpacked(zeros.reshape(rows, -1), bits)[:, :blocks].reshape(-1)
    else:
        raise RefusedError(
            "its zero points are not integers", "quantize the weights with integer zero points"
        )
    scale = e.float32(e.reshape(e.input(2), [rows * blocks, 1]))
    # Written as arithmetic, since older opsets have no DequantizeLinear along an axis; it is folded.
    difference = codes.astype(np.float32) - zero_points.astype(np.float32)[:, None]
    weights = e.reshape(e.op("Mul", e.tensor(difference, np.float32), scale), [rows, blocks * size])
    weights = e.transpose(e.slice(weights, 1, 0, columns), 1, 0)
    product = e.op("MatMul", e.input(0), e.cast(weights, e.kind(e.input(0))))
    return [e.op("Add", product, e.input(5)) if e.input(5) else product]


def _unpacked(packed: "np.ndarray", bits: int) -> "np.ndarray":
    import numpy as np

    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed[..., None] >> shifts) & ((1 << bits) - 1)
    return codes.reshape(*packed.shape[:-1], -1).astype(np.uint8)


def linear(operator: str) -> Rule:
    """Return the rule for QuantizeLinear and DequantizeLinear of com.microsoft, which also take 16 bits."""

    def rule(e: Emitter) -> Sequence[str]:
        import onnx

        x, scale, zero_point = e.input(0), e.input(1), e.input(2)
        wide = {onnx.TensorProto.INT16, onnx.TensorProto.UINT16, onnx.TensorProto.INT32}
        kind = e.kind(x) if operator == "DequantizeLinear" else onnx.TensorProto.UINT8
        kind = e.kind(zero_point) if zero_point else kind
        shape, axis = e.shape(scale), e.attribute("axis", 1)
        per_axis = shape is not None and len(shape) == 1 and shape[0] != 1
        simple = kind not in wide and e.kind(scale) == onnx.TensorProto.FLOAT
        if simple and (e.opset >= _PER_AXIS or not per_axis):
            return [e.op(operator, x, scale, zero_point, axis=axis if per_axis else None)]
        if per_axis:
            spread = [-1 if i == axis % e.rank(x) else 1 for i in range(e.rank(x))]
            scale = e.reshape(scale, spread)
            zero_point = e.reshape(zero_point, spread) if zero_point else ""
        offset, data, factor = e.float32(zero_point) if zero_point else "", e.float32(x), e.float32(scale)
        if operator == "DequantizeLinear":
            product = e.op("Mul", e.op("Sub", data, offset) if offset else data, factor)
            return [e.cast(product, e.kind(scale))]
        bounds = onnx.helper.np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(kind))
        rounded = e.op("Round", e.op("Div", data, factor))
        moved = e.op("Add", rounded, offset) if offset else rounded
        low, high = e.scalar(int(bounds.min), moved), e.scalar(int(bounds.max), moved)
        return [e.cast(e.op("Min", e.op("Max", moved, low), high), kind)]

    return rule

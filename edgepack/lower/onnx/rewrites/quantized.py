"""Quantized operators: 4-bit and blocked constants, integer products, and quantization that TVM lacks.

Integer products are computed as products of integers in floating point, which are exact below 2^24 in float32 and below
2^53 in float64; their weights stay 8-bit constants.
"""

from math import prod
from typing import Any

from edgepack.lower.onnx.nodes import Node, ValueType
from edgepack.lower.onnx.rewrites.patch import Patch
from edgepack.onnxfile.known import evaluate

_NARROW = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
_PLAIN = {"int8", "uint8", "int16", "uint16", "int32"}
_EXACT = 1 << 24  # integers up to this are exact in float32
_CONVOLUTION = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def rewrite_dequantize(node: Node, patch: Patch) -> list[str] | None:
    """DequantizeLinear of 4-bit elements, of other formats than integers, and in blocks.

    Constants of 4 bits are widened to 8. Constants stay encoded, except for those in other formats and those whose last
    block is shorter, which are decoded.
    """
    elements, scale = node.constant(0), node.input_type(1)
    block = node.attribute("block_size", 0)
    data = node.input_type(0)
    if data is None or scale is None or (data[0] in _PLAIN and not block):
        return None
    constant = all(name in node.constants for name in node.proto.input if name)
    if constant and data[0] in _NARROW and not block:
        wide = _NARROW[data[0]]
        zero = [patch.constant(node.constant(2), wide)] if node.input(2) else []
        return patch.again(node.proto, patch.constant(elements, wide), node.input(1), *zero)
    if constant and data[0] in {*_NARROW, *_PLAIN} and data[1][node.attribute("axis", 1)] % block == 0:
        return [_scaled_blocks(node, patch, data, scale[0], block)]
    if constant:
        decoded = evaluate(node.proto, node.constants, patch.opset)
        return None if decoded is None else [patch.op("Identity", patch.constant(decoded[0]))]
    if data[0] not in _PLAIN:
        return None
    axis = node.attribute("axis", 1) % len(data[1])
    spread = _Blocks(patch, data[1], axis, block)
    value = patch.cast(node.input(0), scale[0])
    if node.input(2):
        value = patch.op("Sub", value, spread.along(patch.cast(node.input(2), scale[0])))
    return [patch.op("Mul", value, spread.along(node.input(1)))]


def _scaled_blocks(node: Node, patch: Patch, data: ValueType, dtype: str, block: int) -> str:
    """Return a constant in whole blocks, as integers times a scale: an axis of blocks, then one of their elements."""
    axis = node.attribute("axis", 1) % len(data[1])
    blocks = [*data[1][:axis], data[1][axis] // block, block, *data[1][axis + 1 :]]
    settings = [*blocks[: axis + 1], 1, *blocks[axis + 2 :]]
    elements = node.constant(0).reshape(blocks)
    value = patch.cast(patch.constant(elements, _NARROW.get(data[0], data[0])), dtype)
    if node.input(2):
        zero = node.constant(2).astype(_NARROW.get(data[0], data[0])).astype(dtype)
        value = patch.op("Sub", value, patch.constant(zero.reshape(settings)))
    value = patch.op("Mul", value, patch.constant(node.constant(1).reshape(settings)))
    return patch.reshape(value, data[1])


def rewrite_quantize(node: Node, patch: Patch) -> list[str] | None:
    """QuantizeLinear in blocks."""
    import numpy as np

    data, output, block = node.input_type(0), node.output_type(), node.attribute("block_size", 0)
    if data is None or output is None or not block or output[0] not in _PLAIN:
        return None
    spread = _Blocks(patch, data[1], node.attribute("axis", 1) % len(data[1]), block)
    value = patch.cast(node.input(0), "float32")
    scale = spread.along(patch.cast(node.input(1), "float32"))
    value = patch.op("Round", patch.op("Div", value, scale))
    if node.input(2):
        value = patch.op("Add", value, spread.along(patch.cast(node.input(2), "float32")))
    limits = np.iinfo(np.dtype(output[0]))
    low, high = patch.scalar(limits.min, "float32"), patch.scalar(limits.max, "float32")
    return [patch.cast(patch.op("Clip", value, low, high), output[0])]


class _Blocks:
    """Spreads a tensor with one element per block over the blocks' elements."""

    def __init__(self, patch: Patch, shape: tuple[int, ...], axis: int, block: int) -> None:
        import numpy as np

        self._patch, self._axis = patch, axis
        self._at = patch.constant(np.arange(shape[axis]) // block)

    def along(self, value: str) -> str:
        return self._patch.op("Gather", value, self._at, axis=self._axis)


def rewrite_dynamic_quantize(node: Node, patch: Patch) -> list[str] | None:
    """DynamicQuantizeLinear, by its definition; the scale of zeros is 1, as in onnxruntime."""
    if node.input_type(0) is None:
        return None
    zero = patch.scalar(0, "float32")
    lowest = patch.op("Min", patch.op("ReduceMin", node.input(0), keepdims=0), zero)
    highest = patch.op("Max", patch.op("ReduceMax", node.input(0), keepdims=0), zero)
    spread = patch.op("Sub", highest, lowest)
    flat = patch.op("Equal", spread, zero)
    steps = patch.scalar(255, "float32")
    scale = patch.op("Where", flat, patch.scalar(1, "float32"), patch.op("Div", spread, steps))
    start = patch.op("Round", patch.op("Div", patch.op("Neg", lowest), scale))
    point = patch.cast(patch.op("Clip", start, zero, steps), "uint8")
    # Computed: the converter of QuantizeLinear expects constants.
    values = patch.op(
        "Add", patch.op("Round", patch.op("Div", node.input(0), scale)), patch.cast(point, "float32")
    )
    return [patch.cast(patch.op("Clip", values, zero, steps), "uint8"), scale, point]


def rewrite_conv_integer(node: Node, patch: Patch) -> list[str] | None:
    """ConvInteger: a convolution of differences from the zero points."""
    data, weight = node.input_type(0), node.input_type(1)
    if data is None or weight is None:
        return None
    wide = "float32" if _largest_sum(node, 1, 3) <= _EXACT else "float64"
    given = _differences(node, patch, wide, ((0, 2), (1, 3)))
    product = patch.op("Conv", *given, **_attributes(node))
    return [patch.cast(product, "int32")]


def rewrite_qlinear_conv(node: Node, patch: Patch) -> list[str] | None:
    """QLinearConv: a convolution of differences, scaled and quantized."""
    weight, scales = node.input_type(3), [node.input_type(each) for each in (1, 4, 6)]
    if weight is None or None in scales or node.output_type() is None:
        return None
    rank = len(weight[1]) - 2
    given = _differences(node, patch, "float32", ((0, 2), (3, 5)))
    total = patch.op("Conv", *given, **_attributes(node))
    if node.input(8):
        bias = patch.reshape(patch.cast(node.input(8), "float32"), [-1, *[1] * rank])
        total = patch.op("Add", total, bias)
    return [_requantized(node, patch, total, (1, 4, 6, 7), [-1, *[1] * rank])]


def rewrite_qlinear_matmul(node: Node, patch: Patch) -> list[str] | None:
    """QLinearMatMul: a product of integers, scaled and quantized."""
    if any(node.input_type(each) is None for each in range(8)) or node.output_type() is None:
        return None
    scales = [node.input_type(each) for each in (1, 4)]
    if any(prod(kind[1]) > 1 and each == 1 for each, kind in zip((1, 4), scales, strict=True) if kind):
        return None  # a scale per row
    given = _differences(node, patch, "float32", ((0, 2), (3, 5)))
    return [_requantized(node, patch, patch.op("MatMul", *given), (1, 4, 6, 7), [-1])]


def _differences(node: Node, patch: Patch, wide: str, operands: tuple[tuple[int, int], ...]) -> list[str]:
    """Return operands minus their zero points, as (index, index of the zero point), in a floating-point type."""
    values = []
    for index, zero in operands:
        value = patch.cast(node.input(index), wide)
        point, kind = node.constant(zero), node.input_type(zero)
        if kind is not None and (point is None or point.any()):
            subtracted = patch.cast(node.input(zero), wide)
            if prod(kind[1]) > 1 and node.proto.op_type.endswith(("Conv", "ConvInteger")):
                rank = len((node.input_type(index) or kind)[1])
                subtracted = patch.reshape(subtracted, [-1, *[1] * (rank - 1)])
            value = patch.op("Sub", value, subtracted)
        values.append(value)
    return values


def _requantized(
    node: Node, patch: Patch, total: str, at: tuple[int, int, int, int], along: list[int]
) -> str:
    """Return a sum of integers times both scales over that of the output, rounded, shifted and saturated."""
    import numpy as np

    first, second, result = (
        patch.reshape(
            patch.cast(node.input(each), "float32"),
            along if prod(node.types[node.input(each)][1]) > 1 else [1],
        )
        for each in at[:3]
    )
    factor = patch.op("Div", patch.op("Mul", first, second), result)
    values = patch.op("Round", patch.op("Mul", total, factor))
    values = patch.op("Add", values, patch.cast(node.input(at[3]), "float32"))
    dtype = (node.output_type() or node.types[node.input(at[3])])[0]
    limits = np.iinfo(np.dtype(dtype))
    low, high = patch.scalar(limits.min, "float32"), patch.scalar(limits.max, "float32")
    return patch.cast(patch.op("Clip", values, low, high), dtype)


def _largest_sum(node: Node, index: int, zero: int) -> float:
    """Return a bound of the sums of a convolution with a constant weight; infinite if it is not constant."""
    import numpy as np

    weight = node.constant(index)
    if weight is None or (node.input(zero) and node.constant(zero) is None):
        return float("inf")
    shift = np.asarray(0 if not node.input(zero) else node.constant(zero), np.int64).reshape(
        -1, *[1] * (weight.ndim - 1)
    )
    sums = np.abs(weight.astype(np.int64) - shift).reshape(len(weight), -1).sum(1)
    return float(sums.max(initial=0)) * 255


def _attributes(node: Node) -> dict[str, Any]:
    return {name: node.attribute(name) for name in _CONVOLUTION if node.attribute(name) is not None}

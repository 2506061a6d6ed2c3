"""Reductions and normalisations in forms that TVM's converters lack or compute incorrectly."""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch, set_attributes
from edgepack.lower.onnx.rewrites.types import INTEGERS

_LARGEST_MATRIX = 4  # rows: a determinant of n rows has n! terms


def rewrite_without_axes(function: Callable[[Patch, str], str]) -> Any:
    """Return the rewrite of a reduction over no axes, which leaves the function that it applies before it sums."""

    def rewrite(node: Node, patch: Patch) -> list[str] | None:
        axes = node.constant(1)
        empty = not node.input(1) or (axes is not None and axes.size == 0)
        if not (empty and node.attribute("noop_with_empty_axes", 0)):
            return None
        return [function(patch, node.input(0))]

    return rewrite


def rewrite_mean_of_integers(node: Node, patch: Patch) -> list[str] | None:
    """ReduceMean of integers: the sum, divided without remainder."""
    from math import prod

    kind, output = node.input_type(0), node.output_type()
    if kind is None or output is None or kind[0] not in INTEGERS:
        return None
    total = patch.again(node.proto, patch.cast(node.input(0), "int64"), *node.proto.input[1:])
    patch.nodes[-1].op_type = "ReduceSum"
    count = prod(kind[1]) // max(prod(output[1]), 1)
    return [patch.cast(patch.op("Div", total[0], patch.constant(count, "int64")), output[0])]


def rewrite_lp_normalization(node: Node, patch: Patch) -> list[str] | None:
    """LpNormalization; a vector of norm 0 stays 0, as in onnxruntime."""
    kind, p = node.input_type(0), node.attribute("p", 2)
    if kind is None or p not in {1, 2}:
        return None
    axis = patch.constant([node.attribute("axis", -1)], "int64")
    norm = patch.op(f"ReduceL{p}", node.input(0), axis, keepdims=1)
    zero = patch.op("Equal", norm, patch.constant(0, kind[0]))
    return [patch.op("Div", node.input(0), patch.op("Where", zero, patch.constant(1, kind[0]), norm))]


def rewrite_layer_normalization(node: Node, patch: Patch) -> list[str] | None:
    """LayerNormalization of float64, by its definition, and with a scale or bias that is to be broadcast.

    TVM computes it in float32 and float16 only, and ONNX's own definition does not broadcast.
    """
    kind = node.input_type(0)
    if kind is None:
        return None
    if kind[0] != "float64":
        return _broadcast_scale(node, patch, kind[1])
    rank = len(kind[1])
    axes = patch.constant(list(range(node.attribute("axis", -1) % rank, rank)), "int64")
    mean = patch.op("ReduceMean", node.input(0), axes, keepdims=1)
    centred = patch.op("Sub", node.input(0), mean)
    variance = patch.op("ReduceMean", patch.op("Mul", centred, centred), axes, keepdims=1)
    epsilon = patch.scalar(node.attribute("epsilon", 1e-5), kind[0])
    inverse = patch.op("Reciprocal", patch.op("Sqrt", patch.op("Add", variance, epsilon)))
    result = patch.op("Mul", patch.op("Mul", centred, inverse), node.input(1))
    if node.input(2):
        result = patch.op("Add", result, node.input(2))
    statistics = [patch.cast(each, "float32") for each in (mean, inverse)]  # of the default stash_type
    return [result, *statistics][: len(node.proto.output)]


def _broadcast_scale(node: Node, patch: Patch, shape: Sequence[int]) -> list[str] | None:
    whole = list(shape[node.attribute("axis", -1) % len(shape) :])
    given = list(node.proto.input)
    for index in (1, 2):
        kind = node.input_type(index) if node.input(index) else None
        if kind is not None and list(kind[1]) != whole:
            given[index] = patch.op("Expand", given[index], patch.constant(whole, "int64"))
    return patch.again(node.proto, *given) if given != list(node.proto.input) else None


def rewrite_rms(node: Node, patch: Patch) -> list[str] | None:
    """RMSNormalization over all axes: over the second of two, as TVM keeps no axis of the sum otherwise."""
    from math import prod

    data, scale = node.input_type(0), node.input_type(1)
    if data is None or scale is None or not data[1] or node.attribute("axis", -1) % len(data[1]):
        return None
    whole = patch.op("Expand", node.input(1), patch.constant(list(data[1]), "int64"))
    count = prod(data[1])
    results = patch.again(node.proto, patch.reshape(node.input(0), [1, count]), patch.reshape(whole, [count]))
    set_attributes(patch.nodes[-1], axis=None)
    return [patch.reshape(results[0], data[1])]


def rewrite_lrn(node: Node, patch: Patch) -> list[str] | None:
    """LRN of an even size, of other types than float32, and of other ranks than 3 and 4."""
    kind, size = node.input_type(0), int(node.attribute("size"))
    if kind is None or len(kind[1]) < 2 or (kind[0] == "float32" and size % 2 and len(kind[1]) in {3, 4}):  # noqa: PLR2004 - channels
        return None
    dtype, shape = kind
    alpha, beta, bias = (
        node.attribute("alpha", 1e-4),
        node.attribute("beta", 0.75),
        node.attribute("bias", 1.0),
    )
    wide = "float32" if dtype in {"float16", "bfloat16"} else dtype
    x = patch.cast(node.input(0), wide) if wide != dtype else node.input(0)
    before, after = (size - 1) // 2, size // 2
    rest = [0] * (len(shape) - 2)
    pads = patch.constant([0, before, *rest, 0, after, *rest], "int64")
    padded = patch.op("Pad", patch.op("Mul", x, x), pads)
    total = ""
    for first in range(size):
        part = patch.op(
            "Slice", padded, *(patch.constant([each], "int64") for each in (first, first + shape[1], 1))
        )
        total = patch.op("Add", total, part) if total else part
    scaled = patch.op("Mul", total, patch.scalar(alpha / size, wide))
    divisor = patch.op("Pow", patch.op("Add", scaled, patch.scalar(bias, wide)), patch.scalar(beta, wide))
    result = patch.op("Div", x, divisor)
    return [patch.cast(result, dtype) if wide != dtype else result]


def rewrite_log_sum_exp(node: Node, patch: Patch) -> list[str] | None:
    """ReduceLogSumExp: the largest number is subtracted only where it is finite, as infinity - infinity is NaN."""
    import numpy as np

    kind, axes = node.input_type(0), node.proto.input[1:]
    if kind is None or not kind[0].startswith("float") or node.attribute("noop_with_empty_axes", 0):
        return None
    largest = patch.op("ReduceMax", node.input(0), *axes, keepdims=1)
    finite = patch.op("Less", patch.op("Abs", largest), patch.scalar(np.inf, kind[0]))
    shift = patch.op("Where", finite, largest, patch.scalar(0, kind[0]))
    powers = patch.op("Exp", patch.op("Sub", node.input(0), shift))
    total = patch.op("Log", patch.op("ReduceSum", powers, *axes, keepdims=1))
    result, output = patch.op("Add", total, shift), node.output_type()
    return [result if node.attribute("keepdims", 1) or output is None else patch.reshape(result, output[1])]


def rewrite_det(node: Node, patch: Patch) -> list[str] | None:
    """Det of matrices of up to 4 rows: the sum of all products of one element of each row and column."""
    kind = node.input_type(0)
    if kind is None or not 1 <= kind[1][-1] <= _LARGEST_MATRIX:
        return None
    rows, outer = kind[1][-1], len(kind[1]) - 2
    flat = patch.reshape(node.input(0), [*kind[1][:-2], rows * rows])
    terms = list(permutations(range(rows)))
    signs = [_sign(each) for each in terms]
    at = [[row * rows + column for row, column in enumerate(each)] for each in terms]
    factors = patch.op("Gather", flat, patch.constant(at, "int64"), axis=outer)
    last = patch.constant([-1], "int64")
    products = patch.op("ReduceProd", factors, last, keepdims=0)
    signed = patch.op("Mul", products, patch.constant(signs, kind[0]))
    return [patch.op("ReduceSum", signed, last, keepdims=0)]


def _sign(order: tuple[int, ...]) -> int:
    swaps = sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))
    return -1 if swaps % 2 else 1

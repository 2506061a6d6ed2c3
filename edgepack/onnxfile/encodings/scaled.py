"""Small integers times a scale, written with Cast and Mul: blocks of 4 bits, pulses, and 1 and 2 bits.

DequantizeLinear takes one scale per tensor or per index of an axis, and one per block only from opset 21 on; a product
allows any scale that broadcasts. Integers of 1, 2 and 4 bits are packed (:mod:`edgepack.onnxfile.encodings.integers`);
they are shifted by an offset, and multiplied by 2 if they are -1 and 1.
"""

import math
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings.expressions import (
    PARAMETER,
    STANDARD,
    Decoding,
    Expression,
    expression,
    is_constant,
    is_float,
    itemsize,
    nbytes,
    static_shape,
)
from edgepack.onnxfile.encodings.expressions import dtype_of as dtype
from edgepack.onnxfile.encodings.integers import PACKED_BITS, UNPACK, evaluated, packed_bits

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir

LEVELS = UNPACK | {"Add", "Mul", "Sub"}
"""Operators between the stored integers and the product with the scale."""
_NARROW = ("int8", "uint8", "int4", "uint4")


def dequantized(node: "onnx_ir.Node") -> Decoding | None:
    """``(q - zero point) * scale`` by DequantizeLinear, all constant: weights of 4 and 8 bits, int32 biases.

    Scales may be computed from smaller constants, as 16-bit floats or quantized themselves.
    """
    if node.op_type != "DequantizeLinear":
        return None
    elements, scale, *zeros = node.inputs
    parts = [expression(elements, ()), expression(scale, PARAMETER)]
    parts += [expression(zero, ()) for zero in zeros if zero is not None]
    if elements is None or scale is None or any(part is None for part in parts):
        return None
    shape, kind = static_shape(elements), dtype(scale)
    if shape is None or not kind:
        return None
    tensors = tuple(dict.fromkeys(each for part in parts if part is not None for each in part.constants))
    nodes = tuple(dict.fromkeys(each for part in parts if part is not None for each in part.nodes))
    # Scales have the type of the decoded elements.
    return Decoding(dtype(elements), tensors, (*nodes, node), shape, kind, itemsize(scale))


def multiplied(node: "onnx_ir.Node") -> Decoding | None:
    """``integers * scale``: the encoding is named by the integers' type (``int4``, ``uint8``)."""
    read = product(node)
    if read is None:
        return None
    levels, _, decoded = read
    bits = packed_bits(levels)
    if bits and bits not in PACKED_BITS:
        return None
    signed = any(each.op_type in {"Add", "Sub"} for each in levels.nodes)
    name = f"{'' if signed else 'u'}int{bits}" if bits else dtype(decoded.tensors[0])
    return named(decoded, name)


def bits(node: "onnx_ir.Node") -> Decoding | None:
    """``integers * scale`` of 1 or 2 bits: binary and ternary weights."""
    read = product(node)
    width = 0 if read is None else packed_bits(read[0])
    return named(read[2], f"{width}-bit") if read is not None and width in {1, 2} else None


def pulses(node: "onnx_ir.Node") -> Decoding | None:
    """``integers * scale`` where the absolute values of each row sum up to the same number (Fischer 1986).

    Rows run along the last axis, and may also be all zeros.
    """
    read = product(node)
    if read is None:
        return None
    values = evaluated(read[0])
    return named(read[2], "pulses") if values is not None and are_pulses(values) else None


def are_pulses(values: "np.ndarray") -> bool:
    """Whether each row along the last axis has the same number of unit pulses, or none, and some element has not 1."""
    import numpy as np

    if values.ndim < 2 or values.shape[-1] < 2:  # noqa: PLR2004 - rows of several elements
        return False
    sizes = np.abs(values.astype("float32"))
    counts = np.unique(sizes.sum(-1))
    return len(counts[counts > 0]) == 1 and not bool((sizes == 1).all())


def product(node: "onnx_ir.Node") -> tuple[Expression, Expression, Decoding] | None:
    """Return the integers, the scale, and the decoding of a product of both that is larger than them."""
    if node.op_type != "Mul" or node.domain not in STANDARD:
        return None
    shape = static_shape(node.outputs[0])
    for number, scale in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        levels, factor = expression(number, LEVELS), expression(scale, PARAMETER)
        if shape is None or scale is None or levels is None or factor is None or not levels.nodes:
            continue
        if any(_scales(each) for each in levels.nodes):
            continue  # a product of what is decoded already
        narrow = [each for each in levels.constants if dtype(each) in _NARROW]  # others are shapes
        kind = dtype(scale)
        if not narrow or not is_float(kind):
            continue
        elements = max(narrow, key=nbytes)
        tensors = tuple(dict.fromkeys((elements, *levels.constants, *factor.constants)))
        nodes = tuple(dict.fromkeys((*levels.nodes, *factor.nodes, node)))
        decoded = Decoding("", tensors, nodes, shape, kind, itemsize(scale))
        if decoded.stored_bytes < decoded.dense_bytes:
            return levels, factor, decoded
    return None


def _scales(node: "onnx_ir.Node") -> bool:
    """Whether a node multiplies by more than one number."""
    return node.op_type == "Mul" and any(
        is_constant(value) and math.prod(static_shape(value) or ()) > 1  # type: ignore[arg-type] # a constant
        for value in node.inputs
    )


def named(decoded: Decoding, name: str) -> Decoding:
    """Return the decoding with the name of its encoding."""
    return Decoding(name, decoded.tensors, decoded.nodes, decoded.shape, decoded.dtype, decoded.itemsize)

"""Lookups in tables: codebooks, whose codes are stored, and hashed weights, whose codes are computed.

A hashed weight (Chen et al. 2015, arXiv:1504.04788) is ``table[hash(position)]``: the codes are integers that are
computed from positions (Range) and a few numbers by Mul, Add and Mod, so that only the table is stored.
"""

import math
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings.expressions import (
    LAYOUT,
    PARAMETER,
    Decoding,
    Expression,
    expression,
    extended,
    is_constant,
    is_float,
    itemsize,
    nbytes,
    static_shape,
)
from edgepack.onnxfile.encodings.expressions import dtype_of as dtype
from edgepack.onnxfile.encodings.integers import UNPACK, code_bits, integers

if TYPE_CHECKING:
    import onnx_ir

_HASH = LAYOUT | {
    "Add", "BitShift", "BitwiseAnd", "BitwiseXor", "Cast", "Concat", "Div", "Expand", "Mod", "Mul", "Range", "Sub"
}  # fmt: skip
_JOINED = PARAMETER | {"Concat"}  # a table, and a zero for pruned weights
_SIGNED = _JOINED | {"Neg"}  # a table and its negative, where hashes decide on the sign, too
_INTEGERS = ("int8", "uint8")
_SEEDS = 8  # elements of a constant in a hash, at most

OPERATORS = _HASH | _SIGNED
"""Operators between the constants and a lookup."""


def codebook(node: "onnx_ir.Node") -> Decoding | None:
    """``table[codes]``: a lookup along the first axis, where codes and table are smaller than the decoded constant.

    Rows of the table are scalars (``codebook``), or vectors of weights (``vector-codebook``); they may be 8-bit integers
    that are dequantized afterwards. Codes may be cast first, because Gather does not accept types below 32 bits, or
    unpacked. A constant lookup that is not smaller (positions,
    with one table row each) is not an encoding.
    """
    if _axis(node) != 0:
        return None
    table, indices = node.inputs
    rows = expression(table, _JOINED)
    codes = integers(indices)
    shape = None if table is None else static_shape(table)
    if table is None or rows is None or codes is None or not shape:
        return None
    if not is_float(dtype(table)) and dtype(table) not in _INTEGERS:
        return None
    decoded = _decoded_shape(node, codes, shape)
    if decoded is None:
        return None
    width = code_bits(shape[0])
    looked_up = math.prod(decoded) // max(math.prod(shape[1:]), 1)
    stored = -(-looked_up * width // 8) + sum(map(nbytes, rows.constants))
    if stored >= math.prod(decoded) * itemsize(table):
        return None
    name = "codebook" if len(shape) == 1 or math.prod(shape[1:]) == 1 else "vector-codebook"
    tensors = tuple(dict.fromkeys((*codes.constants, *rows.constants)))
    nodes = tuple(dict.fromkeys((*codes.nodes, *rows.nodes, node)))
    return Decoding(name, tensors, nodes, decoded, dtype(table), itemsize(table))


def hashed(node: "onnx_ir.Node") -> Decoding | None:
    """``table[hash(position)]``, where the table is smaller than the decoded constant."""
    if _axis(node) != 0:
        return None
    table, indices = node.inputs
    rows, positions = expression(table, _SIGNED), expression(indices, _HASH)
    if table is None or rows is None or positions is None or not is_float(dtype(table)):
        return None
    operators = [each.op_type for each in positions.nodes]
    if operators.count("Range") != 1 or "Mod" not in operators:
        return None
    decoded = static_shape(node.outputs[0]) or _range_shape(positions)
    if decoded is None:
        return None
    if any(math.prod(static_shape(each) or ()) > _SEEDS for each in positions.constants):
        return None
    elements = max(rows.constants, key=nbytes)
    tensors = tuple(dict.fromkeys((elements, *rows.constants, *positions.constants)))
    nodes = tuple(dict.fromkeys((*positions.nodes, *rows.nodes, node)))
    found = Decoding("hashed", tensors, nodes, decoded, dtype(table), itemsize(table))
    return found if found.stored_bytes < found.dense_bytes else None


def _range_shape(positions: Expression) -> tuple[int, ...] | None:
    """Return the shape of positions whose number shape inference does not know, because its type is cast."""
    (range_,) = (each for each in positions.nodes if each.op_type == "Range")
    if not all(is_constant(value) for value in range_.inputs):
        return None
    start, limit, delta = (value.const_value.numpy().item() for value in range_.inputs)  # type: ignore[union-attr]
    return (max(math.ceil((limit - start) / delta), 0),)


def masked(node: "onnx_ir.Node") -> Decoding | None:
    """A decoded lookup times integers that are 0 or 1: pruned weights of a table whose vectors are not zero."""
    if node.op_type != "Mul":
        return None
    for value, mask in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        bits = expression(mask, UNPACK)
        producer = None if value is None else value.producer()
        while producer is not None and producer.op_type in LAYOUT | {"Add"}:
            producer = None if producer.inputs[0] is None else producer.inputs[0].producer()
        inner = None if producer is None else codebook(producer) or hashed(producer)
        if inner is None or bits is None or not bits.nodes:
            continue
        whole = extended(inner, until=node)
        if whole.nodes[-1] is not value.producer():  # type: ignore[union-attr] # not None
            continue
        tensors = tuple(dict.fromkeys((*whole.tensors, *bits.constants)))
        nodes = tuple(dict.fromkeys((*whole.nodes, *bits.nodes, node)))
        return Decoding(inner.encoding, tensors, nodes, whole.shape, whole.dtype, whole.itemsize)
    return None


def _axis(node: "onnx_ir.Node") -> int | None:
    """Return the axis of a lookup; None for another operator."""
    along = {"Gather": "axis", "GatherND": "batch_dims"}.get(node.op_type)
    return None if along is None else int(node.attributes.get_int(along, 0) or 0)


def _decoded_shape(node: "onnx_ir.Node", codes: Expression, table: tuple[int, ...]) -> tuple[int, ...] | None:
    if (known := static_shape(node.outputs[0])) is not None and node.op_type == "Gather":
        return known
    shape = static_shape(codes.constants[0])
    if shape is None or any(each.op_type != "Cast" for each in codes.nodes):
        return None
    if node.op_type == "GatherND":  # torch exports ``table[codes]`` as an index along one axis
        if not shape or shape[-1] != 1:
            return None
        shape = shape[:-1]
    return (*shape, *table[1:])

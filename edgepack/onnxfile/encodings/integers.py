"""Small integers in a file: stored in 8 bits or more, or packed, several to a byte.

The packed form holds elements of 1, 2 or 4 bits in uint8, the first of a byte in its lowest bits::

    BitwiseAnd(BitShift(packed [bytes, 1], shifts [1, each], RIGHT), mask) -> Reshape -> Slice -> Reshape

where the Slice removes the elements that fill the last byte.
"""

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.encodings.expressions import Expression, expression, is_constant, is_integer
from edgepack.onnxfile.encodings.expressions import dtype_of as dtype

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir

UNPACK = frozenset({"BitShift", "BitwiseAnd", "Cast", "Reshape", "Slice"})
"""Operators that return packed elements."""

CODE_TYPES = ("uint8", "uint16", "int32")
"""Types for codes: the smallest that can index all entries of the table is used."""

PACKED_BITS = (1, 2, 4)
"""Bits per element in the packed form."""


def integers(value: "onnx_ir.Value | None") -> Expression | None:
    """Return how integers are computed from stored ones: not at all, by a Cast, or by unpacking; elements first."""
    if is_constant(value):
        found = expression(value, ())
    else:
        producer = None if value is None else value.producer()
        if producer is None:
            return None
        found = expression(value, UNPACK)
        direct = producer.op_type == "Cast" and is_constant(producer.inputs[0])
        if found is None or not (direct or packed_bits(found)):
            return None
    if found is None:
        return None
    elements = _data_of(value)
    if not is_integer(dtype(elements)):
        return None
    return Expression(found.nodes, (elements, *(each for each in found.constants if each is not elements)))


def _data_of(value: "onnx_ir.Value | None") -> "onnx_ir.Value":
    """Return the constant that a chain of nodes starts from: the first input is the data, others are settings."""
    while value is not None and not is_constant(value):
        producer = value.producer()
        value = None if producer is None else producer.inputs[0]
    if value is None:
        raise TypeError("the value is not computed from constants")
    return value


def packed_bits(found: Expression) -> int:
    """Return the bits per element of packed integers; 0 if they are not packed."""
    for node in found.nodes:
        if node.op_type == "BitwiseAnd":
            masks = [value for value in node.inputs if is_constant(value) and _size(value) == 1]
            if masks:
                return int(masks[0].const_value.numpy().item()).bit_length()  # type: ignore[union-attr] # a constant
    return 0


def code_bits(rows: int) -> int:
    """Return the bits per code for a table of ``rows`` entries."""
    packed = (bits for bits in PACKED_BITS if rows <= 1 << bits)
    return next(packed, 0) or {"uint8": 8, "uint16": 16, "int32": 32}[code_type(rows)]


def code_type(rows: int) -> str:
    """Return the smallest type of codes that are not packed, for a table of ``rows`` entries."""
    return next(
        kind for kind, limit in zip(CODE_TYPES, (1 << 8, 1 << 16, 1 << 31), strict=True) if rows <= limit
    )


def saves(elements: int, bits: int) -> bool:
    """Whether packed elements, with the constants that unpack them, are smaller than one byte each."""
    overhead = 64
    return elements * bits / 8 + overhead < elements


def pack(values: "np.ndarray", bits: int) -> "np.ndarray":
    """Pack integers in [0, 2**bits), of any shape, into uint8 ``[bytes, 1]``."""
    import numpy as np

    each = 8 // bits
    flat = values.astype("uint8").ravel()
    padded = np.concatenate([flat, np.zeros(-len(flat) % each, "uint8")]).reshape(-1, each)
    shifted = padded << (np.arange(each, dtype="uint8") * bits)
    packed: np.ndarray = np.bitwise_or.reduce(shifted, axis=1, keepdims=True).astype("uint8")
    return packed


def evaluated(found: Expression) -> "np.ndarray | None":
    """Compute an expression of :data:`UNPACK`, Add, Mul and Sub; None if it has another form."""
    import numpy as np

    values: dict[Any, np.ndarray] = {}
    result: np.ndarray | None = None
    for node in found.nodes:
        operands = [
            values[value] if value in values else np.asarray(value.const_value.numpy())  # type: ignore[union-attr]
            for value in node.inputs
            if value is not None
        ]
        if node.op_type == "Slice" and operands[0].ndim != 1:
            return None
        if node.op_type == "Cast":
            result = operands[0].astype(_cast_type(node))
        elif node.op_type in _COMPUTED:
            result = _COMPUTED[node.op_type](*operands)
        else:
            return None
        values[node.outputs[0]] = result
    return result


_COMPUTED: "dict[str, Callable[..., np.ndarray]]" = {
    "Add": operator.add,
    "BitShift": operator.rshift,
    "BitwiseAnd": operator.and_,
    "Mul": operator.mul,
    "Reshape": lambda data, shape: data.reshape(shape),
    "Slice": lambda data, start, end, *_: data[int(start.item()) : int(end.item())],
    "Sub": operator.sub,
}


def _cast_type(node: "onnx_ir.Node") -> Any:
    import onnx_ir as ir

    return ir.DataType(node.attributes.get_int("to", 1)).numpy()


def _size(value: "onnx_ir.Value | None") -> int:
    return math.prod(value.const_value.shape.numpy())  # type: ignore[union-attr] # a constant

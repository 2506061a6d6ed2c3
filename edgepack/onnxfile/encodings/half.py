"""Weights stored as 16-bit floats and computed with as 32-bit ones: a Cast of an initializer."""

import math
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings.expressions import Decoding, is_constant, static_shape
from edgepack.onnxfile.encodings.expressions import dtype_of as dtype

if TYPE_CHECKING:
    import onnx_ir

_STORED = ("float16", "bfloat16")
_LARGER = {1: "float32", 11: "float64"}  # values of onnx.TensorProto.DataType


def half(node: "onnx_ir.Node") -> Decoding | None:
    """``Cast(elements)`` from float16 or bfloat16 to a larger type; single numbers are not encoded."""
    elements = node.inputs[0] if node.op_type == "Cast" else None
    if elements is None or not is_constant(elements) or dtype(elements) not in _STORED:
        return None
    kind, shape = _LARGER.get(node.attributes.get_int("to", 0) or 0), static_shape(elements)
    if kind is None or shape is None or math.prod(shape) < 2:  # noqa: PLR2004 - a single number
        return None
    return Decoding(dtype(elements), (elements,), (node,), shape, kind, 4 if kind == "float32" else 8)

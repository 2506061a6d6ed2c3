"""Encoded constants in an .onnx file: recognise, measure and preserve them.

An encoding is an entry of ``ENCODINGS``: a function that recognises the node that decodes a constant. ONNX has a native
form for dense integers, DequantizeLinear of an initializer; docs/encodings.md specifies the others. Constants that an
encoding recognises are never folded: :func:`is_encoded` is the single rule, used at export and at import.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.spec.encoding import DENSE, EncodedConstant

if TYPE_CHECKING:
    import onnx
    import onnx_ir

_STANDARD = ("", "ai.onnx")
_HALVES = ("float16", "bfloat16")
_FLOAT32 = 1  # onnx.TensorProto.FLOAT
_FEWEST = 32  # elements of a constant in 16 bits
CODE_TYPES = ("uint8", "uint16", "int32")
"""Types for codes: the smallest that can index all entries of the table is used."""


@dataclass(frozen=True)
class Decoding:
    """A constant and the node that decodes it.

    Attributes:
        encoding: name of the encoding, as in reports.
        tensors: the constants that belong to it: the encoded elements, then what decodes them.
        shape: shape of the decoded elements.
        dtype: NumPy dtype of the decoded elements.
        itemsize: bytes per decoded element.
    """

    encoding: str
    tensors: "tuple[onnx_ir.Value, ...]"
    shape: tuple[int, ...]
    dtype: str
    itemsize: int


def _dense_integers(node: "onnx_ir.Node") -> Decoding | None:
    """``(q - zero point) * scale``, all constant: int8 weights, int32 biases."""
    inputs = tuple(value for value in node.inputs if value is not None)
    if node.op_type != "DequantizeLinear" or not all(map(_is_constant, inputs)):
        return None
    elements, scale = inputs[:2]
    # Scales have the type of the decoded elements.
    return Decoding(_dtype(elements), inputs, _shape(elements), _dtype(scale), _itemsize(scale))


def _codebook(node: "onnx_ir.Node") -> Decoding | None:
    """``table[codes]``: a lookup along the first axis, where codes and table are smaller than the decoded constant.

    Codes may be cast first, because Gather does not accept types below 32 bits. A constant lookup that is not
    smaller (positions, with one table row each) is not an encoding.
    """
    along = {"Gather": "axis", "GatherND": "batch_dims"}.get(node.op_type)
    if along is None or node.attributes.get_int(along, 0) != 0:
        return None
    table, indices = node.inputs
    codes = _before_cast(indices)
    if table is None or codes is None or not (_is_constant(table) and _is_constant(codes)):
        return None
    if not _dtype(table).startswith(("float", "bfloat")) or not _dtype(codes).startswith(("int", "uint")):
        return None
    rows, shape = _shape(table), _shape(codes)
    if node.op_type == "GatherND":  # torch exports ``table[codes]`` as an index along one axis
        if not shape or shape[-1] != 1:
            return None
        shape = shape[:-1]
    if not rows:
        return None
    decoded = (*shape, *rows[1:])
    width = code_width(rows[0])
    if math.prod(shape) * width + _bytes(table) >= math.prod(decoded) * _itemsize(table):
        return None
    return Decoding("codebook", (codes, table), decoded, _dtype(table), _itemsize(table))


def _half(node: "onnx_ir.Node") -> Decoding | None:
    """A constant in 16 bits, cast to float32; numbers that a node reads as settings have few elements."""
    if node.op_type != "Cast" or not _is_constant(node.inputs[0]):
        return None
    elements, to = node.inputs[0], node.attributes.get_int("to", 0)
    if elements is None or _dtype(elements) not in _HALVES or to != _FLOAT32:
        return None
    shape = _shape(elements)
    if math.prod(shape) < _FEWEST:
        return None
    return Decoding(_dtype(elements), (elements,), shape, "float32", 4)


ENCODINGS: dict[str, Callable[["onnx_ir.Node"], Decoding | None]] = {
    "dense-int": _dense_integers,
    "codebook": _codebook,
    "half": _half,
}
"""Encodings by name: functions from a node to the constant that it decodes, or None."""


def decoding(node: "onnx_ir.Node") -> Decoding | None:
    """Return the constant that ``node`` decodes, in any encoding; None if it does not decode one."""
    if node.domain not in _STANDARD:
        return None
    return next((decoded for each in ENCODINGS.values() if (decoded := each(node)) is not None), None)


def is_encoded(node: "onnx_ir.Node") -> bool:
    """Whether ``node`` belongs to an encoded constant and must be preserved: it decodes one, or casts its elements."""
    if decoding(node) is not None:
        return True
    if node.op_type != "Cast" or node.domain not in _STANDARD:
        return False
    for use in node.outputs[0].uses():
        decoded = decoding(use.node)
        if decoded is not None and decoded.tensors[0] is node.inputs[0]:
            return True
    return False


def code_width(rows: int) -> int:
    """Bytes per code for a table of ``rows`` entries."""
    return {"uint8": 1, "uint16": 2, "int32": 4}[code_type(rows)]


def code_type(rows: int) -> str:
    """The smallest code type for a table of ``rows`` entries."""
    return next(
        kind for kind, limit in zip(CODE_TYPES, (1 << 8, 1 << 16, 1 << 31), strict=True) if rows <= limit
    )


def encoded_constants(model: "onnx.ModelProto") -> tuple[EncodedConstant, ...]:
    """Return every constant of a model in canonical form, with its encoding; scales etc. belong to what they decode.

    A tensor shared by several constants (one codebook for all layers) is counted with the first of them.
    """
    import onnx_ir as ir

    graph = ir.from_proto(model).graph
    constants: dict[str, EncodedConstant] = {}
    used: set[str] = set()
    for each in _decodings(graph):
        name = str(each.tensors[0].name)
        fresh = {str(value.name): value for value in each.tensors if value.name not in used}
        used.update(fresh)
        if name in constants:  # decoded by several nodes
            continue
        constants[name] = EncodedConstant(
            name=name,
            shape=each.shape,
            dtype=each.dtype,
            encoding=each.encoding,
            stored_bytes=sum(_bytes(value) for value in fresh.values()),
            dense_bytes=math.prod(each.shape) * each.itemsize,
        )
    for name, value in graph.initializers.items():
        if name in used or value.const_value.dtype == ir.DataType.STRING:
            continue
        size = _bytes(value)
        constants[name] = EncodedConstant(
            name=name,
            shape=_shape(value),
            dtype=_dtype(value),
            encoding=DENSE,
            stored_bytes=size,
            dense_bytes=size,
        )
    return tuple(constants.values())


def _decodings(graph: "onnx_ir.Graph") -> Iterator[Decoding]:
    for node in graph:
        decoded = decoding(node)
        if decoded is not None:
            yield decoded


def _is_constant(value: "onnx_ir.Value | None") -> bool:
    return value is not None and value.const_value is not None and not value.is_graph_input()


def _before_cast(value: "onnx_ir.Value | None") -> "onnx_ir.Value | None":
    producer = None if value is None else value.producer()
    return producer.inputs[0] if producer is not None and producer.op_type == "Cast" else value


def _shape(value: "onnx_ir.Value") -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.const_value.shape.numpy())  # type: ignore[union-attr] # a constant


def _dtype(value: "onnx_ir.Value") -> str:
    return str(value.const_value.dtype.numpy())  # type: ignore[union-attr] # a constant


def _bytes(value: "onnx_ir.Value") -> int:
    return int(value.const_value.nbytes)  # type: ignore[union-attr] # a constant


def _itemsize(value: "onnx_ir.Value") -> int:
    return math.ceil(value.const_value.dtype.itemsize)  # type: ignore[union-attr] # a constant

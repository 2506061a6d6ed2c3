"""Encoded constants in an .onnx file: recognise, measure and preserve them.

An encoding is an entry of ``ENCODINGS``: a function that recognises the node that completes the decoding of a constant,
with all nodes between the stored constants and this node. docs/encodings.md specifies the forms. Constants that an
encoding recognises are never folded: :func:`is_encoded` is the single rule, used at export and at import.

Imports: spec.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings import half, lookups, scaled, sparse
from edgepack.onnxfile.encodings.expressions import PARAMETER, STANDARD, Decoding, dtype_of, extended, nbytes
from edgepack.onnxfile.encodings.integers import UNPACK, code_bits, code_type
from edgepack.spec.encoding import DENSE, EncodedConstant

if TYPE_CHECKING:
    import onnx
    import onnx_ir

__all__ = [
    "ENCODINGS", "Decoding", "code_bits", "code_type", "decoders", "decoding", "decodings", "encoded_constants", "is_encoded",
]  # fmt: skip

ENCODINGS: "dict[str, Callable[[onnx_ir.Node], Decoding | None]]" = {
    "dense-int": scaled.dequantized,
    "codebook": lookups.codebook,
    "hashed": lookups.hashed,
    "masked": lookups.masked,
    "pulses": scaled.pulses,
    "bits": scaled.bits,
    "scaled-int": scaled.multiplied,
    "half": half.half,
    "sparse-blocks": sparse.sparse_blocks,
}
"""Encodings by name: functions from a node to the constant that it decodes, or None; the first that recognises it."""

_INSIDE = PARAMETER | UNPACK | scaled.LEVELS | lookups.OPERATORS | sparse.OPERATORS
_LARGEST = 128  # nodes that are looked at behind a node


def decoding(node: "onnx_ir.Node") -> Decoding | None:
    """Return the constant whose decoding ``node`` completes, in any encoding; None if there is none."""
    if node.domain not in STANDARD:
        return None
    return next((decoded for each in ENCODINGS.values() if (decoded := each(node)) is not None), None)


def is_encoded(node: "onnx_ir.Node") -> bool:
    """Whether ``node`` is between the stored form of an encoded constant and the decoded one, and must be preserved."""
    if decoding(node) is not None:
        return True
    if node.op_type not in _INSIDE or node.domain not in STANDARD:
        return False
    ahead = [use.node for output in node.outputs for use in output.uses()]
    seen: set[onnx_ir.Node] = set()
    while ahead and len(seen) < _LARGEST:
        user = ahead.pop()
        if user in seen:
            continue
        seen.add(user)
        decoded = decoding(user)
        if decoded is not None and node in decoded.nodes:
            return True
        if user.op_type in _INSIDE:
            ahead += [use.node for output in user.outputs for use in output.uses()]
    return False


def decodings(graph: "onnx_ir.Graph") -> tuple[Decoding, ...]:
    """Return the decodings of all encoded constants of a graph, in order, down to the weights that other nodes read.

    A constant that is part of another's decoding, such as a quantized scale, has none of its own.
    """
    found = [decoded for node in graph if (decoded := decoding(node)) is not None]
    inner = {node for decoded in found for node in decoded.nodes[:-1]}
    whole = [extended(decoded) for decoded in found if decoded.nodes[-1] not in inner]
    inner = {node for decoded in whole for node in decoded.nodes[:-1]}
    return tuple(decoded for decoded in whole if decoded.nodes[-1] not in inner)


def decoders(model: "onnx.ModelProto") -> dict[str, tuple[str, ...]]:
    """Return by name of each decoded constant of a model in canonical form the names of the nodes that decode it."""
    import onnx_ir as ir

    found = decodings(ir.from_proto(model).graph)
    return {str(each.output.name): tuple(str(node.name) for node in each.nodes) for each in found}


def encoded_constants(model: "onnx.ModelProto") -> tuple[EncodedConstant, ...]:
    """Return every constant of a model in canonical form, with its encoding; scales etc. belong to what they decode.

    A tensor shared by several constants (one codebook for all layers) is counted with the first of them.
    """
    import onnx_ir as ir

    graph = ir.from_proto(model).graph
    constants: dict[str, EncodedConstant] = {}
    used: set[str] = set()
    for each in decodings(graph):
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
            stored_bytes=sum(nbytes(value) for value in fresh.values()),
            dense_bytes=each.dense_bytes,
        )
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if name in used or tensor is None or tensor.dtype == ir.DataType.STRING:
            continue
        size = nbytes(value)
        constants[name] = EncodedConstant(
            name=name,
            shape=tuple(int(dim) for dim in tensor.shape.numpy()),
            dtype=dtype_of(value),
            encoding=DENSE,
            stored_bytes=size,
            dense_bytes=size,
        )
    return tuple(constants.values())

"""How a constant is decoded: the constants that are stored, and the nodes that compute the weight from them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

STANDARD = ("", "ai.onnx")
_LARGEST = 64  # nodes of an expression

LAYOUT = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that only rearrange elements."""

PARAMETER = LAYOUT | {"Cast", "DequantizeLinear"}
"""Operators that compute a table, a scale or a mean from a smaller constant."""


@dataclass(frozen=True)
class Decoding:
    """A constant and the nodes that decode it.

    Attributes:
        encoding: name of the encoding, as in reports.
        tensors: the constants that belong to it: the encoded elements, then what decodes them.
        nodes: all nodes between these constants and the decoded tensor, in order of execution; the last one returns it.
        shape: shape of the decoded elements.
        dtype: NumPy dtype of the decoded elements.
        itemsize: bytes per decoded element.
    """

    encoding: str
    tensors: "tuple[onnx_ir.Value, ...]"
    nodes: "tuple[onnx_ir.Node, ...]"
    shape: tuple[int, ...]
    dtype: str
    itemsize: int

    @property
    def output(self) -> "onnx_ir.Value":
        """The decoded tensor."""
        return self.nodes[-1].outputs[0]

    @property
    def stored_bytes(self) -> int:
        """Size of all its constants."""
        return sum(map(nbytes, self.tensors))

    @property
    def dense_bytes(self) -> int:
        """Size of the decoded tensor."""
        return math.prod(self.shape) * self.itemsize


@dataclass(frozen=True)
class Expression:
    """A value that is computed from constants only: the nodes in order of execution, and the constants."""

    nodes: "tuple[onnx_ir.Node, ...]"
    constants: "tuple[onnx_ir.Value, ...]"


def expression(value: "onnx_ir.Value | None", operators: Iterable[str]) -> Expression | None:
    """Return how ``value`` is computed from constants by the given standard operators; None if it is not."""
    allowed = frozenset(operators)
    nodes: dict[onnx_ir.Node, None] = {}
    constants: dict[onnx_ir.Value, None] = {}

    def visit(value: "onnx_ir.Value | None") -> bool:
        if is_constant(value):
            constants[value] = None  # type: ignore[index] # not None
            return True
        node = None if value is None else value.producer()
        if node is None or node.op_type not in allowed or node.domain not in STANDARD:
            return False
        if node not in nodes:
            if len(nodes) >= _LARGEST or not all(visit(each) for each in node.inputs if each is not None):
                return False
            nodes[node] = None
        return True

    return Expression(tuple(nodes), tuple(constants)) if visit(value) else None


def extended(decoded: Decoding, until: "onnx_ir.Node | None" = None) -> Decoding:
    """Add the nodes that follow and only rearrange, dequantize, scale or shift the decoded tensor by smaller constants.

    It ends before the node ``until``.
    """
    while True:
        node = _next(decoded)
        node = None if node is until else node
        shape = None if node is None else static_shape(node.outputs[0])
        if node is None or shape is None or math.prod(shape) != math.prod(decoded.shape):
            return decoded
        before, others = decoded.output, [*decoded.tensors]
        nodes = [*decoded.nodes]
        for value in node.inputs:
            if value is None or value is before:
                continue
            operand = expression(value, PARAMETER)
            if operand is None:
                return decoded
            others += [each for each in operand.constants if each not in others]
            nodes += [each for each in operand.nodes if each not in nodes]
        scale = node.inputs[1] if node.op_type == "DequantizeLinear" else None
        kind, size = (
            (decoded.dtype, decoded.itemsize) if scale is None else (dtype_of(scale), itemsize(scale))
        )
        longer = Decoding(decoded.encoding, tuple(others), (*nodes, node), shape, kind, size)
        if longer.stored_bytes >= longer.dense_bytes:
            return decoded
        decoded = longer


def _next(decoded: Decoding) -> "onnx_ir.Node | None":
    """Return the only node that reads the decoded tensor, if it computes another form of it."""
    uses = decoded.output.uses()
    if len(uses) != 1 or decoded.output.is_graph_output():
        return None
    (use,) = uses
    known = use.node.op_type in LAYOUT | {"Add", "DequantizeLinear", "Mul", "Sub"}
    return use.node if known and use.node.domain in STANDARD else None


def is_constant(value: "onnx_ir.Value | None") -> bool:
    """Whether a value is an initializer that no input of the graph can replace."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def static_shape(value: "onnx_ir.Value") -> tuple[int, ...] | None:
    """Return the shape of a value, if it is known and static."""
    if value.const_value is not None:
        return tuple(int(dim) for dim in value.const_value.shape.numpy())
    if value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(dim) for dim in value.shape.numpy())


def dtype_of(value: "onnx_ir.Value") -> str:
    """Return the element type of a value as in NumPy (``bfloat16`` and 4-bit types as in ml_dtypes); empty if unknown."""
    kind = value.dtype if value.const_value is None else value.const_value.dtype
    return "" if kind is None else str(kind.numpy())


def is_float(dtype: str) -> bool:
    """Whether a type is a floating-point one."""
    return dtype.startswith(("float", "bfloat"))


def is_integer(dtype: str) -> bool:
    """Whether a type is an integer one."""
    return dtype.startswith(("int", "uint"))


def nbytes(value: "onnx_ir.Value") -> int:
    """Return the size of a constant."""
    return int(value.const_value.nbytes)  # type: ignore[union-attr] # a constant


def itemsize(value: "onnx_ir.Value") -> int:
    """Return the bytes per element of a value of known type."""
    kind = value.dtype if value.const_value is None else value.const_value.dtype
    return math.ceil(kind.itemsize)  # type: ignore[union-attr] # known

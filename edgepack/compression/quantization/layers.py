"""The constants of an .onnx graph that are weights: those of convolutions, products, recurrent layers, embeddings."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.compression.selection import Skip, select
from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import numpy as np
    import onnx

RECURRENT = ("GRU", "LSTM", "RNN")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply their input by weights."""
_WIDE_ROW = 64  # numbers in a row of a table from which a scale per row costs little


@dataclass(frozen=True)
class WeightConstant:
    """A constant and how the graph uses it.

    Attributes:
        name: of the initializer.
        node: the first node that reads it as weights.
        position: of the input there.
        axis: of the constant's output channels, each of which has its own scale.
        rows: axis along which a product sums, for scales per block; None if blocks would need a reshape.
        users: names of all nodes that read it.
    """

    name: str
    node: "onnx.NodeProto"
    position: int
    axis: int
    rows: int | None
    users: tuple[str, ...]

    @property
    def layer(self) -> str:
        """Name of the layer that has this weight: ``stem.0`` for ``stem.0.weight``."""
        return self.name.rpartition(".")[0]

    @property
    def names(self) -> tuple[str, ...]:
        """All names that a pattern may match."""
        return (self.name, self.layer, *self.users)

    @property
    def operator(self) -> str:
        """The operator that reads it."""
        return str(self.node.op_type)


def weights(graph: "onnx.GraphProto") -> dict[str, WeightConstant]:
    """Return the float32 weights of the graph by name, in the order of their first use.

    A constant that several nodes read is one weight, if all of them use the same axis; a transposed constant is found
    behind its ``Transpose``. Constants that other operators or graphs inside nodes read as well are left out, and tables
    of codebooks.
    """
    from onnx import TensorProto

    shapes = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    found: dict[str, WeightConstant] = {}
    outer = {name for inner in list(graphs(graph))[1:] for node in inner.node for name in node.input}
    other = {value.name for value in graph.output} | outer
    behind: dict[str, tuple[str, list[int]]] = {}  # transposed constants
    codes = _constants(graph)
    for node in graph.node:
        if node.op_type == "Gather" and node.input[1] in codes:
            continue  # a codebook: its codes are the weight
        if node.op_type == "Transpose" and node.input[0] in shapes:
            rank = len(shapes[node.input[0]])
            behind[node.output[0]] = node.input[0], list(setting(node, "perm", list(range(rank))[::-1]))
            continue
        for position, name in enumerate(node.input):
            constant, order = behind.get(name, (name, None))
            if constant not in shapes:
                continue
            shape = shapes[constant] if order is None else tuple(shapes[constant][each] for each in order)
            axes = _axes(node, position, shape)
            if axes is None:
                other.add(constant)
                continue
            if order is not None:
                axes = order[axes[0]], None if axes[1] is None else order[axes[1]]
            known = found.get(constant)
            if known is None:
                found[constant] = WeightConstant(constant, node, position, *axes, (node.name,))
            elif known.axis != axes[0]:
                other.add(constant)
            else:
                users = (*known.users, node.name)
                found[constant] = WeightConstant(
                    constant, known.node, known.position, known.axis, known.rows, users
                )
    return {name: weight for name, weight in found.items() if name not in other and shapes[name]}


def _constants(graph: "onnx.GraphProto") -> set[str]:
    """Return the names of constants and of values that are computed from constants only."""
    found = {"", *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if found.issuperset(node.input):
            found.update(node.output)
    return found


def readers_of(graph: "onnx.GraphProto", decoded: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the names of the nodes that compute with decoded constants, and of those that rearrange these for them.

    torch exports the weights of an LSTM in its own order of gates, followed by Slice and Concat.
    """
    fixed, held = _constants(graph), set(decoded)
    readers: list[str] = []
    rearranging: list[str] = []
    for node in graph.node:
        if held.isdisjoint(node.input):
            continue
        if fixed.issuperset(node.input):
            held.update(node.output)
            rearranging.append(node.name)
        else:
            readers.append(node.name)
    return readers, rearranging


def selected(found: Mapping[str, WeightConstant], skip: Skip, method: str, option: str = "skip") -> list[str]:
    """Return the names of weights that match the patterns of ``skip``, if it has some.

    Raises:
        InputError: a pattern matches nothing.
    """
    names = {name: weight.names for name, weight in found.items()}
    patterns = skip if isinstance(skip, tuple) else ()
    return select(patterns, names, kind="layer or node", where=f"compress, {method}, {option}")


def arrays(graph: "onnx.GraphProto", names: Iterable[str]) -> "Iterator[tuple[str, np.ndarray]]":
    """Yield each named initializer with its value."""
    from onnx import numpy_helper

    wanted = set(names)
    for tensor in graph.initializer:
        if tensor.name in wanted:
            yield tensor.name, numpy_helper.to_array(tensor)


def _axes(node: "onnx.NodeProto", position: int, shape: tuple[int, ...]) -> tuple[int, int | None] | None:
    """Return the axes of output channels and of rows of a weight at this input; None if it is none."""
    rank = len(shape)
    if node.domain or rank < 2:  # noqa: PLR2004 - vectors are biases and scales
        return None
    if node.op_type in ("Conv", "ConvTranspose") and position == 1:
        return (0, None) if node.op_type == "Conv" else (1, None)
    if node.op_type == "Gemm" and position == 1:
        return (0, 1) if setting(node, "transB", 0) else (1, 0)
    if node.op_type == "MatMul" and position in {0, 1}:
        return (rank - 1, rank - 2) if position == 1 else (rank - 2, rank - 1)
    if node.op_type in RECURRENT and position in {1, 2}:
        return 1, 2
    if node.op_type == "Gather" and position == 0 and setting(node, "axis", 0) == 0:
        return (0, rank - 1) if shape[-1] >= _WIDE_ROW else (rank - 1, None)
    return None


def setting(node: "onnx.NodeProto", name: str, default: Any) -> Any:
    """Return an attribute of a node; text as bytes."""
    import onnx

    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default

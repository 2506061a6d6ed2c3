"""The valid range of each graph input whose values are indices: token ids, categories, positions, lengths.

Values are followed from an input, through operators that only move them, to the operators that use them as indices.
Arithmetic on them is not followed.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Range = tuple[int, int]
"""The smallest and the largest valid value. Negative indices count from the end."""

# Operators whose output has the elements of their first input: all of them, or some.
_MOVES_ALL = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Tile"}
_MOVES_SOME = {"Slice", "Gather", "GatherElements", "GatherND", "Split", "Compress"}
# Operators with indices: which of their inputs, and which input is indexed.
_ALONG_AXIS = {
    "Gather": (1, 0),
    "GatherElements": (1, 0),
    "Scatter": (1, 0),
    "ScatterElements": (1, 0),
    "EmbedLayerNormalization": (0, 2),  # of com.microsoft: ids and the table of words
}
_RECURRENT, _LENGTHS = (
    {"LSTM", "GRU", "RNN"},
    4,
)  # which of their inputs is the number of steps of each sequence
_BY_COORDINATES = {"GatherND", "ScatterND"}


def index_ranges(model: "onnx.ModelProto", *, partly: bool = False) -> dict[str, Range]:
    """Return the valid range of each input that the graph uses as indices, by its name.

    An input that several operators use has the range that is valid for all of them. Inputs whose range is unknown,
    because the shape of what they index is, are left out.

    Args:
        model: The model; its functions are not followed.
        partly: Also return ranges of inputs of which only some elements are indices, and of inputs of OneHot, which
            accepts other values. Without it, a value outside the range is always an error.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    users: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in graph.node:
        for position, name in enumerate(node.input):
            users[name].append((node, position))
    shapes, constants = _shapes(graph), {tensor.name: tensor for tensor in graph.initializer}
    ranges: dict[str, Range] = {}
    for value in graph.input:
        found = list(_uses(value.name, users, shapes, constants, partly=partly))
        if found and value.name not in constants:
            low, high = (max(low for low, _ in found), min(high for _, high in found))
            if low <= high:
                ranges[value.name] = low, high
    return ranges


def _uses(
    start: str,
    users: "Mapping[str, list[tuple[onnx.NodeProto, int]]]",
    shapes: Mapping[str, tuple[int | None, ...]],
    constants: "Mapping[str, onnx.TensorProto]",
    *,
    partly: bool,
) -> Iterator[Range]:
    """Yield the range for each use of a value as indices."""
    pending, seen = [start], {start}
    moves = _MOVES_ALL | (_MOVES_SOME if partly else set())
    while pending:
        for node, position in users.get(pending.pop(), ()):
            if position == 0 and node.op_type in moves:
                follow = [name for name in node.output if name and name not in seen]
                seen.update(follow)
                pending.extend(follow)
            elif node.op_type == "OneHot" and position == 0 and partly:
                yield from _one_hot(node, constants)
            elif node.op_type in _RECURRENT and position == _LENGTHS:
                steps = shapes.get(node.input[0], (None,))[0]
                if steps is not None:
                    yield 0, steps
            else:
                size = _indexed(node, position, shapes)
                if size:
                    yield -size, size - 1


def _indexed(
    node: "onnx.NodeProto", position: int, shapes: Mapping[str, tuple[int | None, ...]]
) -> int | None:
    """Return the length of the axis that this input of the node indexes; None if it is no index, or unknown."""
    at, of = _ALONG_AXIS.get(node.op_type, (1, 0))
    if position != at:
        return None
    data = shapes.get(node.input[of])
    if node.op_type in _ALONG_AXIS and data:
        return data[_attribute(node, "axis", 0) if node.op_type != "EmbedLayerNormalization" else 0]
    indices = shapes.get(node.input[at])
    if node.op_type in _BY_COORDINATES and data and indices and indices[-1]:
        first = _attribute(node, "batch_dims", 0)
        indexed = data[first : first + indices[-1]]
        # Each coordinate has its own range; a value that exceeds the longest axis is wrong for all of them.
        return max((size for size in indexed if size), default=None) if all(indexed) else None
    return None


def _one_hot(node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]") -> Iterator[Range]:
    import onnx

    if node.input[1] in constants:
        depth = int(onnx.numpy_helper.to_array(constants[node.input[1]]).flat[0])
        yield -depth, depth - 1


def _attribute(node: "onnx.NodeProto", name: str, default: int) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), default)


def _shapes(graph: "onnx.GraphProto") -> dict[str, tuple[int | None, ...]]:
    """Return the shape of every value whose rank is known, with None for open axes."""
    shapes = {tensor.name: tuple(int(dim) for dim in tensor.dims) for tensor in graph.initializer}
    known: dict[str, tuple[int | None, ...]] = dict(shapes)
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape") and value.name not in known:
            dims = value.type.tensor_type.shape.dim
            known[value.name] = tuple(int(dim.dim_value) or None for dim in dims)
    return known

"""Cross-layer equalisation: channels between two layers are scaled so that both layers' weights have similar ranges.

If a layer's output channel is multiplied by ``1 / s``, and the next layer's input channel by ``s``, the network computes
the same, as long as what lies between is positively homogeneous. ``s`` makes the ranges of both equal (Nagel et al. 2019,
arXiv:1906.04721, section 4.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.compression.quantization.layers import WeightConstant, setting, weights

if TYPE_CHECKING:
    import numpy as np
    import onnx

_BETWEEN = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Flatten"}
_LAYERS = ("Conv", "Gemm")
_ROUNDS = 20  # the paper iterates until the scales stay
_UNCHANGED = 1e-3
_LARGEST = 1e3  # of a scale: a channel of numbers near zero stays as it is


@dataclass(frozen=True)
class _Pair:
    first: WeightConstant
    bias: str
    second: WeightConstant


def equalise(model: "onnx.ModelProto") -> list[tuple[str, str]]:
    """Equalise, in place, each pair of layers with nothing but homogeneous operators between; returns their weights.

    A channel's values must be read by the second layer alone. ReLU6 is not homogeneous, so layers around a ``Clip`` are
    left out.
    """
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    pairs = _pairs(graph)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    names = {name for pair in pairs for name in (pair.first.name, pair.bias, pair.second.name) if name}
    values = {name: np.array(numpy_helper.to_array(tensors[name])) for name in names}
    for _ in range(_ROUNDS):
        changes = [_equalise(pair, values) for pair in pairs]
        if max(changes, default=0.0) < _UNCHANGED:
            break
    for name, value in values.items():
        tensors[name].CopyFrom(numpy_helper.from_array(value, name))
    return [(pair.first.name, pair.second.name) for pair in pairs]


def _equalise(pair: _Pair, values: "dict[str, np.ndarray]") -> float:
    """Scale one pair, in place; returns the largest change of a scale."""
    import numpy as np

    first, second = values[pair.first.name], values[pair.second.name]
    ours = np.abs(np.moveaxis(first, pair.first.axis, 0).reshape(first.shape[pair.first.axis], -1)).max(
        axis=1
    )
    theirs = _input_ranges(pair.second, second, len(ours))
    usable = (ours > 0) & (theirs > 0)
    scale = np.ones(len(ours), np.float32)
    scale[usable] = np.sqrt(ours[usable] / theirs[usable])
    scale[(scale > _LARGEST) | (scale < 1 / _LARGEST)] = 1
    along = [-1 if axis == pair.first.axis else 1 for axis in range(first.ndim)]
    values[pair.first.name] = first / scale.reshape(along)
    values[pair.second.name] = second * _by_input(pair.second, second.shape, scale)
    if pair.bias:
        values[pair.bias] = values[pair.bias] / scale
    return float(np.abs(scale - 1).max())


def _input_ranges(weight: WeightConstant, value: "np.ndarray", width: int) -> "np.ndarray":
    """Return the largest absolute weight of each of ``width`` input channels."""
    import numpy as np

    if weight.operator == "Conv":
        groups = int(setting(weight.node, "group", 1))
        split = np.abs(value).reshape(groups, value.shape[0] // groups, value.shape[1], -1)
        found: np.ndarray = split.max(axis=(1, 3)).reshape(-1)
        return found
    inputs: np.ndarray = np.abs(np.moveaxis(value, 1 - weight.axis, 0)).reshape(width, -1).max(axis=1)
    return inputs


def _by_input(weight: WeightConstant, shape: tuple[int, ...], scale: "np.ndarray") -> "np.ndarray":
    """Return the scale of each weight's input channel, in a shape that broadcasts to the weight's."""
    import numpy as np

    if weight.operator == "Conv":
        groups = int(setting(weight.node, "group", 1))
        spread = np.broadcast_to(scale.reshape(groups, 1, -1), (groups, shape[0] // groups, shape[1]))
        found: np.ndarray = spread.reshape(shape[0], shape[1], *[1] * (len(shape) - 2))
        return found
    # Flattened channels are several inputs in a row.
    found = np.repeat(scale, shape[1 - weight.axis] // len(scale))
    return found.reshape((1, -1) if weight.axis == 0 else (-1, 1))


def _pairs(graph: "onnx.GraphProto") -> list[_Pair]:
    found = weights(graph)
    by_node = {weight.users[0]: weight for weight in found.values() if len(weight.users) == 1}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    pairs = []
    for node in graph.node:
        first = by_node.get(node.name)
        if first is None or first.operator not in _LAYERS:
            continue
        width = shapes[first.name][first.axis]
        bias = node.input[2] if len(node.input) > 2 else ""  # noqa: PLR2004 - data, weights, bias
        if bias and (shapes.get(bias) != (width,) or len(readers[bias]) > 1):
            continue
        value, after = _follow(graph, node.output[0], readers)
        second = None if after is None else by_node.get(after.name)
        if second is None or second.operator not in _LAYERS or second.node.input[0] != value:
            continue
        inputs = _width(second, shapes[second.name])
        if inputs == width or (second.operator == "Gemm" and inputs % width == 0):
            pairs.append(_Pair(first, bias, second))
    return pairs


def _follow(
    graph: "onnx.GraphProto", value: str, readers: "Mapping[str, list[onnx.NodeProto]]"
) -> "tuple[str, onnx.NodeProto | None]":
    """Return the value behind homogeneous operators, and the only node that reads it; None if there are several or none."""
    outputs = {each.name for each in graph.output}
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in graph.value_info}
    while value not in outputs and len(readers.get(value, ())) == 1:
        (after,) = readers[value]
        if after.op_type not in _BETWEEN and not _flattens(after, ranks):
            return value, after
        value = after.output[0]
    return value, None


def _flattens(node: "onnx.NodeProto", ranks: Mapping[str, int]) -> bool:
    """Whether the node joins all axes after the first, as torch's flatten does: the channels stay together."""
    return node.op_type == "Reshape" and ranks.get(node.output[0]) == 2  # noqa: PLR2004 - [batch, features]


def _width(weight: WeightConstant, shape: tuple[int, ...]) -> int:
    """Number of the layer's input channels or features."""
    if weight.operator == "Conv":
        return shape[1] * int(setting(weight.node, "group", 1))
    return shape[1 - weight.axis]

"""Parameters, multiply-accumulates and size of an .onnx file."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.onnxfile import load_onnx
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.onnxfile.weights import file_weights
from edgepack.spec.encoding import DENSE, BundledWeight, EncodedConstant

if TYPE_CHECKING:
    import onnx

# Inputs that are settings, not weights: operator -> positions.
_SETTINGS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "Clip": (1, 2),
    "Pad": (1, 2),
    "Resize": (1, 2, 3),
    "Reshape": (1,),
}


@dataclass(frozen=True)
class Counts:
    """Parameters, multiply-accumulates, size and weights of a model, before compilation."""

    parameters: (
        int  # elements of weights and biases, decoded; scales, zero points and codebooks are not counted
    )
    nonzeros: int  # of these, elements other than zero
    macs: int  # multiply-accumulates per inference
    size: int  # bytes of the file
    encodings: dict[str, int]  # stored bytes of the constants, by encoding
    weights: tuple[BundledWeight, ...]


def count(path: Path) -> Counts:
    """Count the model at ``path``; its shapes must be static.

    MACs are those of Conv, ConvTranspose, Gemm, MatMul, RNN, GRU and LSTM, including operands that pass
    through QuantizeLinear and DequantizeLinear; bias additions and element-wise operators are not counted.
    Parameters are those in the file: folded batch normalisation leaves one bias per channel.
    """
    import numpy as np
    import onnx

    model = onnx.shape_inference.infer_shapes(load_onnx(path), data_prop=True)
    macs = sum(macs_by_node(model).values())
    encodings: Counter[str] = Counter()
    constants = encoded_constants(model)
    for constant in constants:
        encodings[constant.encoding] += constant.stored_bytes
    parameters = _parameters(model, constants)
    total = sum(math.prod(constant.shape) for constant in parameters)
    weights = file_weights(model)
    counted = {constant.name for constant in parameters}
    nonzeros = sum(int(np.count_nonzero(each.decoded)) for each in weights if each.name in counted)
    return Counts(total, nonzeros, macs, path.stat().st_size, dict(encodings), weights)


def macs_by_node(model: "onnx.ModelProto") -> dict[str, int]:
    """Return the multiply-accumulates of every node that has any, by its name; shapes must be static and inferred."""
    shapes = _shapes(model)
    found = {node.name: _macs(node, shapes) for node in model.graph.node}
    return {name: macs for name, macs in found.items() if macs}


def _shapes(model: "onnx.ModelProto") -> dict[str, tuple[int, ...]]:
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def _macs(node: "onnx.NodeProto", shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":  # weight [co, ci/groups, *kernel]
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":  # weight [ci, co/groups, *kernel]
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type in ("RNN", "GRU", "LSTM"):  # input [tokens, batch, ci], weights [directions, gates, ...]
        steps = math.prod(shapes[node.input[0]][:2])
        return steps * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))
    return 0


def _parameters(model: "onnx.ModelProto", constants: Sequence[EncodedConstant]) -> list[EncodedConstant]:
    """The constants that are weights and biases."""
    settings = {
        node.input[i]
        for node in model.graph.node
        for i in _SETTINGS.get(node.op_type, ())
        if i < len(node.input)
    }
    return [
        constant
        for constant in constants
        if constant.shape
        and constant.name not in settings
        and (constant.encoding != DENSE or constant.dtype.startswith(("float", "bfloat")))
    ]

"""The weights of an .onnx file: what a bundle holds for each of them, and their decoded elements."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings import decodings
from edgepack.spec.encoding import BundledWeight

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnx_ir

_FEWEST = 64  # elements of int64: fewer are shapes and axes, which compiling removes
_REMOVED = {"BatchNormalization": (3, 4)}  # inputs that become part of the other parameters


def file_weights(model: "onnx.ModelProto") -> tuple[BundledWeight, ...]:
    """Return all constants of a model in canonical form that a compiled model reads, encoded ones as they are encoded.

    A tensor that several constants are decoded from is stored with the first of them. Constants are in the order of
    :func:`edgepack.onnxfile.encodings.encoded_constants`.
    """
    import onnx_ir as ir

    graph = ir.from_proto(model).graph
    used: set[str] = set()
    stored: dict[str, tuple[np.ndarray, ...]] = {}
    outputs: dict[str, str] = {}
    for each in decodings(graph):
        name = str(each.tensors[0].name)
        fresh = {str(value.name): value for value in each.tensors if value.name not in used}
        used.update(fresh)
        if name not in stored:
            outputs[name] = str(each.output.name)
            stored[name] = tuple(array for value in fresh.values() if _is_kept(array := _elements(value)))
    decoded = dict(zip(outputs, _computed(model, outputs.values()), strict=True))
    found = [BundledWeight(name, arrays, decoded[name]) for name, arrays in stored.items()]
    used |= _removed(graph)
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if name not in used and tensor is not None and tensor.dtype != ir.DataType.STRING:
            array = _elements(value)
            if _is_kept(array):
                found.append(BundledWeight(name, (array,), array))
    return tuple(found)


def _elements(value: "onnx_ir.Value") -> "np.ndarray":
    """The elements of a constant, those of 4 bits in a byte each."""
    array: np.ndarray = value.const_value.numpy()  # type: ignore[union-attr] # a constant
    return (
        array.astype(array.dtype.name.replace("4", "8")) if array.dtype.name in {"int4", "uint4"} else array
    )


def _is_kept(array: "np.ndarray") -> bool:
    return array.dtype.name != "int64" or array.size >= _FEWEST


def _removed(graph: "onnx_ir.Graph") -> set[str]:
    return {
        str(node.inputs[place].name)  # type: ignore[union-attr] # these inputs are required
        for node in graph
        for place in _REMOVED.get(node.op_type, ())
    }


def _computed(model: "onnx.ModelProto", outputs: Collection[str]) -> "list[np.ndarray]":
    """The values of these names, which depend on constants alone, as the model's own nodes compute them."""
    import onnx
    import onnxruntime as ort

    if not outputs:
        return []
    makers = {output: node for node in model.graph.node for output in node.output}
    wanted, ahead = set(), list(outputs)
    while ahead:
        name = ahead.pop()
        if name in makers and name not in wanted:
            wanted.add(name)
            ahead += makers[name].input
    part = onnx.ModelProto()
    part.CopyFrom(model)
    kept = [node for node in model.graph.node if wanted & set(node.output)]
    used = {name for node in kept for name in node.input}
    for field in ("node", "initializer", "input", "output", "value_info"):
        part.graph.ClearField(field)
    part.graph.node.extend(kept)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    for name in outputs:
        part.graph.output.add().name = name
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {}))

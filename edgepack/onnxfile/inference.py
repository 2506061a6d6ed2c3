"""Types and shapes of all values of a model: ONNX's inference, and what it lacks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Operators for which ONNX infers no shape, although the output has that of the first input.
_SAME_SHAPE = {"GroupNormalization", "MeanVarianceNormalization"}


def infer_types(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the model with the inferred type and shape of every value in ``value_info`` and the outputs.

    Raises:
        onnx.shape_inference.InferenceError: the model contradicts itself.
    """
    import onnx

    while True:
        typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        if not _complete(typed.graph):
            return typed
        model = typed


def _complete(graph: "onnx.GraphProto") -> bool:
    """Add shapes that inference left out, in place; returns whether there were any."""
    missing = [node for node in graph.node if node.op_type in _SAME_SHAPE and not node.domain]
    if not missing:
        return False
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    changed = False
    for node in missing:
        given, made = values.get(node.input[0]), values.get(node.output[0])
        if given is None or not given.type.tensor_type.HasField("shape"):
            continue
        if made is None:
            made = graph.value_info.add(name=node.output[0])
        if not made.type.tensor_type.HasField("shape"):
            made.type.CopyFrom(given.type)
            changed = True
    return changed

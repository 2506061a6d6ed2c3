"""Sizes that no machine can hold are refused before anything of that size is computed."""

import math
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import numpy as np
    import onnx

MAX_TENSOR = 2**32
"""Largest size of one tensor, in bytes: the reference and the checks must be able to allocate several."""

_MOST_AXES = 64
MAX_GENERATED = 2**24
"""Most elements of a vector that a node generates from its size.

ONNX's inference writes a vector that may become a shape element by element, with some 50 bytes for each. It does not
for tensors of more axes: their limit is ``MAX_TENSOR``.
"""


def require_small(model: "onnx.ModelProto", where: str) -> None:
    """Check that no tensor of a model with inferred shapes exceeds ``MAX_TENSOR`` bytes, before it is computed.

    Raises:
        InputError: one does; names it.
    """
    import onnx_ir

    for graph in graphs(model.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            dims = [dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")]
            if not tensor.elem_type or tensor.elem_type == onnx_ir.DataType.STRING:
                continue
            size = math.prod(dims) * onnx_ir.DataType(tensor.elem_type).bitwidth // 8
            if size > MAX_TENSOR:
                raise InputError(
                    f"tensor {value.name!r} of shape {dims} takes {size / 2**30:.0f} GiB",
                    where=where,
                    why=f"the limit is {MAX_TENSOR / 2**30:.0f} GiB for one tensor",
                    next="use smaller input shapes, or correct the shapes in the model",
                )


def require_small_constants(graph: "onnx.GraphProto", where: str) -> None:
    """Check the sizes of constants that nodes generate, before inference or folding computes them.

    Raises:
        InputError: one has more than ``MAX_GENERATED`` elements; names the node.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
    for node in graph.node:
        count = _generated(node, constants)
        if count > MAX_GENERATED:
            raise InputError(
                f"node {node.name or node.output[0]!r} ({node.op_type}) makes a tensor of {count:.2g} elements",
                where=where,
                why=f"the limit for a generated constant is {MAX_GENERATED}, of {MAX_TENSOR // 2**30} GiB for others",
                next="use smaller shapes, or correct the constant in the model",
            )


def _generated(node: "onnx.NodeProto", constants: "dict[str, onnx.TensorProto]") -> float:
    """Return how many elements a vector made by ConstantOfShape or Range has; 0 for other nodes."""
    if node.op_type not in ("ConstantOfShape", "Range") or any(name not in constants for name in node.input):
        return 0
    values = [_value(constants[name]) for name in node.input]
    if any(value is None for value in values):
        return 0
    numbers = [float(number) for value in values if value is not None for number in value.reshape(-1)]
    if node.op_type == "ConstantOfShape":
        return math.prod(numbers) if len(numbers) == 1 else 0
    if len(numbers) != 3 or not numbers[2]:  # noqa: PLR2004 - start, limit, delta
        return 0
    start, limit, delta = numbers
    return (limit - start) / delta


def _value(tensor: "onnx.TensorProto") -> "np.ndarray | None":
    """Return a small numeric tensor as an array; None for others, which are no sizes."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or math.prod(tensor.dims) > _MOST_AXES:
        return None
    try:
        value = numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        return None  # the checker reports it
    return value if value.dtype.kind in "iuf" else None

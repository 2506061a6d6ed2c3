"""Read linear operators from nodes, and write them as nodes."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from edgepack.compression.folding.linear import Linear, options

if TYPE_CHECKING:
    import numpy as np
    import onnx

Shapes = Mapping[str, tuple[int, ...]]
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}
_MATRIX = 2  # axes


def read_linear(
    node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]", shapes: Shapes
) -> tuple[Linear, str] | None:
    """Return the linear operator that a node applies, and the name of its input; None if it is none.

    A convolution or product counts if its weights are constants in a floating-point type: encoded weights are computed.
    """
    attributes = {a.name: _value(a) for a in node.attribute}
    if node.domain:
        return None
    if node.op_type in {"Conv", "ConvTranspose"}:
        return _convolution(node, attributes, constants)
    if node.op_type in {"Gemm", "MatMul"}:
        return _product(node, attributes, constants, shapes)
    if node.op_type == "BatchNormalization":
        return _normalisation(node, attributes, constants)
    if node.op_type in _ELEMENTWISE:
        return _elementwise(node, constants, shapes)
    if node.op_type == "Neg" and node.input[0] in shapes:
        return _affine(-1.0, 0.0), node.input[0]
    return None


def _value(attribute: "onnx.AttributeProto") -> Any:
    from onnx import helper

    return helper.get_attribute_value(attribute)


def array(name: str, constants: "Mapping[str, onnx.TensorProto]") -> "np.ndarray | None":
    """Return a floating-point constant as float64; None if it is none."""
    import numpy as np
    from onnx import numpy_helper

    if name not in constants:
        return None
    value = numpy_helper.to_array(constants[name])
    return value.astype(np.float64) if value.dtype.kind == "f" else None


def _affine(weight: Any, bias: Any, axis: int | None = None) -> Linear:
    import numpy as np

    return Linear("affine", np.atleast_1d(np.float64(weight)), np.atleast_1d(np.float64(bias)), axis)


def _convolution(
    node: "onnx.NodeProto", attributes: dict[str, Any], constants: "Mapping[str, onnx.TensorProto]"
) -> tuple[Linear, str] | None:
    import numpy as np

    weight = array(node.input[1], constants)
    if weight is None or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in attributes:
        return None
    axes = weight.ndim - 2
    transposed, groups = node.op_type == "ConvTranspose", attributes.get("group", 1)
    channels = weight.shape[1] * groups if transposed else len(weight)
    bias = (
        array(node.input[2], constants) if len(node.input) > _MATRIX and node.input[2] else np.zeros(channels)
    )
    if bias is None:
        return None
    pads = attributes.get("pads", [0] * 2 * axes)
    operator = Linear(
        "deconv" if transposed else "conv",
        weight,
        bias,
        strides=tuple(attributes.get("strides", [1] * axes)),
        begins=tuple(pads[:axes]),
        ends=tuple(pads[axes:]),
        dilations=tuple(attributes.get("dilations", [1] * axes)),
        groups=groups,
        extra=tuple(attributes.get("output_padding", [0] * axes)) if transposed else (),
    )
    return operator, node.input[0]


def _product(
    node: "onnx.NodeProto",
    attributes: dict[str, Any],
    constants: "Mapping[str, onnx.TensorProto]",
    shapes: Shapes,
) -> tuple[Linear, str] | None:
    import numpy as np

    weight = array(node.input[1], constants)
    rank = len(shapes.get(node.input[0], ()))
    if weight is None or weight.ndim != _MATRIX or rank < _MATRIX or attributes.get("transA", 0):
        return None
    weight = weight.T if attributes.get("transB", 0) else weight
    bias: np.ndarray = np.zeros(weight.shape[1])
    if len(node.input) > _MATRIX and node.input[2]:
        given = array(node.input[2], constants)
        if (
            given is None
            or given.size not in (1, weight.shape[1])
            or given.shape[-1:] not in ((), (given.size,))
        ):
            return None
        bias = np.broadcast_to(given.reshape(-1), weight.shape[1:]) * attributes.get("beta", 1.0)
    return Linear("matmul", weight * attributes.get("alpha", 1.0), bias, axis=rank - 1), node.input[0]


def _normalisation(
    node: "onnx.NodeProto", attributes: dict[str, Any], constants: "Mapping[str, onnx.TensorProto]"
) -> tuple[Linear, str] | None:
    import numpy as np

    parts = [array(name, constants) for name in node.input[1:5]]
    if (
        attributes.get("training_mode", 0)
        or any(part is None for part in parts)
        or len([o for o in node.output if o]) > 1
    ):
        return None
    scale, shift, mean, variance = (np.asarray(part) for part in parts)
    factor = scale / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    return _affine(factor, shift - mean * factor, 1), node.input[0]


def _elementwise(
    node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]", shapes: Shapes
) -> tuple[Linear, str] | None:
    left, right = node.input
    constant, other = (right, left) if right in constants else (left, right)
    value = array(constant, constants)
    shape = shapes.get(other)
    if value is None or shape is None or other in constants or shapes.get(node.output[0]) != shape:
        return None
    if node.op_type == "Div" and constant == left:
        return None
    axis = None
    if value.size > 1:
        full = (1,) * (len(shape) - value.ndim) + value.shape
        wide = [i for i, size in enumerate(full) if size > 1]
        if len(wide) != 1:
            return None
        axis = wide[0]
    flat = value.reshape(-1)
    if node.op_type == "Add":
        return _affine(flat * 0 + 1, flat, axis), other
    if node.op_type == "Sub":
        return (
            _affine(flat * 0 - 1, flat, axis) if constant == left else _affine(flat * 0 + 1, -flat, axis)
        ), other
    if node.op_type == "Div":
        return (_affine(1 / flat, flat * 0, axis), other) if (flat != 0).all() else None
    return _affine(flat, flat * 0, axis), other


def write_linear(
    operator: Linear, stem: str, source: str, output: str, *, rank: int, dtype: "np.dtype[Any]"
) -> "tuple[list[onnx.NodeProto], dict[str, np.ndarray]]":
    """Return the nodes that apply an operator, named after ``stem``, and their constants by name.

    An affine operator that changes nothing needs no node.
    """
    from onnx import helper

    weight = operator.weight.astype(dtype)
    bias = operator.bias.astype(dtype)
    constants = {f"{stem}.weight": weight}
    if operator.kind in {"conv", "deconv"}:
        inputs = [source, f"{stem}.weight"]
        if bias.any():
            constants[f"{stem}.bias"] = bias
            inputs.append(f"{stem}.bias")
        kind = "Conv" if operator.kind == "conv" else "ConvTranspose"
        return [helper.make_node(kind, inputs, [output], stem, **options(operator))], constants
    if operator.kind == "matmul" and rank == _MATRIX:
        constants = {f"{stem}.weight": weight.T.copy(), f"{stem}.bias": bias}
        node = helper.make_node("Gemm", [source, f"{stem}.weight", f"{stem}.bias"], [output], stem, transB=1)
        return [node], constants
    steps: list[tuple[str, str, np.ndarray]] = []
    if operator.kind == "matmul":
        steps.append(("MatMul", "weight", weight))
    elif (operator.weight != 1).any():
        steps.append(("Mul", "weight", _along(weight, operator.axis, rank)))
    if (operator.bias != 0).any():
        steps.append(("Add", "bias", _along(bias, operator.axis, rank)))
    nodes = []
    for number, (kind, part, _) in enumerate(steps):
        last = number == len(steps) - 1
        written = output if last else f"{output}.{part}"
        nodes.append(
            helper.make_node(
                kind, [source, f"{stem}.{part}"], [written], f"{stem}.{kind}" if number else stem
            )
        )
        source = written
    return nodes, {f"{stem}.{part}": value for _, part, value in steps}


def _along(value: "np.ndarray", axis: int | None, rank: int) -> "np.ndarray":
    """One number per channel in a shape that is broadcast along the other axes."""
    if value.size == 1:
        return value.reshape(())
    return value.reshape([-1 if i == axis else 1 for i in range(rank)])


def count_nodes(operator: Linear, rank: int) -> int:
    """How many nodes :func:`write_linear` needs."""
    if operator.kind in {"conv", "deconv"} or (operator.kind == "matmul" and rank == _MATRIX):
        return 1
    shifts = int((operator.bias != 0).any())
    return shifts + (1 if operator.kind == "matmul" else int((operator.weight != 1).any()))


def static_shapes(graph: "onnx.GraphProto") -> dict[str, tuple[int, ...]]:
    """Return the shapes of values that are static, by name."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = [dim.dim_value for dim in tensor.shape.dim]
        if tensor.HasField("shape") and (not dims or prod(dims) > 0):
            found[value.name] = tuple(dims)
    return found


def reads_of(nodes: "Sequence[onnx.NodeProto]") -> dict[str, list[str]]:
    """Return, by value, the names of the nodes that read it, in their subgraphs as well."""
    from edgepack.onnxfile.protos import reads

    found: dict[str, list[str]] = {}
    for node in nodes:
        for name in reads(node):
            found.setdefault(name, []).append(node.name)
    return found

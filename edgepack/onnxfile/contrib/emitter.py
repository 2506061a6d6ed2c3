"""What a rule sees of the node that it replaces, and how it writes the standard nodes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.opset.site import Dims, Known, RefusedError

if TYPE_CHECKING:
    import numpy as np
    import onnx

UNQUANTIZED = "save the model without this optimisation, or quantize it in Q/DQ form (QuantFormat.QDQ)"
_AXES_AS_INPUT = 13  # opset in which Squeeze, Unsqueeze and ReduceSum take the axes as an input
_REDUCTIONS_AS_INPUT = 18  # the same for the other reductions
_SLICE_INPUTS = 10  # opset in which Slice takes its bounds as inputs


class Emitter:
    """Replaces one node. ``op`` adds a standard node and returns the name of its output.

    Forms that changed between opsets are chosen by ``opset``, that of the model. Types and shapes of the added
    nodes' outputs are inferred at once.
    """

    def __init__(self, node: "onnx.NodeProto", known: Known, opset: int) -> None:
        self.node, self.known, self.opset = node, known, opset
        self.nodes: list[onnx.NodeProto] = []

    def input(self, index: int) -> str:
        """Return the name of an input; "" if it is omitted."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def wants(self, index: int) -> bool:
        """Whether the node has this output and something reads it."""
        outputs = self.node.output
        return index < len(outputs) and bool(outputs[index]) and outputs[index] in self.known.used

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, text as str."""
        import onnx

        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def attributes(self, *names: str) -> dict[str, Any]:
        """Return those of these attributes that the node has."""
        values = {name: self.attribute(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def shape(self, name: str) -> Dims | None:
        """Return the shape of a value; None if not even its rank is known."""
        if name in self.known.constants:
            return tuple(self.known.constants[name].dims)
        return self.known.types.get(name, (0, None))[1]

    def rank(self, name: str) -> int:
        """Return the number of axes of a value.

        Raises:
            RefusedError: it is not known.
        """
        shape = self.shape(name)
        if shape is None:
            raise RefusedError(
                f"the number of axes of {name!r} is not known", "save the model with the shapes of its inputs"
            )
        return len(shape)

    def kind(self, name: str) -> int:
        """Return the element type of a value, a ``TensorProto`` data type; float32 if it is not known.

        A wrong guess gives a graph that the checker refuses.
        """
        import onnx

        if name in self.known.constants:
            return int(self.known.constants[name].data_type)
        return self.known.types.get(name, (0, None))[0] or int(onnx.TensorProto.FLOAT)

    def constant(self, name: str) -> "np.ndarray | None":
        """Return a constant as an array; None for a value that is computed or stored elsewhere."""
        import onnx

        tensor = self.known.constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        array: np.ndarray = onnx.numpy_helper.to_array(tensor)
        return array

    def op(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a standard node; return the name of its first output. The others are named NAME:1, NAME:2 and so on."""
        import onnx

        name = self.known.fresh(f"{self.node.output[0]}/{operator}")
        names = [name, *(f"{name}:{index}" for index in range(1, outputs))]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        given = {key: value for key, value in attributes.items() if value is not None}
        made = onnx.helper.make_node(operator, inputs, names, **given)
        self.nodes.append(made)
        infer(made, self.known, self.opset)
        return name

    def tensor(self, value: Any, dtype: Any = "int64") -> str:
        """Add a constant; return its name."""
        made = self.known.constant(self.node.output[0], value, dtype)
        self.nodes.append(made)
        return str(made.output[0])

    def scalar(self, value: float, like: str) -> str:
        """Add a scalar of the element type of ``like``; return its name."""
        import onnx

        return self.tensor(value, onnx.helper.tensor_dtype_to_np_dtype(self.kind(like)))

    def cast(self, name: str, kind: int) -> str:
        """Return the value in another element type."""
        return name if self.kind(name) == kind else self.op("Cast", name, to=kind)

    def float32(self, name: str) -> str:
        """Return the value in float32."""
        import onnx

        return self.cast(name, onnx.TensorProto.FLOAT)

    def reduce(self, operator: str, name: str, axes: Sequence[int], *, keepdims: bool = True) -> str:
        """Add a reduction over these axes."""
        since = _AXES_AS_INPUT if operator == "ReduceSum" else _REDUCTIONS_AS_INPUT
        if self.opset >= since:
            return self.op(operator, name, self.tensor(list(axes)), keepdims=int(keepdims))
        return self.op(operator, name, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, name: str, axes: Sequence[int]) -> str:
        """Insert axes of size 1."""
        if self.opset >= _AXES_AS_INPUT:
            return self.op("Unsqueeze", name, self.tensor(list(axes)))
        return self.op("Unsqueeze", name, axes=list(axes))

    def squeeze(self, name: str, axes: Sequence[int]) -> str:
        """Remove axes of size 1."""
        if self.opset >= _AXES_AS_INPUT:
            return self.op("Squeeze", name, self.tensor(list(axes)))
        return self.op("Squeeze", name, axes=list(axes))

    def slice(self, name: str, axis: int, start: int, end: int) -> str:
        """Return the part of a value from ``start`` to ``end`` along an axis."""
        if self.opset >= _SLICE_INPUTS:
            bounds = [self.tensor([value]) for value in (start, end, axis)]
            return self.op("Slice", name, *bounds)
        return self.op("Slice", name, starts=[start], ends=[end], axes=[axis])

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps an axis, -1 is inferred."""
        return self.op("Reshape", name, self.tensor(list(shape)))

    def transpose(self, name: str, *order: int) -> str:
        """Permute the axes."""
        return self.op("Transpose", name, perm=list(order))


Rule = Callable[[Emitter], Sequence[str]]
"""Adds the nodes that replace a node, and returns the names of the values of its outputs, in order.

Raises RefusedError if the node has a form that cannot be expressed; "" for an output that cannot.
"""


def infer(node: "onnx.NodeProto", known: Known, opset: int) -> None:
    """Add the types of a standard node's outputs to ``known``, where the types of its inputs are known."""
    import onnx

    given = {name: _type_proto(known, name) for name in node.input if name}
    if node.domain or any(proto is None for proto in given.values()):
        return
    data = {name: known.constants[name] for name in given if name in known.constants}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
        opsets = [onnx.helper.make_opsetid("", opset)]
        found = onnx.shape_inference.infer_node_outputs(schema, node, given, data, opset_imports=opsets)
    except Exception:  # noqa: BLE001 - of no common class; the checker reports errors in the file
        return
    for name, proto in found.items():
        tensor = proto.tensor_type
        if tensor.elem_type:
            dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
            known.types[name] = (tensor.elem_type, dims if tensor.HasField("shape") else None)


def _type_proto(known: Known, name: str) -> "onnx.TypeProto | None":
    import onnx

    if name in known.constants:
        tensor = known.constants[name]
        return onnx.helper.make_tensor_type_proto(tensor.data_type, tuple(tensor.dims))
    kind, dims = known.types.get(name, (0, None))
    return onnx.helper.make_tensor_type_proto(kind, dims) if kind else None

"""Types and constants of an .onnx graph, its subgraphs included, as far as they are known without running it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

_LOADED = 1 << 22  # elements; larger constants are not looked at
SAME_VALUES = {
    "Cast", "CastLike", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose output has the values of their first input, in another shape or type."""


class KnownValues:
    """Types and constants of a model, those of its subgraphs included."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.model = model
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._types: dict[str, tuple[int, list[int | None]]] = {}
        self._read(model.graph)

    def _read(self, graph: "onnx.GraphProto") -> None:
        from onnx import AttributeProto

        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            self._types[value.name] = kind.elem_type, dims
        for tensor in graph.initializer:
            self._tensors[tensor.name] = tensor
            self._types[tensor.name] = tensor.data_type, list(tensor.dims)
        for node in graph.node:
            self._makers |= dict.fromkeys(node.output, node)
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    self._read(attribute.g)

    def shape(self, name: str) -> list[int | None]:
        """The shape, None for an unknown axis; empty if nothing is known."""
        return self._types.get(name, (0, []))[1]

    def integer(self, name: str) -> bool:
        """Whether the elements are integers."""
        from onnx import helper

        kind = self._types.get(name, (0, []))[0]
        return bool(kind) and helper.tensor_dtype_to_np_dtype(kind).kind in "iu"

    def constant(self, name: str) -> "np.ndarray | None":
        """The values of a constant, in any shape; None if it is none, or too large to look at."""
        import numpy as np
        from onnx import TensorProto, numpy_helper

        tensor, node = self._tensors.get(name), self._makers.get(name)
        if tensor is None and node is not None:
            if node.op_type in SAME_VALUES and node.input:
                return self.constant(node.input[0])
            if node.op_type not in {"Constant", "ConstantOfShape"}:
                return None
            value = attributes_of(node)
            if node.op_type == "ConstantOfShape" and "value" not in value:
                return np.zeros(1)
            plain = next(
                (
                    value[key]
                    for key in ("value_float", "value_int", "value_floats", "value_ints")
                    if key in value
                ),
                None,
            )
            if plain is not None:
                return np.asarray(plain)
            tensor = value.get("value")
        if (
            tensor is None
            or tensor.data_location == TensorProto.EXTERNAL
            or not np.prod(tensor.dims) <= _LOADED
        ):
            return None
        try:
            array: np.ndarray = numpy_helper.to_array(tensor)
        except (ValueError, TypeError):
            return None  # damaged, or of a type that NumPy lacks
        return array if array.size and array.dtype.kind in "fiub" else None


def attributes_of(node: "onnx.NodeProto") -> dict[str, Any]:
    """The attributes of a node by name; strings as bytes."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

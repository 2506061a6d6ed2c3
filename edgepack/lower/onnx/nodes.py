"""A node with what is known of its inputs and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ValueType = tuple[str, tuple[int, ...]]
"""Element type and shape."""


@dataclass(frozen=True)
class Node:
    """A node with the types and constants that limits and rewrites depend on."""

    proto: Any  # onnx.NodeProto
    types: Mapping[str, ValueType]
    constants: Mapping[str, Any]  # onnx.TensorProto

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, with bytes decoded to str."""
        import onnx

        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def input(self, index: int) -> str:
        """Name of an input; empty if it is omitted."""
        return str(self.proto.input[index]) if index < len(self.proto.input) else ""

    def input_type(self, index: int) -> ValueType | None:
        """Element type and shape of an input; None if it is missing or its type is unknown."""
        return self.types.get(self.input(index)) if self.input(index) else None

    def output_type(self, index: int = 0) -> ValueType | None:
        """Element type and shape of an output; None if its type is unknown."""
        return self.types.get(self.proto.output[index]) if index < len(self.proto.output) else None

    def constant(self, index: int) -> Any:
        """A constant input as an array; None if it is not constant."""
        import onnx

        name = self.input(index)
        return onnx.numpy_helper.to_array(self.constants[name]) if name in self.constants else None

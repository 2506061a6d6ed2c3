"""The nodes and constants that replace a node."""

from collections.abc import Sequence
from typing import Any


class Patch:
    """Builds the replacement of one node: ONNX nodes of the model's opset, and constants, with names of their own."""

    def __init__(self, name: str, opset: int) -> None:
        self._name = name
        self._count = 0
        self.opset = opset
        self.nodes: list[Any] = []  # onnx.NodeProto
        self.constants: list[Any] = []  # onnx.TensorProto

    def constant(self, value: Any, dtype: str | None = None) -> str:
        """Add a constant; returns its name."""
        import numpy as np
        import onnx

        name = self._new("constant")
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def scalar(self, value: float, dtype: str) -> str:
        """Add a constant without axes; returns its name."""
        import numpy as np
        import onnx

        name = self._new("constant")
        self.constants.append(onnx.numpy_helper.from_array(np.array(value).astype(dtype), name))
        return name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node; returns the names of its outputs."""
        import onnx

        names = [self._new(operator) for _ in range(outputs)]
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(onnx.helper.make_node(operator, inputs, names, name=names[0], **given))
        return names

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns its name."""
        return self.node(operator, *inputs, **attributes)[0]

    def again(self, proto: Any, *inputs: str) -> list[str]:
        """Add a node with the operator and attributes of another; returns the names of its outputs."""
        import onnx

        names = [self._new(proto.op_type) for _ in proto.output]
        copy = onnx.NodeProto()
        copy.CopyFrom(proto)
        copy.name = names[0]
        copy.input[:], copy.output[:] = inputs, names
        self.nodes.append(copy)
        return names

    def cast(self, value: str, dtype: str) -> str:
        """Convert a value to an element type."""
        import numpy as np
        import onnx

        return self.op("Cast", value, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Give a value another shape; no size of it may be 0."""
        return self.op("Reshape", value, self.constant(list(shape), "int64"))

    def transpose(self, value: str, perm: Sequence[int]) -> str:
        """Permute a value's axes."""
        return value if list(perm) == list(range(len(perm))) else self.op("Transpose", value, perm=list(perm))

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{self._name}/{kind}_{self._count}"


def set_attributes(proto: Any, **attributes: Any) -> None:
    """Set a node's attributes; None removes one."""
    import onnx

    kept = [each for each in proto.attribute if each.name not in attributes]
    del proto.attribute[:]
    proto.attribute.extend(kept)
    given = {name: value for name, value in attributes.items() if value is not None}
    proto.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in sorted(given.items()))

"""What a conversion rule sees of a node, and how it changes it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import numpy as np
    import onnx

Dims = tuple[int | None, ...]
"""A shape; None for an axis whose size is not known."""


class RefusedError(Exception):
    """Raised by a rule for a node that it cannot convert."""

    def __init__(self, why: str, next_step: str) -> None:
        super().__init__(why)
        self.why, self.next_step = why, next_step


@dataclass
class Known:
    """What is known of a model's values while its nodes are converted."""

    types: "dict[str, tuple[int, Dims | None]]" = field(default_factory=dict)  # element type and shape
    constants: "dict[str, onnx.TensorProto]" = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # names that some node reads, or that the model returns
    taken: set[str] = field(default_factory=set)  # every name

    def fresh(self, base: str) -> str:
        """Return a new name that begins with ``base``."""
        number = 0
        while (name := f"{base}/{number}") in self.taken:
            number += 1
        self.taken.add(name)
        return name

    def constant(self, base: str, value: Any, dtype: Any) -> "onnx.NodeProto":
        """Return a node that makes a constant, whose name begins with ``base``."""
        import onnx

        name = self.fresh(f"{base}/constant")
        tensor = onnx.numpy_helper.from_array(onnx.helper.np.asarray(value, dtype), name)
        self.constants[name] = tensor
        return onnx.helper.make_node("Constant", [], [name], value=tensor)


class Site:
    """A node to convert. A rule changes ``node`` in place, and may add nodes before and after it.

    ``node`` is the node itself, which keeps its name and its first output's name.
    """

    def __init__(self, node: "onnx.NodeProto", known: Known) -> None:
        self.node, self.known = node, known
        self.before: list[onnx.NodeProto] = []
        self.after: list[onnx.NodeProto] = []

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, text as str."""
        import onnx

        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def take(self, name: str, default: Any = None) -> Any:
        """Remove an attribute and return its value."""
        value = self.attribute(name, default)
        kept = [attribute for attribute in self.node.attribute if attribute.name != name]
        del self.node.attribute[:]
        self.node.attribute.extend(kept)
        return value

    def give(self, **attributes: Any) -> None:
        """Set attributes; the node must not have them yet."""
        import onnx

        self.node.attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in attributes.items()
        )

    def replace(self, operator: str, *inputs: str, **attributes: Any) -> None:
        """Make the node another operator with these inputs and attributes; it keeps its name and outputs."""
        self.node.op_type = operator
        self.inputs(*inputs)
        del self.node.attribute[:]
        self.give(**attributes)

    def inputs(self, *names: str) -> None:
        """Set the node's inputs; "" omits one."""
        while names and not names[-1]:
            names = names[:-1]
        del self.node.input[:]
        self.node.input.extend(names)

    def outputs(self, count: int) -> None:
        """Keep the first ``count`` outputs."""
        del self.node.output[count:]

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name; the node follows if ``output`` is given."""
        import onnx

        name = output or self.known.fresh(f"{self.node.output[0]}/{operator}")
        made = onnx.helper.make_node(operator, inputs, [name], **attributes)
        (self.after if output else self.before).append(made)
        return name

    def tensor(self, value: Any, dtype: Any = "int64") -> str:
        """Add a constant and return its name."""
        made = self.known.constant(self.node.output[0], value, dtype)
        self.before.append(made)
        return str(made.output[0])

    def like(self, value: float, index: int = 0) -> str:
        """Add a scalar of the element type of an input, limited to that type's range; return its name."""
        import onnx

        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.kind(index))
        finite = onnx.helper.np.finfo(dtype) if dtype.kind == "f" else None
        limited = value if finite is None else min(max(value, float(finite.min)), float(finite.max))
        return self.tensor(limited, dtype)

    def kind(self, index: int = 0) -> int:
        """Return the element type of an input, a ``TensorProto`` data type.

        Raises:
            RefusedError: it is not known.
        """
        name = self.node.input[index]
        if name in self.known.constants:
            return int(self.known.constants[name].data_type)
        kind, _ = self.known.types.get(name, (0, None))
        if not kind:
            raise RefusedError(
                f"the element type of {name!r} cannot be inferred", "export the model with opset 18"
            )
        return kind

    def shape(self, index: int = 0) -> Dims | None:
        """Return the shape of an input; None if not even its rank is known."""
        name = self.node.input[index]
        if name in self.known.constants:
            return tuple(self.known.constants[name].dims)
        return self.known.types.get(name, (0, None))[1]

    def constant(self, index: int) -> "np.ndarray | None":
        """Return a constant input; None if it is omitted or computed."""
        import onnx

        name = self.node.input[index] if index < len(self.node.input) else ""
        tensor = self.known.constants.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def used(self, index: int) -> bool:
        """Whether anything reads an output."""
        return index < len(self.node.output) and self.node.output[index] in self.known.used

    def named(self, index: int) -> bool:
        """Whether the node has this output."""
        return index < len(self.node.output) and bool(self.node.output[index])


Rule = Callable[[Site], None]
"""Converts a node to the next version of its operator. Raises RefusedError if it cannot."""


def known_of(model: "onnx.ModelProto") -> Known:
    """Return what shape inference and constants say of a model's values.

    Types are inferred where possible: an error of the inference leaves them unknown.
    """
    import onnx

    try:
        typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 - the inference of old operators raises errors of several classes
        typed = model
    known = Known()
    for graph in graphs(typed.graph):
        known.used.update(value.name for value in graph.output)
        for value in (*graph.input, *graph.value_info, *graph.output):
            known.taken.add(value.name)
            tensor = value.type.tensor_type
            dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
            known.types[value.name] = (tensor.elem_type, dims if tensor.HasField("shape") else None)
        for tensor in graph.initializer:
            known.constants[tensor.name] = tensor
    for nodes in (*(graph.node for graph in graphs(typed.graph)), *(each.node for each in model.functions)):
        for node in nodes:
            known.used.update(node.input)
            known.taken.update((*node.input, *node.output))
            value = next((each.t for each in node.attribute if each.name == "value"), None)
            if node.op_type == "Constant" and value is not None:
                known.constants[node.output[0]] = value
    for function in model.functions:
        known.used.update(function.output)
        known.taken.update((*function.input, *function.output))
    known.taken.update(known.constants)
    return known

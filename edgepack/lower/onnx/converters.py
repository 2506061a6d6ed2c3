"""TVM's ONNX importer under watch: an operator that it would import wrongly is refused by name.

TVM's converters ignore what they do not know. Here each one is watched while it works: an attribute or input
that it never looks at, and an output of another type than ONNX's inference finds, make an ``ModelProblem``.
"""

from collections.abc import Callable, Iterator
from typing import Any

from edgepack.errors import ModelProblem
from edgepack.lower.onnx.support import Node, ValueType, limit, missing, unusable
from edgepack.onnxfile.reading import nodes as every_node

UNREAD = {
    ("Conv", "kernel_shape"),  # the weight's shape tells
    ("ConvTranspose", "kernel_shape"),
    ("Split", "num_outputs"),  # the node's outputs tell; shares that are not equal have other types
}
"""Attributes that need not be read, because what they say is known from elsewhere."""


class _Attributes(dict[str, Any]):
    """A node's attributes, and which of them were read."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self.read.add(key)
        return super().pop(key, *default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self.read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        self.read.update(super().keys())
        return super().items()

    def copy(self) -> Any:
        self.read.update(super().keys())
        return super().copy()


def importer(
    model: Any,
    shapes: dict[str, list[int]],
    types: dict[str, ValueType],
    report: Callable[[ModelProblem], None],
) -> Any:
    """TVM's importer, which tells ``report`` about each node that it cannot import, or would import wrongly.

    If ``report`` returns, the node's outputs become zeros of the type that ONNX's inference gives, and the
    import goes on: what it makes then is good for finding more, and for nothing else.

    Args:
        model: The ONNX model, in canonical form: its nodes have unique names.
        shapes: Of the graph's inputs.
        types: Element type and shape of each value, where ONNX's inference knows both.
        report: Called for each problem.
    """
    from tvm import relax
    from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map

    watched_inputs = _watched_inputs()
    nodes = {node.name: node for node in every_node(model)}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}

    class Importer(ONNXGraphImporter):  # type: ignore[misc]  # TVM is untyped
        def _check_for_unsupported_ops(self, graph: Any) -> None:
            """Nothing here: ``_convert_operator`` reports them one by one."""

        def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
            node = nodes[attrs["tvm_custom"]["name"]]
            if op_name not in _get_convert_map():
                report(missing(op_name, node.name))
                return self._zeros(node)
            beyond = limit(Node(node, types, constants))
            if beyond is not None:
                report(beyond)
                return self._zeros(node)
            watched, given = _Attributes(attrs), watched_inputs(inputs)
            try:
                made = super()._convert_operator(op_name, given, watched, opset)
                why = _ignored(node, opset, watched.read, given.read) or _mistyped(node, made, types)
            except Exception as error:  # noqa: BLE001 - converters raise whatever Python or TVM raises
                why = f"{type(error).__name__}: {_last_line(error)}"
            if why is None:
                return made
            report(unusable(op_name, opset, node.name, why))
            return self._zeros(node)

        def _zeros(self, node: Any) -> Any:
            """Something of the right type in the place of what cannot be imported."""
            made = []
            for name in node.output:
                dtype, shape = types.get(name, ("float32", ()))
                made.append(self.bb.normalize(relax.op.zeros(shape, dtype)))
            return made[0] if len(made) == 1 else relax.Tuple(made)

    return Importer(shapes, "float32", sanitize=False)


def _watched_inputs() -> Any:
    """The class of a node's inputs that knows which of them were read."""
    from tvm.relax.frontend.onnx.onnx_frontend import onnx_input

    class Inputs(onnx_input):  # type: ignore[misc]  # TVM is untyped
        def __init__(self, values: Any) -> None:
            super().__init__(values)
            self.read: set[int] = set()

        def __getitem__(self, item: Any) -> Any:
            if isinstance(item, slice):
                return super().__getitem__(item)
            self.read.add(item % len(self) if item < 0 else item)
            return list.__getitem__(self, item) if item < len(self) else None

        def __iter__(self) -> Any:
            self.read.update(range(len(self)))
            return super().__iter__()

    return Inputs


def _mistyped(node: Any, made: Any, types: dict[str, ValueType]) -> str | None:
    """What TVM makes of a node's outputs against what ONNX says they are."""
    from tvm import relax, tirx

    found = made.ty.fields if isinstance(made.ty, relax.TupleType) else [made.ty]
    if any(node.output[len(found) :]):
        return f"TVM makes {len(found)} of its {len(node.output)} outputs"
    for name, ty in zip(node.output, found, strict=False):
        if not name or not isinstance(ty, relax.TensorType):
            continue
        shape = ty.shape if isinstance(ty.shape, relax.ShapeExpr) else None
        if shape is None or not all(isinstance(dim, tirx.IntImm) for dim in shape):
            return f"the shape of {name!r} is not known before the model runs"
        got = (str(ty.dtype), tuple(int(dim) for dim in shape))
        if name in types and got != types[name]:
            return f"TVM makes {_shown(got)} of {name!r}, which is {_shown(types[name])}"
    return None


def _shown(kind: ValueType) -> str:
    return f"{kind[0]}{list(kind[1])}"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else "no message"


def _ignored(node: Any, opset: int, attributes: set[str], inputs: set[int]) -> str | None:
    """Which of the node's attributes and inputs its converter never looked at, if that can matter."""
    import onnx

    schema = onnx.defs.get_schema(node.op_type, opset)
    for attribute in node.attribute:
        name = attribute.name
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if name in attributes or (node.op_type, name) in UNREAD:
            continue
        value = onnx.helper.get_attribute_value(attribute)
        if default is None or not default.name or value != onnx.helper.get_attribute_value(default):
            return f"TVM's importer does not look at the attribute {name} ({str(value)[:60]})"
    for index, name in enumerate(node.input):
        if name and index not in inputs:
            return f"TVM's importer does not look at input {index}, {name!r}"
    return None

"""TVM's ONNX importer with checks: an operator that it would import incorrectly is rejected by name.

TVM's converters ignore what they do not support. Here each conversion is checked: an attribute or input that the
converter never reads, or an output whose type differs from ONNX's shape inference, gives an ``ModelProblem``.
"""

from collections.abc import Callable, Iterator
from typing import Any

from edgepack.errors import ModelProblem
from edgepack.lower.onnx.nodes import Node, ValueType
from edgepack.lower.onnx.support import limit, missing, unusable
from edgepack.onnxfile.reading import nodes as every_node

UNREAD = {
    ("Conv", "kernel_shape"),  # implied by the weight's shape
    ("ConvTranspose", "kernel_shape"),
    ("Split", "num_outputs"),  # implied by the node's outputs; unequal parts have other types
}
"""Attributes that a converter need not read, because their value is implied."""


class _Attributes(dict[str, Any]):
    """A node's attributes; records which of them were read."""

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
    """TVM's importer, which calls ``report`` for each node that it cannot import or would import incorrectly.

    If ``report`` returns, the node's outputs become zeros of the inferred type, and the import continues; the
    resulting module may only be used to find further problems.

    Args:
        model: The ONNX model in canonical form: its nodes have unique names.
        shapes: Shapes of the graph's inputs.
        types: Element type and shape of each value for which ONNX's shape inference knows both.
        report: Called for each problem.
    """
    from tvm import relax
    from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map

    watched_inputs = _watched_inputs()
    nodes = {node.name: node for node in every_node(model)}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}

    class Importer(ONNXGraphImporter):  # type: ignore[misc]  # TVM is untyped
        def _check_for_unsupported_ops(self, graph: Any) -> None:
            """Does nothing: ``_convert_operator`` reports unsupported operators one by one."""

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
                convert = (
                    _to_integers if _is_to_integers(op_name, given, attrs) else super()._convert_operator
                )
                output = convert(op_name, given, watched, opset)
                why = _find_ignored(node, opset, watched.read, given.read) or _find_mistyped(
                    node, output, types
                )
            except Exception as error:  # noqa: BLE001 - converters raise whatever Python or TVM raises
                why = f"{type(error).__name__}: {_last_line(error)}"
            if why is None:
                return output
            report(unusable(op_name, opset, node.name, why))
            return self._zeros(node)

        def _zeros(self, node: Any) -> Any:
            """Return zeros of the right type in place of the node's outputs."""
            zeros = []
            for name in node.output:
                dtype, shape = types.get(name, ("float32", ()))
                zeros.append(self.bb.normalize(relax.op.zeros(shape, dtype)))
            return zeros[0] if len(zeros) == 1 else relax.Tuple(zeros)

    return Importer(shapes, "float32", sanitize=False)


def _is_to_integers(operator: str, inputs: Any, attributes: dict[str, Any]) -> bool:
    """Whether the node is a Cast of floating-point numbers to integers."""
    from onnx.helper import tensor_dtype_to_np_dtype
    from tvm import ir, relax

    if operator != "Cast" or isinstance(inputs[0], ir.GenericConst):
        return False
    ty = getattr(inputs[0], "ty", None)
    if not isinstance(ty, relax.TensorType) or "float" not in str(ty.dtype):
        return False
    return tensor_dtype_to_np_dtype(attributes["to"]).kind in "iu"


def _to_integers(_operator: str, inputs: Any, attributes: _Attributes, _opset: int) -> Any:
    """Import such a Cast as one operator, whose values the code generator defines.

    TVM's converter replaces numbers that are not finite by 0, and reduces others modulo the type's size.
    """
    from onnx.helper import tensor_dtype_to_np_dtype
    from tvm import relax

    return relax.op.astype(inputs[0], tensor_dtype_to_np_dtype(attributes["to"]).name)


def _watched_inputs() -> Any:
    """Return a class for a node's inputs that records which of them were read."""
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


def _find_mistyped(node: Any, output: Any, types: dict[str, ValueType]) -> str | None:
    """Compare the types of the imported outputs with ONNX's; return the difference, or None."""
    from tvm import relax, tirx

    outputs = output.ty.fields if isinstance(output.ty, relax.TupleType) else [output.ty]
    if any(node.output[len(outputs) :]):
        return f"TVM imports {len(outputs)} of its {len(node.output)} outputs"
    for name, ty in zip(node.output, outputs, strict=False):
        if not name or not isinstance(ty, relax.TensorType):
            continue
        shape = ty.shape if isinstance(ty.shape, relax.ShapeExpr) else None
        if shape is None or not all(isinstance(dim, tirx.IntImm) for dim in shape):
            return f"the shape of {name!r} is only known at run time"
        got = (str(ty.dtype), tuple(int(dim) for dim in shape))
        if name in types and got != types[name]:
            return f"TVM imports {name!r} as {_format_type(got)} instead of {_format_type(types[name])}"
    return None


def _format_type(kind: ValueType) -> str:
    return f"{kind[0]}{list(kind[1])}"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else "no message"


def _find_ignored(node: Any, opset: int, attributes: set[str], inputs: set[int]) -> str | None:
    """Return which attribute or input the converter never read, if it can affect the result."""
    import onnx

    schema = onnx.defs.get_schema(node.op_type, opset)
    for attribute in node.attribute:
        name = attribute.name
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if name in attributes or (node.op_type, name) in UNREAD:
            continue
        value = onnx.helper.get_attribute_value(attribute)
        if default is None or not default.name or value != onnx.helper.get_attribute_value(default):
            return f"TVM's importer ignores the attribute {name} ({str(value)[:60]})"
    for index, name in enumerate(node.input):
        if name and index not in inputs:
            return f"TVM's importer ignores input {index}, {name!r}"
    return None

"""TVM's ONNX importer with checks: an operator that it would import incorrectly is rejected by name.

TVM's converters ignore what they do not support. Here each conversion is checked: an attribute or input that the
converter never reads, or an output whose type differs from ONNX's shape inference, gives an ``ModelProblem``.
"""

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from edgepack.errors import EdgepackError, ModelProblem
from edgepack.lower.onnx.nodes import Node, ValueType
from edgepack.lower.onnx.recurrent import RECURRENT, convert_recurrent
from edgepack.lower.onnx.support import limit, missing, unusable
from edgepack.onnxfile.reading import nodes as every_node

UNREAD = {
    ("Conv", "kernel_shape"),  # implied by the weight's shape
    ("ConvTranspose", "kernel_shape"),
    ("Split", "num_outputs"),  # implied by the node's outputs; unequal parts have other types
}
"""Attributes that a converter need not read, because their value is implied."""

_RELAX_TYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_RELAX_TYPES |= {"float16", "float32", "float64", "bfloat16", "bool"}


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
    from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

    class Importer(_Checks, ONNXGraphImporter):  # type: ignore[misc]  # TVM is untyped
        pass

    tvm_importer = Importer(shapes, "float32", sanitize=False)
    tvm_importer.prepare(model, types, report)
    return tvm_importer


class _Checks:
    """What is checked around TVM's importer, which is the second base of its subclass."""

    bb: Any  # TVM's block builder
    opset: int

    def prepare(
        self, model: Any, types: dict[str, ValueType], report: Callable[[ModelProblem], None]
    ) -> None:
        """Set what the checks need; see ``importer``."""
        self._by_name = {node.name: node for node in every_node(model)}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._types, self._report = types, report
        self._made: dict[Any, str] = {}  # the node whose output a variable is
        self._unread: dict[str, str] = {}  # constants that TVM cannot store, with their types
        self._watched_inputs = _watched_inputs()

    def _check_for_unsupported_ops(self, graph: Any) -> None:
        """Does nothing: ``_convert_operator`` reports unsupported operators one by one."""

    def _new_var(self, var_name: str, *given: Any, **more: Any) -> Any:
        """An input of the graph; CUDA kernels name their parameters after it."""
        plain = re.sub(r"\W|^(?=\d)", "_", var_name, flags=re.ASCII)
        return super()._new_var(plain, *given, **more)  # type: ignore[misc] # TVM's

    def _parse_array(self, tensor: Any) -> Any:
        """Read a constant; one that TVM cannot store becomes zeros, and the nodes that read it are reported."""
        import numpy as np
        import onnx
        import tvm

        try:
            return super()._parse_array(tensor)  # type: ignore[misc] # TVM's
        except Exception:  # noqa: BLE001 - TVM and ml_dtypes raise errors of no common class
            self._unread[tensor.name] = str(onnx.TensorProto.DataType.Name(tensor.data_type)).lower()
            return tvm.runtime.tensor(np.zeros(tuple(tensor.dims), "float32"))

    def _construct_nodes(self, graph: Any) -> None:
        """Import node by node; whatever fails outside a converter is reported with its node."""
        for node in graph.node:
            unread = [name for name in node.input if name in self._unread]
            try:
                if not unread:
                    super()._construct_nodes(SimpleNamespace(node=[node]))  # type: ignore[misc] # TVM's
                    self._note_outputs(node)
                    continue
                why = f"its constant {unread[0]!r} has the element type {self._unread[unread[0]]}"
            except EdgepackError:
                raise
            except Exception as error:  # noqa: BLE001 - TVM raises errors of no common class
                why = _said(error)
            self._report(unusable(node.op_type, self.opset, node.name, why))
            self._nodes: dict[str, Any]
            self._nodes.update(zip(node.output, self._zeros(node), strict=True))

    def _note_outputs(self, node: Any) -> None:
        """Remember the node of a variable; a call that no variable has yet gets it as its place in the source."""
        from tvm import ir, relax

        place = ir.Span(ir.SourceName(node.name), 0, 0, 0, 0)
        for name in filter(None, node.output):
            value = self._nodes[name]
            if isinstance(value, relax.Var):
                self._made.setdefault(value, node.name)
            elif isinstance(value, ir.Call) and value.span is None:
                self._nodes[name] = ir.Call(
                    value.op, value.args, value.attrs, value.ty_args, place, ret_ty=value.ty
                )

    def made(self, mod: Any) -> dict[Any, str]:
        """Return the name of the node whose output, or part of it, a variable of the imported module is."""
        spans = {
            binding.var: str(span.source_name.name)
            for block in mod["main"].body.blocks
            for binding in block.bindings
            if (span := getattr(binding.value, "span", None)) is not None
        }
        return self._made | spans

    def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
        from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

        node = self._by_name[attrs["tvm_custom"]["name"]]
        if op_name not in {*RECURRENT, *_get_convert_map()}:
            return self._refuse(node, missing(op_name, node.name))
        beyond = limit(Node(node, self._types, self._tensors))
        if beyond is not None:
            return self._refuse(node, beyond)
        watched, given = _Attributes(attrs), self._watched_inputs(inputs)
        try:
            convert = super()._convert_operator  # type: ignore[misc] # TVM's
            if _is_to_integers(op_name, given, attrs):
                convert = _to_integers
            elif op_name in RECURRENT:
                convert = self._convert_recurrent
            output = convert(op_name, given, watched, opset)
            why = _find_ignored(node, opset, watched.read, given.read) or _find_mistyped(
                node, output, self._types
            )
        except Exception as error:  # noqa: BLE001 - converters raise whatever Python or TVM raises
            why = _said(error)
        return output if why is None else self._refuse(node, unusable(op_name, opset, node.name, why))

    def _convert_recurrent(self, operator: str, inputs: Any, attributes: Any, _opset: int) -> Any:
        return convert_recurrent(self.bb, operator, inputs, attributes)

    def _refuse(self, node: Any, problem: ModelProblem) -> Any:
        from tvm import relax

        self._report(problem)
        zeros = self._zeros(node)
        return zeros[0] if len(zeros) == 1 else relax.Tuple(zeros)

    def _zeros(self, node: Any) -> list[Any]:
        """Return zeros of the right types in place of the node's outputs."""
        from tvm import relax

        kinds = [self._types.get(name, ("float32", ())) for name in node.output]
        return [
            self.bb.normalize(relax.op.zeros(shape, dtype if dtype in _RELAX_TYPES else "float32"))
            for dtype, shape in kinds
        ]


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


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"TVM's importer fails: {lines[-1].strip() if lines else type(error).__name__}"


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

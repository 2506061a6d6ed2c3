"""Find the nodes of a model that make the lowering or the code generation fail."""

from collections.abc import Callable, Iterator
from typing import Any

from edgepack.errors import EdgepackError, ModelProblem
from edgepack.lower.onnx.frontend import import_model, value_types
from edgepack.lower.onnx.support import ADVICE, OTHER_FORM

MOST = 200  # nodes that are tried, of different forms


def locate(model: Any, where: str, lower: Callable[[Any], object]) -> Iterator[ModelProblem]:
    """Yield a problem for each node that fails on its own; of nodes of the same form, only the first is tried.

    Args:
        model: The ONNX model that was imported, as :func:`edgepack.lower.onnx.frontend.import_model` returns it.
        where: Name of the model, for errors.
        lower: Lowers the Relax module of a single node as far as the model's failed; raises EdgepackError if it fails.
    """
    types = value_types(model.graph)
    tried: set[bytes] = set()
    for node in model.graph.node:
        form = _form(node, types)
        if form in tried:
            continue
        tried.add(form)
        if len(tried) > MOST:
            return
        try:
            module, problems, _ = import_model(_single_node_model(model, node, types), where)
            if not problems:
                lower(module)
        except EdgepackError as alone:
            why = alone.why or alone.message
            message = f"operator {node.op_type} cannot be lowered in this form"
            yield ModelProblem(node.op_type, node.name, message, why, ADVICE.get(node.op_type, OTHER_FORM))


def _form(node: Any, types: Any) -> bytes:
    """Return what determines how a node is lowered: operator, attributes and types."""
    import onnx

    bare = onnx.NodeProto(op_type=node.op_type, attribute=node.attribute)
    values = [str(types.get(name)) for name in (*node.input, *node.output)]
    return bytes(bare.SerializeToString(deterministic=True)) + ";".join(values).encode()


def _single_node_model(model: Any, node: Any, types: Any) -> Any:
    """Build a model of this node alone, with the constants it has in the whole model."""
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def info(name: str) -> Any:
        dtype, shape = types.get(name, ("float32", ()))
        return onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(onnx.helper.np.dtype(dtype)), shape
        )

    names = [name for name in dict.fromkeys(node.input) if name]
    graph = onnx.helper.make_graph(
        [node],
        "main",
        [info(name) for name in names if name not in constants],
        [info(name) for name in node.output if name],
        [constants[name] for name in names if name in constants],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)

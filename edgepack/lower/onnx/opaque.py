"""Keep TVM's importer from computing encoded constants: what it is not to see becomes an input during the import.

TVM's converters compute with constants where they can, so that only the decoded weight would arrive. Here the elements
of encoded constants, and the positions from which hashed weights compute their codes, are inputs of the graph while it
is imported, and constants again afterwards.
"""

from dataclasses import dataclass
from typing import Any

from edgepack.lower.phase import Origin, content_of
from edgepack.onnxfile.encodings import decodings
from edgepack.onnxfile.encodings.expressions import nbytes

_SMALL = 256  # bytes; shapes and the like are known to converters


@dataclass(frozen=True)
class Hidden:
    """A model in which constants are inputs, and their values by name, in the order of these inputs."""

    model: Any
    values: dict[str, Any]


def hide(model: Any) -> Hidden:
    """Return a copy of an ONNX model whose encoded constants are inputs, after its own."""
    import onnx
    import onnx_ir as ir

    hidden = onnx.ModelProto()
    hidden.CopyFrom(model)
    graph, values = hidden.graph, {}
    wanted = {
        str(tensor.name)
        for decoded in decodings(ir.from_proto(model).graph)
        for number, tensor in enumerate(decoded.tensors)
        if number == 0 or nbytes(tensor) >= _SMALL
    }
    ranges = _ranges(model)
    for tensor in [tensor for tensor in graph.initializer if tensor.name in wanted]:
        values[tensor.name] = onnx.numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
    for node in [node for node in graph.node if node.output[0] in ranges]:
        values[node.output[0]] = ranges[node.output[0]]
        graph.node.remove(node)
    for name, value in values.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    return Hidden(hidden, values)


def reveal(mod: Any, hidden: Hidden) -> Any:
    """Bind the last parameters of an imported module to the values that were hidden."""
    from tvm import relax

    if not hidden.values:
        return mod
    main = mod["main"]
    inputs = len(main.params) - len(hidden.values)
    given = {
        var: relax.const(value, str(var.ty.dtype))
        for var, value in zip(main.params[inputs:], hidden.values.values(), strict=True)
    }
    mod = relax.transform.BindParams("main", given)(mod)
    mod.update_func(mod.get_global_var("main"), mod["main"].with_attr("num_input", inputs))
    return mod


def positions(model: Any) -> dict[str, Origin]:
    """Return how to compute the positions of hashed weights, by their content."""
    from tvm import relax

    found = {}
    for value in _ranges(model).values():
        if value.size > 1:
            first, step = int(value[0]), int(value[1] - value[0])
            call = relax.op.arange(first, first + step * value.size, step, str(value.dtype))
            found[content_of(value)] = Origin(call)
    return found


def _ranges(model: Any) -> dict[str, Any]:
    """Return the values of the constant ranges in decodings of a model, by name."""
    import numpy as np
    import onnx_ir as ir

    nodes = [node for decoded in decodings(ir.from_proto(model).graph) for node in decoded.nodes]
    found = {}
    for node in nodes:
        given = [
            each.const_value for each in node.inputs if each is not None and each.const_value is not None
        ]
        if node.op_type != "Range" or len(given) != len(node.inputs):
            continue
        first, end, step = (int(each.numpy()) for each in given)
        kind = given[0].numpy().dtype
        if np.issubdtype(kind, np.integer):
            found[str(node.outputs[0].name)] = np.arange(first, end, step).astype(kind)
    return found

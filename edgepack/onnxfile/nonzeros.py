"""How many of a model's parameters are not zero, decoded."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings import decodings
from edgepack.spec.encoding import DENSE, EncodedConstant

if TYPE_CHECKING:
    import numpy as np
    import onnx


def count_nonzeros(model: "onnx.ModelProto", constants: "Collection[EncodedConstant]") -> int:
    """Return the number of elements other than zero of ``constants``, each in its decoded form."""
    import numpy as np
    from onnx import numpy_helper

    wanted = {constant.name: constant for constant in constants}
    total = 0
    for tensor in model.graph.initializer:
        if tensor.name in wanted and wanted[tensor.name].encoding == DENSE:
            total += int(np.count_nonzero(numpy_helper.to_array(tensor)))
    return total + sum(int(np.count_nonzero(array)) for array in _decoded(model, wanted))


def _decoded(model: "onnx.ModelProto", wanted: Collection[str]) -> "list[np.ndarray]":
    """The encoded constants of these names as the model's own nodes decode them."""
    import onnx
    import onnx_ir as ir
    import onnxruntime as ort

    found = {}
    nodes: set[str] = set()
    for each in decodings(ir.from_proto(model).graph):
        name = str(each.tensors[0].name)
        if name in wanted and name not in found:
            found[name] = str(each.nodes[-1].outputs[0].name)
            nodes |= {str(output.name) for node in each.nodes for output in node.outputs}
    if not found:
        return []
    part = onnx.ModelProto()
    part.CopyFrom(model)
    kept = [node for node in model.graph.node if nodes & set(node.output)]
    used = {name for node in kept for name in node.input}
    for field in ("node", "initializer", "input", "output", "value_info"):
        part.graph.ClearField(field)
    part.graph.node.extend(kept)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    for name in found.values():
        part.graph.output.add().name = name
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {}))

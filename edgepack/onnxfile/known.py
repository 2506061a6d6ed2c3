"""Replace nodes whose results are known by constants, to a fixed point.

A result is known if it is the shape of a tensor of static shape, or computed from constants: shape arithmetic, patterns
that are filled or repeated, windows and filter banks of fixed size. An ``If`` on a known condition is replaced by its
branch, and loops of a known number of steps are unrolled. onnxscript's folding, which runs before, stops at several operators (ConstantOfShape, Expand of constants) and does
not follow what becomes known when a branch is chosen. Encoded constants stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.encodings import is_encoded
from edgepack.onnxfile.inlining import STANDARD
from edgepack.onnxfile.protos import inner_graphs
from edgepack.onnxfile.quiet import quiet
from edgepack.onnxfile.sequences import OPERATORS as SEQUENCE_OPERATORS
from edgepack.onnxfile.sequences import Sequences
from edgepack.onnxfile.unrolling import Inlined, take_branch, unroll_loop, unroll_scan

if TYPE_CHECKING:
    import numpy as np
    import onnx

LARGEST = 1 << 16
"""Elements of a result up to which it is stored in the file; larger ones are computed, unless they are smaller than
what they are computed from."""

# Not evaluated: quantized weights stay small, and random numbers differ on each run.
_KEPT = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Bernoulli", "Multinomial"}


def fold_known(
    model: "onnx.ModelProto", wanted: "Callable[[onnx.NodeProto], bool]" = lambda _: False
) -> "onnx.ModelProto":
    """Return a copy of the model in which all nodes whose results are known are constants; itself if there are none.

    Args:
        model: In canonical form, except that shapes need not be inferred.
        wanted: Whether a node is evaluated even if its result is large, or encoded.
    """
    import onnx

    while (folded := _fold_once(model, wanted)) is not None:
        # Shapes that follow from what is now constant make more of the graph known.
        del folded.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(folded, data_prop=True)
    return model


def evaluate(
    node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]", opset: int
) -> "list[np.ndarray] | None":
    """Return the outputs of a node whose inputs are all constants; None if neither runtime can compute it."""
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx.reference import ReferenceEvaluator

    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [constants[name] for name in dict.fromkeys(node.input) if name],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtimes: tuple[Callable[[], Any], ...] = (
        lambda: ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]),
        lambda: ReferenceEvaluator(model),
    )
    for runtime in runtimes:
        try:
            with quiet(), np.errstate(all="ignore"):
                results = runtime().run(None, {})
        except Exception:  # noqa: BLE001, S112 - whatever they raise for types and forms that they lack
            continue
        if all(isinstance(each, np.ndarray | np.generic) for each in results):
            return [np.asarray(each) for each in results]
    return None


def _fold_once(
    model: "onnx.ModelProto", wanted: "Callable[[onnx.NodeProto], bool]"
) -> "onnx.ModelProto | None":
    """Return a copy in which what is known from the shapes and constants so far is folded; None if nothing is."""
    import onnx

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    encoded = _encoded(model)
    shapes = _shapes(graph)
    opset = next(int(each.version) for each in model.opset_import if each.domain in STANDARD)
    kept: list[onnx.NodeProto] = []
    added = onnx.GraphProto()
    sequences = Sequences(constants, shapes)
    for node in graph.node:
        inlined = _inlined(node, constants, shapes, sequences)
        if inlined is not None:
            kept.extend(inlined.nodes)
            added.initializer.extend(inlined.constants)
            continue
        if node.op_type == "Compress" and node.input[1] in constants and node.domain in STANDARD:
            kept.extend(_selection(node, constants, added))
            continue
        forced = wanted(node)
        values = None
        if forced or node.output[0] not in encoded:
            values = _values(node, constants, shapes, opset, forced=forced)
        if values is None:
            kept.append(node)
            continue
        for name, value in zip((name for name in node.output if name), values, strict=True):
            constants[name] = onnx.numpy_helper.from_array(value, name)
            added.initializer.append(constants[name])
    if len(kept) == len(graph.node) and all(a is b for a, b in zip(kept, graph.node, strict=True)):
        return None
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    del folded.graph.node[:]
    folded.graph.node.extend(kept)
    folded.graph.initializer.extend(added.initializer)
    return folded


def _values(
    node: "onnx.NodeProto",
    constants: "Mapping[str, onnx.TensorProto]",
    shapes: Mapping[str, tuple[int, ...]],
    opset: int,
    *,
    forced: bool,
) -> "list[np.ndarray] | None":
    """Return the node's outputs if they are known and not too large."""
    import numpy as np

    if node.domain not in STANDARD or not node.output or any(inner_graphs(node)):
        return None
    if node.op_type in {"Shape", "Size"} and node.input[0] in shapes:
        shape = shapes[node.input[0]]
        if node.op_type == "Size":
            return [np.array(prod(shape), np.int64)]
        bounds = {each.name: int(each.i) for each in node.attribute}
        return [np.array(shape[bounds.get("start", 0) : bounds.get("end")], np.int64)]
    if (node.op_type in _KEPT and not forced) or node.op_type.startswith("Random"):
        return None
    if not all(name in constants for name in node.input if name) or not any(node.output):
        return None
    known = [shapes.get(name) for name in node.output if name]
    sizes = [LARGEST if shape is None else prod(shape) for shape in known]
    read = sum(prod(constants[name].dims) for name in set(node.input) if name)
    if not forced and (max(sizes) > LARGEST or read > LARGEST):
        return None
    values = evaluate(node, constants, opset)
    if values is None or any(value.dtype.kind in "OUS" for value in values):  # text
        return None
    return None if not forced and max(value.size for value in values) > LARGEST else values


def _inlined(
    node: "onnx.NodeProto",
    constants: "Mapping[str, onnx.TensorProto]",
    shapes: Mapping[str, tuple[int, ...]],
    sequences: Sequences,
) -> Inlined | None:
    """Return what replaces a node with subgraphs or with sequences, if it is known which runs, and how long they are."""
    if node.domain not in STANDARD:
        return None
    if node.op_type in SEQUENCE_OPERATORS:
        return sequences.replace(node)
    if node.op_type == "If":
        return take_branch(node, constants)
    if node.op_type == "Loop":
        return unroll_loop(node, constants)
    return unroll_scan(node, shapes) if node.op_type == "Scan" else None


def _selection(
    node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]", added: "onnx.GraphProto"
) -> "Iterator[onnx.NodeProto]":
    """Yield a Compress by a known condition as a Gather, whose shape is known."""
    import numpy as np
    import onnx

    (output,) = node.output
    condition = onnx.numpy_helper.to_array(constants[node.input[1]])
    added.initializer.append(onnx.numpy_helper.from_array(np.flatnonzero(condition), f"{output}/at"))
    axis = next((int(each.i) for each in node.attribute if each.name == "axis"), None)
    data = node.input[0]
    if axis is None:
        added.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), f"{output}/flat"))
        yield onnx.helper.make_node("Reshape", [data, f"{output}/flat"], [f"{output}/data"])
        axis, data = 0, f"{output}/data"
    yield onnx.helper.make_node("Gather", [data, f"{output}/at"], [output], name=node.name, axis=axis)


def _encoded(model: "onnx.ModelProto") -> set[str]:
    """Return the outputs of nodes that belong to encoded constants."""
    import onnx_ir

    with quiet():
        graph = onnx_ir.from_proto(model).graph
    return {str(node.outputs[0].name) for node in graph if node.outputs and is_encoded(node)}


def _shapes(graph: "onnx.GraphProto") -> dict[str, tuple[int, ...]]:
    """Return the shape of each value for which it is static and known."""
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(int(dim.dim_value) for dim in dims)
    for constant in graph.initializer:
        shapes[constant.name] = tuple(constant.dims)
    return shapes

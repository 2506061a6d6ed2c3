"""The canonical form of an ONNX file: the same model has the same sha256 on every machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.onnxfile.inference import infer_types
from edgepack.onnxfile.protos import IR_VERSION, drop_dead, graphs, replace_all, unique_name
from edgepack.onnxfile.repair import as_dense

if TYPE_CHECKING:
    import onnx

_MAX_PROTO = 2**31 - 1  # bytes: protobuf's limit for one message


def canonicalise(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy of ``model`` in canonical form, which computes the same.

    Local functions are inlined, ``Constant`` nodes become initializers, dead nodes and unused
    initializers are removed, initializers are removed from the inputs, tensors are stored as raw bytes, every
    node has a unique name and every value an inferred shape. Producer, doc strings and metadata (which contain
    source paths and stack traces) are dropped. Deterministic: equal models give equal bytes.

    Raises:
        InputError: if shape inference finds an inconsistency in the model.
    """
    import onnx
    import onnx.inliner

    copy = onnx.inliner.inline_local_functions(model) if model.functions else onnx.ModelProto()
    if not model.functions:
        copy.CopyFrom(model)
    for field in (
        "producer_name",
        "producer_version",
        "doc_string",
        "domain",
        "model_version",
        "metadata_props",
    ):
        copy.ClearField(field)
    copy.ir_version = IR_VERSION
    graph = copy.graph
    graph.name = "main"
    _lift_constants(graph)
    drop_dead(graph)
    _name_nodes(graph)
    _strip(graph)
    _raw_tensors(graph)
    used = {node.domain for g in graphs(graph) for node in g.node} | {""}
    imports = sorted((op for op in copy.opset_import if op.domain in used), key=lambda op: op.domain)
    imports = [onnx.helper.make_opsetid(op.domain, op.version) for op in imports]
    del copy.opset_import[:]
    copy.opset_import.extend(imports)
    del graph.value_info[:]
    try:
        return infer_types(copy)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(
            "the ONNX graph is inconsistent",
            why="\n    ".join(_causes(str(error))),
            next="re-export the model, or correct the shapes of its inputs: in the file, or in model.inputs of the recipe",
        ) from error


def _causes(text: str) -> list[str]:
    """Return the lines of an error of the inference, without those that only follow from an error before them."""
    lines = text.strip().splitlines()
    return [
        line.strip() for line in lines if "expected to have type but instead is null" not in line
    ] or lines[:1]


def save_onnx(model: "onnx.ModelProto", path: Path) -> None:
    """Write ``model`` to ``path`` atomically, with deterministic bytes.

    Raises:
        InputError: if the model exceeds the size limit of a protobuf message (2 GiB).
    """
    if model.ByteSize() > _MAX_PROTO:
        raise InputError("the model is larger than 2 GiB", why="this is the size limit of an .onnx file")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _lift_constants(graph: "onnx.GraphProto") -> None:
    kept = []
    for node in graph.node:
        value = _constant(node)
        if value is None:
            kept.append(node)
        else:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
    replace_all(graph.node, kept)


def _constant(node: "onnx.NodeProto") -> "onnx.TensorProto | None":
    """Return the value of a Constant node as a tensor; None for other nodes, and for text."""
    import onnx

    if node.op_type != "Constant" or node.domain or len(node.attribute) != 1:
        return None
    (attribute,) = node.attribute
    if attribute.name == "value":
        return attribute.t
    if attribute.name == "sparse_value":
        return as_dense(attribute.sparse_tensor, node.output[0], node.name)
    kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    if attribute.name not in kinds:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return onnx.numpy_helper.from_array(onnx.helper.np.asarray(value, kinds[attribute.name]))


def _name_nodes(graph: "onnx.GraphProto") -> None:
    taken: set[str] = set()
    for g in graphs(graph):
        for i, node in enumerate(g.node):
            node.name = unique_name(node.name or f"{node.op_type}_{i}", taken)
            taken.add(node.name)


def _strip(graph: "onnx.GraphProto") -> None:
    for g in graphs(graph):
        for thing in (g, *g.node, *g.input, *g.output, *g.value_info, *g.initializer):
            thing.ClearField("doc_string")
            thing.ClearField("metadata_props")
        for node in g.node:
            for attribute in node.attribute:
                attribute.ClearField("doc_string")
            replace_all(node.attribute, sorted(node.attribute, key=lambda a: a.name))


def _raw_tensors(graph: "onnx.GraphProto") -> None:
    """Store every initializer as raw bytes: exporters differ in their use of typed fields."""
    from onnx import TensorProto, numpy_helper

    for g in graphs(graph):
        for tensor in g.initializer:
            if tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING:
                continue
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))

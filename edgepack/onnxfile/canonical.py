"""The canonical form of an ONNX file: the same model has the same sha256 on every machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import InputError

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""IR version of every canonical file: initializers need not be inputs (4), and opset 23 is supported."""

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
    _drop_dead(graph)
    _name_nodes(graph)
    _strip(graph)
    _raw_tensors(graph)
    used = {node.domain for g in _graphs(graph) for node in g.node} | {""}
    imports = sorted((op for op in copy.opset_import if op.domain in used), key=lambda op: op.domain)
    imports = [onnx.helper.make_opsetid(op.domain, op.version) for op in imports]
    del copy.opset_import[:]
    copy.opset_import.extend(imports)
    del graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(copy, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise InputError("the ONNX graph is inconsistent", why=str(error).strip()) from error


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


def _graphs(graph: "onnx.GraphProto") -> "Iterator[onnx.GraphProto]":
    """Yield ``graph`` and the subgraphs of its control-flow nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from _graphs(inner)


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
    nodes = [_copy_node(node) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _constant(node: "onnx.NodeProto") -> "onnx.TensorProto | None":
    """Return the value of a Constant node as a tensor; None for other nodes, and for text and sparse tensors."""
    import onnx

    if node.op_type != "Constant" or node.domain or len(node.attribute) != 1:
        return None
    (attribute,) = node.attribute
    if attribute.name == "value":
        return attribute.t
    kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    if attribute.name not in kinds:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return onnx.numpy_helper.from_array(onnx.helper.np.asarray(value, kinds[attribute.name]))


def _copy_node(node: "onnx.NodeProto") -> "onnx.NodeProto":
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _drop_dead(graph: "onnx.GraphProto") -> None:
    live = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # nodes are in topological order
        if live.intersection(node.output):
            kept.append(_copy_node(node))
            live.update(node.input)
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    live.update(name for g in _graphs(inner) for n in g.node for name in n.input)
                    live.update(value.name for g in _graphs(inner) for value in g.output)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = {tensor.name for tensor in graph.initializer}
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name not in live:
            del graph.initializer[i]
    for i in reversed(range(len(graph.input))):
        if graph.input[i].name in constants:  # IR version 3 listed initializers as inputs
            del graph.input[i]


def _name_nodes(graph: "onnx.GraphProto") -> None:
    taken: set[str] = set()
    for g in _graphs(graph):
        for i, node in enumerate(g.node):
            name = node.name or f"{node.op_type}_{i}"
            unique, n = name, 1
            while unique in taken:
                unique, n = f"{name}_{n}", n + 1
            node.name = unique
            taken.add(unique)


def _strip(graph: "onnx.GraphProto") -> None:
    for g in _graphs(graph):
        for thing in (g, *g.node, *g.input, *g.output, *g.value_info, *g.initializer):
            thing.ClearField("doc_string")
            thing.ClearField("metadata_props")
        for node in g.node:
            for attribute in node.attribute:
                attribute.ClearField("doc_string")
            attributes = sorted((_copied_attribute(a) for a in node.attribute), key=lambda a: a.name)
            del node.attribute[:]
            node.attribute.extend(attributes)


def _copied_attribute(attribute: "onnx.AttributeProto") -> "onnx.AttributeProto":
    import onnx

    copy = onnx.AttributeProto()
    copy.CopyFrom(attribute)
    return copy


def _raw_tensors(graph: "onnx.GraphProto") -> None:
    """Store every initializer as raw bytes: exporters differ in their use of typed fields."""
    from onnx import TensorProto, numpy_helper

    for g in _graphs(graph):
        for tensor in g.initializer:
            if tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING:
                continue
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))

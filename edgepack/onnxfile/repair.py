"""Repair what ONNX's checker refuses and onnxruntime runs, before a file is checked.

Exporters and tools write files that are not valid by the letter, but whose meaning is clear: outputs without a type,
initializers that are not inputs in old files, nodes out of order, sparse initializers, value_info that contradicts the
graph. Each case here is decided as onnxruntime decides it; ``tests/onnxfile/test_repair.py`` compares the two.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.onnxfile.protos import IR_VERSION, drop_dead, graphs, reads, replace_all, unique_name

if TYPE_CHECKING:
    import onnx

DEFAULT_DOMAIN = "ai.onnx"  # another name for the standard domain, ""
AGAIN = "re-export the model, or repair it with the tool that wrote it"


def repair(model: "onnx.ModelProto", where: str) -> None:
    """Repair ``model`` in place; what it computes does not change. Its external data need not be loaded.

    The types of outputs are completed by :func:`edgepack.onnxfile.checking.check`, which infers them.

    Raises:
        InputError: nodes depend on each other in a circle.
    """
    _unify_domains(model)
    model.ir_version = max(model.ir_version, IR_VERSION)
    for field in ("training_info", "metadata_props", "doc_string"):
        model.ClearField(field)
    graph = model.graph
    graph.name = graph.name or "main"
    del graph.value_info[:]  # inferred again; exporters leave outdated ones
    _merge_initializers(graph, where)
    sort_nodes(graph, where)
    drop_dead(graph)
    _separate_outputs(graph)
    _open_negative_axes(graph)
    _write_default_axes(model)
    _replace_old_group_normalization(model)
    _name_nodes(graph)
    _write_defaults(model)
    for tensor in graph.initializer:
        if tensor.HasField("raw_data"):  # if there are typed fields as well, onnxruntime ignores them
            for field in _TYPED_FIELDS:
                tensor.ClearField(field)


_DEFAULTS: Mapping[str, Mapping[str, int | Sequence[int]]] = {
    "MeanVarianceNormalization": {"axes": (0, 2, 3)},
    "STFT": {"onesided": 1},
}
"""Defaults that ONNX's inference of types gets wrong when they are not written."""


def _write_defaults(model: "onnx.ModelProto") -> None:
    """Give nodes the attributes in ``_DEFAULTS``."""
    import onnx

    for node in _all_nodes(model):
        given = {attribute.name for attribute in node.attribute}
        for name, value in _DEFAULTS.get(node.op_type, {}).items() if not node.domain else ():
            if name not in given:
                node.attribute.append(onnx.helper.make_attribute(name, value))


_GROUP_SCALES = range(18, 21)
"""Opsets in which GroupNormalization scales groups, not channels; ONNX's checker refuses it there, onnxruntime runs it."""


def _replace_old_group_normalization(model: "onnx.ModelProto") -> None:
    """GroupNormalization with a scale for each group is InstanceNormalization of the groups."""
    if not any(entry.domain == "" and entry.version in _GROUP_SCALES for entry in model.opset_import):
        return
    for graph in graphs(model.graph):
        nodes = []
        for node in graph.node:
            replaced = node.op_type == "GroupNormalization" and not node.domain
            nodes += _over_groups(node) if replaced else [node]
        if len(nodes) > len(graph.node):
            replace_all(graph.node, nodes)


def _over_groups(node: "onnx.NodeProto") -> "list[onnx.NodeProto]":
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    x, scale, bias = node.input
    (y,) = node.output
    sizes, grouped, normal, shape = (f"{y}/{part}" for part in ("groups", "grouped", "normal", "shape"))
    return [
        helper.make_node("Constant", [], [sizes], value_ints=[0, given["num_groups"], -1]),
        helper.make_node("Reshape", [x, sizes], [grouped]),
        helper.make_node(
            "InstanceNormalization",
            [grouped, scale, bias],
            [normal],
            name=node.name,
            epsilon=given.get("epsilon", 1e-5),
        ),
        helper.make_node("Shape", [x], [shape]),
        helper.make_node("Reshape", [normal, shape], [y]),
    ]


_TYPED_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def _unify_domains(model: "onnx.ModelProto") -> None:
    """Write the standard domain as "", and import each domain once: the last import is the valid one."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        versions["" if entry.domain == DEFAULT_DOMAIN else entry.domain] = entry.version
    del model.opset_import[:]
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)
    for function in model.functions:
        for entry in function.opset_import:
            if entry.domain == DEFAULT_DOMAIN:
                entry.domain = ""
    for node in _all_nodes(model):
        if node.domain == DEFAULT_DOMAIN:
            node.domain = ""


def _all_nodes(model: "onnx.ModelProto") -> "Iterator[onnx.NodeProto]":
    for graph in graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        for node in function.node:
            yield node
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    for graph in graphs(inner):
                        yield from graph.node


def _merge_initializers(graph: "onnx.GraphProto", where: str) -> None:
    """Make sparse initializers dense; of several with one name, the last is valid; drop those without a name."""
    merged = {tensor.name: tensor for tensor in graph.initializer if tensor.name}
    for sparse in graph.sparse_initializer:
        merged[sparse.values.name] = as_dense(sparse, sparse.values.name, where)
    if len(merged) == len(graph.initializer) and not graph.sparse_initializer:
        return
    replace_all(graph.initializer, list(merged.values()))
    del graph.sparse_initializer[:]


MAX_ELEMENTS = 2**29  # of a constant that takes more memory than file


def as_dense(sparse: "onnx.SparseTensorProto", name: str, where: str) -> "onnx.TensorProto":
    """Return a sparse tensor as a dense one.

    Raises:
        InputError: it is inconsistent, or has more than ``MAX_ELEMENTS`` elements.
    """
    import numpy as np
    from onnx import numpy_helper

    shape = tuple(sparse.dims)
    if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise InputError(
            f"the sparse tensor {name!r} has shape {list(shape)}",
            where=where,
            why=f"it is stored with all of its elements, at most {MAX_ELEMENTS}",
            next="store the weight as a dense tensor",
        )
    try:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
        dense = np.zeros(shape, values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"the sparse tensor {name!r} is invalid", where=where, why=str(error), next=AGAIN
        ) from error
    return numpy_helper.from_array(dense, name)


def sort_nodes(graph: "onnx.GraphProto", where: str) -> None:
    """Sort the nodes so that each follows those whose outputs it reads; their order is otherwise kept.

    Raises:
        InputError: nodes depend on each other in a circle.
    """
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in reads(node) if name in makers} for node in graph.node]
    if all(at > max(needed, default=-1) for at, needed in enumerate(needs)):
        return
    users: list[list[int]] = [[] for _ in needs]
    for at, needed in enumerate(needs):
        for other in needed:
            users[other].append(at)
    waiting = [len(needed) for needed in needs]
    ready = [at for at, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for at in users[order[-1]]:
            waiting[at] -= 1
            if waiting[at] == 0:
                heapq.heappush(ready, at)
    if len(order) < len(needs):
        node = graph.node[next(at for at, count in enumerate(waiting) if count)]
        raise InputError(
            f"node {node.name or node.output[0]!r} ({node.op_type}) depends on its own output",
            where=where,
            why="the graph has a cycle",
            next=AGAIN,
        )
    replace_all(graph.node, [graph.node[at] for at in order])


def _separate_outputs(graph: "onnx.GraphProto") -> None:
    """Give an output that is also an input, an initializer or another output a name and a value of its own."""
    taken = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    names = taken | {name for node in graph.node for name in node.output}
    for value in graph.output:
        if value.name in taken:
            name = unique_name(f"{value.name}_output", names)
            names.add(name)
            graph.node.add(op_type="Identity", input=[value.name], output=[name])
            value.name = name
        taken.add(value.name)


def _open_negative_axes(graph: "onnx.GraphProto") -> None:
    """Some exporters write -1 for an open axis."""
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")


def _write_default_axes(model: "onnx.ModelProto") -> None:
    """MeanVarianceNormalization: ONNX's inference of its definition fails without the attribute ``axes``."""
    for node in _all_nodes(model):
        absent = all(attribute.name != "axes" for attribute in node.attribute)
        if node.op_type == "MeanVarianceNormalization" and not node.domain and absent:
            node.attribute.add(name="axes", type=7, ints=[0, 2, 3])  # a list of integers


def _name_nodes(graph: "onnx.GraphProto") -> None:
    """Give nodes with equal names different ones; unnamed nodes stay unnamed."""
    taken: set[str] = set()
    for each in graphs(graph):
        for node in each.node:
            if node.name:
                node.name = unique_name(node.name, taken)
                taken.add(node.name)

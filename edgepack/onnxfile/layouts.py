"""Recurrent layers with the batch first, which onnxruntime does not have: as layers with the time first."""

from typing import TYPE_CHECKING

from edgepack.onnxfile.protos import graphs, replace_all

if TYPE_CHECKING:
    import onnx

_OPERATORS = {"LSTM", "GRU", "RNN"}
_INPUTS = (0, 5, 6)  # the data and the initial states
_EXCHANGE = (1, 0, 2)
_BACK = ((2, 0, 1, 3), _EXCHANGE, _EXCHANGE)


def time_first(model: "onnx.ModelProto") -> bool:
    """Rewrite, in place, LSTM, GRU and RNN of ``layout`` 1 with Transpose nodes around them; returns whether there are any."""
    changed = False
    for graph in graphs(model.graph):
        nodes = [new for node in graph.node for new in _rewritten(node)]
        if len(nodes) != len(graph.node):
            replace_all(graph.node, nodes)
            changed = True
    return changed


def _rewritten(node: "onnx.NodeProto") -> "list[onnx.NodeProto]":
    import onnx
    from onnx.helper import make_node

    layout = next((each for each in node.attribute if each.name == "layout" and each.i), None)
    if node.op_type not in _OPERATORS or node.domain not in {"", "ai.onnx"} or layout is None:
        return [node]
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    changed.attribute.remove(layout)
    own = node.name or next(name for name in node.output if name)
    before, after = [], []
    for place in _INPUTS:
        if place < len(node.input) and node.input[place]:
            name = changed.input[place] = f"{own}/time_first_{place}"
            before.append(make_node("Transpose", [node.input[place]], [name], name=name, perm=_EXCHANGE))
    for place, (output, perm) in enumerate(zip(node.output, _BACK, strict=False)):
        if output:
            name = changed.output[place] = f"{own}/time_first_out_{place}"
            after.append(make_node("Transpose", [name], [output], name=f"{name}_back", perm=perm))
    return [*before, changed, *after]
